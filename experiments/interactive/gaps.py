"""Two logits, a gap apart, in four types: where each way of computing the loss dies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np

import softmax_lab as sl
from experiments.implementations import COLOR
from softmax_lab.audit import adapters
from softmax_lab.plotting import COLORS

from .panels import Array, last_visible, make_axis, make_line, make_panel, make_point, rounded, visible
from .picture import Change, Control, Interactive, Panel

__all__ = ["precision"]


#: the ways of the last picture: what the adapters of the audit call them, and the look of each; a curve lies
#: on the wider ones before it
WAYS = {
    "softmax_lab": ("softmax_lab", COLOR["softmax_lab"], 9.0),
    "jax": ("JAX", COLOR["jax"], 7.0),
    "tensorflow": ("TensorFlow", COLOR["tensorflow"], 5.0),
    "torch": ("torch", COLOR["torch"], 3.0),
    "numpy": ("textbook", COLOR["textbook"], 1.2),
}
DTYPES = ("float16", "bfloat16", "float32", "float64")
LABELS = ("the larger logit", "the smaller logit")
LOW, HIGH = 1e-50, 1e5
Case = tuple[str, int]  # a type and a label
Values = tuple[list[Array], list[Array]]  # losses and sizes of the gradient, the exact one first


def precision(
    gaps: Sequence[float] = tuple(range(0, 121, 2)),
    ways: Sequence[str] = tuple(WAYS),
    *,
    labels: int = 2,
    start: float = 20.0,
) -> Interactive:
    """Two logits, a gap apart: -log p_y and the gradient at the label, until each way dies.

    They are shown exact and as each way computes them, over a linear axis of gaps: the exact curve is a
    straight line there. The picture opens at a gap at which float32 has lost the gradient.

    Parameters
    ----------
    gaps : sequence of float
        The positions of the slider.
    ways : sequence of str
        Which of `WAYS`; those that are not installed are left out.
    labels : int
        2, or 1 for the label on the larger logit alone.
    start : float
        The gap at which the picture opens: the nearest of ``gaps``.
    """
    at = np.array(gaps, dtype=np.float64)
    ways = [way for way in ways if adapters.installed(way)]
    subjects = {way: adapters.make(way) for way in ways}
    values = {(dtype, y): _both_ways(at, dtype, y, subjects) for dtype in DTYPES for y in range(labels)}
    position = int(np.abs(at - start).argmin())
    names = [WAYS[way][0] for way in ways]
    said = tuple(
        _sentence(case, gap, names, [[float(curve[k]) for curve in curves] for curves in of])
        for case, of in values.items()
        for k, gap in enumerate(at)
    )
    controls = (
        Control("dtype", "type", DTYPES, DTYPES.index("float32"), choice=True),
        *([Control("label", "label", LABELS, 0, choice=True)] if labels > 1 else []),
        Control("gap", "gap between the logits", tuple(f"{gap:g}" for gap in at), position),
    )
    by = tuple(control.name for control in controls[:-1])
    alt = (
        "Two panels over the gap between two logits, in float32, the label on the larger: minus log p, and "
        "the size of the gradient, on logarithmic axes. The exact curve is a straight line down, like "
        "exp(−gap); those of the textbook and of torch end near a gap of 16; that of softmax_lab goes on to "
        "103. A line at a gap of 20 meets the last two alone."
    )
    caption = (
        "Two logits, a gap apart. The curves lie on one another where they agree, the wider below. A cross "
        "marks where each is last seen finite and above zero, inside the picture; gaps are on a grid, so "
        "that a cross may stand a step too early."
    )
    return Interactive(_panels(at, ways), controls, _changes(at, values, by), said, alt, caption)


def _panels(gaps: Array, ways: Sequence[str]) -> tuple[Panel, ...]:
    """Return the panels: exact, each way, the slider's line and the crosses."""
    x = rounded(gaps)
    axis = make_axis("gap between the logits", low=float(gaps[0]), high=float(gaps[-1]), dtick=20)
    marks = {
        "color": [COLORS[WAYS[way][1]] for way in ways],
        **{"size": 9, "symbol": "x", "line": {"color": "white", "width": 1}},
    }
    return tuple(
        make_panel(
            title,
            [
                make_line(x, [], COLOR["exact"], "exact", width=12.0),
                *(make_line(x, [], WAYS[way][1], WAYS[way][0], width=WAYS[way][2]) for way in ways),
                make_line([1, 1], [LOW, HIGH], "grey", "the slider", width=1.0),
                {**make_point([], [], name="last seen"), "marker": marks, "cliponaxis": False},
            ],
            x=axis,
            y=make_axis(name, low=LOW, high=HIGH, log=True, dtick=10),
            legend=True,
        )
        for title, name in (("−log p of the label", "loss"), ("size of the gradient at the label", "size"))
    )


def _changes(gaps: Array, values: dict[Case, Values], by: tuple[str, ...]) -> tuple[Change, ...]:
    """Return the curves and crosses of each type and label, and the slider's line."""
    x, changes = rounded(gaps), []
    curves = len(next(iter(values.values()))[0])
    for panel in (0, 1):
        ends = [last_visible(x, of[panel][1:], LOW) for of in values.values()]
        for i, name in enumerate("xy"):
            changes.append(Change(panel, curves + 1, name, by, tuple(end[i] for end in ends)))
        for trace in range(curves):
            seen = tuple(visible(of[panel][trace], 4) for of in values.values())
            changes.append(Change(panel, trace, "y", by, seen))
        changes.append(Change(panel, curves, "x", ("gap",), tuple(rounded([gap, gap]) for gap in gaps)))
    return tuple(changes)


def _sentence(case: Case, gap: float, names: Sequence[str], at: list[list[float]]) -> str:
    """Return what is exact at a gap, and those losses and gradients that are not nearly so."""
    dtype, y = case
    parts = []
    for name, (exact, *found) in zip(("−log p", "gradient"), at, strict=True):
        words = [f"{name} {exact:.3g}"]
        for value in dict.fromkeys(map(_word, found)):
            who = [n for n, v in zip(names, found, strict=True) if _word(v) == value]
            near = all(_near(v, exact) for n, v in zip(names, found, strict=True) if n in who)
            if not near:
                words.append(f"{' and '.join(who)} {value}")
        parts.append(", ".join(words))
    return f"{dtype}, gap {gap:g}, label {LABELS[y]}: exact {'; '.join(parts)}"


def _word(value: float) -> str:
    return f"{value + 0.0:.3g}"  # no -0


def _near(value: float, exact: float) -> bool:
    return bool(abs(value - exact) <= 0.02 * abs(exact))  # half precision's rounding is no matter here


def _both_ways(gaps: Array, dtype: str, y: int, subjects: dict[str, Any]) -> Values:
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
