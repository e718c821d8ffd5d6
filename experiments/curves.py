"""Curves over steps and over seconds with their names at their ends, and means over seeds with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from softmax_lab.plotting import COLORS

__all__ = ["Curve", "curve_of", "curves_picture", "interval", "looks", "spread"]

NARROW = 5.6  # inches: on a telephone, 350 pixels wide, ten points are nine pixels
#: colours first, then the same ones with other dashes: more than eight colours cannot be told apart
_COLORS = ("blue", "vermillion", "green", "purple", "sky", "orange", "grey")
_DASHES = ("-", "--", ":")


class Curve(NamedTuple):
    """The mean of seeds over steps (and the seconds of each step), with the lowest and the highest."""

    label: str
    steps: NDArray[np.float64]
    seconds: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and half the width of its t interval; NaN for one value."""
    from scipy import stats

    x = np.asarray(list(values), dtype=float)
    if len(x) < 2:
        return float(x.mean()), float("nan")
    return float(x.mean()), float(stats.sem(x) * stats.t.ppf(0.5 + level / 2, len(x) - 1))


def curve_of(rows: pd.DataFrame, label: str, at: str, measure: str) -> Curve:
    """Return the curve of rows with a column ``at`` (steps or epochs), ``seconds`` and ``seed``."""
    grouped = rows.groupby(at)
    values = grouped[measure]
    return Curve(
        label,
        np.asarray(sorted(grouped.groups), dtype=float),
        grouped["seconds"].mean().to_numpy(),
        values.mean().to_numpy(),
        values.min().to_numpy(),
        values.max().to_numpy(),
    )


def looks(names: Sequence[str], own: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return a colour and dashes for each name, by its place: a name looks the same in every picture.

    Names that have a colour of their ``own`` keep it; the others take what is left.
    """
    own = own or {}
    free = [(color, _DASHES[0]) for color in _COLORS if color not in own.values()]
    free += [(color, dashes) for dashes in _DASHES[1:] for color in _COLORS]
    others = [name for name in names if name not in own]
    places = {name: free[i % len(free)] for i, name in enumerate(others)}
    places |= {name: (color, _DASHES[0]) for name, color in own.items()}
    return {name: {"color": COLORS[places[name][0]], "linestyle": places[name][1]} for name in names}


def spread(values: Sequence[float], gap: float) -> NDArray[np.float64]:
    """Return places near the values, in their order, that are at least ``gap`` apart."""
    order = np.argsort(values, kind="stable")
    ranked = np.asarray(values, dtype=float)[order] - gap * np.arange(len(values))
    # least squares under an order: neighbours that would cross share their mean
    blocks: list[list[float]] = []
    for value in ranked:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    level = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) if blocks else ranked
    placed = np.empty(len(values))
    placed[order] = level + gap * np.arange(len(values))
    return placed


def curves_picture(
    curves: Sequence[Curve], look: Mapping[str, Mapping[str, Any]], *, steps: str, measure: str
) -> Figure:
    """Draw curves over steps and over seconds, with bands from the lowest to the highest seed.

    Each curve's name stands at its end.
    """
    figure = Figure(figsize=(NARROW, 7.6), layout="constrained")
    panels = figure.subplots(2, 1)
    for panel, column, name in zip(panels, ("steps", "seconds"), (steps, "seconds of training"), strict=True):
        for curve in curves:
            x = getattr(curve, column)
            panel.plot(x, curve.mean, linewidth=1.6, **look[curve.label])
            panel.fill_between(
                x, curve.low, curve.high, color=look[curve.label]["color"], alpha=0.12, linewidth=0
            )
        panel.set_xscale("log")
        panel.set(xlabel=name, ylabel=measure)
        _name_ends(panel, curves, look, column)
    return figure


def _name_ends(
    axis: Any, curves: Sequence[Curve], look: Mapping[str, Mapping[str, Any]], column: str
) -> None:
    bottom, top = axis.get_ylim()
    places = spread([curve.mean[-1] for curve in curves], 0.055 * (top - bottom))
    for curve, place in zip(curves, places, strict=True):
        axis.annotate(
            curve.label,
            xy=(getattr(curve, column)[-1], curve.mean[-1]),
            xytext=(1.02, place),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=look[curve.label]["color"],
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "0.7"},
            annotation_clip=False,
        )
