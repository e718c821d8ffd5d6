"""One temperature: the distribution, its way through the triangle, and the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import softmax_lab as sl

from .panels import Array, make_axis, make_bars, make_line, make_panel, make_point, rounded, visible
from .picture import Change, Control, Interactive, Panel
from .triangle import make_triangle, move_dot

__all__ = ["temperature"]


def temperature(
    logits: Sequence[float] = (4.0, 2.5, -1.0),
    teacher: Sequence[float] = (3.0, 3.0, -1.0),
    positions: int = 49,
    start: float = 0.2,
) -> Interactive:
    """The distribution at T, its way through the triangle, and the gradients of loss and distillation.

    It opens at a low temperature: the row is right, and its gradient is nearly 0.

    The last panel is the gradient of the cross-entropy from softmax(v/T) of a teacher's logits v to
    softmax(z/T), as it is and times T^2, which tends to the norm of ((z - mean z) - (v - mean v)) / K
    (Hinton, Vinyals and Dean, 2015).
    """
    curves = _curves(np.array(logits), np.array(teacher), np.geomspace(0.1, 100.0, positions))
    words = tuple(f"{T:.3g}" for T in curves.temperatures)
    position = int(np.abs(np.log(curves.temperatures / start)).argmin())
    alt = (
        f"Four panels at T = {words[position]}: bars of three probabilities, the first nearly 1; a "
        "triangle, in which a dotted line leads from the middle to corner 1, with the dot at that corner; "
        "the gradient of the loss, a hump for the largest logit as label and a falling line for the "
        "smallest; the gradient of distillation, which falls like 1/T² while T² times it levels off."
    )
    rows = (
        "(" + ", ".join(f"{value:g}" for value in row).replace("-", "−") + ")" for row in (logits, teacher)
    )
    caption = (
        "The logits z = {} at the temperature T. From T = 0 on, p goes from a corner of the triangle to its "
        "middle (dotted). The gradient of the loss is shown for two labels, the "
        "classes of the largest and of the smallest logit; that of distillation for the teacher's logits "
        "v = {}."
    ).format(*rows)
    control = Control("T", "temperature T", words, position)
    return Interactive(_panels(curves), (control,), _changes(curves), _said(curves), alt, caption)


class _Curves(NamedTuple):
    """What the panels show over the temperature, a number each, but for the probabilities."""

    temperatures: Array
    probabilities: Array  # (positions, K)
    entropy: Array  # over log K, its maximum
    right: Array  # norm of the gradient, the largest logit being the label
    wrong: Array  # the same for the smallest
    distilled: Array
    limit: float  # of T² times the last


def _curves(z: Array, v: Array, temperatures: Array) -> _Curves:
    q = np.array([sl.softmax(z, temperature=T) for T in temperatures])
    entropy = -(q * np.log(np.maximum(q, 1e-300))).sum(axis=1)
    right, wrong = (
        np.array([_norm(z, label, T) for T in temperatures]) for label in (z.argmax(), z.argmin())
    )
    distilled = np.array([_norm(z, sl.softmax(v, temperature=T), T) for T in temperatures])
    limit = float(np.linalg.norm((z - z.mean()) - (v - v.mean())) / len(z))
    return _Curves(temperatures, q, entropy / np.log(len(z)), right, wrong, distilled, limit)


def _norm(z: Array, target: Any, temperature: float) -> float:
    """Return the norm of the gradient of the loss at a temperature."""
    gradient = sl.cross_entropy_grad(z, target, sl.LossSpec(temperature=temperature))[1]
    return float(np.linalg.norm(gradient))


def _panels(curves: _Curves) -> tuple[Panel, ...]:
    """Return the panels without the dots of the slider."""
    classes = curves.probabilities.shape[1]
    ticks, axis = visible(curves.temperatures), make_axis("temperature T", low=0.1, high=100.0, log=True)
    norm = make_axis("norm", low=1e-4, high=20.0, log=True)
    bars = make_bars([str(k + 1) for k in range(classes)], [0.0] * classes, "blue")
    loss = [
        make_line(ticks, visible(curves.right), "blue", "label: the largest logit"),
        make_line(ticks, visible(curves.wrong), "vermillion", "the smallest", dash="dash"),
        make_point([1, 1], [1, 1]),
    ]
    limit = [rounded(curves.limit)] * 2
    distillation = [
        make_line(ticks, visible(curves.distilled), "purple", "as it is"),
        make_line(ticks, visible(curves.distilled * curves.temperatures**2), "green", "times T²"),
        make_line([0.1, 100.0], limit, "grey", "limit of T² times it", width=1.0, dash="dot"),
        make_point([1, 1], [1, 1]),
    ]
    return (
        make_panel(
            "softmax(z / T)",
            [bars],
            x=make_axis("class", type="category"),
            y=make_axis("probability", low=0.0, high=1.0),
        ),
        make_triangle("the way of p from T = 0 to ∞", _way(curves), label=0),
        make_panel("gradient of the loss", loss, x=axis, y=norm, legend=True),
        make_panel("gradient of distillation", distillation, x=axis, y=norm, legend=True),
    )


def _way(curves: _Curves) -> list[Array]:
    """Return the way of p from a corner to the middle."""
    probabilities = list(curves.probabilities)
    return [np.eye(3)[probabilities[0].argmax()], *probabilities, np.full(3, 1 / 3)]


def _changes(curves: _Curves) -> tuple[Change, ...]:
    """Return the bars and the dots for each position of the slider."""
    by, T = ("T",), curves.temperatures
    twice = tuple(rounded([t, t]) for t in T)
    gradients = zip(curves.right, curves.wrong, strict=True)
    distilled = zip(curves.distilled, curves.distilled * T**2, strict=True)
    return (
        Change(0, 0, "y", by, tuple(rounded(row, 4) for row in curves.probabilities)),
        *move_dot(1, by, list(curves.probabilities)),
        Change(2, 2, "x", by, twice),
        Change(2, 2, "y", by, tuple(visible(pair) for pair in gradients)),
        Change(3, 3, "x", by, twice),
        Change(3, 3, "y", by, tuple(visible(pair) for pair in distilled)),
    )


def _said(curves: _Curves) -> tuple[str, ...]:
    """Return a sentence for each position of the slider."""
    return tuple(
        f"T = {T:.3g}: largest probability {row.max():.3f}, entropy {h:.3f} of its maximum, gradient {a:.2g} "
        f"(largest logit) and {b:.2g} (smallest), distillation {d:.2g}, times T² {d * T * T:.2g}"
        for T, row, h, a, b, d in zip(*curves[:-1], strict=True)
    )
