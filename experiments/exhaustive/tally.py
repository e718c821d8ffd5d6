"""What a check is, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.typing import NDArray

__all__ = ["Check", "Tally"]


PIECE = 1 << 20  # arguments, or rows, at a time
UNSURE = 2.0**-50  # the reference's own relative error is below
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What a check has found so far; ``where`` is the argument of the largest error."""

    arguments: int = 0
    results: int = 0
    misrounded: int = 0  # results that are not the float nearest to the exact one
    # of them, those whose exact value float64 itself cannot tell from the middle between two floats
    ties: int = 0
    worst: float = 0.0
    where: str = ""

    def __add__(self, other: Tally) -> Tally:
        worst = self if self.worst >= other.worst else other
        return Tally(
            self.arguments + other.arguments,
            self.results + other.results,
            self.misrounded + other.misrounded,
            self.ties + other.ties,
            worst.worst,
            worst.where,
        )


class Check(NamedTuple):
    """Something to be tried in pieces; a piece gives a tally for each result that is looked at."""

    part: str
    arguments: str
    unit: str  # of the largest error
    pieces: int
    run: Callable[[int], dict[str, Tally]]


def is_nearest(value: Any, exact: Any) -> bool:
    """Whether a float is the one of its type that is nearest to an mpmath number."""
    kind = type(value)
    away = [
        abs(mpmath.mpf(float(x)) - exact)
        for x in (value, np.nextafter(value, kind(np.inf)), np.nextafter(value, kind(-np.inf)))
    ]
    return bool(away[0] <= min(away))


def pieces_of(count: int, size: int = PIECE) -> int:
    return -(-count // size)
