"""One look for every picture: colours that colour-blind readers can tell apart, legible sizes, light grids.

Imports matplotlib only when asked to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._extras import load

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["COLORS", "DIVERGING", "SEQUENTIAL", "heat_map", "use_style"]

# M. Okabe and K. Ito, "Color Universal Design" (2008): they can be told apart in all common forms of colour
# blindness
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
_NARROWEST = 0.8  # inches: a panel's title
_DRAWN = "pictures are drawn by matplotlib"

_STYLE: dict[str, Any] = {
    "figure.figsize": (5.6, 3.6),  # on a telephone, 350 pixels wide, ten points are nine pixels
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
    mpl = load("matplotlib", _DRAWN)
    from cycler import cycler

    mpl.rcParams.update(_STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(
        color=[c for name, c in COLORS.items() if name not in ("yellow", "grey")]
    )


def heat_map(frame: pd.DataFrame, *, function: str, dtypes: Sequence[str]) -> Figure:
    """Draw an audit as one panel a type, case by implementation.

    The colour goes by the logarithm of the error in ulp.

    Parameters
    ----------
    frame : pandas.DataFrame
        As :func:`softmax_lab.audit.run` returns it.
    function : str
        The audited function to show.
    dtypes : sequence of str
        The types to show, from left to right.

    Returns
    -------
    matplotlib.figure.Figure
        A cross marks what is over the limit or wrong. A dot marks what is right and no matter of ulps. White
        was not offered.

    Raises
    ------
    ValueError
        Where ``frame`` holds no row of ``function`` in one of ``dtypes``.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> frame = sl.audit.run(["softmax_lab"], dtypes=["float32"], functions=["softmax"], progress=False)
    >>> figure = sl.plotting.heat_map(frame, function="softmax", dtypes=["float32"])
    """
    load("matplotlib", _DRAWN)
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    rows = frame[frame["function"] == function]
    for dtype in dtypes:
        if dtype not in set(rows["dtype"]):
            raise ValueError(
                f"frame must hold rows of {function} in {dtype}; it has "
                f"{', '.join(dict.fromkeys(rows['dtype'])) or 'none'}"
            )
    cases, names = list(dict.fromkeys(rows["case"])), list(dict.fromkeys(rows["implementation"]))
    norm = LogNorm(0.1, 1e9, clip=True)  # the range of the HTML report
    # a column is as wide as a name's line is high; the scale stands below, where it takes no width
    panel = max(_NARROWEST, 0.2 * len(names))
    figure = Figure(figsize=(2.0 + panel * len(dtypes), 2.2 + 0.2 * len(cases)), layout="constrained")
    axes = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for axis, dtype in zip(axes, dtypes, strict=True):
        mesh = _heat_panel(axis, rows[rows["dtype"] == dtype], cases, names, norm)
        axis.set_title(dtype)
    figure.colorbar(
        mesh, ax=list(axes), location="bottom", aspect=30, pad=0.02, label="worst error (ulp)", extend="both"
    )
    return figure


def _heat_panel(axis: Any, rows: pd.DataFrame, cases: list[str], names: list[str], norm: Any) -> Any:
    """Draw one type's cells, with the marks that say more than colour, and return the image."""
    import numpy as np

    ulps = np.full((len(cases), len(names)), np.nan)
    for row in rows.itertuples():
        i, j = cases.index(str(row.case)), names.index(str(row.implementation))
        ulps[i, j] = np.clip(float(row.max_ulp), norm.vmin, norm.vmax)  # infinity to the end of the scale
        if not row.ok or np.isnan(ulps[i, j]):
            ink = "black" if np.isnan(ulps[i, j]) or norm(ulps[i, j]) > 0.5 else "white"
            axis.text(j, i, "·" if row.ok else "×", ha="center", va="center", color=ink)
    mesh = axis.imshow(np.ma.masked_invalid(ulps), cmap=SEQUENTIAL, norm=norm, aspect="auto")
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(cases)), cases)
    axis.grid(False)
    return mesh
