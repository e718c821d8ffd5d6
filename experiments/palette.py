"""Figures as PNG with a palette: a third of the bytes, and a page has several."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image

__all__ = ["Still", "png"]

_STILL = 128  # with half of them the edges of letters are seen


def png(figure: Figure, dpi: float | None = None, *, colors: int = 64) -> bytes:
    """Return a figure as PNG with a palette.

    Parameters
    ----------
    dpi : float, optional
        Dots an inch; the figure's own, where none are given.
    colors : int
        At most so many.

    Examples
    --------
    >>> with Image.open(io.BytesIO(png(Figure(figsize=(2, 1)), dpi=50))) as image:
    ...     print(image.mode, image.size)
    P (100, 50)
    """
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi if dpi is None else dpi)
    with Image.open(drawn) as image:
        colored = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    colored.save(small, format="png", optimize=True)
    return small.getvalue()


class Still:
    """A figure that a notebook shows as such a PNG: for areas of one colour, not for shades of many.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What is shown. It has its own dots an inch.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def __repr__(self) -> str:
        return repr(self.figure)

    def _repr_png_(self) -> bytes:
        return png(self.figure, colors=_STILL)
