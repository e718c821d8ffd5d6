"""Three logits times a factor: the Jacobian fades at every corner, the gradient at the label's alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import softmax_lab as sl

from .panels import make_axis, make_bars, make_panel, rounded
from .picture import Change, Control, Interactive
from .triangle import ARROWS, NAMES, arrows, make_triangle, move_dot

__all__ = ["saturation"]


def saturation(
    logits: Sequence[float] = (2.0, 1.0, -1.0),
    factors: Sequence[float] = tuple(np.arange(0, 41) / 8),
    start: float = 4.0,
) -> Interactive:
    """Three logits times a factor, and a label: the Jacobian's eigenvalues, and the gradient of the loss.

    It opens at a wrong corner: the Jacobian is nearly zero there and the gradient at its largest.
    """
    rows = [sl.softmax(np.array(logits) * factor) for factor in factors]
    spectra = [sl.softmax_spectrum(p) for p in rows]
    norms = [[float(np.linalg.norm(p - np.eye(3)[y])) for y in range(3)] for p in rows]
    fields = [arrows(label) for label in range(3)]
    changes = (
        Change(
            0,
            0,
            "y",
            ("factor", "y"),
            tuple(
                rounded([norms[i][y], values[2], values[1]], 4)
                for i, values in enumerate(spectra)
                for y in range(3)
            ),
        ),
        Change(1, ARROWS, "x", ("y",), tuple(x for x, _ in fields)),
        Change(1, ARROWS, "y", ("y",), tuple(y for _, y in fields)),
        *move_dot(1, ("factor",), rows),
    )
    said = tuple(
        f"logits times {factor:g}, label {name}: p = {', '.join(f'{v:.3f}' for v in p)}; gradient of the "
        f"loss {norms[i][y]:.3f}; eigenvalues of G {values[2]:.2g} and {values[1]:.2g}"
        for i, (factor, p, values) in enumerate(zip(factors, rows, spectra, strict=True))
        for y, name in enumerate(NAMES)
    )
    controls = (
        Control("factor", "logits times", tuple(f"{f:g}" for f in factors), list(factors).index(start)),
        Control("y", "label y", NAMES, 1, choice=True),
    )
    panels = (
        make_panel(
            "the gradient, and what G lets through",
            [make_bars(["‖p − y‖", "λ₃", "λ₂"], [0, 0, 0], "blue")],
            x=make_axis("gradient of the loss, eigenvalues of G", type="category"),
            y=make_axis(low=0.0, high=1.5),
        ),
        make_triangle("where descent moves p", rows),
    )
    listed = ", ".join(f"{z:g}" for z in logits).replace("-", "−")
    alt = (
        f"Two panels for the logits {listed} times {start:g} and the label 2. Bars: the gradient of the "
        "loss is about 1.4, both eigenvalues of G are nearly 0. A triangle: the dot is near corner 1, "
        "where the arrows, which lead to corner 2, are short; a dotted line leads to it from the middle."
    )
    caption = (
        f"The logits ({listed}) times a factor, from the middle of the triangle (0) to a corner (dotted). "
        "Near any corner G is nearly zero, and p hardly moves: the arrows are short. The gradient of the "
        "loss by the logits fades at the label's corner alone; at a wrong one it is at its largest."
    )
    return Interactive(panels, controls, changes, said, alt, caption)
