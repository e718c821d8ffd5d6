"""The parts of panels, in the words of Plotly, as far as `charts.js` in the book knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from softmax_lab.plotting import COLORS, DIVERGING

from .picture import Panel

Array = NDArray[np.float64]


def make_panel(title: str, data: list[Any], *, x: Any = None, y: Any = None, legend: bool = False) -> Panel:
    return {
        "data": data,
        "layout": {"title": {"text": title}, "xaxis": x or {}, "yaxis": y or {}, "showlegend": legend},
    }


def make_axis(
    title: str = "", *, low: float | None = None, high: float | None = None, log: bool = False, **more: Any
) -> dict[str, Any]:
    limits = (
        {}
        if low is None or high is None
        else {"range": [float(np.log10(v)) if log else v for v in (low, high)]}
    )
    return {
        "title": {"text": title},
        **({"type": "log", "exponentformat": "power", "dtick": 1} if log else {}),
        **limits,
        **more,
    }


def make_line(
    x: Any, y: Any, color: str, name: str = "", *, width: float = 2.0, dash: str = "solid"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": COLORS[color], "width": width, "dash": dash},
    }


def make_point(x: Any, y: Any, color: str = "vermillion", name: str = "") -> dict[str, Any]:
    look = {"color": COLORS[color], "size": 12}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "name": name,
        "showlegend": bool(name),
        "marker": look,
    }


def make_words(x: Any, y: Any, text: list[str]) -> dict[str, Any]:
    return {"type": "scatter", "mode": "text", "x": x, "y": y, "text": text, "showlegend": False}


def make_bars(x: Any, y: Any, color: str, name: str = "") -> dict[str, Any]:
    return {"type": "bar", "x": x, "y": y, "name": name, "marker": {"color": COLORS[color]}}


def colour_scale() -> list[list[Any]]:
    """Return the book's diverging colours as `charts.js` wants them."""
    return [[x, to_hex(colormaps[DIVERGING](x))] for x in np.linspace(0.0, 1.0, 11).tolist()]


def rounded(values: Any, digits: int = 5) -> Any:
    """Return nested lists of numbers with so many significant digits, and None for what no axis can show."""
    if isinstance(values, np.ndarray | list | tuple):
        return [rounded(value, digits) for value in values]
    return float(f"{values:.{digits}g}") if values is not None and np.isfinite(values) else None


def last_visible(
    x: Sequence[float | None], ys: Sequence[Array], low: float
) -> tuple[list[float | None], list[float | None]]:
    """Return where each curve is last seen above ``low``."""
    last = [
        max((i for i, value in enumerate(visible(y)) if value is not None and value > low), default=-1)
        for y in ys
    ]
    return [x[i] if i >= 0 else None for i in last], [
        visible(y)[i] if i >= 0 else None for i, y in zip(last, ys, strict=True)
    ]


def visible(values: Any, digits: int = 5) -> list[float | None]:
    """Return what a logarithmic axis can show."""
    numbers = np.asarray(values, dtype=np.float64)
    return rounded(np.where(np.isfinite(numbers) & (numbers > 1e-300), numbers, np.nan), digits)  # type: ignore[no-any-return]
