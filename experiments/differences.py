"""Paired differences, and which of many are more than chance.

A difference is *more than chance*, or *clear*, if its paired t-test rejects zero at 5 % after Holm's
correction over all differences that are told together (Holm, 1979): were none of them real, the chance to
call any of them clear is at most 5 %. Where a sentence rests on a few intervals, they are widened until all
of them hold together (Bonferroni). Runs are paired if they share all but what is compared: the seed, and with
it rows, start and minibatches. All of it supposes
that the other loss was named beforehand. Where it was picked because it came out best, its advantage is
overstated, and so is what counts against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from experiments.curves import interval

__all__ = ["CHANCE", "Difference", "difference", "differences", "holm", "signed"]

CHANCE = 0.05  # of calling anything clear where nothing is


class Difference(NamedTuple):
    """A mean over pairs, its interval, and the probability of one at least as far from zero by chance."""

    mean: float
    low: float
    high: float
    p: float
    pairs: int

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
        ends = "one pair" if self.pairs == 1 else f"{signed(self.low)} to {signed(self.high)}"
        return f"{signed(self.mean)} ({ends})"


def signed(number: float) -> str:
    """Return a number with its sign and one digit, as a sentence has it."""
    shown = f"{number:+.1f}"
    return shown.lstrip("+-") if float(shown) == 0 else shown.replace("-", "−")


def difference(values: ArrayLike, *, together: int = 1, level: float = 0.95) -> Difference:
    r"""Return the mean of paired differences with the t interval and the p-value.

    The interval is :math:`\bar d \pm t_{n-1} s / \sqrt n`. Without spread it is the mean itself, and p is 1
    at zero and 0 elsewhere; one pair has no interval and p = 1.

    Parameters
    ----------
    values : array_like, shape ``(n,)``
        One minus the other, a value a seed.
    together : int
        Of so many differences that one sentence judges, each gets an interval so wide that with probability
        ``level`` all of them hold (Bonferroni). The p-value is of this difference by itself.
    level : float
        Of the interval, or of all of them together.

    Examples
    --------
    >>> from experiments.differences import difference
    >>> found = difference([1.0, 2.0, 3.0])
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2), round(found.p, 3)
    (2.0, -0.48, 4.48, 0.074)
    """
    d = np.asarray(values, dtype=float)
    if d.ndim != 1 or not len(d) or np.isnan(d).any():
        raise ValueError(f"values must be a row of numbers; got shape {d.shape}")
    n, mean = len(d), float(d.mean())
    if n == 1:
        return Difference(mean, -np.inf, np.inf, 1.0, 1)
    error = float(d.std(ddof=1)) / n**0.5
    if error <= 1e-12 * max(abs(mean), 1.0):  # no spread but that of rounding
        return Difference(mean, mean, mean, float(abs(mean) <= 1e-12), n)
    _, half = interval(d, 1 - (1 - level) / together)
    return Difference(mean, mean - half, mean + half, 2 * float(stats.t.sf(abs(mean) / error, n - 1)), n)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values: those at most 5 % may all be called clear at a chance of 5 %.

    Examples
    --------
    >>> from experiments.differences import holm
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979).
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def differences(pairs: Mapping[Any, ArrayLike], *, level: float = 0.95) -> pd.DataFrame:
    """Return a row for each of many paired differences that are told together.

    Parameters
    ----------
    pairs : mapping to array_like, shape ``(n,)``
        The paired differences of each setting.
    level : float
        Of the intervals, each by itself.

    Returns
    -------
    pandas.DataFrame
        ``difference``, ``low``, ``high``, ``seeds``, ``p``, ``adjusted`` (p by Holm), and ``clear``: 1 where
        the difference is more than chance and positive, -1 where it is more than chance and negative, else 0.
    """
    found = [difference(values, level=level) for values in pairs.values()]
    table = pd.DataFrame(found, columns=["difference", "low", "high", "p", "seeds"], index=_index(pairs))
    table["adjusted"] = holm(table["p"])
    table["clear"] = (np.sign(table["difference"]) * (table["adjusted"] < CHANCE)).astype(int)
    return table[["difference", "low", "high", "seeds", "p", "adjusted", "clear"]]


def _index(pairs: Mapping[Any, ArrayLike]) -> pd.Index:
    keys = list(pairs)
    return pd.MultiIndex.from_tuples(keys) if keys and isinstance(keys[0], tuple) else pd.Index(keys)
