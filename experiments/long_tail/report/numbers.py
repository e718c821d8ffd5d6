"""Tables of the stored rows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from experiments import differences, long_tail
from experiments.long_tail import OLD_RULE, grid

__all__ = [
    "OURS",
    "PLACE",
    "ablation_table",
    "best_fixed",
    "chosen_rows",
    "clean",
    "coverage",
    "grid_table",
    "main_table",
    "paired_table",
    "paired_with_best",
    "parts",
    "plain_matches",
    "regret_table",
    "setting_name",
    "study_table",
    "untuned_table",
]


#: the balancing loss: as it is, smoothed, with counts gathered while training, and with its controller
OURS = (
    "gradient_balanced",
    "gradient_balanced_smoothed",
    "gradient_balanced_gathered",
    "gradient_balanced_steered",
)
PLACE = ["dataset", "protocol", "rho"]
GLUE = "\N{NO-BREAK SPACE}"  # a number and its error stay on one line, however narrow the table
Rows = Sequence[dict[str, str]]


def chosen_rows(rows: Rows) -> pd.DataFrame:
    """Return the final rows of the old rule, with the hyper-parameters that it chose.

    That rule (`experiments.long_tail.config`) had four settings for a loss. Those of the ablation, which
    varies them, are left out. `report.results` has the rows of today's rule.

    Raises
    ------
    ValueError
        Where a loss has rows with several hyper-parameters in one setting.
    """
    table = long_tail.frame(row for row in rows if row["rule"] == OLD_RULE)
    varied = {json.dumps({name: value}) for name, values in grid.VARIED.items() for value in values}
    table = table[~((table["loss"] == OURS[0]) & table["settings"].isin(varied))]
    choices = table.groupby([*PLACE, "loss"])["settings"].nunique()
    if (choices > 1).any():
        raise ValueError(f"a loss must have one choice in a setting; {choices.idxmax()} has {choices.max()}")
    return table


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without label noise, absent classes and permuted classes."""
    return table[(table["noise"] == 0) & (table["absent"] == 0) & ~table["permuted"]]


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many losses and seeds each setting has."""
    grouped = clean(table).groupby(PLACE)
    return pd.DataFrame(
        {"losses": grouped["loss"].nunique(), "seeds": grouped["seed"].nunique(), "runs": grouped.size()}
    )


def main_table(
    table: pd.DataFrame, dataset: str, protocol: str, measure: str = "balanced_accuracy"
) -> pd.DataFrame:
    """Return mean and standard error of a measure, a row a loss and a column a rho.

    The rows are sorted by the mean over those columns in which every loss was run; a cell is empty where one
    was not.
    """
    rows = clean(table)
    rows = rows[(rows["dataset"] == dataset) & (rows["protocol"] == protocol)]
    grouped = rows.groupby(["loss", "rho"])[measure]
    mean, error = grouped.mean().unstack("rho"), grouped.sem().unstack("rho")
    everywhere = mean.dropna(axis="columns")
    order = (
        (mean if everywhere.empty else everywhere)
        .mean(axis=1)
        .sort_values(ascending=measure in ("ece", "nll"))
        .index
    )
    digits = "{:.3f}" if measure == "nll" else "{:.1f}"
    shown = (mean.map(digits.format) + f"{GLUE}±{GLUE}" + error.map(digits.format)).where(mean.notna(), "")
    return shown.loc[order].rename(columns=lambda rho: f"rho = {rho:g}")


def parts(table: pd.DataFrame, dataset: str, protocol: str) -> pd.DataFrame:
    """Return mean recalls where the classes differ most, a row a loss, the best balanced accuracy first.

    The columns are balanced accuracy and the recalls of head, middle and tail, in percent, at the largest rho
    of the rows.
    """
    rows = clean(table)
    rows = rows[(rows["dataset"] == dataset) & (rows["protocol"] == protocol)]
    rows = rows[rows["rho"] == rows["rho"].max()]
    means = rows.groupby("loss")[["balanced_accuracy", "head", "mid", "tail"]].mean()
    return means.sort_values("balanced_accuracy", ascending=False, kind="stable")


def grid_table() -> pd.DataFrame:
    """Return what tuning tries, a row a loss that has a choice.

    The row has the hyper-parameters, the values of the default, and those of each setting.
    """
    lines = {}
    for loss, settings in grid.GRIDS.items():
        names = dict.fromkeys(name for setting in settings for name, _ in setting)
        tried = {f"setting {i + 1}": _values(setting) for i, setting in enumerate(settings) if setting}
        lines[loss] = {"varies": ", ".join(names), "default": _values(grid.DEFAULTS[loss]), **tried}
    table = pd.DataFrame.from_dict(lines, orient="index").rename_axis("loss").fillna("")
    return table[table["varies"] != ""]


def _values(setting: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{value:g}" for _, value in setting)


def best_fixed(table: pd.DataFrame) -> pd.Series:
    """Return the name of the loss with the best mean in each setting, ours left out."""
    rows = clean(table)
    means = rows[~rows["loss"].isin(OURS)].groupby([*PLACE, "loss"])["balanced_accuracy"].mean()
    best: pd.Series = means.groupby(PLACE).idxmax().map(lambda key: key[-1])
    return best


def paired_with_best(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return ours less the best fixed loss in each setting.

    That is the mean difference over paired seeds with its 95 % interval, and whether it is more than chance
    among all settings (`experiments.differences`); the ECE of both stands beside it.

    The best is picked by its test accuracy, which favours it: no one could have known it before.
    """
    rows, pairs, beside = clean(table), {}, {}
    for place, other in best_fixed(table).items():
        here = rows[(rows[PLACE] == list(place)).all(axis=1)]
        if ours not in set(here["loss"]):
            continue
        wide = here.pivot(index="seed", columns="loss", values="balanced_accuracy")
        pairs[place] = (wide[ours] - wide[other]).dropna()
        ece = here.groupby("loss")["ece"].mean()
        beside[place] = {"best fixed": other, "ECE": ece[ours], "ECE of the best fixed": ece[other]}
    found = differences.differences(pairs).rename_axis(PLACE)
    return found.join(pd.DataFrame.from_dict(beside, orient="index").rename_axis(PLACE))


