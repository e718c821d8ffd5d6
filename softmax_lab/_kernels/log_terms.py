r"""The logarithm of a row's plain loss, from the sum of the other classes: of one row, and of eight.

E is the sum of exp(d_k) over the other classes, relative to the largest of them, and d_y the target's
distance from it. With s = log E - d_y and x = e^{-|s|}, t = x / (2 + x),

.. math::

    r &= \frac{\log (1 + x)}{x} = 1 - t \bigl(1 - (1 - t) t A(t^2)\bigr), \qquad
    A(w) = \sum_n \frac{w^n}{2 n + 3} \\
    \log l &= s + \log r \quad (s \le 0), \qquad \log (s + x r) \quad (s > 0) \\
    h' &= \frac{1}{(1 + x)\, r} \quad (s \le 0), \qquad \frac{1}{(1 + x)(s + x r)} \quad (s > 0) .

``softmax_lab._log_rows.log_terms`` is the same in NumPy. The logarithm is a sum of two floats: a row's share
of the sum over rows is an exponential, and would show the rounding errors.

Eight rows of a type narrower than float64 get what that type can show: e^{-|s|} within 2^-33, as their
exponentials are, and logarithms of one float. The rounding error of s stays, as s may be any number.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._extras import load
from .compiler import helper, inlined, inlined_overload
from .exponential import double, log, log_single, single, two_sum
from .simd import absolute, fma, splat, where_equal, where_less, where_ordered

#: artanh t = t + t^3 (1/3 + t^2 / 5 + ...), |t| <= 1/3, the highest power first
A = tuple(1.0 / n for n in range(33, 1, -2))
# the same to 2^-33, for results of narrower types: a Chebyshev fit
A_SINGLE = (
    0.10394134665037602,
    0.08732269904587761,
    0.11132362607968639,
    0.14285152618870456,
    0.20000005387839273,
    0.3333333332500655,
)


def single_coefficients(degree: int) -> list[float]:
    """Fit A(w) on 0 <= w <= 1/9, the highest power first."""
    mpmath = load("mpmath", "the coefficients are fitted with mpmath")
    with mpmath.workdps(40):
        most = mpmath.mpf(1) / 9 * mpmath.mpf("1.0001")

        def series(w: Any) -> Any:
            return mpmath.nsum(lambda n: w**n / (2 * n + 3), [0, mpmath.inf])

        return [float(c) for c in mpmath.chebyfit(series, [0, most], degree + 1)]


class LogTerms(NamedTuple):
    """What a row comes to: numbers, or eight lanes of them."""

    high: Any  # log l
    low: Any  # its rounding error
    slope: Any  # h'
    rest: Any  # 1 - r, of which h'' = -h'^2 (1 - r) is made


@helper
def log_terms(others, d_y, low):
    """Return the `LogTerms` of one row.

    Without other classes (``others`` is 0) log l is -inf and h' 0. Of an impossible target log l is +inf and
    h' is NaN.
    """
    if others == 0.0 and math.isfinite(d_y):
        return LogTerms(-np.inf, 0.0, 0.0, 0.0)
    if d_y == np.inf:
        return LogTerms(np.nan, 0.0, np.nan, 0.0)
    if d_y == -np.inf:
        return LogTerms(np.inf if others > 0.0 else np.nan, 0.0, np.nan, 0.0)
    log_others = math.log(others) if others > 0.0 else np.nan
    s = log_others - d_y
    t = s - log_others
    s_low = ((log_others - (s - t)) + (-d_y - t)) - low
    if not math.isfinite(s_low):
        s_low = 0.0
    x = math.exp(-abs(s))
    x += x * (s_low if s <= 0.0 else -s_low)
    t = x / (2.0 + x)
    series = 0.0
    for a in A:
        series = series * t * t + a
    rest = t * (1.0 - (1.0 - t) * t * series)
    r = 1.0 - rest
    if s <= 0.0:
        log_r = math.log(r)
        high = s + log_r
        return LogTerms(high, (log_r - (high - s)) + s_low, 1.0 / ((1.0 + x) * r), rest)
    loss = s + (x * r + s_low)
    return LogTerms(math.log(loss), 0.0, 1.0 / ((1.0 + x) * loss), 1.0 - loss * x)


def lane_log_terms(z, others, d_y, low):
    """Return the `LogTerms` of eight rows, as ``log_terms`` does of one; z is of the logits' type."""
    raise NotImplementedError("compiled only")


