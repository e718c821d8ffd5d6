"""Two logits, a gap apart, in four types: where each way of computing the loss dies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np

import softmax_lab as sl
from softmax_lab.audit import adapters
from softmax_lab.plotting import COLORS

from .panels import Array, last_visible, make_axis, make_line, make_panel, make_point, rounded, visible
from .picture import Change, Control, Interactive

__all__ = ["precision"]


#: the ways of the last picture: what the adapters of the audit call them, and the look of each; a curve lies
#: on the wider ones before it
WAYS = {
    "softmax_lab": ("softmax_lab", "blue", 9.0),
    "jax": ("JAX", "sky", 7.0),
    "tensorflow": ("TensorFlow", "purple", 5.0),
    "torch": ("torch", "orange", 3.0),
    "numpy": ("textbook", "vermillion", 1.2),
}
DTYPES = ("float16", "bfloat16", "float32", "float64")


def precision(positions: int = 57, ways: Sequence[str] = tuple(WAYS)) -> Interactive:
    """Two logits, a gap apart: -log p_y and the gradient at the label, until each way dies.

    They are shown exact and as each way computes them.
    """
    gaps = np.geomspace(0.5, 2000.0, positions)
    ways = [way for way in ways if adapters.installed(way)]
    subjects = {way: adapters.make(way) for way in ways}
    labels = ("the larger logit", "the smaller logit")
    values = {(dtype, y): _both_ways(gaps, dtype, y, subjects) for dtype in DTYPES for y in (0, 1)}
    x, colors = visible(gaps), [COLORS[WAYS[way][1]] for way in ways]
    looks = [
        make_line(x, [], "grey", "exact", width=12.0),
        *(make_line(x, [], WAYS[w][1], WAYS[w][0], width=WAYS[w][2]) for w in ways),
    ]
    axis = make_axis("gap between the logits", low=0.5, high=2000.0, log=True)
    low, high = 1e-50, 1e5
    panels = tuple(
        make_panel(
            title,
            [
                *(dict(look) for look in looks),
                make_line([1, 1], [low, high], "grey", "the slider", width=1.0),
            ],
            x=axis,
            y=make_axis(name, low=low, high=high, log=True, dtick=10),
            legend=True,
        )
        for title, name in (("−log p of the label", "loss"), ("size of the gradient at the label", "size"))
    )
    by = ("dtype", "label")
    for panel in panels:
        marks = {"color": colors, "size": 9, "symbol": "x", "line": {"color": "white", "width": 1}}
        panel["data"].append({**make_point([], [], name="last seen"), "marker": marks, "cliponaxis": False})
    ends = [
        [last_visible(x, values[dtype, y][panel][1:], low) for dtype in DTYPES for y in (0, 1)]
        for panel in (0, 1)
    ]
    changes = [
        Change(panel, len(ways) + 2, name, by, tuple(end[i] for end in ends[panel]))
        for panel in (0, 1)
        for i, name in enumerate("xy")
    ]
    changes += [
        Change(
            panel,
            trace,
            "y",
            by,
            tuple(visible(values[dtype, y][panel][trace]) for dtype in DTYPES for y in (0, 1)),
        )
        for panel in (0, 1)
        for trace in range(len(ways) + 1)
    ]
    changes += [
        Change(panel, len(ways) + 1, "x", ("gap",), tuple(rounded([g, g]) for g in gaps)) for panel in (0, 1)
    ]
    names = ["exact", *(WAYS[way][0] for way in ways)]
    said = tuple(
        f"{dtype}, gap {gap:.3g}, label {labels[y]}: −log p "
        + ", ".join(f"{name} {values[dtype, y][0][i][k]:.3g}" for i, name in enumerate(names))
        + "; gradient "
        + ", ".join(f"{name} {values[dtype, y][1][i][k]:.3g}" for i, name in enumerate(names))
        for dtype in DTYPES
        for y in (0, 1)
        for k, gap in enumerate(gaps)
    )
    controls = (
        Control("dtype", "type", DTYPES, 2, choice=True),
        Control("label", "label", labels, 0, choice=True),
        Control(
            "gap",
            "gap between the logits",
            tuple(f"{gap:.3g}" for gap in gaps),
            int(np.abs(gaps - 12.0).argmin()),
        ),
    )
    alt = (
        "Two panels over the gap between two logits, in float32, the label on the larger: minus log p, and "
        "the size of the gradient. The "
        "exact curve falls like exp(−gap); the textbook's and the frameworks' end near a gap of 16; that of "
        "softmax_lab goes on to 103."
    )
    caption = (
        "Two logits, a gap apart. The curves lie on one another where they agree, the wider below. A cross "
        "marks where each is last seen "
        "finite and above zero, inside the picture; gaps are on a grid, so that a cross may stand a step "
        "too early."
    )
    return Interactive(panels, controls, tuple(changes), said, alt, caption)


def _both_ways(gaps: Array, dtype: str, y: int, subjects: dict[str, Any]) -> tuple[list[Array], list[Array]]:
    """Return, the exact one first, the losses and the sizes of the gradient at the label."""
    z = np.stack([gaps, np.zeros_like(gaps)], axis=1).astype(dtype)
    label = np.full(len(z), y)
    rows = z.astype(np.float64).tolist()
    losses = [np.array([float(sl.exact.cross_entropy(row, y)) for row in rows])]
    gradients = [np.array([abs(float(sl.exact.cross_entropy_grad(row, y)[y])) for row in rows])]
    with np.errstate(all="ignore"):
        for subject in subjects.values():
            losses.append(np.asarray(subject.cross_entropy(z, label)).astype(np.float64))
            gradients.append(
                np.abs(np.asarray(subject.cross_entropy_grad(z, label)).astype(np.float64)[:, y])
            )
    return losses, gradients
