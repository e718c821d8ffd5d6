"""What chapters 7 and 9 and the notebook show of the long-tail grid: tables and pictures of the stored rows, and the film of one run."""

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
    "main_table",
    "moved_decisions",
    "paired_table",
    "paired_with_best",
    "plain_matches",
    "regret_picture",
    "study_table",
    "words",
]

#: the balancing loss: as it is, smoothed, with counts gathered while training, and with its controller
OURS = ("gradient_balanced", "gradient_balanced_smoothed", "gradient_balanced_gathered", "gradient_balanced_steered")
PLACE = ["dataset", "protocol", "rho"]
Rows = Sequence[dict[str, str]]


# ---- the grid ----


def chosen_rows(rows: Rows) -> pd.DataFrame:
    """Return the final rows with the hyper-parameters that tuning chose: without those of the ablation, which vary them."""
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
    return pd.DataFrame({"losses": grouped["loss"].nunique(), "seeds": grouped["seed"].nunique(), "runs": grouped.size()})


def main_table(table: pd.DataFrame, dataset: str, protocol: str, measure: str = "balanced_accuracy") -> pd.DataFrame:
    """Return mean and standard error of a measure, a row a loss and a column a rho, sorted by the mean over the columns."""
    rows = clean(table)
    rows = rows[(rows["dataset"] == dataset) & (rows["protocol"] == protocol)]
    grouped = rows.groupby(["loss", "rho"])[measure]
    mean, error = grouped.mean().unstack("rho"), grouped.sem().unstack("rho")
    order = mean.mean(axis=1).sort_values(ascending=measure in ("ece", "nll")).index
    shown = mean.map("{:.1f}".format) + " ± " + error.map("{:.1f}".format)
    return shown.loc[order].rename(columns=lambda rho: f"rho = {rho:g}")


def best_fixed(table: pd.DataFrame) -> pd.Series:
    """Return the name of the loss with the best mean in each setting, ours left out."""
    rows = clean(table)
    means = rows[~rows["loss"].isin(OURS)].groupby([*PLACE, "loss"])["balanced_accuracy"].mean()
    best: pd.Series = means.groupby(PLACE).idxmax().map(lambda key: key[-1])
    return best


def paired_with_best(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return ours less the best fixed loss in each setting: the mean difference over paired seeds, its 95 % interval, and both ECE.

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
            "best fixed": other, "difference": difference["difference"], "low": difference["low"], "high": difference["high"],
            "seeds": int(difference["seeds"]), "ECE": ece[ours], "ECE of the best fixed": ece[other],
        }  # fmt: skip
    return pd.DataFrame(lines).T.rename_axis(PLACE).infer_objects()


def paired_table(table: pd.DataFrame, ours: str = OURS[0]) -> pd.DataFrame:
    """Return `paired_with_best` as it is printed."""
    paired = paired_with_best(table, ours)
    interval = [f"{low:.2f} to {high:.2f}" for low, high in zip(paired["low"], paired["high"], strict=True)]
    shown = paired[["best fixed"]].assign(**{"difference": paired["difference"].map("{:+.2f}".format), "95 % interval": interval})
    return shown.assign(ECE=paired["ECE"].map("{:.1f}".format), **{"ECE, other": paired["ECE of the best fixed"].map("{:.1f}".format)})


def plain_matches(table: pd.DataFrame) -> bool:
    """Whether ours without smoothing gives plain cross-entropy's very numbers wherever the data are balanced."""
    rows = clean(table)
    rows = rows[(rows["rho"] == 1) & rows["loss"].isin(["plain", OURS[0]])]
    wide = rows.pivot(index=[*PLACE, "seed"], columns="loss", values="balanced_accuracy")
    return bool((wide["plain"] == wide[OURS[0]]).all())


