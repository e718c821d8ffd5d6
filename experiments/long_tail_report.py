"""What chapters 7 and 9 and the notebook show of the long-tail grid: tables and pictures of the stored rows,
and the film of one run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import long_tail
from experiments.long_tail_training import Config, make_problem, train
from softmax_lab.plotting import COLORS, DIVERGING

__all__ = [
    "OURS",
    "ablation_table",
    "ablation_words",
    "best_fixed",
    "chosen_rows",
    "coverage",
    "early_ratio",
    "film",
    "film_picture",
    "gate_picture",
    "grid_table",
    "main_table",
    "moved_decisions",
    "paired_picture",
    "paired_table",
    "paired_with_best",
    "plain_matches",
    "regret_picture",
    "regret_table",
    "setting_name",
    "study_table",
    "words",
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


# ---- the grid ----


def chosen_rows(rows: Rows) -> pd.DataFrame:
    """Return the final rows with the hyper-parameters that tuning chose: without those of the ablation, which
    vary them.
    """
    table = long_tail.frame(rows)
    picked: dict[Any, str] = {}
    for place in table[[*PLACE, "loss", "epochs"]].drop_duplicates().itertuples(index=False):
        dataset, protocol, rho, loss, epochs = place
        base = Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss)
        base = base if base.length == epochs else replace(base, epochs=int(epochs))
        try:
            settings = dict(long_tail.chosen(base, rows))
        except ValueError:  # not tuned here yet
            continue
        picked[tuple(place)] = json.dumps(settings)
    keys = table[[*PLACE, "loss", "epochs"]].itertuples(index=False, name=None)
    wanted = [picked.get(key) == settings for key, settings in zip(keys, table["settings"], strict=True)]
    return table[wanted]


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


def grid_table() -> pd.DataFrame:
    """Return what tuning tries, a row a loss that has a choice: the hyper-parameters and their values, place
    by place.
    """
    lines = {}
    for loss, settings in long_tail.GRIDS.items():
        names = dict.fromkeys(name for setting in settings for name, _ in setting)
        lines[loss] = {"varies": ", ".join(names)} | {
            f"setting {i + 1}": ", ".join(f"{value:g}" for _, value in setting)
            for i, setting in enumerate(settings)
            if setting
        }
    table = pd.DataFrame.from_dict(lines, orient="index").rename_axis("loss").fillna("")
    return table[table["varies"] != ""]


def best_fixed(table: pd.DataFrame) -> pd.Series:
    """Return the name of the loss with the best mean in each setting, ours left out."""
    rows = clean(table)
    means = rows[~rows["loss"].isin(OURS)].groupby([*PLACE, "loss"])["balanced_accuracy"].mean()
    best: pd.Series = means.groupby(PLACE).idxmax().map(lambda key: key[-1])
    return best


def paired_with_best(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return ours less the best fixed loss in each setting: the mean difference over paired seeds, its 95 %
    interval, and both ECE.

    The best is picked by its test accuracy, which favours it: no one could have known it before.
    """
    rows, lines = clean(table), {}
    for place, other in best_fixed(table).items():
        here = rows[(rows[PLACE] == list(place)).all(axis=1)]
        if ours not in set(here["loss"]):
            continue
        difference = long_tail.paired(here, ours, other).iloc[0]
        ece = here.groupby("loss")["ece"].mean()
        lines[place] = {
            "best fixed": other,
            "difference": difference["difference"],
            "low": difference["low"],
            "high": difference["high"],
            "seeds": int(difference["seeds"]),
            "ECE": ece[ours],
            "ECE of the best fixed": ece[other],
        }
    return pd.DataFrame(lines).T.rename_axis(PLACE).infer_objects()


