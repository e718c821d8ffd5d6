"""One look for every picture: colours that colour-blind readers can tell apart, legible sizes, light grids.

Imports matplotlib only when asked to draw.
"""

from __future__ import annotations

from typing import Any

__all__ = ["COLORS", "DIVERGING", "SEQUENTIAL", "use_style"]

# M. Okabe and K. Ito, "Color Universal Design" (2008): distinguishable in all common forms of colour blindness.
COLORS: dict[str, str] = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "yellow": "#F0E442",
    "grey": "#666666",
}
SEQUENTIAL = "cividis"  # perceptually uniform, and nearly the same to colour-blind readers
DIVERGING = "PuOr"

_STYLE: dict[str, Any] = {
    "figure.figsize": (7.0, 3.6),
    "figure.dpi": 144,
    "figure.constrained_layout.use": True,
    # a white card behind every figure: axes and text stay readable when the page is dark
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.cmap": SEQUENTIAL,
}


def use_style() -> None:
    """Make the book's style the default of every matplotlib figure drawn from here on."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # the keys are matplotlib's own
    mpl.rcParams["axes.prop_cycle"] = cycler(color=[c for name, c in COLORS.items() if name not in ("yellow", "grey")])