def study_table(table: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return the balanced accuracy under label noise, an absent class or a permuted order, beside that without, a row a loss."""
    keep = {"noise": table["noise"] > 0, "absent": table["absent"] > 0, "permuted": table["permuted"]}[study]
    here = table[keep]
    places = here[PLACE].drop_duplicates()
    without = clean(table).merge(places, on=PLACE)
    columns = {"without": without.groupby("loss")["balanced_accuracy"].mean()}
    for value, part in here.groupby(study):
        name = f"{value:.0%} wrong" if study == "noise" else {"absent": "rarest absent", "permuted": "permuted"}[study]
        columns[name] = part.groupby("loss")["balanced_accuracy"].mean()
    result = pd.DataFrame(columns).dropna()
    return result.sort_values(result.columns[-1], ascending=False)


def ablation_table(rows: Rows) -> pd.DataFrame:
    """Return the balanced accuracy and ECE of ours as one of its numbers moves from its default, paired with the default."""
    table = clean(long_tail.frame(rows))
    table = table[table["loss"] == OURS[0]]
    lines = {}
    for name, values in long_tail.VARIED.items():
        for value in values:
            part = table[table["settings"] == json.dumps({name: value})]
            if part.empty:
                continue
            mean = part.groupby(PLACE)[["balanced_accuracy", "head", "tail", "ece"]].mean()
            for place, line in mean.iterrows():
                lines[(*place, name, value)] = line
    index = pd.MultiIndex.from_tuples(lines, names=[*PLACE, "number", "value"])
    return pd.DataFrame(list(lines.values()), index=index, columns=["balanced_accuracy", "head", "tail", "ece"])


def regret_picture(table: pd.DataFrame, *, worst: float = 12.0) -> Figure:
    """Draw how far each loss is below the best fixed one, a column a setting; what lies beyond ``worst`` points is drawn there."""
    regret = long_tail.regret(clean(table)).droplevel(["noise", "absent", "permuted"])
    regret = regret.loc[:, regret.mean().sort_values(ascending=False).index]
    places = list(regret.index)
    figure = Figure(figsize=(7.6, 0.24 * len(regret.columns) + 1.3), layout="constrained")
    axis = figure.subplots()
    markers = "osD^vPX*"
    colours = [COLORS[name] for name in ("blue", "vermillion", "green", "purple", "sky", "orange", "grey", "yellow")]
    for i, place in enumerate(places):
        values = np.clip(regret.loc[place].to_numpy(), None, worst)
        label = f"{place[0]}, {place[1]}, rho = {place[2]:g}"
        axis.plot(values, np.arange(len(values)), markers[i % 8], color=colours[i % 8], markersize=5, alpha=0.85, label=label)
    axis.axvline(0.0, color="0.4", linewidth=1, linestyle="--")
    axis.set_yticks(np.arange(len(regret.columns)), regret.columns)
    for tick in axis.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in OURS else "normal")
    axis.set_xlabel("balanced accuracy below the best fixed loss (points)")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


# ---- the rule ----


def gate_picture(ratio: float = 100.0, gates: Iterable[float] = (0.0, 1.0, 2.0, 4.0, 8.0)) -> Figure:
    """Draw the row weight of the rarest class over its probability, a line a gate."""
    q = np.linspace(0.0, 1.0, 201)
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axis = figure.subplots()
    for gate, color, line in zip(gates, ("grey", "sky", "green", "blue", "vermillion"), ("--", "-", "-", "-", "-"), strict=False):
        weight = sl.balance.gated_weight(ratio, q, gate)
        axis.plot(q, weight, line, color=COLORS[color], label="no gate" if gate == 0 else f"g = {gate:g}")
    axis.set(xlabel="probability of the label, $q_y$", ylabel="row weight w", yscale="log", title=f"$W = n_{{max}}/n_y = {ratio:g}$")
    axis.legend(fontsize=9)
    return figure


def moved_decisions(counts: Any, eps: float, *, rows: int = 20_000, seed: int = 0, tau: float = 1.0) -> pd.Series:
    """Return the share of decisions that smoothing moves, uniform and neutral, for class probabilities drawn at random.

    Rows have P from a Dirichlet law; the minimiser of the smoothed loss is known (:func:`softmax_lab.balance.neutral_smoothing`), and
    what it decides is compared with the argmax of P over the prior to the power tau.
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
    losses: Sequence[str], *, dataset: str = "digits", protocol: str = "mlp", rho: float = 100.0, seed: int = 0, epochs: int = 0,
    every: int = 10, data: str | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Train with each loss while a monitor watches; return the monitors' tables, by loss."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)  # more would spend their time on finding each other
    try:
        for loss in losses:
            found[loss] = _watched(Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss, seed=seed, epochs=epochs), every, data)
    finally:
        torch.set_num_threads(threads)
    return found


def _watched(config: Config, every: int, data: str | None) -> pd.DataFrame:
    """Train while a monitor watches; return its table."""
    seen: list[slt.GradientMonitor] = []

    def watch(network: Any, module: Any) -> None:
        seen.append(slt.GradientMonitor(module, classifier=network[-1], momentum=0.95, every=every))

    train(config, make_problem(config, data), watch=watch)
    seen[0].close()
    return seen[0].frame()


