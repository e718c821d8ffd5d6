"""Loops over rows of float32 that differ in how much they round: for the curve of error against time.

The package's own loop takes sixteen lanes and carries the low part of everything along. Beside it stand, for
the same tasks and in the same compiler:

``wide``
    Eight lanes of float64, as the package's loops have for other types: a result is rounded once, half an
    ulp.
``single``
    Sixteen lanes; an exponential is one float, the package's without its low part. The sum and the factor
    are sums of two floats still.
``shifted``
    The textbook's program in sixteen lanes of one float: z - max is rounded, its exponential has one constant
    for log 2, the sum and the factor are rounded.

In the last two the maximum's own 1 stays in the sum, and the target's component of the gradient is p - 1: of
confident rows nothing is left.

None is part of the package. ``single`` and ``shifted`` take rows whose maximum is at most
``exponential.LARGEST``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from softmax_lab._kernels import exponential, simd, singles, transform
from softmax_lab._kernels.compiler import inlined
from softmax_lab._kernels.exponential import Base

__all__ = ["LOOPS", "Loops"]

Loop = Callable[..., None]

_simd: Any = simd  # its functions have the compiler's arguments
_peak: Any = transform.peak_in_singles
_unit: Any = singles.unit_in_singles
WIDTH, SINGLES = simd.WIDTH, simd.SINGLES
LOG2_E, LOG_2, LOG_2_REST = exponential.LOG2_E, exponential.LOG_2_SINGLE, exponential.LOG_2_REST
COEFFICIENTS = exponential.P_SINGLE
AHEAD = singles.ROW_BY_ROW.entries  # memory is asked for as early as by the package's loops
MAGIC, LOWEST = exponential.MAGIC_SINGLE + 127.0, -87.0  # below it an exponential is no normal number


class Loops(NamedTuple):
    """The tasks in one precision; each takes the flat rows, their number of classes, and which rows."""

    softmax: Loop  # (z, out, K, start, stop)
    log_softmax: Loop  # the same
    logsumexp: Loop  # (z, values, K, start, stop)
    loss: Loop  # (z, out, values, labels, factor, K, start, stop): the gradient is multiplied by the factor


def _compiled(function: Any) -> Any:
    return numba.njit(nogil=True, error_model="numpy")(function)


# ---- eight lanes of float64 ----


@inlined
def _wide_sum(z, held, base, n, peak, skipped):
    """Hold exp(z - peak) of a row, and return their sum without one place."""
    total, m, k = _simd.splat(0.0), _simd.splat(peak), 0
    while k < n:
        count = _simd.least(WIDTH, n - k)
        _simd.prefetch(z, base + n + k)
        if count == WIDTH:
            e = exponential.single(_simd.load(z, base + k) - m)
        else:
            e = exponential.single(_simd.load_first(z, base + k, count, -np.inf) - m)
        _simd.store(held, k, e)
        if k <= skipped < k + WIDTH:
            e = _simd.where_equal(_simd.iota(), _simd.splat(float(skipped - k)), _simd.splat(0.0), e)
        total += e
        k += WIDTH
    return _simd.sum_lanes(total)


@inlined
def _wide_scaled(held, out, base, n, factor):
    f, k = _simd.splat(factor), 0
    while k + WIDTH <= n:
        _simd.store(out, base + k, _simd.load(held, k) * f)
        k += WIDTH
    if k < n:
        _simd.store_first(out, base + k, n - k, _simd.load(held, k) * f)


@inlined
def _place_of(z, base, n, peak):
    """Where a row's maximum is."""
    for k in range(n):
        if z[base + k] == peak:
            return k
    return 0


@inlined
def _wide_log(z, held, base, n, peak):
    """log sum exp(z - peak): of a confident row the maximum's own 1 is kept out of the sum."""
    total = _wide_sum(z, held, base, n, peak, -1)
    if total >= 2.0:
        return math.log(total)
    return math.log1p(_wide_sum(z, held, base, n, peak, _place_of(z, base, n, peak)))


@_compiled
def _wide_softmax(z, out, n, start, stop):
    held = np.empty(n + WIDTH)
    for row in range(start, stop):
        total = _wide_sum(z, held, row * n, n, _peak(z, row * n, n), -1)
        _wide_scaled(held, out, row * n, n, 1.0 / total)


