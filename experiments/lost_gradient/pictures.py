"""The figures of chapter 11 on margins, attacks, scores and ordinary training: means and ranges of seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.implementations import LOSS_COLOR
from experiments.modular_addition.losses import LOSSES
from softmax_lab.plotting import COLORS

from . import ordinary
from .report import OBJECTIVE_LABELS, distance

__all__ = ["attacks_picture", "margin_picture", "ordinary_picture", "scores_picture"]

NARROW = 5.6  # inches: on a telephone, 350 pixels wide, ten points are nine pixels
NAMES = {"sgd": "SGD", "adam": "Adam"}
#: colour, dashes and marker together: none is needed to tell two curves apart
_LOOKS: dict[str, dict[str, Any]] = {
    name: {"color": COLORS[LOSS_COLOR[name]], "linestyle": dashes, "marker": marker}
    for name, dashes, marker in (
        ("torch", "-", "o"),
        ("torch_float64", "--", "s"),
        ("mended", ":", "x"),
        ("exact", "-", "^"),
        ("log_mean", "--", "D"),
        ("log", "--", "D"),
        ("carlini_wagner", "-.", "v"),
        ("dlr", ":", "P"),
    )
}


def _curve(axis: Any, rows: pd.DataFrame, at: str, measure: str, name: str, label: str) -> None:
    grouped = rows.groupby(at)[measure]
    mean, look = grouped.mean(), _LOOKS[name]
    axis.plot(
        mean.index,
        mean,
        label=label,
        linewidth=1.5,
        markersize=4,
        markevery=0.12 if len(mean) > 10 else 1,
        **look,
    )
    axis.fill_between(mean.index, grouped.min(), grouped.max(), color=look["color"], alpha=0.12, linewidth=0)


def _legend(figure: Figure, axis: Any, columns: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def margin_picture(table: pd.DataFrame) -> Figure:
    """Draw the angle to the SVM's weights over steps: three classes, two classes, and plain steps."""
    figure = Figure(figsize=(NARROW, 8.4), layout="constrained")
    panels = figure.subplots(3, 1, sharey=True)
    titles = {
        (3, "normalised"): "3 classes, normalised steps",
        (2, "normalised"): "2 classes, normalised steps",
        (3, "plain"): "3 classes, plain steps",
    }
    table = table.assign(angle=distance(table["cosine"]))
    for axis, ((classes, descent), title) in zip(panels, titles.items(), strict=True):
        rows = table[(table["classes"] == classes) & (table["descent"] == descent)]
        for name in (each for each in LOSSES if each in set(rows["loss"])):
            _curve(axis, rows[rows["loss"] == name], "step", "angle", name, LOSSES[name].label)
        axis.set(xscale="log", yscale="log", title=title, ylabel="angle to the SVM (degrees)")
    panels[-1].set_xlabel("steps")
    _legend(figure, panels[0], 2)
    return figure


def attacks_picture(table: pd.DataFrame) -> Figure:
    """Draw accuracy under attack over the logits' scale and the temperature, and the share of wrong signs."""
    figure = Figure(figsize=(NARROW, 9.2), layout="constrained")
    panels = figure.subplots(3, 1)
    kinds = ("scaled", "distilled", "scaled")
    for axis, kind, measure in zip(panels, kinds, ("robust", "robust", "wrong_sign"), strict=True):
        rows = table[table["network"] == kind]
        rows = rows.assign(percent=100 * rows[measure]).dropna(subset=["percent"])
        for name in (each for each in OBJECTIVE_LABELS if each in set(rows["objective"])):
            own = rows[rows["objective"] == name]
            _curve(axis, own, "factor", "percent", name, OBJECTIVE_LABELS[name])
        factors = sorted(rows["factor"].unique())
        axis.set_xscale("log")
        axis.set_xticks(factors, [f"{factor:g}" for factor in factors])
        axis.minorticks_off()
    panels[0].set(xlabel="logits times", ylabel="accuracy under attack (%)", title="scaled logits")
    panels[1].set(xlabel="temperature of distillation", ylabel="accuracy under attack (%)")
    panels[1].set_title("defensively distilled")
    both = [axis.get_ylim() for axis in panels[:2]]
    for axis in panels[:2]:
        axis.set_ylim(min(low for low, _ in both), max(high for _, high in both))
    panels[2].set(xlabel="logits times", ylabel="wrong signs of the gradient (%)", title="scaled logits")
    _legend(figure, panels[0], 2)
    return figure


