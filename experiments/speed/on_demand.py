"""Two small things that are measured when asked.

They are what a logit costs on one thread, and what an ordinary store costs in memory traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

import softmax_lab as sl
from experiments.benchmarks import cpu

from .stored import Shape

__all__ = ["cost", "store_traffic", "store_words"]


def cost(
    shapes: Sequence[Shape], task: str = "loss", *, dtype: str = "float32", budget: float = 0.03
) -> pd.Series:
    """Return the package's nanoseconds a logit on one thread for each (N, K).

    It is the best of what fits into ``budget`` seconds.
    """
    threads = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        seconds = [_best(cpu.softmax_lab(cpu.make_problem(n, k, dtype))[task], budget) for n, k in shapes]
    finally:
        sl.set_num_threads(threads)
    index = pd.MultiIndex.from_tuples(shapes, names=["n", "k"])
    return pd.Series(
        [1e9 * s / (n * k) for s, (n, k) in zip(seconds, shapes, strict=True)], index=index, name="ns a logit"
    )


def _best(call: Callable[[], Any], budget: float) -> float:
    """Return the shortest of at least five times, in seconds, after a warm-up."""
    call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < budget:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return min(times)


def store_traffic(logits: int = 1 << 24, *, budget: float = 0.3) -> pd.Series:
    """Return nanoseconds a float32 logit on one thread: copied, negated into another array, negated in place.

    The second stores in the ordinary way, so every line of the result is read before it is written; the third
    has no line to read that it does not need (and half of the memory). How the copy stores is the system's
    choice.
    """
    z = np.ones(logits, dtype=np.float32)
    out = np.ones_like(z)
    calls: dict[str, Callable[[], Any]] = {
        "copied to another array": lambda: np.copyto(out, z),
        "negated to another array": lambda: np.negative(z, out=out),
        "negated in place": lambda: np.negative(z, out=z),
    }
    return pd.Series(
        {name: 1e9 * _best(call, budget) / logits for name, call in calls.items()}, name="ns a logit"
    )


STREAMED = 12 / 8  # bytes a float32 logit with ordinary stores over those with streaming ones
_FITS = 1.2  # a measured ratio within this factor of the one that bytes give


def store_words(stores: pd.Series) -> str:
    """Say which stores the copy of `store_traffic` has, where the count of bytes explains the three times.

    Where it does not, say that.
    """
    copy, ordinary, in_place = stores
    found = (
        f"the array negated into another takes {ordinary / in_place:.2f} times as long as the one "
        f"negated in place"
    )
    level = [
        floor
        for floor, other in (("1 copy, or 0.67", ordinary), ("1.5 copies, or 1", in_place))
        if _near(copy / other, 1)
    ]
    if not _near(ordinary / in_place, STREAMED) or len(level) != 1:
        return (
            f"{found}, where the count of bytes says {STREAMED:g}, and the copy {copy / ordinary:.2f} and "
            f"{copy / in_place:.2f} times "
            "as long as these two: the count does not explain these times, so they do not tell which stores "
            "the copy has"
        )
    kind = "with ordinary stores" if level[0].startswith("1 copy") else "that streams"
    return (
        f"{found}, as the count of bytes says, and the copy is one {kind}: the floor of a kernel is "
        f"{level[0]} where it streams"
    )


def _near(ratio: float, expected: float) -> bool:
    return bool(1 / _FITS <= ratio / expected <= _FITS)
