"""One temperature: the distribution, its entropy, and the gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import softmax_lab as sl

from .panels import make_axis, make_bars, make_line, make_panel, make_point, rounded, visible
from .picture import Change, Control, Interactive

__all__ = ["temperature"]


def temperature(
    logits: Sequence[float] = (4.0, 2.5, 1.0, 0.5, 0.0, -1.0),
    teacher: Sequence[float] = (3.0, 3.0, 0.0, 1.0, -1.0, -1.0),
    positions: int = 49,
) -> Interactive:
    """The distribution at T, its entropy, the gradient of the loss, and the factor T^2 of distillation.

    The last panel is the gradient of the cross-entropy from softmax(v/T) of a teacher's logits v to
    softmax(z/T), as it is and times T^2, which tends to the norm of ((z - mean z) - (v - mean v)) / K
    (Hinton, Vinyals and Dean, 2015).
    """
    z, v = np.array(logits), np.array(teacher)
    classes, temperatures = len(z), np.geomspace(0.1, 100.0, positions)
    q = np.array([sl.softmax(z, temperature=T) for T in temperatures])
    entropy = -(q * np.log(np.maximum(q, 1e-300))).sum(axis=1)
    specs = [sl.LossSpec(temperature=T) for T in temperatures]
    right, wrong = (
        np.array([np.linalg.norm(sl.cross_entropy_grad(z, label, spec)[1]) for spec in specs])
        for label in (z.argmax(), z.argmin())
    )
    distilled = np.array(
        [
            np.linalg.norm(sl.cross_entropy_grad(z, sl.softmax(v, temperature=T), spec)[1])
            for T, spec in zip(temperatures, specs, strict=True)
        ]
    )
    limit = float(np.linalg.norm((z - z.mean()) - (v - v.mean())) / classes)
    ticks, axis = visible(temperatures), make_axis("temperature T", low=0.1, high=100.0, log=True)
    panels = (
        make_panel(
            "softmax(z / T)",
            [make_bars([str(k + 1) for k in range(classes)], [0.0] * classes, "blue")],
            x=make_axis("class", type="category"),
            y=make_axis("probability", low=0.0, high=1.0),
        ),
        make_panel(
            "entropy / log K",
            [make_line(ticks, rounded(entropy / np.log(classes)), "green"), make_point([1], [0])],
            x=axis,
            y=make_axis(low=0.0, high=1.05),
        ),
        make_panel(
            "gradient of the loss",
            [
                make_line(ticks, visible(right), "blue", "label: the largest logit"),
                make_line(ticks, visible(wrong), "vermillion", "the smallest", dash="dash"),
                make_point([1, 1], [1, 1]),
            ],
            x=axis,
            y=make_axis("norm", low=1e-4, high=20.0, log=True),
            legend=True,
        ),
        make_panel(
            "gradient of distillation",
            [
                make_line(ticks, visible(distilled), "purple", "as it is"),
                make_line(ticks, visible(distilled * temperatures**2), "green", "times T²"),
                make_line(
                    [0.1, 100.0], [rounded(limit)] * 2, "grey", "limit of T² times it", width=1.0, dash="dot"
                ),
                make_point([1, 1], [1, 1]),
            ],
            x=axis,
            y=make_axis("norm", low=1e-4, high=20.0, log=True),
            legend=True,
        ),
    )
    by = ("T",)
    twice = tuple(rounded([T, T]) for T in temperatures)
    changes = (
        Change(0, 0, "y", by, tuple(rounded(row, 4) for row in q)),
        Change(1, 1, "x", by, tuple(rounded([T]) for T in temperatures)),
        Change(1, 1, "y", by, tuple(rounded([value]) for value in entropy / np.log(classes))),
        Change(2, 2, "x", by, twice),
        Change(2, 2, "y", by, tuple(visible(pair) for pair in zip(right, wrong, strict=True))),
        Change(3, 3, "x", by, twice),
        Change(
            3,
            3,
            "y",
            by,
            tuple(visible(pair) for pair in zip(distilled, distilled * temperatures**2, strict=True)),
        ),
    )
    said = tuple(
        f"T = {T:.3g}: largest probability {row.max():.3f}, entropy {h / np.log(classes):.3f} of its "
        f"maximum, gradient {a:.2g} "
        f"(largest logit) and {b:.2g} (smallest), distillation {d:.2g}, times T² {d * T * T:.2g}"
        for T, row, h, a, b, d in zip(temperatures, q, entropy, right, wrong, distilled, strict=True)
    )
    control = Control(
        "T",
        "temperature T",
        tuple(f"{T:.3g}" for T in temperatures),
        int(np.abs(np.log(temperatures)).argmin()),
    )
    alt = (
        "Four panels at T = 1: bars of six probabilities, the first the largest; the entropy, which rises "
        "from 0 to its maximum with T; "
        "the gradient of the loss, a hump for the largest logit as label and a falling line for the "
        "smallest; the gradient of "
        "distillation, which falls like 1/T² while T² times it levels off."
    )
    rows = ("(" + ", ".join(f"{value:g}" for value in row).replace("-", "−") + ")" for row in (z, v))
    caption = (
        "The logits z = {} at the temperature T. The gradient of the loss is shown for two labels, the "
        "classes of the largest and of the "
        "smallest logit; that of distillation for the teacher's logits v = {}."
    ).format(*rows)
    return Interactive(panels, (control,), changes, said, alt, caption)