def paired_table(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return `paired_with_best` as it is printed."""
    paired = paired_with_best(table, ours)
    interval = [
        f"{low:.2f}{GLUE}to{GLUE}{high:.2f}" for low, high in zip(paired["low"], paired["high"], strict=True)
    ]
    shown = paired[["best fixed"]].assign(
        **{"difference": paired["difference"].map("{:+.2f}".format), "95 % interval": interval}
    )
    return shown.assign(
        ECE=paired["ECE"].map("{:.1f}".format),
        **{"ECE, other": paired["ECE of the best fixed"].map("{:.1f}".format)},
    )


def plain_matches(table: pd.DataFrame) -> bool:
    """Whether ours without smoothing gives plain cross-entropy's very numbers wherever the data are
    balanced.
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
    """Return the balanced accuracy under label noise, an absent class or a permuted order, beside that
    without, a row a loss.

    With ``best`` only so many losses, and plain cross-entropy.
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
    """Return the balanced accuracy and ECE of ours as one of its numbers moves from its default, paired with
    the default.
    """
    table = _varied(rows, dataset, protocol)
    lines = {}
    for name, values in long_tail.VARIED.items():
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

    The smallest worst first.

    Negative is above it; NaN was not run.
    """
    regret = long_tail.regret(clean(table)).droplevel(["noise", "absent", "permuted"]).T
    return regret.loc[regret.max(axis=1).sort_values(kind="stable").index]


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


def regret_picture(table: pd.DataFrame, *, most: float = 8.0) -> Figure:
    """Draw `regret_table` in colours that end at ``most`` points, with its numbers and a last column for the
    worst of each row.
    """
    regret = regret_table(table)
    values = np.column_stack([regret.to_numpy(), regret.max(axis=1)])
    figure = Figure(figsize=(2.0 + 0.34 * values.shape[1], 3.2 + 0.25 * len(values)), layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("0.92")  # what was not run
    image = axis.imshow(values, cmap="cividis_r", vmin=0.0, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            shade = "white" if value > 0.55 * most else "black"
            axis.text(
                column,
                row,
                f"{round(value, 1) + 0.0:.1f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=7,
                color=shade,
            )
    axis.axvline(values.shape[1] - 1.5, color="white", linewidth=4)
    axis.set_xticks(
        range(values.shape[1]),
        [*map(setting_name, regret.columns), "the worst of them"],
        rotation=45,
        ha="right",
        fontsize=8,
    )
    axis.set_yticks(range(len(values)), regret.index, fontsize=8)
    for tick in axis.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in OURS else "normal")
    axis.grid(False)
    bar = figure.colorbar(image, extend="max", location="top", shrink=0.7, aspect=40)
    bar.set_label("points below the best fixed loss", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def paired_picture(table: pd.DataFrame, ours: Sequence[str] = OURS[:2]) -> Figure:
    """Draw ours less the best fixed loss with 95 % intervals, a row a setting, and beside it the calibration
    errors of all of them.
    """
    found = {name: paired_with_best(table, name) for name in ours}
    places = list(next(iter(found.values())).index)
    figure = Figure(figsize=(8.4, 1.5 + 0.42 * len(places)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    at = np.arange(len(places), dtype=float)
    left.axvspan(-1.0, 1.0, color="0.92", zorder=0)
    left.axvline(0.0, color="0.4", linewidth=1, linestyle="--")
    styles = zip(found.items(), ("blue", "vermillion"), "os", (-0.14, 0.14), strict=False)
    for (name, paired), color, marker, shift in styles:
        difference = paired["difference"].to_numpy()
        reach = np.abs(paired[["low", "high"]].to_numpy().T - difference)
        look = {"color": COLORS[color], "marker": marker, "markersize": 5, "linestyle": "none"}
        left.errorbar(difference, at + shift, xerr=reach, elinewidth=1.3, label=name, **look)
        right.plot(paired["ECE"], at + shift, **look)
    other = next(iter(found.values()))
    right.plot(
        other["ECE of the best fixed"],
        at,
        color="0.3",
        marker="|",
        markersize=12,
        linestyle="none",
        label="the best fixed loss",
    )
    names = [
        f"{setting_name(place)}\nagainst {best}"
        for place, best in zip(places, other["best fixed"], strict=True)
    ]
    left.set_yticks(at, names, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("ours − the best fixed loss\n(points of balanced accuracy)")
    right.set_xlabel("expected calibration error (%)")
    right.set_xlim(left=0.0)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


# ---- the rule ----


def gate_picture(ratio: float = 100.0, gates: Iterable[float] = (0.0, 1.0, 2.0, 4.0, 8.0)) -> Figure:
    """Draw the row weight of the rarest class over its probability, a line a gate."""
    q = np.linspace(0.0, 1.0, 201)
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    for gate, color, line in zip(
        gates, ("grey", "sky", "green", "blue", "vermillion"), ("--", "-", "-", "-", "-"), strict=False
    ):
        weight = sl.balance.gated_weight(ratio, q, gate)
        axis.plot(q, weight, line, color=COLORS[color], label="no gate" if gate == 0 else f"g = {gate:g}")
    axis.set(
        xlabel="probability of the label, $q_y$",
        ylabel="row weight w",
        yscale="log",
        title=f"$W = n_{{max}}/n_y = {ratio:g}$",
    )
    axis.legend(fontsize=9)
    return figure


def moved_decisions(
    counts: Any, eps: float, *, rows: int = 20_000, seed: int = 0, tau: float = 1.0
) -> pd.Series:
    """Return the share of decisions that smoothing moves, uniform and neutral, for class probabilities drawn
    at random.

    Rows have P from a Dirichlet law; the minimiser of the smoothed loss is known
    (:func:`softmax_lab.balance.neutral_smoothing`), and what it decides is compared with the argmax of P over
    the prior to the power tau.
    """
    n = np.asarray(counts, dtype=float)
    bias = tau * np.log(n / n.sum())
    p = np.random.default_rng(seed).dirichlet(np.full(len(n), 0.3) * n / n.mean(), rows)
    fair = (np.log(np.maximum(p, 1e-300)) - bias).argmax(axis=1)
    by_class = eps * np.sqrt(n / n.max())
    ways: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {
        "uniform": (np.full(len(n), eps), bias, np.full(len(n), 1 / len(n))),
        "uniform, eps per class": (by_class, bias, np.full(len(n), 1 / len(n))),
    }
    for name, smoothing in (("neutral", np.full(len(n), eps)), ("neutral, eps per class", by_class)):
        ways[name] = (smoothing, *sl.balance.neutral_smoothing(bias, smoothing))
    moved = {}
    for name, (smoothing, shift, r) in ways.items():
        q = (1 - smoothing) * p + (p @ smoothing)[:, None] * r
        moved[name] = float(np.mean((np.log(np.maximum(q, 1e-300)) - shift).argmax(axis=1) != fair))
    return pd.Series(moved, name="decisions moved")


# ---- the film ----


def film(
    losses: Sequence[str],
    *,
    dataset: str = "digits",
    protocol: str = "mlp",
    rho: float = 100.0,
    seed: int = 0,
    epochs: int = 0,
    every: int = 10,
    data: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Train with each loss while a monitor watches; return the monitors' tables, by loss."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)  # more would spend their time on finding each other
    try:
        for loss in losses:
            found[loss] = _watched(
                Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss, seed=seed, epochs=epochs),
                every,
                data,
            )
    finally:
        torch.set_num_threads(threads)
    return found


def _watched(config: Config, every: int, data: str | None) -> pd.DataFrame:
    """Train while a monitor watches; return its table."""
    seen: list[slt.GradientMonitor] = []

    def watch(network: Any, module: Any) -> None:
        seen.append(slt.GradientMonitor(module, classifier=network[-1], momentum=0.8, every=every))

    train(config, make_problem(config, data), watch=watch)
    seen[0].close()
    return seen[0].frame()


def early_ratio(table: pd.DataFrame, classes: Sequence[int], steps: int = 300) -> float:
    """Return positive over negative mass of some classes in the first steps of a film."""
    part = table[(table["step"] <= steps) & table["class"].isin(classes)]
    return float(part["positive_mass"].sum() / part["negative_mass"].sum())


def film_picture(
    films: dict[str, pd.DataFrame], *, names: Callable[[str], str] = str, limit: float = 10.0
) -> Figure:
    """Draw positive over negative mass, a panel a loss: classes down, from the most frequent, and steps to
    the right.
    """
    figure = Figure(figsize=(7.6, 1.1 + 1.5 * len(films)), layout="constrained")
    panels = figure.subplots(len(films), 1, sharex=True, squeeze=False)[:, 0]
    norm = TwoSlopeNorm(0.0, -np.log10(limit), np.log10(limit))
    for axis, (loss, table) in zip(panels, films.items(), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log10(table["positive_mass"] / table["negative_mass"])
        grid = table.assign(ratio=ratio).pivot(index="class", columns="step", values="ratio")
        mesh = axis.pcolormesh(
            grid.columns,
            grid.index,
            grid.to_numpy(),
            cmap=DIVERGING,
            norm=norm,
            shading="nearest",
            rasterized=True,
        )
        axis.set_facecolor("0.8")
        axis.set(
            title=names(loss), ylabel="class", yticks=range(0, len(grid.index), max(1, len(grid.index) // 5))
        )
        axis.invert_yaxis()
        axis.grid(False)
    panels[-1].set_xlabel("training step")
    bar = figure.colorbar(mesh, ax=panels, label="pull up / push down", extend="both")
    ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
    bar.set_ticks(ticks, labels=[f"{10**t:.2g}" for t in ticks])
    return figure


# ---- in words ----


def words(table: pd.DataFrame) -> dict[str, str]:
    """Return what chapter 9 says of the results, by name."""
    covered = coverage(table)
    ours, smoothed = (paired_with_best(table, name) for name in OURS[:2])
    return {
        "coverage": f"The grid so far: {int(covered['runs'].sum())} runs on test rows, in {len(covered)} "
        f"settings.",
        "settings": str(len(covered)),
        "few": _few(covered),
        **_standing(table),
        **_compared("ours", ours),
        **_compared("smoothed", smoothed),
        **noise_words(table),
    }


def _number(count: int) -> str:
    return str(count or "none")


def _few(covered: pd.DataFrame) -> str:
    """Say where fewer losses were run than elsewhere."""
    most = covered["losses"].max()
    short = covered[covered["losses"] < most]
    if short.empty:
        return f"Every setting has all {most} losses."
    whole = len(covered) - len(short)
    return (
        f"All {most} were run in {whole} of the {len(covered)} settings, {short['losses'].min()} or "
        f"more in the others, which take longest."
    )


def _compared(name: str, paired: pd.DataFrame) -> dict[str, str]:
    """Say how one of ours compares with the best fixed loss of each setting."""
    better, calibrated = (
        int((paired["difference"] > 0).sum()),
        int((paired["ECE"] < paired["ECE of the best fixed"]).sum()),
    )
    return {
        f"{name}-within": f"{int((paired['difference'] >= -1).sum())} of {len(paired)}",
        f"{name}-ahead": _number(better),
        f"{name}-clear": _number(int((paired["low"] > 0).sum())),
        f"{name}-behind": _number(int((paired["high"] < 0).sum())),
        f"{name}-calibrated": f"{calibrated} of {len(paired)}",
        f"{name}-ece": f"{paired['ECE'].mean():.1f}",
        f"{name}-ece-other": f"{paired['ECE of the best fixed'].mean():.1f}",
    }


def _standing(table: pd.DataFrame) -> dict[str, str]:
    """Say how far each of ours, and the fixed loss that comes nearest, is behind in its worst setting.

    A loss that was not run everywhere may do worse elsewhere: of a fixed one this is the least that its worst
    can be.
    """
    worst = regret_table(table).max(axis=1).round(1) + 0.0  # no -0.0
    fixed = worst[[name for name in worst.index if not str(name).startswith(OURS[0])]]
    return {
        "worst-ours": f"{worst[OURS[0]]:.1f}",
        "worst-smoothed": f"{worst[OURS[1]]:.1f}",
        "worst-fixed": f"{fixed.min():.1f}",
        "worst-fixed-name": str(fixed.idxmin()),
        "worst-balanced-softmax": f"{worst.get('balanced_softmax', np.nan):.1f}",
        "worst-vs": f"{worst.get('vs', np.nan):.1f}",
        "best-vs": _number(int((best_fixed(table) == "vs").sum())),
        "worst-deferred": f"{worst.get('balanced_softmax_drw', np.nan):.1f}",
    }


def _varied(rows: Rows, dataset: str, protocol: str) -> pd.DataFrame:
    """Return the rows of the ablation: ours, with one number moved or at its default."""
    table = clean(long_tail.frame(rows))
    varied = {json.dumps({name: value}) for name, values in long_tail.VARIED.items() for value in values}
    here = (table["dataset"] == dataset) & (table["protocol"] == protocol) & (table["loss"] == OURS[0])
    return table[here & table["settings"].isin(varied)]


def ablation_words(rows: Rows, dataset: str = "digits", protocol: str = "mlp") -> dict[str, str]:
    """Return how far the numbers of the ablation lie apart, and the standard error of one of them.

    Nothing where it was not run.
    """
    table = _varied(rows, dataset, protocol)
    if table.empty:
        return {}
    grouped = table.groupby("settings")["balanced_accuracy"]
    name = f"ablation-{dataset.split('-')[0]}"
    return {f"{name}-spread": f"{np.ptp(grouped.mean()):.1f}", f"{name}-error": f"{grouped.sem().mean():.1f}"}


def noise_words(table: pd.DataFrame) -> dict[str, str]:
    """Return what is said of wrong labels among the digits; nothing where none were tried."""
    noise = study_table(table, "noise")
    if noise.shape[1] < 2 or OURS[0] not in noise.index:
        return {}
    places = {name: int(noise[name].rank(ascending=False, method="min")[OURS[0]]) for name in noise.columns}
    first, last = noise.columns[1], noise.columns[-1]
    behind, smoothed = (noise[last].max() - noise.loc[name, last] for name in OURS[:2])
    return {
        "noise": f"with {last.replace(' wrong', '')} of the labels wrong it is {behind:.1f} points behind "
        f"the best, "
        f"place {places[last]} of {len(noise)}, and smoothed {smoothed:.1f}",
        "noise-first": f"{places[first]} of {len(noise)} with {first.replace(' wrong', '')} wrong",
        "noise-last": f"{places[last]} of {len(noise)} with {last.replace(' wrong', '')}",
        "noise-best": str(noise[last].idxmax()),
        "noise-smoothed": f"{int(noise[last].rank(ascending=False, method='min')[OURS[1]])} of {len(noise)}",
    }
