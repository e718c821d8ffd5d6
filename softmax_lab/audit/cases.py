"""The cases, as data: rows of logits that are hard to get right, each with its reason.

Kernel tests, chapters and the audit all read this one list. Rows are made per dtype: what is exact or extreme
is so in that very dtype. Their entries are finite or -inf, and something in each row is finite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ulp import float_format

__all__ = [
    "FAINT",
    "FAINT_SCALE",
    "FAR",
    "GOOD",
    "HARD_ROWS",
    "LONG_ROW",
    "SURE",
    "TILE",
    "TILES",
    "WIDTHS",
    "RowCase",
    "labelled",
]

Rows = NDArray[Any]

WIDTH = 10  # classes of the ordinary rows: one width for all, since some frameworks compile for each shape


@dataclass(frozen=True)
class RowCase:
    """Rows of logits (N, K) that share one difficulty.

    ``make(dtype)`` returns them in that dtype; ``reason`` says what an implementation gets wrong there.
    """

    name: str
    reason: str
    build: Callable[[np.dtype[Any]], NDArray[np.float64]]

    def make(self, dtype: Any) -> Rows:
        kind = np.dtype(dtype)
        return np.ascontiguousarray(self.build(kind).astype(kind))


def _normal(seed: int, shape: tuple[int, int], scale: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, scale, shape)


def _confident(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    gaps = np.array([5.0, 8.0, 12.0, 17.0, 25.0, 40.0, 80.0])
    return np.stack([gaps, np.zeros_like(gaps), -gaps / 4], axis=1)


def _offset(offset: float) -> Callable[[np.dtype[Any]], NDArray[np.float64]]:
    return lambda dtype: offset + _normal(1, (8, WIDTH), 3.0)


def _nearly_tied(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    eps = float_format(dtype).eps
    steps = np.array([0.0, 1.0, 2.0, 5.0])
    return np.stack([1.0 + eps * steps, 3.0 - 2 * eps * steps, eps * steps])


def _huge(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    largest = float_format(dtype).largest
    return np.array(
        [
            [largest, largest, 0.0],
            [largest, -largest, 0.0],
            [-largest, -largest, -largest],
            [largest, largest / 2, 1.0],
        ]
    )


def _tiny(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    form = float_format(dtype)
    eps, smallest = form.eps, form.smallest
    return np.array(
        [
            [smallest, -smallest, 0.0],
            [smallest / 4, 0.0, -smallest / 2],
            [eps, -eps, eps / 3],
            [1e-3, 2e-3, -1e-3],
        ]
    )


def _edge(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    gap = -np.log(float_format(dtype).smallest)
    return np.array([[0.0, -gap * share] for share in (0.9, 0.97, 0.999, 1.02, 1.2)])


def _sure(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Gaps at which 1 - p_y lies between a quarter of eps, where p_y rounds to 1, and the smallest normal."""
    form = float_format(dtype)
    first, last = -np.log(form.eps / 4), -np.log(form.smallest)
    gaps = first + (last - first) * np.array([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    others = -np.arange(WIDTH - 1) / 2
    rows = np.tile(np.concatenate([[0.0], others]), (len(gaps), 1))
    rows[:, 0] = gaps + np.log(np.exp(others).sum())
    return rows


def _far(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Gaps beyond the smallest number of any type, float64's included, and within float16's largest."""
    rows = np.tile(np.concatenate([[0.0], -np.arange(WIDTH - 1) / 2]), (4, 1))
    rows[:, 0] = [800.0, 1e3, 1e4, 3e4]
    return rows


def _faint(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Six classes have from a half to a sixteenth of the smallest normal number, and class 0 is unlikely."""
    gap = -np.log(float_format(dtype).smallest)
    below = np.log(2.0) * np.array([1.2, 1.7, 2.3, 2.9, 3.4, 3.8])
    rows = np.zeros((3, 8))
    rows[:, 2:] = -(gap + below)
    rows[:, 1] = [1.0, 2.0, 3.0]
    rows[:, 2:] += np.log(np.exp(rows[:, :2]).sum(axis=1, keepdims=True))
    return rows


def _of_width(width: int, dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Two rows of quarters: the last class is the likeliest of one, and impossible in the other."""
    rows = np.rint(np.random.default_rng(7).normal(0.0, 6.0, (2, width))) / 4
    rows[0, -1], rows[1, -1] = rows[0].max() + 1, -np.inf
    return rows


def _fixed(*rows: list[float]) -> Callable[[np.dtype[Any]], NDArray[np.float64]]:
    return lambda dtype: np.array(rows)


_INF = float("inf")

HARD_ROWS: tuple[RowCase, ...] = (
    RowCase(
        "moderate", "nothing special: the error that every row has", lambda _: _normal(0, (8, WIDTH), 2.0)
    ),
    RowCase(
        "confident",
        "1 - p_y and log p_y cancel: both round to 0 where their true value is about exp(-gap)",
        _confident,
    ),
    RowCase(
        "offset 100",
        "z - max(z) is rounded when the logits carry an offset, and exp magnifies that",
        _offset(100.0),
    ),
    RowCase(
        "offset 1e4",
        "the same at 1e4; forming exp(z - lse) instead of a quotient loses four digits here",
        _offset(1e4),
    ),
    RowCase(
        "tied",
        "several maxima: only one of them may be kept out of the sum",
        _fixed([2.0, 2.0, 2.0, 2.0], [0.0, 5.0, 5.0, -1.0], [-3.0, -3.0, -3.0, -3.0]),
    ),
    RowCase("nearly tied", "neighbouring floats at the top: their difference is the last bit", _nearly_tied),
    RowCase(
        "wide",
        "hundreds between the logits: the shift's rounding is large beside one",
        lambda _: _normal(2, (8, WIDTH), 60.0),
    ),
    RowCase(
        "uneven",
        "max and entries of opposite sign: z - max(z) needs more bits than either",
        _fixed([100.3, -0.3, 97.1, -5.7], [33.3, -33.3, 31.7, 0.1]),
    ),
    RowCase("huge", "at the largest finite number differences overflow to -inf, never to NaN", _huge),
    RowCase(
        "tiny",
        "logits near and below the smallest normal number: all classes alike, gradients still exact",
        _tiny,
    ),
    RowCase("underflow", "probabilities at the edge of the smallest normal number", _edge),
    RowCase(
        "-inf",
        "impossible classes: probability 0, log-probability -inf, gradient 0",
        _fixed([1.0, -_INF, 0.5], [-_INF, 3.0, -_INF], [0.0, -_INF, -_INF]),
    ),
    RowCase(
        "one class",
        "K = 1: probability exactly 1, loss and gradient exactly 0",
        _fixed([0.0], [-7.5], [1000.0]),
    ),
    RowCase(
        "two classes",
        "K = 2: sigma(z_1 - z_2) and its complement",
        _fixed([-30.0, 0.0], [-3.0, 0.0], [-0.1, 0.0], [0.7, 0.0], [9.0, 0.0]),
    ),
    RowCase(
        "many classes",
        "a thousand classes: the rounding of z - max(z) grows with the distance, and a running sum drifts",
        lambda _: _normal(3, (1, 1000), 3.0),
    ),
)

LONG_ROW = RowCase(
    "long row",
    "a hundred thousand classes: the sum's drift grows with K",
    lambda _: _normal(4, (1, 100_000), 2.0),
)

#: tiled to just under a million classes: of a tiled row the exact values follow from those of one tile
TILE = RowCase(
    "a million classes",
    "a running sum over 10^6 terms drifts, or overflows in half precision",
    lambda _: _normal(5, (1, 61), 2.0),
)
TILES = 16_384

#: rows whose label, class 0, is sure in their type: the gradient at it is there, and p_y - 1 is 0
SURE = RowCase(
    "lost gradient",
    "p_y rounds to 1 in this very type: p_y - 1 and log p_y are 0, and the true values are not",
    _sure,
)

#: rows whose loss itself underflows in every type; the label is class 0
FAR = RowCase(
    "log loss, far",
    "gaps of up to 3e4: the loss underflows to 0, its logarithm is minus the gap",
    _far,
)

#: rows that surround others in a batch: nothing of them may reach their neighbours
GOOD = RowCase(
    "good rows",
    "quarters: their shift is exact, so any implementation gets them right alone",
    lambda _: np.rint(_normal(6, (4, WIDTH), 6.0)) / 4,
)

#: gradients that float16 has no digits for until they are scaled by this; the label is class 0
FAINT = RowCase(
    "loss scale",
    "a loss is scaled to save gradients too small for float16: they are rounded after the scale",
    _faint,
)
FAINT_SCALE = 1024.0

#: widths beside those of vector registers
WIDTHS: tuple[RowCase, ...] = tuple(
    RowCase(
        f"{width} classes", "the last class is outside the vectors, or fills one", partial(_of_width, width)
    )
    for width in (7, 8, 9, 31, 33)
)


def labelled(rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
    """Repeat each row for labels at both ends, at its largest and at its smallest entry."""
    wide = rows.astype(np.float64)
    n, k = rows.shape
    labels = np.stack([np.zeros(n, int), np.full(n, k - 1), wide.argmax(axis=1), wide.argmin(axis=1)], axis=1)
    unique = [sorted(set(row.tolist())) for row in labels]
    index = np.repeat(np.arange(n), [len(row) for row in unique])
    return rows[index], np.concatenate([np.array(row, dtype=np.int64) for row in unique])