def paired_table(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return `paired_with_best` as it is printed."""
    paired = paired_with_best(table, ours)
    interval = [
        f"{low:.2f}{GLUE}to{GLUE}{high:.2f}" for low, high in zip(paired["low"], paired["high"], strict=True)
    ]
    told = {1: "ahead", 0: "", -1: "behind"}
    shown = paired[["best fixed"]].assign(
        **{
            "difference": paired["difference"].map("{:+.2f}".format),
            "95 % interval": interval,
            "more than chance": paired["clear"].map(told),
        }
    )
    return shown.assign(
        ECE=paired["ECE"].map("{:.1f}".format),
        **{"ECE, other": paired["ECE of the best fixed"].map("{:.1f}".format)},
    )


def plain_matches(table: pd.DataFrame) -> bool:
    """Return whether ours gives plain cross-entropy's very numbers wherever the data are balanced.

    Ours is without smoothing here.
    """
    rows = clean(table)
    rows = rows[(rows["rho"] == 1) & rows["loss"].isin(["plain", OURS[0]])]
    wide = rows.pivot(index=[*PLACE, "seed"], columns="loss", values="balanced_accuracy")
    return bool((wide["plain"] == wide[OURS[0]]).all())


def study_table(
    table: pd.DataFrame,
    study: str,
    dataset: str = "digits",
    protocol: str = "mlp",
    *,
    best: int | None = None,
) -> pd.DataFrame:
    """Return the balanced accuracy of a study beside that without, a row a loss.

    A study has label noise, an absent class or a permuted order.

    With ``best`` the table has only so many losses, and plain cross-entropy.
    """
    table = table[(table["dataset"] == dataset) & (table["protocol"] == protocol)]
    keep = {"noise": table["noise"] > 0, "absent": table["absent"] > 0, "permuted": table["permuted"]}[study]
    here = table[keep]
    places = here[PLACE].drop_duplicates()
    without = clean(table).merge(places, on=PLACE)
    columns = {"unchanged": without.groupby("loss")["balanced_accuracy"].mean()}
    for value, part in here.groupby(study):
        name = (
            f"{value:.0%} wrong"
            if study == "noise"
            else {"absent": "rarest absent", "permuted": "permuted"}[study]
        )
        columns[name] = part.groupby("loss")["balanced_accuracy"].mean()
    result = pd.DataFrame(columns).dropna()
    result = result.sort_values(result.columns[-1], ascending=False)
    return (
        result
        if best is None
        else result[[i < best or name == "plain" for i, name in enumerate(result.index)]]
    )


def ablation_table(rows: Rows, dataset: str = "digits", protocol: str = "mlp") -> pd.DataFrame:
    """Return balanced accuracy and ECE of ours as one of its numbers moves from its default.

    Each is paired with the default.
    """
    table = varied_rows(rows, dataset, protocol)
    lines = {}
    for name, values in grid.VARIED.items():
        for value in values:
            part = table[table["settings"] == json.dumps({name: value})]
            if part.empty:
                continue
            mean = part.groupby(PLACE)[["balanced_accuracy", "head", "tail", "ece"]].mean()
            for place, line in mean.iterrows():
                lines[(place[-1], name, value)] = line
    index = pd.MultiIndex.from_tuples(lines, names=["rho", "number", "value"])
    return pd.DataFrame(
        list(lines.values()), index=index, columns=["balanced_accuracy", "head", "tail", "ece"]
    )


def regret_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many points each loss is below the best fixed one, a row a loss and a column a setting.

    The loss with the smallest worst comes first. A loss above the best has a negative number; NaN was not
    run.
    """
    regret = long_tail.regret(clean(table)).droplevel(["noise", "absent", "permuted"]).T
    return regret.loc[regret.max(axis=1).sort_values(kind="stable").index]


#: losses that the old rule had nothing to choose for
UNTUNED = ("plain", "balanced_softmax", "gradient_balanced_gathered")


def untuned_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return `regret_table` of the losses that are the same in every setting: nothing of them is tuned.

    There is a row a setting, with the worst of each loss last. The others' best, which they are held
    against, is tuned where it can be.
    """
    regret = regret_table(table).reindex(list(UNTUNED)).T
    regret.index = [setting_name(place) for place in regret.index]
    worst = regret.max().rename("the worst of them")
    return pd.concat([regret, worst.to_frame().T])


def setting_name(place: tuple[str, str, float]) -> str:
    """Return how a picture names a setting."""
    dataset, protocol, rho = place
    network = {
        "mlp": "MLP",
        "convnet": "ConvNet",
        "convnet_augmented": "ConvNet, augmented",
        "resnet32": "ResNet-32",
    }[protocol]
    return f"{dataset}, {network}, ρ = {rho:g}"


def varied_rows(rows: Rows, dataset: str, protocol: str) -> pd.DataFrame:
    """Return the rows of the ablation: ours, with one number moved or at its default, on the old seeds."""
    table = clean(long_tail.frame(row for row in rows if row["rule"] == OLD_RULE))
    varied = {json.dumps({name: value}) for name, values in grid.VARIED.items() for value in values}
    here = (table["dataset"] == dataset) & (table["protocol"] == protocol) & (table["loss"] == OURS[0])
    return table[here & table["settings"].isin(varied)]
