"""Pictures of the stored rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.curves import NARROW
from softmax_lab.plotting import COLORS

from .choices import CHOICES, regret_by_choice
from .numbers import OURS, Rows, paired_with_best, parts, regret_table, setting_name

__all__ = ["choice_picture", "paired_picture", "parts_picture", "regret_picture"]


def regret_picture(table: pd.DataFrame, dataset: str, *, most: float = 8.0) -> Figure:
    """Draw `regret_table` of a data set in colours that end at ``most`` points, with its numbers.

    A last column has the worst of each row in all settings, those of other data sets too.
    """
    regret = regret_table(table)
    places = [place for place in regret.columns if place[0] == dataset]
    names = [setting_name(place).removeprefix(f"{dataset}, ") for place in places]
    shown = regret[places].set_axis(names, axis="columns")
    shown["the worst of all"] = regret.max(axis=1)
    figure = Figure(figsize=(NARROW, 3.0 + 0.23 * len(shown)), layout="constrained")
    axis = figure.subplots()
    image = _numbers(axis, shown, most)
    axis.axvline(len(places) - 0.5, color="white", linewidth=2.5)
    axis.set_title(dataset)
    label = "points below the best fixed loss"
    figure.colorbar(image, extend="max", location="top", aspect=40, pad=0.01, label=label)
    return figure


def _numbers(axis: Axes, regret: pd.DataFrame, most: float) -> AxesImage:
    """Draw a table in cells whose colours end at ``most``; what is NaN was not run, and is grey."""
    axis.set_facecolor("0.92")
    axis.grid(False)
    for (row, column), value in np.ndenumerate(regret.to_numpy()):
        if not np.isnan(value):
            shade = "white" if value > 0.55 * most else "black"
            words = f"{round(value, 1) + 0.0:.1f}".replace("-", "−")
            axis.text(column, row, words, ha="center", va="center", fontsize=9, color=shade)
    axis.set_xticks(range(regret.shape[1]), regret.columns, rotation=90)
    axis.set_yticks(range(len(regret)), regret.index)
    for tick in axis.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in OURS else "normal")
    return axis.imshow(regret.to_numpy(), cmap="cividis_r", vmin=0.0, vmax=most, aspect="auto")


def choice_picture(rows: Rows, *, most: float = 10.0) -> Figure:
    """Draw `regret_by_choice`, a panel a setting: how far each loss is behind the best, by each choice.

    What is more than ``most`` points behind stands at the edge. The loss with the best defaults is on top.
    """
    regret = regret_by_choice(rows)
    order = regret["default"].max(axis=1).sort_values(kind="stable").index
    places = list(regret["default"].columns)
    size = (NARROW, 0.9 + (0.5 + 0.22 * len(order)) * len(places))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(places), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    at = np.arange(len(order), dtype=float)
    looks = dict(zip(CHOICES, (("blue", "o"), ("grey", "|"), ("vermillion", "D")), strict=True))
    for axis, place in zip(axes, places, strict=True):
        for choice in ("oracle", "default", "tuned"):
            if (choice, *place) not in regret:
                continue
            color, marker = looks[choice]
            axis.plot(
                regret[(choice, *place)].reindex(order).clip(upper=most),
                at,
                marker,
                color=COLORS[color],
                markersize={"oracle": 11, "default": 5, "tuned": 5}[choice],
                markerfacecolor="none" if choice == "default" else COLORS[color],
                clip_on=False,
            )
        axis.set_title(setting_name(place))
    first = figure.axes[0]
    first.set_yticks(at, order)
    first.set(ylim=(len(order) - 0.5, -0.5), xlim=(0.0, most))
    for tick in [tick for axis in figure.axes for tick in axis.get_yticklabels()]:
        tick.set_fontweight("bold" if tick.get_text() in OURS else "normal")
    for choice in CHOICES:
        color, marker = looks[choice]
        first.plot(
            *([], [], marker),
            color=COLORS[color],
            markerfacecolor="none" if choice == "default" else COLORS[color],
            label={"tuned": "tuned", "oracle": "the oracle's choice", "default": "default"}[choice],
        )
    figure.supxlabel("points of balanced accuracy behind the best", fontsize="medium")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def paired_picture(table: pd.DataFrame, ours: Sequence[str] = OURS[:2]) -> Figure:
    """Draw ours less the best fixed loss with 95 % intervals, a row a setting.

    The calibration errors of all of them stand beside it.
    """
    found = {name: paired_with_best(table, name) for name in ours}
    places = list(next(iter(found.values())).index)
    figure = Figure(figsize=(NARROW, 1.6 + 0.56 * len(places)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
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
        f"{setting_name(place)}\nagainst {best}".replace(", augmented", ",\naugmented")
        for place, best in zip(places, other["best fixed"], strict=True)
    ]
    left.set_yticks(at, names)
    left.invert_yaxis()
    left.set_xlabel("ours − the best\nfixed loss (points of\nbalanced accuracy)")
    right.set_xlabel("expected\ncalibration\nerror (%)")
    right.set_xlim(left=0.0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def parts_picture(table: pd.DataFrame, dataset: str, protocol: str) -> Figure:
    """Draw `parts`, a row a loss: the recalls of the frequent, the middle and the rare classes.

    A tick has the balanced accuracy. The best is on top.
    """
    found = parts(table, dataset, protocol)
    figure = Figure(figsize=(4.3, 0.9 + 0.24 * len(found)), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(found), dtype=float)
    axis.hlines(at, found["tail"], found["head"], color="0.8", linewidth=1.5, zorder=1)
    looks = {"tail": ("vermillion", "o"), "mid": ("orange", "s"), "head": ("blue", "D")}
    names = {"tail": "rarest third", "mid": "middle", "head": "most frequent third"}
    for part, (color, marker) in looks.items():
        axis.plot(found[part], at, marker, color=COLORS[color], markersize=5, label=names[part])
    axis.plot(found["balanced_accuracy"], at, "k|", markersize=10, label="all classes")
    axis.set_yticks(at, found.index)
    axis.set(ylim=(len(found) - 0.5, -0.5), xlabel="mean recall (%)")
    for tick in axis.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in OURS else "normal")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
