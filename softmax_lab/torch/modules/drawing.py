"""The monitor's figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._extras import load

__all__ = ["draw"]


def draw(figure: Any, steps: Any, values: dict[str, Any], groups: int, colours: str) -> None:
    """Four panels, a line a group of classes."""
    mpl = load("matplotlib", "the figure is drawn by matplotlib")
    panels: Sequence[tuple[str, Any, str]] = (
        ("|sum of the class's gradients|", values["sum_norm"], "log"),
        ("mean |gradient| of its rows", values["sample_norm"], "log"),
        ("positive over negative mass", _ratio(values["positive_mass"], values["negative_mass"]), "log"),
        ("mean probability of the label", values["probability"], "linear"),
    )
    order = np.argsort(-values["count"].mean(axis=0), kind="stable") if len(steps) else np.empty(0, dtype=int)
    parts = [part for part in np.array_split(order, max(1, min(groups, len(order)))) if len(part)]
    shades = mpl.colormaps[colours](np.linspace(0.0, 0.9, max(len(parts), 1)))
    for axis, (title, panel, scale) in zip(figure.subplots(2, 2, sharex=True).flat, panels, strict=True):
        for part, shade in zip(parts, shades, strict=False):
            axis.plot(steps, _mean_of_known(panel[:, part]), color=shade, linewidth=1.2)
        axis.set(title=title, yscale=scale)
    for axis in figure.axes[2:]:
        axis.set_xlabel("step")
    lines = figure.axes[0].get_lines()
    if len(lines) > 1:
        figure.legend(
            [lines[0], lines[-1]],
            ["most frequent classes", "rarest classes"],
            loc="outside lower center",
            ncols=2,
        )


def _ratio(a: Any, b: Any) -> Any:
    return np.divide(a, b, out=np.full_like(a, np.nan), where=(a > 0) & (b > 0))


def _mean_of_known(values: Any) -> Any:
    """Return the mean over the classes that are known, NaN where none is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1))
