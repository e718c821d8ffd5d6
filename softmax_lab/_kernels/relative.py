"""What is relative to a row's maximum: differences, exponentials and logarithms, of eight logits and of one.

The shift by the maximum comes before the division by the temperature.
"""

from __future__ import annotations

import numpy as np
from numba import types

from .._twofloat import LARGEST_LOW
from .compiler import inlined, inlined_overload
from .exponential import begun_double, begun_single, finished_double, finished_single, two_product, two_sum
from .simd import absolute, fma, max_lanes, maximum, splat, where_less
from .terms import exp_difference, two_difference
from .transform import loaded, member, slope_is_one

# ---- eight logits ----


def difference(source, x, low, peak):
    """Return (x + low - peak) / T and, for float64 logits, its rounding error."""
    raise NotImplementedError("compiled only")


@inlined_overload(difference)
def _difference(source, x, low, peak):
    plain = slope_is_one(source)
    if member(source, "z").dtype != types.float64:
        if plain:
            return lambda source, x, low, peak: (x - peak, low)
        return lambda source, x, low, peak: ((x - peak) * splat(source.transform.inverse), low)
    if plain:
        return lambda source, x, low, peak: two_sum(x, splat(0.0) - peak)

    def with_temperature(source, x, low, peak):
        d, error = two_sum(x, splat(0.0) - peak)
        low = low + error
        inverse = splat(source.transform.inverse)
        q, rounding = two_product(d, inverse)
        low = fma(low, inverse, fma(d, splat(source.transform.inverse_low), rounding))
        return q, where_less(absolute(low), splat(LARGEST_LOW), low, splat(0.0))

    return with_temperature


@inlined
def exponential(z, d, low):
    """exp(d + low), in the precision that logits of z's type need."""
    return finished(z, begun(z, d, low))


def begun(z, d, low):
    """Begin with ``exponential``."""
    raise NotImplementedError("compiled only")


@inlined_overload(begun)
def _begun(z, d, low):
    if z.dtype == types.float64:
        return lambda z, d, low: begun_double(d, low)
    return lambda z, d, low: begun_single(d)


def finished(z, half):
    """Finish ``exponential``."""
    raise NotImplementedError("compiled only")


@inlined_overload(finished)
def _finished(z, half):
    if z.dtype == types.float64:
        return lambda z, half: finished_double(half)
    return lambda z, half: finished_single(half)


@inlined
def relative(source, place, peak):
    """Return (u T, exp((u T - peak) / T)) for up to eight logits."""
    x, low = loaded(source, place, -np.inf)
    d, low = difference(source, x, low, peak)
    return x, exponential(source.z, d, low)


@inlined
def relative_begun(source, place, peak):
    """Begin with the exponentials that ``relative`` returns."""
    x, low = loaded(source, place, -np.inf)
    d, low = difference(source, x, low, peak)
    return begun(source.z, d, low)


@inlined
def log_relative(source, place, peak, log_total):
    """(u T - peak) / T - log_total for up to eight logits."""
    x, low = loaded(source, place, 0.0)
    d, low = difference(source, x, low, peak)
    return less_log(source.z, d, low, log_total)


def less_log(z, d, low, log_total):
    """d + low - log_total for d <= 0.

    d itself may lie in the middle between two numbers of half precision, and log_total be too small for
    float64 to show that the difference does not: enough is taken off for the rounding to go the right way.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(less_log)
def _less_log(z, d, low, log_total):
    if z.dtype in (types.int16, types.uint16):
        return lambda z, d, low, log_total: d - maximum(d * splat(-(2.0**-50)), log_total)
    return lambda z, d, low, log_total: d + (low - log_total)


# ---- one entry, as the row's formula needs it ----


def below(source, x, low, peak):
    """Return (x + low - peak) / T of one entry, and its rounding error."""
    raise NotImplementedError("compiled only")


@inlined_overload(below)
def _below(source, x, low, peak):
    if slope_is_one(source):
        return lambda source, x, low, peak: two_difference(x, peak)

    def with_temperature(source, x, low, peak):
        d, error = two_difference(x, peak)
        inverse = source.transform.inverse
        q = d * inverse
        # the product's own rounding error, by a vector's fused multiply-add
        rounding = max_lanes(fma(splat(d), splat(inverse), splat(-q)))
        low = rounding + (low + error) * inverse + d * source.transform.inverse_low
        return q, low if abs(low) < LARGEST_LOW else 0.0

    return with_temperature


def lane_below(source, x, low, peak):
    """Return (x + low - peak) / T of eight rows' entries, and its rounding error, for logits of any type."""
    raise NotImplementedError("compiled only")


@inlined_overload(lane_below)
def _lane_below(source, x, low, peak):
    if slope_is_one(source):

        def plain(source, x, low, peak):
            d, error = two_sum(x, splat(0.0) - peak)
            return d, low + error

        return plain

    def with_temperature(source, x, low, peak):
        d, error = two_sum(x, splat(0.0) - peak)
        inverse = splat(source.transform.inverse)
        q, rounding = two_product(d, inverse)
        low = fma(low + error, inverse, fma(d, splat(source.transform.inverse_low), rounding))
        return q, where_less(absolute(low), splat(LARGEST_LOW), low, splat(0.0))

    return with_temperature


def exp_below(source, a, b):
    """exp((a - b) / T) of two maxima."""
    raise NotImplementedError("compiled only")


@inlined_overload(exp_below)
def _exp_below(source, a, b):
    if slope_is_one(source):
        return lambda source, a, b: exp_difference(a, b)

    def with_temperature(source, a, b):
        d, low = below(source, a, 0.0, b)
        e = np.exp(d)
        return e + e * low

    return with_temperature


def inverse_temperature(source):
    """1 / T."""
    raise NotImplementedError("compiled only")


@inlined_overload(inverse_temperature)
def _inverse_temperature(source):
    if slope_is_one(source):
        return lambda source: 1.0
    return lambda source: source.transform.inverse
