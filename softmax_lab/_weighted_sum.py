"""The log of a sum of exponentials with factors of any sign, in readable NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._rows import blocks, take
from ._twofloat import Array, row_sum, small_or_zero, two_sum

__all__ = ["log_weighted_sum"]


def log_weighted_sum(z: Array, b: Array, kept: NDArray[np.bool_] | None) -> tuple[Array, Array]:
    r"""Return log |S| and the sign of S, both (n,), where :math:`S = \sum_k b_k e^{z_k}`, for rows (n, K).

    The largest term by magnitude is kept out of the sum and enters by log1p. With p its class it is
    :math:`\log |S| = z_p + \log |b_p| + \log |1 + \sum_{k \ne p} (b_k / b_p) e^{z_k - z_p}|`.
    """
    value, sign = np.empty(len(z)), np.empty(len(z))
    with np.errstate(all="ignore"):
        for block in blocks(*z.shape):
            some = None if kept is None else kept[block]
            value[block], sign[block] = _of_block(z[block], b[block], some)
    return value, sign


def _of_block(z: Array, b: Array, kept: NDArray[np.bool_] | None) -> tuple[Array, Array]:
    takes_part = (b != 0) if kept is None else (b != 0) & kept
    z = np.where(takes_part, z, -np.inf)
    log_b = np.log(np.abs(np.where(takes_part, b, 1.0)))
    size, infinite = z + log_b, z == np.inf
    top = np.argmax(size, axis=1)
    peak, log_factor, factor = take(z, top), take(log_b, top), take(np.where(takes_part, b, 1.0), top)
    d, low = two_sum(z, -peak[:, None])
    d_low = small_or_zero(low)
    ratio = b / factor[:, None]
    # the factor of a term may be huge where its exponential underflows: they are multiplied in the exponent
    beyond = np.abs(ratio) > _LARGE
    terms = np.where(beyond, np.copysign(np.exp(d + (log_b - log_factor[:, None])), ratio), ratio * np.exp(d))
    terms = np.where(takes_part, terms + terms * d_low, 0.0)
    terms[np.arange(len(top)), top] = 0.0
    rest = row_sum(terms)
    logarithm = np.where(rest < -1.0, np.log(-(1.0 + rest)), np.log1p(rest))
    value = _added(peak, log_factor, logarithm)
    sign = np.sign(factor) * np.sign(1.0 + rest)
    empty = peak == -np.inf
    value, sign = np.where(empty, -np.inf, value), np.where(empty, 0.0, sign)
    # an infinite entry is the result, unless two of them have factors of both signs
    up, down = (infinite & (b > 0)).any(axis=1), (infinite & (b < 0)).any(axis=1)
    value = np.where(up | down, np.where(up & down, np.nan, np.inf), value)
    sign = np.where(up | down, np.where(up & down, np.nan, np.where(up, 1.0, -1.0)), sign)
    bad = np.isnan(z).any(axis=1)
    return np.where(bad, np.nan, value), np.where(bad, np.nan, sign)


_LARGE = 1e100


def _added(a: Array, b: Array, c: Array) -> Array:
    """Return a + b + c, rounded once but for the terms' own errors."""
    s, e = two_sum(a, b)
    t, f = two_sum(s, c)
    return np.where(np.isfinite(t), t + (e + f), t)
