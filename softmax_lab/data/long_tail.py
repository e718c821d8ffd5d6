"""A seeded long-tailed split: the exponential profile of Cui et al. (2019), for any labelled set."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks

__all__ = ["LongTail", "long_tail", "long_tail_counts"]


class LongTail(NamedTuple):
    """Row indices of a split: a long-tailed training set, a balanced test set, and the training counts."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    counts: NDArray[np.int64]


def long_tail_counts(n_max: int, rho: float, num_classes: int) -> NDArray[np.int64]:
    r"""Return :math:`n_c = n_{max}\, \rho^{-c/(K-1)}` rounded, at least 1, for c = 0 ... K-1.

    Parameters
    ----------
    n_max : int
        Samples of the most frequent class, c = 0.
    rho : float
        Imbalance ratio n_max / n_min >= 1; where it exceeds n_max, the counts' own ratio is n_max.
    num_classes : int
        K >= 1.

    Examples
    --------
    >>> from softmax_lab import data
    >>> data.long_tail_counts(100, 100, 3)
    array([100,  10,   1])
    """
    n_max = _checks.whole("n_max", n_max, low=1)
    rho = _checks.number("rho", rho, low=1.0)
    num_classes = _checks.whole("num_classes", num_classes, low=1)
    share = np.arange(num_classes) / max(num_classes - 1, 1)
    return np.maximum(np.rint(n_max * rho**-share), 1).astype(np.int64)


def long_tail(
    labels: ArrayLike,
    rho: float,
    *,
    seed: int = 0,
    test_per_class: int = 0,
    order: ArrayLike | None = None,
    n_max: int | None = None,
) -> LongTail:
    """Split a labelled set into a long-tailed training part and a balanced test part.

    Parameters
    ----------
    labels : array_like of int, shape ``(N,)``
        Class indices 0 ... K-1, every class present.
    rho : float
        Imbalance ratio >= 1: the first class of ``order`` has rho times the samples of the last, up to
        rounding. No class has less than one, so the ratio of ``counts`` is at most ``n_max``.
    seed : int
        Which rows are drawn. For one seed, classes are drawn independently, so a larger rho takes a subset of
        the rows that a smaller one takes, and the test rows do not change with rho.
    test_per_class : int
        Rows of each class set aside first, for the balanced test set.
    order : array_like of int, optional
        The classes from most to least frequent; 0 ... K-1 by default.
    n_max : int, optional
        Rows of the most frequent class; by default as many as every class could give. A set that has a long
        tail itself can give more: each class needs only the rows that it gives.

    Returns
    -------
    LongTail
        Sorted row indices ``train`` and ``test``, and ``counts`` per class of the training rows.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_lab import data
    >>> labels = np.repeat([0, 1, 2], 50)
    >>> data.long_tail(labels, rho=10, test_per_class=10).counts
    array([40, 13,  4])

    References
    ----------
    Y. Cui, M. Jia, T.-Y. Lin, Y. Song and S. Belongie, "Class-balanced loss based on effective number of
    samples", CVPR 2019: the profile n_c = n mu^c.
    """
    y = _checks.array("labels", labels)
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.size == 0:
        raise ValueError(
            f"labels must be integers of shape (N,), N >= 1; got dtype {y.dtype.name}, shape {y.shape}"
        )
    if y.min() < 0:
        raise IndexError(f"labels must be >= 0; got label {int(y.min())} at row {int(np.argmin(y))}")
    present = np.bincount(y)
    num_classes = len(present)
    test_per_class = _checks.whole("test_per_class", test_per_class, low=0)
    room = int(present.min()) - test_per_class
    if room < 1:
        raise ValueError(
            f"every class needs more than test_per_class={test_per_class} rows; the smallest has "
            f"{int(present.min())}"
        )
    if n_max is not None and n_max < 1:
        raise ValueError(
            f"n_max must lie in [1, {room}] (the smallest class less its test rows); got {n_max}"
        )
    ranks = _ranks(order, num_classes)
    counts = long_tail_counts(room if n_max is None else n_max, rho, num_classes)[ranks]
    short = np.flatnonzero(present - test_per_class < counts)
    if len(short):
        raise ValueError(
            f"n_max must lie in [1, {room}] (the smallest class less its test rows), or every class have the "
            f"rows that it gives; got {n_max}, for which class {short[0]} gives {counts[short[0]]} of "
            f"{present[short[0]] - test_per_class}"
        )
    train, test = [], []
    for c in range(num_classes):
        rows = np.random.default_rng([seed, c]).permutation(np.flatnonzero(y == c))
        test.append(rows[:test_per_class])
        train.append(rows[test_per_class : test_per_class + counts[c]])
    return LongTail(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)), counts)


def _ranks(order: ArrayLike | None, num_classes: int) -> NDArray[np.int64]:
    """Return each class's place in ``order`` (0 = most frequent)."""
    classes: NDArray[Any] = np.arange(num_classes) if order is None else _checks.array("order", order)
    if classes.shape != (num_classes,) or not np.array_equal(np.sort(classes), np.arange(num_classes)):
        raise ValueError(f"order must be a permutation of 0 ... {num_classes - 1}; got {classes.tolist()}")
    return np.argsort(classes)
