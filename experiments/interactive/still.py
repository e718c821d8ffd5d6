"""A still of a panel, drawn by matplotlib from what `charts.js` is given.

A heat map, bars, words, markers and lines are all that the panels here have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MultipleLocator

from softmax_lab.plotting import DIVERGING

__all__ = ["draw"]

Trace = dict[str, Any]
_STYLES = {"solid": "-", "dash": "--", "longdash": (0, (8, 3)), "dot": ":", "dashdot": "-."}


def draw(axis: Any, panel: dict[str, Any]) -> None:
    """Draw a panel."""
    bars = [trace for trace in panel["data"] if trace["type"] == "bar"]
    for trace in panel["data"]:
        if trace["type"] == "heatmap":
            _draw_map(axis, trace)
        elif trace["type"] == "bar":
            _draw_bars(axis, trace, bars.index(trace), len(bars))
        elif trace["mode"] == "text":
            _draw_words(axis, trace)
        elif "markers" in trace["mode"]:
            _draw_markers(axis, trace)
        else:
            _draw_line(axis, trace)
    layout = panel["layout"]
    for name in "xy":
        _set_axis(axis, name, layout[f"{name}axis"])
    axis.set_title(layout["title"]["text"], fontsize=10)
    if layout.get("showlegend"):
        axis.legend(fontsize=7, frameon=False)
    if layout["yaxis"].get("scaleanchor"):
        axis.set_aspect("equal")


def _draw_map(axis: Any, trace: Trace) -> None:
    limits = {"vmin": trace["zmin"], "vmax": trace["zmax"]}
    axis.imshow(trace["z"], cmap=DIVERGING, extent=(0.5, 3.5, 3.5, 0.5), **limits)
    for (row, column), value in np.ndenumerate(np.asarray(trace["z"])):
        color = "white" if abs(value) > 0.6 * trace["zmax"] else "black"
        word = f"{value:.3f}".replace("-0.000", "0.000").replace("-", "−")
        axis.text(column + 1, row + 1, word, ha="center", va="center", color=color)


def _draw_bars(axis: Any, trace: Trace, place: int, count: int) -> None:
    """Draw bars beside those of the other traces."""
    width = 0.8 / count
    x = np.arange(len(trace["x"])) + width * (place - (count - 1) / 2)
    heights = np.array(trace["y"], dtype=float)
    axis.bar(x, heights, width, color=trace["marker"]["color"], label=trace.get("name"))
    axis.set_xticks(range(len(trace["x"])), trace["x"])


def _draw_words(axis: Any, trace: Trace) -> None:
    for x, y, word in zip(trace["x"], trace["y"], trace["text"], strict=True):
        axis.text(x, y, word, ha="center", va="center", fontsize=8)


def _draw_markers(axis: Any, trace: Trace) -> None:
    x, y = (np.array(trace[name], dtype=float) for name in "xy")
    look = trace["marker"]
    marker = {"x": "X"}.get(look.get("symbol", ""), "o")
    rim = look.get("line", {"color": "none", "width": 0})
    edge = {"edgecolors": rim["color"], "linewidths": rim["width"]}
    where = {"zorder": 3, "clip_on": trace.get("cliponaxis", True)}
    axis.scatter(x, y, 40, look["color"], marker=marker, label=trace["name"] or None, **edge, **where)


def _draw_line(axis: Any, trace: Trace) -> None:
    x, y = (np.array(trace[name], dtype=float) for name in "xy")
    look = trace["line"]
    style = {"color": look["color"], "linewidth": look["width"], "linestyle": _STYLES[look["dash"]]}
    axis.plot(x, y, label=trace.get("name"), **style)


def _set_axis(axis: Any, name: str, of: dict[str, Any]) -> None:
    """Give the x or y axis its words, scale and limits."""
    log = of.get("type") == "log"
    getattr(axis, f"set_{name}label")(of.get("title", {}).get("text", ""))
    if log:
        getattr(axis, f"set_{name}scale")("log")
    elif "dtick" in of:
        getattr(axis, f"{name}axis").set_major_locator(MultipleLocator(of["dtick"]))
    if "range" in of:
        low, high = (10.0**e if log else e for e in of["range"])
        getattr(axis, f"set_{name}lim")(low, high)
    if of.get("visible") is False:
        axis.set_axis_off()
