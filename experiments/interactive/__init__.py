"""Pictures that answer when touched, without a kernel: the package computes everything they can show.

A picture is a few panels (in Plotly's words), controls, and for each position of the controls the numbers
that the panels then show. The page's script (``book/_static/interactive.js``) looks them up; it computes
nothing. Print, and readers without scripts, get a still of the starting position, drawn by matplotlib from
the same panels.
"""

from __future__ import annotations

from .edge import two_classes
from .gaps import WAYS, precision
from .lost import lost_component
from .masses import film
from .picture import Change, Control, Interactive
from .saturated import saturation
from .simplex import three_classes
from .tempering import temperature

__all__ = [
    "WAYS",
    "Change",
    "Control",
    "Interactive",
    "film",
    "lost_component",
    "precision",
    "saturation",
    "temperature",
    "three_classes",
    "two_classes",
]