@inlined_overload(lane_log_terms)
def _choose_lane_log_terms(z, others, d_y, low):
    if z.dtype == types.float64:
        return lambda z, others, d_y, low: _with_edges(_lane_terms(others, d_y, low), others, d_y)
    return lambda z, others, d_y, low: _with_edges(_narrow_terms(others, d_y, low), others, d_y)


@inlined
def _lane_terms(others, d_y, low):
    """The `LogTerms` of eight rows of float64 that are not at an edge."""
    zero, one = splat(0.0), splat(1.0)
    log_others, log_low = log(where_equal(others, zero, one, others))
    s, error = two_sum(log_others, zero - d_y)
    s_low = (log_low + error) - low
    s_low = where_ordered(s_low, s_low, s_low, zero)
    above = where_less(zero, s, one, zero)
    with_sign = where_equal(above, one, zero - s_low, s_low)
    x = double(zero - absolute(s), zero)
    x = fma(x, with_sign, x)
    t = x / (splat(2.0) + x)
    w, series = t * t, zero
    for a in A:
        series = fma(series, w, splat(a))
    rest = t * (one - (one - t) * t * series)
    r = one - rest
    loss = s + fma(x, r, s_low)
    factor = where_equal(above, one, loss, r)
    high, log_low = log(factor)
    sum_high, sum_low = two_sum(s, high)
    high = where_equal(above, one, high, sum_high)
    low = where_equal(above, one, log_low, (sum_low + log_low) + s_low)
    rest = where_equal(above, one, one - loss * x, rest)
    return LogTerms(high, low, one / ((one + x) * factor), rest)


@inlined
def _narrow_terms(others, d_y, low):
    """The same of a narrower type. Sums are short: each row would wait for a long one."""
    zero, one = splat(0.0), splat(1.0)
    log_others = log_single(where_equal(others, zero, one, others))
    s, error = two_sum(log_others, zero - d_y)
    s_low = error - low
    s_low = where_ordered(s_low, s_low, s_low, zero)
    above = where_less(zero, s, one, zero)
    x = single(zero - absolute(s))  # of a large s, whose rounding error would matter, it is 0
    t = x / (splat(2.0) + x)
    w = t * t
    first = fma(splat(A_SINGLE[0]), w, splat(A_SINGLE[1]))
    second = fma(splat(A_SINGLE[2]), w, splat(A_SINGLE[3]))
    third = fma(splat(A_SINGLE[4]), w, splat(A_SINGLE[5]))
    square = w * w
    series = fma(fma(first, square, second), square, third)
    rest = t * (one - (one - t) * t * series)
    r = one - rest
    loss = fma(x, r, s)
    factor = where_equal(above, one, loss, r)
    high = log_single(factor)
    sum_high, sum_low = two_sum(s, high)
    high = where_equal(above, one, high, sum_high)
    low = where_equal(above, one, zero, sum_low + s_low)
    rest = where_equal(above, one, one - loss * x, rest)
    return LogTerms(high, low, one / ((one + x) * factor), rest)


@inlined
def _with_edges(terms, others, d_y):
    """The terms, and at the edges the numbers that the formula has not."""
    zero, one, nan, endless = splat(0.0), splat(1.0), splat(np.nan), splat(np.inf)
    high, slope = terms.high, terms.slope
    # a target at infinity, and rows without other classes
    impossible = where_equal(d_y, zero - endless, one, zero)
    high, slope = where_equal(impossible, one, endless, high), where_equal(impossible, one, nan, slope)
    alone = where_equal(others, zero, where_less(absolute(d_y), endless, one, zero), zero)
    high, slope = where_equal(alone, one, zero - endless, high), where_equal(alone, one, zero, slope)
    wrong = where_equal(d_y, endless, one, where_equal(others, zero, one - alone, zero))
    wrong = where_ordered(others, d_y, wrong, one)
    high, slope = where_equal(wrong, one, nan, high), where_equal(wrong, one, nan, slope)
    return LogTerms(high, where_less(absolute(high), endless, terms.low, zero), slope, terms.rest)