def early_ratio(table: pd.DataFrame, classes: Sequence[int], steps: int = 300) -> float:
    """Return positive over negative mass of some classes in the first steps of a film."""
    part = table[(table["step"] <= steps) & table["class"].isin(classes)]
    return float(part["positive_mass"].sum() / part["negative_mass"].sum())


def film_picture(films: dict[str, pd.DataFrame], *, names: Callable[[str], str] = str, limit: float = 10.0) -> Figure:
    """Draw positive over negative mass, a panel a loss: classes down, from the most frequent, and steps to the right."""
    figure = Figure(figsize=(7.6, 1.1 + 1.5 * len(films)), layout="constrained")
    panels = figure.subplots(len(films), 1, sharex=True, squeeze=False)[:, 0]
    norm = TwoSlopeNorm(0.0, -np.log10(limit), np.log10(limit))
    for axis, (loss, table) in zip(panels, films.items(), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log10(table["positive_mass"] / table["negative_mass"])
        grid = table.assign(ratio=ratio).pivot(index="class", columns="step", values="ratio")
        mesh = axis.pcolormesh(grid.columns, grid.index, grid.to_numpy(), cmap=DIVERGING, norm=norm, shading="nearest", rasterized=True)
        axis.set(title=names(loss), ylabel="class", yticks=range(0, len(grid.index), max(1, len(grid.index) // 5)))
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
    within, ahead, clear = (int(part.sum()) for part in (ours["difference"] > -1, ours["difference"] > 0, ours["low"] > 0))
    names = ", ".join(f"{dataset} ({protocol})" for dataset, protocol in dict.fromkeys((d, p) for d, p, _ in covered.index))
    gains = ", ".join(f"{value:+.1f}" for value in smoothed["difference"]).replace("-", "−")
    calibrated = int((smoothed["ECE"] < smoothed["ECE of the best fixed"]).sum())
    return {
        "coverage": f"So far the grid covers {names}: {int(covered['runs'].sum())} runs on settings that were chosen beforehand.",
        "within": f"{within} of {len(ours)}",
        "ahead": str(ahead),
        "clear": str(clear or "none"),
        "calibrated": f"{int((ours['ECE'] < ours['ECE of the best fixed']).sum())} of {len(ours)}",
        "best": f"it is within one point of the best other loss in {within} of {len(ours)} settings and ahead in {ahead}, "
        f"in {clear or 'none'} by more than chance",
        "smoothing": f"with neutral smoothing the differences are {gains} points, and the calibration error is the lower in "
        f"{calibrated} of {len(smoothed)}",
        **noise_words(table),
    }  # fmt: skip


def ablation_words(rows: Rows) -> dict[str, str]:
    """Return how far the numbers of the ablation lie apart, and the standard error of one of them."""
    table = clean(long_tail.frame(rows))
    varied = {json.dumps({name: value}) for name, values in long_tail.VARIED.items() for value in values}
    table = table[(table["loss"] == OURS[0]) & table["settings"].isin(varied)]
    grouped = table.groupby([*PLACE, "settings"])["balanced_accuracy"]
    return {"ablation-spread": f"{np.ptp(grouped.mean()):.1f}", "ablation-error": f"{grouped.sem().mean():.1f}"}


def noise_words(table: pd.DataFrame) -> dict[str, str]:
    """Return what is said of wrong labels; nothing where none were tried."""
    noise = study_table(table, "noise")
    if noise.shape[1] < 2 or OURS[0] not in noise.index:
        return {}
    places = {name: int(noise[name].rank(ascending=False, method="min")[OURS[0]]) for name in noise.columns}
    first, last = noise.columns[1], noise.columns[-1]
    behind = noise[last].max() - noise.loc[OURS[0], last]
    return {
        "noise": f"with {last.replace(' wrong', '')} of the labels wrong it is {behind:.1f} points behind the best, "
        f"place {places[last]} of {len(noise)}",
        "noise-first": f"{places[first]} of {len(noise)} with {first.replace(' wrong', '')} wrong",
        "noise-last": f"{places[last]} of {len(noise)} with {last.replace(' wrong', '')}",
        "noise-best": str(noise[last].idxmax()),
    }  # fmt: skip
