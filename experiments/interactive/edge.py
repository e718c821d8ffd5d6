"""Two classes as the edge of the triangle: the third logit goes to minus infinity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import softmax_lab as sl

from .panels import make_axis, make_line, make_panel, make_point, rounded
from .picture import Change, Control, Interactive
from .triangle import make_triangle, move_dot

__all__ = ["two_classes"]

THIRD = (-np.inf, -6.0, -4.0, -2.0, 0.0, 2.0)


def two_classes(gaps: Sequence[float] = tuple(np.arange(-16, 17) / 2), start: float = 2.0) -> Interactive:
    """Two logits a gap apart and a third, masked at first: the softmax is the sigmoid on the edge."""
    rows = [sl.softmax(np.array([gap, 0.0, third])) for gap in gaps for third in THIRD]
    by = ("gap", "third")
    curves = [[float(sl.softmax(np.array([gap, 0.0, third]))[0]) for gap in gaps] for third in THIRD]
    panels = (
        make_panel(
            "probability of class 1",
            [
                make_line(rounded(list(gaps)), rounded(curves[0], 4), "grey", "sigmoid of d", width=4.0),
                make_line(rounded(list(gaps)), [], "blue", "softmax"),
                make_point([0], [0]),
            ],
            x=make_axis("gap d = z₁ − z₂", low=float(min(gaps)), high=float(max(gaps))),
            y=make_axis("p₁", low=0.0, high=1.0),
            legend=True,
        ),
        make_triangle("two classes are an edge", label=0),
    )
    changes = (
        Change(0, 1, "y", ("third",), tuple(rounded(curve, 4) for curve in curves)),
        Change(0, 2, "x", ("gap",), tuple(rounded([gap]) for gap in gaps)),
        Change(0, 2, "y", by, tuple(rounded([row[0]], 4) for row in rows)),
        *move_dot(1, by, rows),
    )
    named = ["−∞ (masked)", *(f"{third:g}".replace("-", "−") for third in THIRD[1:])]
    said = tuple(
        f"gap {gap:g}, third logit {third}: p = {', '.join(f'{v:.3f}' for v in rows[i * len(THIRD) + j])}; "
        f"the sigmoid of the gap is {curves[0][i]:.3f}"
        for i, gap in enumerate(gaps)
        for j, third in enumerate(named)
    )
    controls = (
        Control("gap", "gap d", tuple(f"{g:g}".replace("-", "−") for g in gaps), list(gaps).index(start)),
        Control("third", "third logit", tuple(named), 0, choice=True),
    )
    alt = (
        f"Two panels for the gap {start:g} with the third class masked: the probability of class 1 over "
        "the gap lies on the sigmoid; in the triangle the dot is on the edge between the corners 1 and 2."
    )
    caption = (
        "Logits (d, 0) and a third. While the third is masked, the dot stays on the edge of the triangle "
        "and the softmax is the sigmoid of d. Any finite third logit takes the dot off the edge, and the "
        "curve off the sigmoid. The arrows are those of label 1."
    )
    return Interactive(panels, controls, changes, said, alt, caption)
