"""How does the time for one row's gradient grow with the number of classes? (chapter 1)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from timeit import repeat

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl

__all__ = ["WAYS", "gradient_call", "milliseconds"]

WAYS = ("hard label", "soft label", "soft label, through the matrix")


def gradient_call(way: str, num_classes: int, seed: int = 0) -> Callable[[], NDArray[np.float64]]:
    """Return a call that computes the gradient ``(K,)`` of one random row in one of `WAYS`.

    Soft labels differ from a hard label in the target only; the matrix is the Jacobian of the softmax,
    written out.
    """
    rng = np.random.default_rng(seed)
    row, soft = rng.normal(size=(1, num_classes)), rng.dirichlet(np.ones(num_classes), size=1)
    probs = sl.softmax(row[0])
    calls: dict[str, Callable[[], NDArray[np.float64]]] = {
        "hard label": lambda: sl.cross_entropy_grad(row, [0])[1][0],
        "soft label": lambda: sl.cross_entropy_grad(row, soft)[1][0],
        "soft label, through the matrix": lambda: sl.softmax_jacobian(probs) @ (-soft[0] / probs),
    }
    if way not in calls:
        raise ValueError(f"way must be one of {', '.join(map(repr, WAYS))}, got {way!r}")
    return calls[way]


def milliseconds(way: str, sizes: Sequence[int], *, seed: int = 0, rounds: int = 9) -> NDArray[np.float64]:
    """Return the shortest of ``rounds`` times in ms, for every number of classes in ``sizes``."""
    calls = (gradient_call(way, int(num_classes), seed) for num_classes in sizes)
    return np.array([1e3 * min(repeat(call, number=1, repeat=rounds)) for call in calls])
