"""A picture that answers when touched: panels, controls, and what each position of the controls shows."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import palette

from .still import draw

__all__ = ["Change", "Control", "Interactive"]


Panel = dict[str, Any]  # "data" and "layout", in Plotly's words


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


@dataclass(frozen=True, repr=False)
class Interactive:
    """Panels, controls and changes, and a ``caption`` below them.

    ``said`` is a sentence for each position of the controls ``said_by`` (of all, where none is named), for
    those who cannot see the panels.
    """

    panels: tuple[Panel, ...]
    controls: tuple[Control, ...]
    changes: tuple[Change, ...]
    said: tuple[str, ...]
    alt: str
    caption: str
    said_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        length = {control.name: len(control.values) for control in self.controls}
        for change in self.changes:
            expected = int(np.prod([length[name] for name in change.by]))
            if len(change.values) != expected:
                raise ValueError(
                    f"{change.field} of trace {change.trace} needs {expected} values for {change.by}; got "
                    f"{len(change.values)}"
                )
        if not self.said_by:
            object.__setattr__(self, "said_by", tuple(length))
        if len(self.said) != (expected := int(np.prod([length[name] for name in self.said_by]))):
            raise ValueError(f"said needs {expected} sentences; got {len(self.said)}")

    def __repr__(self) -> str:
        """Return the words for it: all numbers would be longer than the page that shows them."""
        return f"<Interactive: {self.alt}>"

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
            draw(axis, panel)
        return figure

    def _repr_html_(self) -> str:
        spec = {
            "panels": self.at_start(),
            "controls": [vars(control) for control in self.controls],
            "changes": [vars(change) for change in self.changes],
            "said": self.said,
            "said_by": self.said_by,
        }
        text = json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
        source = base64.b64encode(palette.png(self.still(), dpi=110)).decode()
        return (
            '<figure><div class="interactive">'
            f'<img class="interactive-still" alt="{html.escape(self.alt)}" '
            f'src="data:image/png;base64,{source}">'
            f'<script type="application/json">{text}</script></div>'
            f"<figcaption><p><span "
            f'class="caption-text">{html.escape(self.caption)}</span></p></figcaption></figure>'
        )
