"""Arithmetic that keeps its digits in one floating type, without a wider one: float32 has none without x64.

A *two-float* is a pair (high, low) whose unevaluated sum is the value. XLA does not reassociate sums of two
variables. But a compiler may fuse a product with a sum. So halves of factors are made by
``reduce_precision``: their products are exact, fused or not. Everything is plain operations, which each
backend has; no 64-bit integer is among them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

__all__ = ["divide", "exponential", "log1p", "origin", "row_sum", "sum_of_all", "two_sum", "whole_power"]

LARGEST_LOW = 2.0**-10  # a larger low part belongs to numbers that have no digits of its size


class _Format(NamedTuple):
    """What the functions below need to know of a floating type."""

    half: tuple[int, int]  # exponent and mantissa bits of a number whose products with its like are exact
    smallest_exponent: int  # powers of two below this are flushed to zero
    far: float  # from numbers so large, all that the exponential tells apart has an exact difference
    ln2: tuple[float, float]  # the logarithm of 2; multiples of the first are exact
    exponential: tuple[float, ...]  # exp(r) = 1 + r + r^2 P(r), highest power first
    artanh: tuple[float, ...]  # artanh(x) = x + x^3 P(x^2), highest power first


# 60 digits of log 2
_LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254120680")


def _format(
    half: tuple[int, int], smallest_exponent: int, far: float, ln2_bits: int, terms: int, odd: int
) -> _Format:
    high = Fraction(int(_LN2 * 2**ln2_bits), 2**ln2_bits)
    taylor = tuple(1.0 / math.factorial(n) for n in range(terms, 1, -1))
    artanh = tuple(1.0 / n for n in range(odd, 1, -2))
    return _Format(half, smallest_exponent, far, (float(high), float(_LN2 - high)), taylor, artanh)


_FORMATS = {
    "float32": _format((8, 11), -126, 220.0, 15, 7, 11),
    "float64": _format((11, 25), -1022, 1600.0, 40, 14, 25),
}


def _of(x: Array) -> _Format:
    return _FORMATS[x.dtype.name]


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return (s, e) with s = fl(a + b) and s + e = a + b exactly (Knuth); e is 0 where s is not finite."""
    s = a + b
    t = s - a
    return s, _finite_or_zero((a - (s - t)) + (b - t))


def divide(a: Array, a_low: Array, b: Array) -> tuple[Array, Array]:
    """Return the two-float quotient (a + a_low) / b.

    Of the remainder a - q b only products of halves are formed, which are exact.
    """
    q = a / b
    (q_high, q_low), (b_high, b_low) = _split(q), _split(b)
    remainder = ((a - q_high * b_high) - q_high * b_low - q_low * b_high) - q_low * b_low
    return q, _finite_or_zero((remainder + a_low) / b)


def _split(x: Array) -> tuple[Array, Array]:
    high = lax.reduce_precision(x, *_of(x).half)
    return high, x - high


def _finite_or_zero(low: Array) -> Array:
    return jnp.where(jnp.isfinite(low), low, 0.0)


def origin(peak: Array) -> Array:
    """Return what rows with this maximum are counted from: 0, or the maximum where that is large.

    Either way the difference of an entry from it is exact (Sterbenz), or its exponential is flushed to zero.
    """
    return jnp.where(jnp.abs(peak) > _of(peak).far, peak, 0.0)


def whole_power(x: Array) -> Array:
    """Return the whole n for which 2^n is nearest to exp(x)."""
    return jnp.round(x * (1.0 / math.log(2.0)))


def exponential(x: Array, low: Array | None = None, *, exponent: Any = 0.0) -> Array:
    """Return 2^exponent exp(x + low), to about 0.8 ulp; 0 where it is no normal number.

    ``x`` is at most twice the distance from which numbers are far, and the exponent a whole number for which
    the result is finite.

    A backend may flush subnormal numbers, though many of them add up to a normal one: a sum of such terms is
    lifted, and brought down as a whole. Of a backend's own exponential some digits may be missing. With n the
    nearest whole number to x / log 2 it is 2^n exp(r), where r is small and exact but for its last rounding.
    """
    form = _of(x)
    n = whole_power(x)
    tail = (
        -n * form.ln2[1] if low is None else jnp.where(jnp.abs(low) < LARGEST_LOW, low, 0.0) - n * form.ln2[1]
    )
    r = (x - n * form.ln2[0]) + tail
    series = jnp.full_like(r, form.exponential[0])
    for coefficient in form.exponential[1:]:
        series = series * r + coefficient
    power = 1.0 + (r + (r * r) * series)
    return jnp.where(n + exponent < form.smallest_exponent, 0.0, power * _power_of_two(n, exponent))


def _power_of_two(n: Array, exponent: Any) -> Array:
    """Return 2^(n + exponent) for whole numbers, where it is normal.

    From a float32's exponent bits, and by squares in the range of float64.
    """
    if n.dtype == jnp.float32:
        # of 3 2^22 + i the last bits are those of i, and no conversion is needed
        bits = lax.bitcast_convert_type(n + (exponent + (_WHOLE + 127.0)), jnp.int32) << 23
        return lax.bitcast_convert_type(bits, jnp.float32)
    whole = (n + exponent).astype(jnp.int32)
    sixteenth = -jnp.floor_divide(-whole, 16)  # rounded up: no power on the way is below the smallest normal
    result = _single_power_of_two(sixteenth).astype(n.dtype)
    for _ in range(4):
        result = result * result
    return result * _single_power_of_two(whole - 16 * sixteenth).astype(n.dtype)


_WHOLE = 3.0 * 2.0**22


def _single_power_of_two(n: Array) -> Array:
    bits = (jnp.clip(n, -126, 127) + 127) << 23
    return lax.bitcast_convert_type(bits, jnp.float32)


def log1p(x: Array) -> Array:
    """Return log(1 + x) for x >= 0, to about one ulp.

    1 + x = 2^n (1 + f), where f = x for small x and loses no digit elsewhere. With s = f / (2 + f) it is
    n log 2 + 2 artanh s (fdlibm has this form).
    """
    form = _of(x)
    bits = lax.bitcast_convert_type((1.0 + x).astype(jnp.float32), jnp.int32)
    # 1 + f lies between sqrt(1/2) and sqrt(2)
    exponent = (bits - _ROOT_HALF) >> 23
    exponent = jnp.where(jnp.isfinite(x), jnp.clip(exponent, 0, 126), 0)
    scale = _single_power_of_two(-exponent).astype(x.dtype)
    f = jnp.where(exponent == 0, x, x * scale - (1.0 - scale))
    s = f / (2.0 + f)
    z = s * s
    series = jnp.zeros_like(z)
    for coefficient in form.artanh:
        series = series * z + coefficient
    half_square = 0.5 * f * f
    n = exponent.astype(x.dtype)
    tail = s * (half_square + 2.0 * z * series)
    small = f - (half_square - tail)
    large = n * form.ln2[0] - ((half_square - (tail + n * form.ln2[1])) - f)
    found = jnp.where(exponent == 0, small, large)
    return jnp.where(jnp.isfinite(x), found, x)


_ROOT_HALF = int(np.float32(math.sqrt(0.5)).view(np.int32))


def row_sum(x: Array) -> Array:
    """Sum rows (n, K) to (n,).

    The backend's own sum, which does not drift with K: today's add in many lanes and blocks, and a test
    says so. It is an order of magnitude faster than sums that carry their rounding errors along.
    """
    return jnp.sum(x, axis=1)


def sum_of_all(x: Array) -> Array:
    """Return the sum of a vector, as :func:`row_sum` adds."""
    return row_sum(x[None, :])[0]