@_compiled
def _wide_log_softmax(z, out, n, start, stop):
    held = np.empty(n + WIDTH)
    for row in range(start, stop):
        base, peak, k = row * n, _peak(z, row * n, n), 0
        m, minus = _simd.splat(peak), _simd.splat(_wide_log(z, held, base, n, peak))
        while k + WIDTH <= n:
            _simd.store(out, base + k, _simd.load(z, base + k) - m - minus)
            k += WIDTH
        if k < n:
            last = _simd.load_first(z, base + k, n - k, 0.0) - m - minus
            _simd.store_first(out, base + k, n - k, last)


@_compiled
def _wide_logsumexp(z, values, n, start, stop):
    held = np.empty(n + WIDTH)
    for row in range(start, stop):
        peak = _peak(z, row * n, n)
        values[row] = peak + _wide_log(z, held, row * n, n, peak)


@_compiled
def _wide_loss(z, out, values, labels, factor, n, start, stop):
    held = np.empty(n + WIDTH)
    for row in range(start, stop):
        base, y, peak = row * n, labels[row], _peak(z, row * n, n)
        others, distance = _wide_sum(z, held, base, n, peak, y), np.float64(z[base + y]) - peak
        own = math.exp(distance)
        if distance == 0.0:
            values[row] = math.log1p(others)
        else:
            values[row] = math.log1p((others - 1.0) + own) - distance
        _wide_scaled(held, out, base, n, factor / (others + own))
        out[base + y] = -factor * (others / (others + own))


# ---- sixteen lanes of one float ----


@inlined
def _single_base(peak):
    return exponential.base_of(peak)


@inlined
def _single_exponential(z, base):
    """exp(z) relative to a power of two: ``exponential.parts`` without its low part."""
    z = _simd.maximum(base.floor, z)
    t = _simd.fma(z, _simd.splat_single(LOG2_E), base.magic)
    n = t - base.magic
    r = _simd.fma(n, _simd.splat_single(-LOG_2), z)
    r = _simd.fma(n, _simd.splat_single(-LOG_2_REST), r)
    p = _simd.splat_single(COEFFICIENTS[0])
    for c in COEFFICIENTS[1:]:
        p = _simd.fma(p, r, _simd.splat_single(c))
    return (_simd.splat_single(1.0) + _simd.fma(r * r, p, r)) * _simd.power_of_two(t)


@inlined
def _single_unit(peak):
    return _unit(peak)


@inlined
def _shifted_base(peak):
    return Base(_simd.splat_single(peak), _simd.splat_single(MAGIC))


@inlined
def _shifted_exponential(z, base):
    """exp(z - max), the difference rounded."""
    d = _simd.maximum(z - base.floor, _simd.splat_single(LOWEST))
    t = _simd.fma(d, _simd.splat_single(LOG2_E), base.magic)
    r = _simd.fma(t - base.magic, _simd.splat_single(-LOG_2), d)
    p = _simd.splat_single(COEFFICIENTS[0])
    for c in COEFFICIENTS[1:]:
        p = _simd.fma(p, r, _simd.splat_single(c))
    return (_simd.splat_single(1.0) + _simd.fma(r * r, p, r)) * _simd.power_of_two(t)


@inlined
def _shifted_unit(peak):
    return 1.0


