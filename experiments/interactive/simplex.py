"""Three logits: with one number added to them all, their probabilities, the Jacobian and the triangle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

import softmax_lab as sl

from .panels import Array, colour_scale, make_axis, make_bars, make_panel, make_point, rounded
from .picture import Change, Control, Interactive, Panel
from .triangle import ARROWS, NAMES, arrows, make_triangle, move_dot

__all__ = ["three_classes"]

HEAT_MAP = {
    **{"type": "heatmap", "x": [1, 2, 3], "y": [1, 2, 3]},
    **{"z": [[0] * 3] * 3, "zmin": -0.25, "zmax": 0.25},
}
#: the slider that moves all three logits
SHIFTS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)


def three_classes(levels: Sequence[float] = tuple(range(-3, 4)), grid: int = 9) -> Interactive:
    """Three logits: their probabilities, the Jacobian, and where descent moves p.

    One more slider adds a number to all three. It moves the logits and nothing else, and so the picture opens
    with it moved.
    """
    words, middle = tuple(f"{level:g}".replace("-", "−") for level in levels), len(levels) // 2
    shifts = tuple(f"{shift:+g}".replace("-", "−").replace("+0", "0") for shift in SHIFTS)
    controls = (
        *(
            Control(f"z{k}", f"logit of class {k}", words, middle + start)
            for k, start in ((1, 2), (2, 1), (3, -1))
        ),
        Control("c", "add to all three", shifts, SHIFTS.index(4.0)),
        Control("y", "label y, for the arrows", NAMES, choice=True),
    )
    p = sl.softmax(np.array(list(product(levels, repeat=3)), dtype=np.float64))
    jacobians = [sl.softmax_jacobian(row) for row in p]
    fields = [arrows(label, grid) for label in range(3)]
    by = ("z1", "z2", "z3")
    changes = (
        *(Change(0, k, "y", (f"z{k + 1}",), tuple([float(level)] for level in levels)) for k in range(3)),
        *(
            Change(
                0, 3 + k, "y", (f"z{k + 1}", "c"), tuple([float(z + c)] for z, c in product(levels, SHIFTS))
            )
            for k in range(3)
        ),
        Change(1, 0, "y", by, tuple(rounded(row, 4) for row in p)),
        Change(2, 0, "z", by, tuple(rounded(jacobian, 4) for jacobian in jacobians)),
        Change(3, ARROWS, "x", ("y",), tuple(x for x, _ in fields)),
        Change(3, ARROWS, "y", ("y",), tuple(y for _, y in fields)),
        *move_dot(3, by, list(p)),
    )
    said = tuple(
        f"p = {_listed(row)}; eigenvalues {_listed(_eigenvalues(jacobian))}"
        for row, jacobian in zip(p, jacobians, strict=True)
    )
    alt = (
        "Four panels for the logits 2, 1 and −1, to each of which 4 is added: the logits before and "
        "after; bars of the probabilities 0.705, 0.259 and 0.035, the same before and after; the Jacobian "
        "as a table of colours, positive on the diagonal and negative off it; a triangle with arrows that "
        "all lead to the corner of class 1."
    )
    caption = (
        "Three logits, and what follows from them. A number that is added to all three moves the logits "
        "(filled; grey as they were) and nothing else. Each row of the Jacobian adds up to 0, and so one "
        "eigenvalue is 0. The dot in the triangle is p; the arrows depend on the label alone."
    )
    return Interactive(_panels(), controls, changes, said, alt, caption, said_by=by)


def _panels() -> tuple[Panel, ...]:
    """Return the panels without what the controls decide."""
    return (
        make_panel(
            "logits",
            [
                *(make_point([k], [0], "grey") for k in (1, 2, 3)),
                *(make_point([k], [0], "blue") for k in (1, 2, 3)),
            ],
            x=make_axis("class", low=0.5, high=3.5, dtick=1),
            y=make_axis("logit", low=-10.0, high=10.0),
        ),
        make_panel(
            "probabilities p",
            [make_bars(list(NAMES), [0, 0, 0], "blue")],
            x=make_axis("class", type="category"),
            y=make_axis("probability", low=0.0, high=1.0),
        ),
        make_panel(
            "Jacobian diag(p) − p pᵀ",
            [HEAT_MAP | {"colorscale": colour_scale(), "texttemplate": "%{z:.3f}", "showscale": False}],
            x=make_axis("input j", dtick=1),
            y=make_axis("output i", dtick=1, autorange="reversed"),
        ),
        make_triangle("where descent moves p"),
    )


def _eigenvalues(jacobian: Array) -> Array:
    """Return them, the largest first: one of them is 0, up to rounding."""
    values = np.clip(np.linalg.eigvalsh(jacobian)[::-1], 0.0, None)
    return np.where(values < 1e-15, 0.0, values)


def _listed(values: Array) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
