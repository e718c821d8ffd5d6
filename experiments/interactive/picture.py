"""A picture that answers when touched: panels, controls, and what each position of the controls shows."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from softmax_lab.plotting import DIVERGING

__all__ = ["Change", "Control", "Interactive"]


Panel = dict[str, Any]  # "data" and "layout", as Plotly has them


@dataclass(frozen=True)
class Control:
    """A slider, or with ``choice`` a list, and the words for its positions."""

    name: str
    label: str
    values: tuple[str, ...]
    start: int = 0
    choice: bool = False


@dataclass(frozen=True)
class Change:
    """What a field of a trace takes on: a value for each position of the controls ``by``.

    The last of the controls moves fastest.
    """

    panel: int
    trace: int
    field: str
    by: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Interactive:
    """Panels, controls and changes, and a ``caption`` below them.

    ``said`` is a sentence for each position of *all* controls, for those who cannot see the panels.
    """

    panels: tuple[Panel, ...]
    controls: tuple[Control, ...]
    changes: tuple[Change, ...]
    said: tuple[str, ...]
    alt: str
    caption: str

    def __post_init__(self) -> None:
        length = {control.name: len(control.values) for control in self.controls}
        for change in self.changes:
            expected = int(np.prod([length[name] for name in change.by]))
            if len(change.values) != expected:
                raise ValueError(
                    f"{change.field} of trace {change.trace} needs {expected} values for {change.by}; got "
                    f"{len(change.values)}"
                )
        if len(self.said) != (expected := int(np.prod(list(length.values())))):
            raise ValueError(f"said needs {expected} sentences; got {len(self.said)}")

    def at_start(self) -> list[Panel]:
        """Return the panels with every control at its start."""
        start = {control.name: control.start for control in self.controls}
        length = {control.name: len(control.values) for control in self.controls}
        panels: list[Panel] = [
            {**panel, "data": [dict(trace) for trace in panel["data"]]} for panel in self.panels
        ]
        for change in self.changes:
            index = 0
            for name in change.by:
                index = index * length[name] + start[name]
            panels[change.panel]["data"][change.trace][change.field] = change.values[index]
        return panels

    def still(self) -> Figure:
        """Draw the panels at their start."""
        panels = self.at_start()
        figure = Figure(
            figsize=(3.4 * min(len(panels), 2), 3.0 * -(-len(panels) // 2)),
            layout="constrained",
            facecolor="white",
        )
        axes = figure.subplots(-(-len(panels) // 2), min(len(panels), 2), squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(axis, panel)
        return figure

    def _repr_html_(self) -> str:
        picture = io.BytesIO()
        self.still().savefig(picture, format="png", dpi=110)
        spec = {
            "panels": self.at_start(),
            "controls": [vars(control) for control in self.controls],
            "changes": [vars(change) for change in self.changes],
            "said": self.said,
        }
        text = json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
        source = base64.b64encode(picture.getvalue()).decode()
        return (
            '<figure><div class="interactive">'
            f'<img class="interactive-still" alt="{html.escape(self.alt)}" '
            f'src="data:image/png;base64,{source}">'
            f'<script type="application/json">{text}</script></div>'
            f"<figcaption><p><span "
            f'class="caption-text">{html.escape(self.caption)}</span></p></figcaption></figure>'
        )


def _draw(axis: Any, panel: Panel) -> None:
    """Draw a panel with matplotlib.

    Lines, markers, bars, words and a heat map are all that the panels here have.
    """
    layout = panel["layout"]
    bars = [trace for trace in panel["data"] if trace["type"] == "bar"]
    for trace in panel["data"]:
        if trace["type"] == "heatmap":
            axis.imshow(
                trace["z"],
                cmap=DIVERGING,
                vmin=trace["zmin"],
                vmax=trace["zmax"],
                extent=(0.5, 3.5, 3.5, 0.5),
            )
            for (row, column), value in np.ndenumerate(np.asarray(trace["z"])):
                axis.text(
                    column + 1,
                    row + 1,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    color="white" if abs(value) > 0.6 * trace["zmax"] else "black",
                )
        elif trace["type"] == "bar":
            width = 0.8 / len(bars)
            # side by side, as Plotly has them
            place = np.arange(len(trace["x"])) + width * (bars.index(trace) - (len(bars) - 1) / 2)
            axis.bar(
                place,
                np.array(trace["y"], dtype=float),
                width,
                color=trace["marker"]["color"],
                label=trace.get("name"),
            )
            axis.set_xticks(range(len(trace["x"])), trace["x"])
        elif trace["mode"] == "text":
            for x, y, word in zip(trace["x"], trace["y"], trace["text"], strict=True):
                axis.text(x, y, word, ha="center", va="center", fontsize=8)
        else:
            x, y = (np.array(trace[name], dtype=float) for name in "xy")
            points = "markers" in trace["mode"]
            look = trace["marker"] if points else trace["line"]
            if points:
                marker = {"x": "X"}.get(look.get("symbol", ""), "o")
                rim = look.get("line", {"color": "none", "width": 0})
                axis.scatter(
                    x,
                    y,
                    40,
                    look["color"],
                    marker,
                    label=trace["name"] or None,
                    zorder=3,
                    edgecolors=rim["color"],
                    linewidths=rim["width"],
                    clip_on=trace.get("cliponaxis", True),
                )
            else:
                style = {"solid": "-", "dash": "--", "longdash": (0, (8, 3)), "dot": ":", "dashdot": "-."}[
                    look["dash"]
                ]
                axis.plot(
                    x,
                    y,
                    color=look["color"],
                    linewidth=look["width"],
                    linestyle=style,
                    label=trace.get("name"),
                )
    for name in "xy":
        of = layout[f"{name}axis"]
        getattr(axis, f"set_{name}label")(of.get("title", {}).get("text", ""))
        if of.get("type") == "log":
            getattr(axis, f"set_{name}scale")("log")
        elif "dtick" in of:
            getattr(axis, f"{name}axis").set_major_locator(MultipleLocator(of["dtick"]))
        if "range" in of:
            low, high = (10.0**e if of.get("type") == "log" else e for e in of["range"])
            getattr(axis, f"set_{name}lim")(low, high)
        if of.get("visible") is False:
            axis.set_axis_off()
    axis.set_title(layout["title"]["text"], fontsize=10)
    if layout.get("showlegend"):
        axis.legend(fontsize=7, frameon=False)
    if layout["yaxis"].get("scaleanchor"):
        axis.set_aspect("equal")
