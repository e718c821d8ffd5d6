"""The variants of softmax and log-softmax, in NumPy as a textbook has them.

Every operation is in the type of the logits, so that what is seen is the formula. One exception is NumPy's
own: it adds up float16 in float32 before it rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab._rows import Shifted, shifted_exp
from softmax_lab._twofloat import round_once

__all__ = ["GRADIENT", "LOG_SOFTMAX", "SOFTMAX", "TIMED", "shifted_softmax", "tempered"]


Rows = NDArray[Any]
Variant = Callable[[Rows], Rows]


def peak_of(z: Rows) -> Rows:
    return np.asarray(z.max(axis=1, keepdims=True))


def total_of(x: Rows) -> Rows:
    return np.asarray(x.sum(axis=1, keepdims=True))


def naive_softmax(z: Rows) -> Rows:
    """exp(z) / sum exp(z): no correction."""
    e = np.exp(z)
    return np.asarray(e / total_of(e))


def shifted_softmax(z: Rows) -> Rows:
    """exp(z - m) / sum exp(z - m) with m = max(z): the article's first method.

    It is the textbook program of every chapter.
    """
    return naive_softmax(z - peak_of(z))


def naive_lse(z: Rows) -> Rows:
    """log sum exp(z), (N, 1): no correction."""
    return np.asarray(np.log(total_of(np.exp(z))))


def shifted_lse(z: Rows) -> Rows:
    """m + log sum exp(z - m), (N, 1)."""
    m = peak_of(z)
    return np.asarray(m + naive_lse(z - m))


def shifted_log_softmax(z: Rows) -> Rows:
    """(z - m) - log sum exp(z - m): the maximum is never added back."""
    d = z - peak_of(z)
    return np.asarray(d - naive_lse(d))


def tempered(z: Rows, temperature: float) -> Rows:
    """exp(z/T) / sum exp(z/T), uncorrected: the article's third method."""
    return naive_softmax(np.asarray(z / z.dtype.type(temperature)))


SOFTMAX: dict[str, Variant] = {
    "exp(z) / sum": naive_softmax,
    "exp(z - log sum)": lambda z: np.exp(z - naive_lse(z)),
    "exp(z - max) / sum": shifted_softmax,
    "exp(z - lse)": lambda z: np.exp(z - shifted_lse(z)),
    "exp((z - max) - log sum)": lambda z: np.exp(shifted_log_softmax(z)),
    "softmax_lab": sl.softmax,
}
LOG_SOFTMAX: dict[str, Variant] = {
    "log(exp(z) / sum)": lambda z: np.log(naive_softmax(z)),
    "z - log sum": lambda z: np.asarray(z - naive_lse(z)),
    "log(exp(z - max) / sum)": lambda z: np.log(shifted_softmax(z)),
    "z - lse": lambda z: np.asarray(z - shifted_lse(z)),
    "(z - max) - log sum": shifted_log_softmax,
    "softmax_lab": sl.log_softmax,
}


def _reference(entry: Callable[[Shifted], NDArray[np.float64]]) -> Variant:
    """Return what the package computes in NumPy where it has no compiled loop."""
    return lambda z: round_once(entry(shifted_exp(z.astype(np.float64))), z.dtype)


#: what is timed: the variants, and the package's reference beside its compiled loops
TIMED: dict[str, dict[str, Variant]] = {
    "softmax": {**SOFTMAX, "softmax_lab, NumPy": _reference(lambda rows: rows.probs)},
    "log_softmax": {**LOG_SOFTMAX, "softmax_lab, NumPy": _reference(lambda rows: rows.log_probs)},
}


def _one_hot(z: Rows, y: NDArray[np.int64]) -> Rows:
    return np.asarray(y[:, None] == np.arange(z.shape[1]), dtype=z.dtype)


def _through_log(p: Rows, y: NDArray[np.int64]) -> Rows:
    """Differentiate -log p_y step by step, as automatic differentiation does.

    First comes dL/dp = -y/p, then the softmax's own derivative.
    """
    g = -_one_hot(p, y) / p
    return np.asarray(p * (g - total_of(g * p)))


GRADIENT: dict[str, Callable[[Rows, NDArray[np.int64]], Rows]] = {
    "naive p - y": lambda z, y: naive_softmax(z) - _one_hot(z, y),
    "naive p, through log p": lambda z, y: _through_log(naive_softmax(z), y),
    "shifted p - y": lambda z, y: shifted_softmax(z) - _one_hot(z, y),
    "shifted p, through log p": lambda z, y: _through_log(shifted_softmax(z), y),
    "softmax_lab": lambda z, y: sl.cross_entropy_grad(z, y, reduction="none")[1],
}
