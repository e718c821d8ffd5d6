r"""The logarithm of a row's plain loss and its derivative, in float64, and the sum over rows.

The formula is that of :mod:`softmax_lab._kernels.log_terms`, where it is derived: with E the sum over the
other classes relative to the largest of them, s = (M - u_y) / T + log E. The logarithm is a two-float: a
row's share of the sum over rows is an exponential, and would show its rounding error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .tiles import finite_or_zero

__all__ = ["Sum", "Temperature", "exponents", "joined", "log_terms", "two_sum", "within"]


class Temperature(NamedTuple):
    """T as two float32 whose sum it is: a number comes to a kernel in float32."""

    high: Any
    low: Any
    MODE: Any  # tl.constexpr: whether it is not 1


class Sum(NamedTuple):
    """A sum of exponentials, total e^(peak + beyond): numbers, or one of each program."""

    peak: Any  # the largest high part
    beyond: Any  # and the largest exponent relative to it: rows of 1e38 differ by their low parts alone
    total: Any


@triton.jit
def two_sum(a, b):
    """a + b and its rounding error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@triton.jit
def within(x):
    """x, or 0 where it is infinite or NaN."""
    return tl.where(tl.abs(x) < float("inf"), x, 0.0)


@triton.jit
def log_terms(peak, others, u_y, temperature):
    """Return log l as a two-float, and h' = d log l / ds.

    Without other classes (``others`` is 0) they are -inf and 0, of an impossible target +inf and NaN.
    """
    total, target = others.to(tl.float64), u_y.to(tl.float64)
    alone, endless = total == 0.0, tl.abs(target) == float("inf")
    gap, gap_low = two_sum(finite_or_zero(peak).to(tl.float64), -target)
    if temperature.MODE:
        divisor = (tl.zeros_like(total) + temperature.high) + temperature.low
        gap, gap_low = gap / divisor, gap_low / divisor
    s, s_low = two_sum(gap, tl.log(tl.where(alone, 1.0, total)))
    s_low = within(s_low + gap_low)
    below = s <= 0.0
    x = tl.exp(-tl.abs(s))
    x = x + x * tl.where(below, s_low, -s_low)
    t = x / (2.0 + x)
    series = tl.zeros_like(x)
    for n in tl.static_range(33, 1, -2):  # artanh t = t + t^3 (1/3 + t^2 / 5 + ...), t <= 1/3
        series = series * t * t + 1.0 / n
    r = 1.0 - t * (1.0 - (1.0 - t) * t * series)
    loss = s + (x * r + s_low)
    log_r = tl.log(tl.where(below, r, loss))
    high = tl.where(below, s + log_r, log_r)
    low = tl.where(below & (total != 0.0), within((log_r - (high - s)) + s_low), 0.0)
    slope = 1.0 / ((1.0 + x) * tl.where(below, r, loss))
    # +inf at the target is no number, and nor is a row without anything above -inf
    wrong = (target == float("inf")) | (alone & endless) | (target != target) | (total != total)
    high = tl.where(alone, -float("inf"), high)
    slope = tl.where(alone, 0.0, slope)
    nan = float("nan")
    return tl.where(wrong, nan, high), low, tl.where(wrong | endless, nan, slope)


@triton.jit
def exponents(high, low, peak):
    """How far rows are above a peak."""
    return (high - within(peak)) + low


@triton.jit
def joined(sums):
    """Return one `Sum` of several."""
    peak = tl.max(sums.peak, 0)
    d = exponents(sums.peak, sums.beyond, peak)
    beyond = tl.max(d, 0)
    share = tl.exp(d - within(beyond))
    return Sum(peak, beyond, tl.sum(tl.where(sums.total == 0.0, 0.0, sums.total * share), 0))
