"""The gradient of a confident row, component by component: what float32 loses at the label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import softmax_lab as sl
from experiments.implementations import COLOR
from softmax_lab.audit import adapters

from .panels import Array, make_axis, make_bars, make_line, make_panel, rounded
from .picture import Change, Control, Interactive

__all__ = ["lost_component"]

WAYS = {"softmax_lab": "softmax_lab", "torch": "torch"}


def lost_component(
    gaps: Sequence[float] = tuple(range(0, 41)), other: float = -1.0, start: float = 20.0
) -> Interactive:
    """Three logits in float32, the label ahead by a gap: the components of the gradient over 1 - p_y.

    Their sum is 0. Where the label's is rounded to 0 it is 1, and every step pushes all logits down. The
    picture opens there.
    """
    z = np.array([[gap, 0.0, other] for gap in gaps], dtype=np.float32)
    label = np.zeros(len(z), dtype=np.int64)
    wrong = [1 - sl.exact.softmax(row.tolist())[0] for row in z.astype(np.float64)]
    found = {}
    for name in WAYS:
        gradients = np.asarray(adapters.make(name).cross_entropy_grad(z, label)).astype(np.float64)
        found[name] = np.array(
            [[float(g / one) for g in row] for row, one in zip(gradients, wrong, strict=True)]
        )
    at = list(gaps).index(start)
    classes = ["label", "class 2", "class 3"]
    panels = (
        make_panel(
            "components of the gradient / (1 − p)",
            [make_bars(classes, [0, 0, 0], COLOR[name], WAYS[name]) for name in WAYS],
            x=make_axis(type="category"),
            y=make_axis("of 1 − p", low=-1.1, high=1.1),
            legend=True,
        ),
        make_panel(
            "their sum / (1 − p)",
            [
                *(
                    make_line(rounded(list(gaps)), _sums(found[name]), COLOR[name], WAYS[name], width=width)
                    for name, width in zip(WAYS, (5.0, 2.0), strict=True)
                ),
                make_line([0, 0], [-1, 2], "grey", "the slider", width=1.0),
            ],
            x=make_axis(
                "gap between the label and the next", low=float(gaps[0]), high=float(gaps[-1]), dtick=10
            ),
            y=make_axis("sum", low=-1.0, high=2.0),
            legend=True,
        ),
    )
    changes = (
        *(
            Change(0, i, "y", ("gap",), tuple(rounded(row, 4) for row in found[name]))
            for i, name in enumerate(WAYS)
        ),
        Change(1, 2, "x", ("gap",), tuple(rounded([gap, gap]) for gap in gaps)),
    )
    said = tuple(
        _sentence(gap, {name: rows[i] for name, rows in found.items()}) for i, gap in enumerate(gaps)
    )
    control = Control("gap", "gap", tuple(f"{gap:g}" for gap in gaps), at)
    alt = (
        "Two panels. Bars of the three components of the gradient at a gap of 20, over 1 − p: softmax_lab "
        "has −1 at the label and 0.73 and 0.27 at the others; torch has 0 at the label and the same at "
        "the others. The sum of the components over the gap: 0 throughout for softmax_lab; torch's leaves "
        "0, in steps, and is 1 from 17 on."
    )
    caption = (
        "The gradient of the loss of the logits (gap, 0, {}) in float32, label first, over the exact 1 − "
        "p of the label. Where torch rounds p to 1, the label is pulled up no more, the others are still "
        "pushed down, and all logits sink together."
    ).format(f"{other:g}".replace("-", "−"))
    return Interactive(panels, (control,), changes, said, alt, caption)


def _sums(rows: Array) -> list[float | None]:
    sums: list[float | None] = rounded(np.round(rows.sum(axis=1), 4) + 0.0)
    return sums


def _sentence(gap: float, rows: dict[str, Array]) -> str:
    """Return the components of each way and their sum."""
    listed = {name: ", ".join(f"{value:.3f}" for value in (*row, row.sum())) for name, row in rows.items()}
    parts = (f"{WAYS[name]} {', sum '.join(words.rsplit(', ', 1))}" for name, words in listed.items())
    return f"gap {gap:g}: {'; '.join(parts)}".replace("-0.000", "0.000").replace("-", "−")
