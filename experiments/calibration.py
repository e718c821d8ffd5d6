r"""Do probabilities mean what they say? Reliability bins and the expected calibration error.

Chapters 5 and 6 use them.

A forecast is a *confidence* in [0, 1] that something is *correct*. It is calibrated if, among all rows with
confidence c, a share c is correct. The interval is cut into M equal bins ((m-1)/M, m/M], the first one with
0; with n_m of N rows in bin m,

.. math:: \mathrm{ECE} = \sum_m \frac{n_m}{N} \left| \mathrm{accuracy}_m - \mathrm{confidence}_m \right|

An ECE of a finite sample is above zero even where the forecast is calibrated: `calibrated_ece` says by how
much.

References
----------
C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017: section
2 has both definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "Reliability", "calibrated_ece", "expected_calibration_error", "reliability", "top_label"]

Array = NDArray[np.float64]
BINS = 15  # as in Guo et al.


@dataclass(frozen=True, eq=False)
class Reliability:
    """The rows of each bin, shape ``(M,)``: their number, mean confidence and the share that is correct.

    The last two are NaN in an empty bin.
    """

    count: NDArray[np.int64]
    confidence: Array
    accuracy: Array

    def ece(self) -> float:
        """Return the expected calibration error: the mean of |accuracy - confidence| over the rows."""
        full = self.count > 0
        gaps = np.abs(self.accuracy[full] - self.confidence[full])
        return float(np.average(gaps, weights=self.count[full]))


def top_label(probs: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Return the largest probability of each row ``(N,)``, and whether its class is the label.

    Parameters
    ----------
    probs : array_like, shape ``(N, K)``
        Rows need not add up to one: K separate sigmoids have a top label as well.
    labels : array_like of int, shape ``(N,)``

    Examples
    --------
    >>> confidence, correct = top_label([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    >>> confidence.tolist(), correct.tolist()
    ([0.9, 0.6], [True, False])
    """
    p, y = np.asarray(probs, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"probs must have shape (N, K) and labels (N,); got {p.shape} and {y.shape}")
    return p.max(axis=1), p.argmax(axis=1) == y


def reliability(confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS) -> Reliability:
    """Sort rows into ``bins`` equal bins of confidence.

    Parameters
    ----------
    confidence : array_like, shape ``(N,)``
        In [0, 1], N >= 1.
    correct : array_like of bool, shape ``(N,)``
    bins : int
        M >= 1.

    Raises
    ------
    ValueError
        On shapes that differ, no rows, a confidence outside [0, 1], or no bins.

    Examples
    --------
    >>> table = reliability([0.2, 0.9, 1.0], [False, True, True], bins=2)
    >>> table.count.tolist(), table.accuracy.tolist()
    ([1, 2], [0.0, 1.0])
    """
    c, hit = _checked(confidence, correct, bins)
    # right-closed bins; 0 joins the first
    index = np.clip(np.ceil(c * bins).astype(np.int64) - 1, 0, bins - 1)
    count, total, right = (np.bincount(index, weights=w, minlength=bins) for w in (None, c, hit))
    mean, share = (np.divide(x, count, out=np.full(bins, np.nan), where=count > 0) for x in (total, right))
    return Reliability(count, mean, share)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS) -> float:
    """Return the ECE over ``bins`` equal bins; arguments and errors as in `reliability`.

    Examples
    --------
    >>> round(expected_calibration_error([0.8, 0.8], [True, False]), 12)
    0.3
    """
    return reliability(confidence, correct, bins=bins).ece()


def calibrated_ece(confidence: ArrayLike, *, bins: int = BINS, draws: int = 200, seed: int = 0) -> Array:
    """Return the ECE ``(draws,)`` of as many samples in which these confidences are right.

    Each row is correct with its own probability.

    A measured ECE within this distribution is no evidence of a lack of calibration.

    Examples
    --------
    >>> calibrated_ece([1.0, 1.0], draws=3).tolist()
    [0.0, 0.0, 0.0]
    """
    c = np.asarray(confidence, dtype=np.float64)
    # not the stream that a caller with the same seed drew the confidences from
    rng = np.random.default_rng([seed, 1])
    return np.array([expected_calibration_error(c, rng.random(c.shape) < c, bins=bins) for _ in range(draws)])


def _checked(confidence: ArrayLike, correct: ArrayLike, bins: int) -> tuple[Array, NDArray[np.bool_]]:
    c, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if c.ndim != 1 or c.size == 0 or hit.shape != c.shape:
        raise ValueError(
            f"confidence and correct must have the same shape (N,), N >= 1; got {c.shape} and {hit.shape}"
        )
    if hit.dtype != np.bool_:
        raise TypeError(f"correct must be bool; got {hit.dtype.name}")
    if not ((c >= 0) & (c <= 1)).all():
        raise ValueError(f"confidence must lie in [0, 1]; got values from {c.min()} to {c.max()}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1; got {bins}")
    return c, hit