def scores_picture(table: pd.DataFrame, live: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Draw the losses of one network's rows against the true ones, and what is left over lengths of training.

    ``live`` has the losses (N,) of rows by "torch", "exact" and "truth". A loss of 0 is drawn at the foot.
    """
    figure = Figure(figsize=(NARROW, 8.4), layout="constrained")
    panels = figure.subplots(3, 1)
    foot = live["truth"].min() / 10
    for name, size in (("exact", 16), ("torch", 7)):
        look = _LOOKS[name]
        panels[0].scatter(
            live["truth"],
            np.maximum(live[name], foot),
            s=size,
            color=look["color"],
            marker=look["marker"],
            linewidth=0,
            label=name,
        )
    panels[0].set(xscale="log", yscale="log", xlabel="true loss (nats)", ylabel="loss in float32 (nats)")
    panels[0].set_title("rows of one network")
    own = table[(table["rows"] == "train") & (table["confident"] > 0)].assign(
        zero=lambda rows: 100 * rows["zero_share"]
    )
    for axis, measure in ((panels[1], "zero"), (panels[2], "rank_correlation")):
        for name in ("torch", "exact"):
            _curve(axis, own[own["loss"] == name], "epochs", measure, name, name)
        axis.set(xscale="log", xlabel="epochs")
        axis.set_xticks(epochs := sorted(own["epochs"].unique()), [f"{each:g}" for each in epochs])
        axis.minorticks_off()
    panels[1].set(ylabel="exactly 0 (%)", title="confident training rows")
    panels[2].set(ylabel="rank correlation with the truth", title="confident training rows")
    _legend(figure, panels[1], 2)
    return figure


def ordinary_picture(table: pd.DataFrame) -> Figure:
    """Draw test accuracy, a line an optimiser, schedule and rate and a panel a share of noisy labels."""
    noises = sorted(table["noise"].unique())
    figure = Figure(figsize=(NARROW, 1.0 + 2.9 * len(noises)), layout="constrained")
    panels = figure.subplots(len(noises), 1, sharex=True, squeeze=False)[:, 0]
    keys = ["optimizer", "schedule", "rate"]
    settings = sorted(set(table[keys].itertuples(index=False, name=None)), reverse=True)
    for noise, axis in zip(noises, panels, strict=True):
        for place, (name, label) in enumerate(ordinary.LABELS.items()):
            rows = table[(table["noise"] == noise) & (table["loss"] == name)]
            reached = 100 * rows.set_index(keys)["test_accuracy"].groupby(keys).agg(["mean", "min", "max"])
            reached = reached.loc[settings]
            ends = [reached["mean"] - reached["min"], reached["max"] - reached["mean"]]
            look = {key: value for key, value in _LOOKS[name].items() if key != "linestyle"}
            height = np.arange(len(settings)) - 0.2 * (place - 1)
            axis.errorbar(reached["mean"], height, xerr=ends, fmt="none", ecolor=look["color"], alpha=0.6)
            axis.plot(reached["mean"], height, label=label, linestyle="", markersize=5, **look)
        axis.set_title(f"{100 * noise:.0f} % of the labels drawn anew")
        axis.set_yticks(
            range(len(settings)),
            [f"{NAMES[each]}, {schedule}, {rate:g}" for each, schedule, rate in settings],
        )
    panels[-1].set_xlabel("test accuracy (%)")
    _legend(figure, panels[0], len(ordinary.LABELS))
    return figure
