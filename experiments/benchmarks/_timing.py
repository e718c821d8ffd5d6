"""How a call is timed: after a warm-up, often enough, the median in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Call", "in_turn", "measure", "quantiles", "seconds"]

Call = Callable[[], Any]
REST = 0.3  # seconds in which the spinning threads of the provider before come to rest
MOST = 101  # repetitions


def seconds(call: Call) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(call: Call, *, budget: float, repeats: int = 7) -> list[float]:
    """Return at least ``repeats`` times in milliseconds, after two warm-ups.

    There are more while they fit into ``budget`` seconds.
    """
    time.sleep(REST)
    call()
    call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < repeats or (time.perf_counter() - start < budget and len(times) < MOST):
        times.append(1e3 * seconds(call))
    return times


def quantiles(times: Sequence[float]) -> dict[str, Any]:
    """Return the cells of a row: median, 20th and 80th percentile, and the number of times."""
    low, middle, high = np.percentile(times, [20, 50, 80])
    return {
        "ms": round(middle, 4),
        "ms_20": round(low, 4),
        "ms_80": round(high, 4),
        "repeats": len(times),
    }


def in_turn(
    *calls: Call, warm_ups: int, repeats: int, budget: float = 0.0, most: int = 1000
) -> tuple[list[float], ...]:
    """Return milliseconds of calls that take turns, so that all see the same machine.

    There are at least ``repeats`` of each, and up to ``most`` while they fit into ``budget`` seconds.
    """
    times: tuple[list[float], ...] = tuple([] for _ in calls)
    for _ in range(warm_ups):
        for call in calls:
            call()
    start = time.perf_counter()
    while len(times[0]) < repeats or (time.perf_counter() - start < budget and len(times[0]) < most):
        for own, call in zip(times, calls, strict=True):
            own.append(1e3 * seconds(call))
    return times