def _narrow(base_of: Any, exponential_of: Any, unit_of: Any, *, two_floats: bool) -> Loops:
    """Return the loops in sixteen lanes of one float, with an exponential of their own.

    ``two_floats`` says that sums and factors have a low part.
    """

    @inlined
    def added(total, error, e):
        new = total + e
        return new, error + (e - (new - total)) if two_floats else error

    @inlined
    def summed(z, held, at, base, n, peak, ask):
        """Hold the exponentials of a row from ``at`` on, and return their sum.

        ``ask`` says whether places of results are asked for: where exponentials are held in those.
        """
        own, k = base_of(peak), 0
        # exact errors need a sum that starts larger than what is added
        start = _simd.splat_single(2.0 ** (exponential.REACH + 1) if two_floats else 0.0)
        a = b = start
        a_low = b_low = _simd.splat_single(0.0)
        while k + 2 * SINGLES <= n:
            for place in (base + k, base + k + SINGLES):
                _simd.prefetch(z, place + n)
                if ask:
                    _simd.ask_for(held, place + AHEAD)
            first = exponential_of(_simd.load_singles(z, base + k), own)
            second = exponential_of(_simd.load_singles(z, base + k + SINGLES), own)
            _simd.store_singles(held, at + k, first)
            _simd.store_singles(held, at + k + SINGLES, second)
            a, a_low = added(a, a_low, first)
            b, b_low = added(b, b_low, second)
            k += 2 * SINGLES
        while k < n:
            count = _simd.least(SINGLES, n - k)
            e = exponential_of(_simd.load_first_singles(z, base + k, count, -np.inf), own)
            _simd.store_first_singles(held, at + k, count, e)
            end, zero = _simd.splat_single(float(count)), _simd.splat_single(0.0)
            a, a_low = added(a, a_low, _simd.where_less(_simd.iota_singles(), end, e, zero))
            k += SINGLES
        if not two_floats:
            return np.float64(_simd.sum_lanes(a + b))
        first_sums, second_sums = _simd.widened(a - start)
        third_sums, last_sums = _simd.widened(b - start)
        first_lows, second_lows = _simd.widened(a_low + b_low)
        sums = (first_sums + second_sums) + (third_sums + last_sums)
        return _simd.sum_lanes(sums + (first_lows + second_lows))

    @inlined
    def product(e, f, f_low):
        return _simd.fma(e, f, e * f_low) if two_floats else e * f

    @inlined
    def scaled(out, base, n, factor):
        high, k = np.float64(np.float32(factor)), 0
        f, f_low = _simd.splat_single(high), _simd.splat_single(factor - high)
        while k + SINGLES <= n:
            _simd.store_singles(out, base + k, product(_simd.load_singles(out, base + k), f, f_low))
            k += SINGLES
        if k < n:
            e = _simd.load_first_singles(out, base + k, n - k, 0.0)
            _simd.store_first_singles(out, base + k, n - k, product(e, f, f_low))

    @_compiled
    def softmax(z, out, n, start, stop):
        for row in range(start, stop):
            base = row * n
            total = summed(z, out, base, base, n, _peak(z, base, n), True)
            scaled(out, base, n, 1.0 / total)

    @_compiled
    def log_softmax(z, out, n, start, stop):
        held = np.empty(n, np.float32)
        for row in range(start, stop):
            base, k = row * n, 0
            peak = _peak(z, base, n)
            total = summed(z, held, 0, base, n, peak, False) * unit_of(peak)
            m, minus = _simd.splat_single(peak), _simd.splat_single(math.log(total))
            while k + SINGLES <= n:
                _simd.store_singles(out, base + k, _simd.load_singles(z, base + k) - m - minus)
                k += SINGLES
            if k < n:
                x = _simd.load_first_singles(z, base + k, n - k, 0.0)
                _simd.store_first_singles(out, base + k, n - k, x - m - minus)

    @_compiled
    def logsumexp(z, values, n, start, stop):
        held = np.empty(n, np.float32)
        for row in range(start, stop):
            peak = _peak(z, row * n, n)
            values[row] = peak + math.log(summed(z, held, 0, row * n, n, peak, False) * unit_of(peak))

    @_compiled
    def loss(z, out, values, labels, factor, n, start, stop):
        for row in range(start, stop):
            base, y = row * n, labels[row]
            peak = _peak(z, base, n)
            distance = np.float32(z[base + y]) - np.float32(peak)
            total = summed(z, out, base, base, n, peak, True)
            values[row] = np.float32(math.log(total * unit_of(peak))) - distance
            own = out[base + y]
            scaled(out, base, n, factor / total)
            out[base + y] = (own * np.float32(1.0 / total) - np.float32(1.0)) * np.float32(factor)

    return Loops(softmax, log_softmax, logsumexp, loss)


#: the precisions, as their names tell; the package's own stands between the first two
LOOPS: dict[str, Loops] = {
    "wide": Loops(_wide_softmax, _wide_log_softmax, _wide_logsumexp, _wide_loss),
    "single": _narrow(_single_base, _single_exponential, _single_unit, two_floats=True),
    "shifted": _narrow(_shifted_base, _shifted_exponential, _shifted_unit, two_floats=False),
}
