"""The triangle of all distributions over three classes: one picture, in the same colours everywhere.

A corner is a class that has all the probability, the dot is p, and the arrows are where descent moves p.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

import softmax_lab as sl

from .panels import Array, make_axis, make_line, make_panel, make_point, make_words, rounded
from .picture import Change, Panel

__all__ = ["ARROWS", "DOT", "NAMES", "arrows", "make_triangle", "move_dot", "place"]

NAMES = ("1", "2", "3")
#: the traces of :func:`make_triangle` that controls move
ARROWS, DOT = 1, 2


def place(p: Any) -> tuple[float, float]:
    """Return the place of (p_1, p_2, p_3) in a triangle.

    Its corners are (0, 0), (1, 0) and (1/2, sqrt(3)/2).
    """
    return float(p[1] + 0.5 * p[2]), float(p[2] * np.sqrt(0.75))


def make_triangle(title: str, path: Sequence[Array] = (), label: int | None = None) -> Panel:
    """Return the triangle with its corners named, without the dot.

    ``path`` is a line of distributions through it; the arrows are those of ``label``, where it is given.
    """
    corners = np.array([place(row) for row in np.eye(3)[[0, 1, 2, 0]]])
    words = make_words(
        rounded(1.13 * corners[:3, 0] - 0.065),
        rounded(1.16 * corners[:3, 1] - 0.06),
        [f"p = e{k}" for k in "₁₂₃"],
    )
    edges = make_line(rounded(corners[:, 0]), rounded(corners[:, 1]), "grey")
    way = [rounded(list(axis), 4) for axis in zip(*(place(p) for p in path), strict=True)] or [[], []]
    hidden = make_axis(visible=False)
    ends = ([], []) if label is None else arrows(label)
    return make_panel(
        title,
        [
            edges,
            make_line(ends[0], ends[1], "sky", width=1.5),
            make_point([0], [0]),
            words,
            make_line(way[0], way[1], "vermillion", width=1.5, dash="dot"),
        ],
        x={**hidden, "range": [-0.15, 1.15]},
        y={**hidden, "scaleanchor": "x", "range": [-0.12, 1.02]},
    )


def move_dot(panel: int, by: tuple[str, ...], rows: Sequence[Array]) -> tuple[Change, Change]:
    """Return the changes that put the dot on the p of each position."""
    at = [place(row) for row in rows]
    return (
        Change(panel, DOT, "x", by, tuple(rounded([x], 4) for x, _ in at)),
        Change(panel, DOT, "y", by, tuple(rounded([y], 4) for _, y in at)),
    )


def arrows(label: int, grid: int = 9) -> tuple[list[float | None], list[float | None]]:
    """Return arrows, as lines with gaps, along J(p) (e_y - p).

    That is the first-order motion of p = softmax(z) when z goes along the negative gradient of -log p_y.
    """
    x: list[float | None] = []
    y: list[float | None] = []
    for i, j in product(range(1, grid), repeat=2):
        if i + j >= grid:
            continue
        p = np.array([i, j, grid - i - j]) / grid
        motion = sl.softmax_jacobian(p) @ (np.eye(3)[label] - p)
        tail, head = (np.array(place(q)) for q in (p, p + 0.35 * motion))
        back = 0.3 * (tail - head)
        side = np.array([-back[1], back[0]]) * 0.6
        for point in (tail, head, head + back + side, head, head + back - side):
            x.append(rounded(point[0], 4))
            y.append(rounded(point[1], 4))
        x.append(None)
        y.append(None)
    return x, y
