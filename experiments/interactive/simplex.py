"""Three logits: probabilities, the Jacobian, its eigenvalues and the simplex."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

import softmax_lab as sl

from .panels import (
    Array,
    colour_scale,
    make_axis,
    make_bars,
    make_line,
    make_panel,
    make_point,
    make_words,
    rounded,
)
from .picture import Change, Control, Interactive, Panel

__all__ = ["three_classes"]

NAMES = ("1", "2", "3")
HEAT_MAP = {
    **{"type": "heatmap", "x": [1, 2, 3], "y": [1, 2, 3]},
    **{"z": [[0] * 3] * 3, "zmin": -0.25, "zmax": 0.25},
}


def three_classes(levels: Sequence[float] = tuple(range(-4, 5)), grid: int = 9) -> Interactive:
    """Three logits: probabilities, the Jacobian, its eigenvalues, and where descent moves p.

    The field is the first-order motion of p = softmax(z) when z goes along the negative gradient of -log p_y:
    J(p) (e_y - p).
    """
    words = tuple(f"{level:g}" for level in levels)
    controls = (
        *(
            Control(f"z{k}", f"logit of class {k}", words, len(words) // 2 + shift)
            for k, shift in ((1, 2), (2, 1), (3, -1))
        ),
        Control("y", "label y, for the arrows", NAMES, choice=True),
    )
    p = sl.softmax(np.array(list(product(levels, repeat=3)), dtype=np.float64))
    jacobians = [sl.softmax_jacobian(row) for row in p]
    eigenvalues = [np.clip(np.linalg.eigvalsh(jacobian)[::-1], 0.0, None) for jacobian in jacobians]
    # one of them is 0, up to rounding
    eigenvalues = [np.where(values < 1e-15, 0.0, values) for values in eigenvalues]
    at = [_on_simplex(row) for row in p]
    fields = [_field(label, grid) for label in range(3)]
    by = ("z1", "z2", "z3")
    changes = (
        Change(0, 0, "y", by, tuple(rounded(row, 4) for row in p)),
        Change(1, 0, "z", by, tuple(rounded(jacobian, 4) for jacobian in jacobians)),
        Change(2, 0, "y", by, tuple(rounded(values, 4) for values in eigenvalues)),
        Change(3, 1, "x", ("y",), tuple(x for x, _ in fields)),
        Change(3, 1, "y", ("y",), tuple(y for _, y in fields)),
        Change(3, 2, "x", by, tuple(rounded([x], 4) for x, _ in at)),
        Change(3, 2, "y", by, tuple(rounded([y], 4) for _, y in at)),
    )
    said = [
        f"p = {_listed(row)}; eigenvalues {_listed(values)}"
        for row, values in zip(p, eigenvalues, strict=True)
    ]
    alt = (
        "Four panels for the logits 2, 1 and −1: bars of the probabilities; the Jacobian as a table of "
        "colours, positive on the diagonal and negative off it; its three eigenvalues, of which the last is "
        "0; a triangle with arrows that all lead to the corner of class 1."
    )
    caption = (
        "Three logits, and what follows from them. The dot in the triangle is the p of the sliders; the "
        "arrows depend on the label alone. Each row of the Jacobian adds up to 0, and so one eigenvalue is 0."
    )
    of_all = tuple(sentence for sentence in said for _ in NAMES)
    return Interactive(_panels(), controls, changes, of_all, alt, caption)


def _panels() -> tuple[Panel, ...]:
    """Return the panels without what the controls decide."""
    names = list(NAMES)
    return (
        make_panel(
            "probabilities p",
            [make_bars(names, [0, 0, 0], "blue")],
            x=make_axis("class", type="category"),
            y=make_axis("probability", low=0.0, high=1.0),
        ),
        make_panel(
            "Jacobian diag(p) − p pᵀ",
            [HEAT_MAP | {"colorscale": colour_scale(), "texttemplate": "%{z:.3f}", "showscale": False}],
            x=make_axis("input j", dtick=1),
            y=make_axis("output i", dtick=1, autorange="reversed"),
        ),
        make_panel(
            "eigenvalues of the Jacobian",
            [make_bars(names, [0, 0, 0], "green")],
            x=make_axis("the largest first", type="category"),
            y=make_axis("eigenvalue", low=0.0, high=0.55),
        ),
        _triangle(),
    )


def _triangle() -> Panel:
    """Return the simplex with its corners named, without arrows and dot."""
    corners = np.array([_on_simplex(row) for row in np.eye(3)[[0, 1, 2, 0]]])
    hidden = make_axis(visible=False, low=-0.08, high=1.08)
    words = make_words(
        rounded(1.13 * corners[:3, 0] - 0.065),
        rounded(1.16 * corners[:3, 1] - 0.06),
        [f"p = e{k}" for k in "₁₂₃"],
    )
    edges = make_line(rounded(corners[:, 0]), rounded(corners[:, 1]), "grey")
    return make_panel(
        "the simplex: where descent moves p",
        [edges, make_line([], [], "sky", width=1.5), make_point([0], [0]), words],
        x={**hidden, "range": [-0.15, 1.15]},
        y={**hidden, "scaleanchor": "x", "range": [-0.12, 1.02]},
    )


def _listed(values: Array) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _on_simplex(p: Any) -> tuple[float, float]:
    """Return the place of (p_1, p_2, p_3) in a triangle.

    Its corners are (0, 0), (1, 0) and (1/2, sqrt(3)/2).
    """
    return float(p[1] + 0.5 * p[2]), float(p[2] * np.sqrt(0.75))


def _field(label: int, grid: int) -> tuple[list[float | None], list[float | None]]:
    """Return arrows, as lines with gaps, along J(p) (e_y - p)."""
    x: list[float | None] = []
    y: list[float | None] = []
    for i, j in product(range(1, grid), repeat=2):
        if i + j >= grid:
            continue
        p = np.array([i, j, grid - i - j]) / grid
        motion = sl.softmax_jacobian(p) @ (np.eye(3)[label] - p)
        tail, head = (np.array(_on_simplex(q)) for q in (p, p + 0.35 * motion))
        back = 0.3 * (tail - head)
        side = np.array([-back[1], back[0]]) * 0.6
        for place in (tail, head, head + back + side, head, head + back - side):
            x.append(rounded(place[0], 4))
            y.append(rounded(place[1], 4))
        x.append(None)
        y.append(None)
    return x, y
