"""Differences of paired runs with their intervals: what a sentence on two losses rests on.

Runs are paired if they share all but what is compared: the seed, and with it rows, start and minibatches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from experiments.curves import interval

__all__ = ["Difference", "difference"]


class Difference(NamedTuple):
    """The mean of paired differences, and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def below(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    @property
    def above(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out: more than chance."""
        return self.below or self.above

    def within(self, bound: float) -> bool:
        """Whether the whole interval lies nearer to zero than ``bound``: no larger effect is left open."""
        return -bound < self.low and self.high < bound

    def __str__(self) -> str:
        """Return the mean with its interval, in one digit: ``−0.4 (−0.6 to −0.2)``."""
        ends = "one pair" if math.isnan(self.low) else f"{_signed(self.low)} to {_signed(self.high)}"
        return f"{_signed(self.mean)} ({ends})"


def difference(values: Iterable[float], *, together: int = 1, level: float = 0.95) -> Difference:
    """Return the mean of paired differences with Student's t interval.

    Of ``together`` differences that one sentence judges, each gets an interval so wide that with probability
    ``level`` all of them hold (Bonferroni). One pair has no interval: then nothing is below, above or within.
    """
    mean, half = interval(values, 1 - (1 - level) / together)
    return Difference(mean, mean - half, mean + half)


def _signed(number: float) -> str:
    shown = f"{number:+.1f}"
    return shown.lstrip("+-") if float(shown) == 0 else shown.replace("-", "−")
