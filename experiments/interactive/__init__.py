"""Pictures that answer when touched, without a kernel: the package computes everything they can show.

A picture is a few panels (in Plotly's words), controls, and for each position of the controls the numbers
that the panels then show. The page's script (``book/_static/interactive.js``) looks them up; it computes
nothing. Print, and readers without scripts, get a still of the starting position, drawn by matplotlib from
the same panels.
"""

from __future__ import annotations

from .gaps import WAYS, precision
from .masses import film
from .picture import Change, Control, Interactive
from .simplex import three_classes
from .tempering import temperature

__all__ = ["WAYS", "Change", "Control", "Interactive", "film", "precision", "temperature", "three_classes"]
