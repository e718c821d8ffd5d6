r"""exp, log1p, powers and tanh on eight lanes, for what a row of softmax needs.

The exponential takes arguments at most 0 that come from a row's shift.

With n the integer nearest to d log2(e) and r = d - n log 2, |r| <= log(2)/2,

.. math:: e^d = 2^n e^r, \qquad e^r = 1 + r\,Q(r) \text{ (single)}, \quad 1 + r + r^2 P(r) \text{ (double)}.

Adding 1.5 * 2^52 leaves n in the low bits of the sum, from where it is added to the exponent of e^r: no
conversion. The polynomials are Chebyshev fits (``coefficients`` recomputes them; a test compares). exp(0) is
exactly 1.

``parts`` is for float32 in sixteen lanes, and returns a sum of two floats. It takes the logit itself, not its
distance from the maximum: r = z - n log 2 is then exact, where the distance would be rounded. The row's
power of two is taken off the exponent instead.

``single`` is for logits of float32: its argument is exact in float64, and its error of 2^-33 is far below an
ulp of the result's type. ``double`` takes the rounding error of the shift along and stays within an ulp of
float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._extras import load
from .compiler import inlined
from .simd import (
    absolute,
    exponent,
    fma,
    mantissa,
    maximum,
    power_of_two,
    scale_exponent,
    splat,
    splat_single,
    where_less,
    where_ordered,
    with_sign,
)

LOG2_E = 1.4426950408889634
LOG_2 = 0.6931471805599453
# fdlibm's split: n times the high part is exact
LOG_2_HIGH, LOG_2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
MAGIC = 1.5 * 2.0**52

# highest power first
Q = (
    0.00019899285575896282,
    0.0013941118895837,
    0.00833329846980059,
    0.04166635277111221,
    0.16666666719028936,
    0.5000000047146057,
    1.0,
)
P = (
    2.0914686968086876e-09,
    2.5105217004720745e-08,
    2.75572736431103e-07,
    2.7557255400206422e-06,
    2.4801587325547743e-05,
    0.00019841269874820627,
    0.0013888888888883748,
    0.008333333333326136,
    0.04166666666666667,
    0.1666666666666667,
    0.5,
)

# e^r = 1 + r + r^2 P(r) again, for results of float32: to 2^-28 of e^r
P_SINGLE = (
    0.0013814540579915047,
    0.00836874544620514,
    0.04166838899254799,
    0.1666652113199234,
    0.4999999403953552,
)

# 2 atanh(s) = 2 s + s^3 A(s^2), highest power first: log on [sqrt(1/2), sqrt(2)), |s| <= 0.1716
A = (
    0.13088034850927555,
    0.13268638369266825,
    0.15386244737621665,
    0.18181795547521137,
    0.22222222392581045,
    0.28571428570799784,
    0.40000000000000885,
    0.6666666666666666,
)

# the same for results of narrower types, to 2^-35 of the logarithm
A_SINGLE = (0.23331614471843498, 0.28550778633191964, 0.4000012221181065, 0.6666666655404201)

# below these exp counts as 0: half the smallest float32 there is, and the smallest normal float64
LOWEST_SINGLE = -103.97207708399179  # log 2^-150
LOWEST_DOUBLE = -708.39641853226408  # log 2^-1022


# log 2 as a sum of two floats of float32, and what leaves n in the low bits of a float32
LOG_2_SINGLE = 0.693147182464599609375
LOG_2_REST = LOG_2 - LOG_2_SINGLE
MAGIC_SINGLE = 1.5 * 2.0**23

# What ``parts`` returns is 2^REACH times too large: so much smaller may an exponential be before it is lost.
REACH = 24
# Of larger logits n log 2 has no digits left: 2^13 times the error of LOG_2_SINGLE + LOG_2_REST is 2^-39.
LARGEST = 2.0**13


def log_coefficients(degree: int) -> list[float]:
    """Fit (2 atanh(s) - 2 s) / s^3 as a polynomial in s^2, highest power first."""
    mpmath = load("mpmath", "the coefficients are fitted with mpmath")
    with mpmath.workdps(50):
        most = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2 * mpmath.mpf("1.001")

        def rest(w: Any) -> Any:
            s = mpmath.sqrt(w)
            return (
                mpmath.mpf(2) / 3 + 2 * w / 5
                if w < mpmath.mpf(10) ** -15
                else (2 * mpmath.atanh(s) - 2 * s) / (s * w)
            )

        return [float(c) for c in mpmath.chebyfit(rest, [0, most], degree + 1)]


def coefficients(degree: int, terms: int) -> list[float]:
    """Fit (e^r - the first ``terms`` terms of its series) / r^terms on |r| <= log(2)/2.

    The highest power comes first.
    """
    mpmath = load("mpmath", "the coefficients are fitted with mpmath")
    with mpmath.workdps(50):
        half = mpmath.log(2) / 2 * mpmath.mpf("1.0001")

        def rest(r: Any) -> Any:
            if abs(r) < mpmath.mpf(10) ** -15:
                return 1 / mpmath.factorial(terms) + r / mpmath.factorial(terms + 1)
            return (mpmath.exp(r) - mpmath.fsum(r**k / mpmath.factorial(k) for k in range(terms))) / r**terms

        return [float(c) for c in mpmath.chebyfit(rest, [-half, half], degree + 1)]


def single_coefficients(degree: int) -> list[float]:
    """Fit (e^r - 1 - r) / r^2 so that the largest error of e^r, relative to it, is least; |r| <= log(2)/2.

    The highest power comes first. Lawson's iteration weighs the points by their errors (C. L. Lawson, 1961).
    """
    half = LOG_2 / 2 * 1.0005
    r = half * np.cos(np.linspace(0, np.pi, 4000))  # an even number: 0 is not among them
    matters = r**2 / np.exp(r)
    powers, wanted = np.vander(r, degree + 1) * matters[:, None], (np.expm1(r) - r) / np.exp(r)
    weights = np.ones_like(r)
    for _ in range(400):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(powers * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(powers @ found - wanted)
        weights *= error / error.max() + 1e-9
        weights /= weights.sum()
    return [float(np.float32(c)) for c in found]


class Begun(NamedTuple):
    """An exponential of eight lanes up to its power of two: what is left is a polynomial."""

    d: Any
    t: Any  # n in its low bits
    r: Any  # d - n log 2


@inlined
def begun_single(d):
    """Begin with ``single``."""
    t = fma(d, splat(LOG2_E), splat(MAGIC))
    return Begun(d, t, fma(t - splat(MAGIC), splat(-LOG_2), d))


@inlined
def finished_single(begun):
    """Finish ``single``."""
    q = splat(Q[0])
    for c in Q[1:]:
        q = fma(q, begun.r, splat(c))
    e = scale_exponent(fma(q, begun.r, splat(1.0)), begun.t)
    return where_less(begun.d, splat(LOWEST_SINGLE), splat(0.0), e)


@inlined
def single(d):
    """exp(d) for d <= 0 with relative error below 2^-33; 0 where float32 has none so small."""
    return finished_single(begun_single(d))


class Base(NamedTuple):
    """The power of two 2^N near the maximum's exponential: those of sixteen lanes are relative to it."""

    floor: Any  # singles: a logit below it has the exponential 0
    magic: Any  # singles: added to n, it leaves n - N + REACH + 127 in the low bits


@inlined
def base_of(peak):
    """Return the `Base` for logits of at most ``peak``, whose size is at most LARGEST."""
    lowest = power_near(peak) - (REACH + 127.0)
    return Base(splat_single(lowest * LOG_2), splat_single(MAGIC_SINGLE - lowest))


@inlined
def power_near(peak):
    """N: the integer nearest to peak / log 2."""
    return math.floor(peak * LOG2_E + 0.5)


class Reduced(NamedTuple):
    """Logits z as r + n log 2, |r| <= log(2)/2."""

    r: Any  # of log 2 in one float: of the rest's product with n nothing is in it
    n: Any
    power: Any  # 2^(n - N + REACH), 0 where that is too small


@inlined
def reduced(z, base):
    """Return the first half of ``parts``: `Reduced`. NaN stays NaN."""
    z = maximum(base.floor, z)
    t = fma(z, splat_single(LOG2_E), base.magic)
    n = t - base.magic
    return Reduced(fma(n, splat_single(-LOG_2_SINGLE), z), n, power_of_two(t))


@inlined
def parts_of_reduced(r, n):
    """Return the second half of ``parts``, (high, low): e^(r + n log 2), less the n log 2 in one float."""
    rounded = fma(n, splat_single(-LOG_2_REST), r)
    p = splat_single(P_SINGLE[0])
    for c in P_SINGLE[1:]:
        p = fma(p, rounded, splat_single(c))
    high = splat_single(1.0) + r
    low = fma(rounded * rounded, p, r - (high - splat_single(1.0)))
    return high, fma(n, splat_single(-LOG_2_REST), low)


@inlined
def parts(z, base):
    """Return (high, low, power): exp(z) / 2^(N - REACH) is (high + low) power, to about 2^-26.

    ``high`` is 1 + r rounded, with |r| <= log(2)/2, and ``power`` is a power of two. NaN stays NaN.
    """
    half = reduced(z, base)
    high, low = parts_of_reduced(half.r, half.n)
    return high, low, half.power


@inlined
def begun_double(d, low):
    """Begin with ``double``."""
    t = fma(d, splat(LOG2_E), splat(MAGIC))
    n = t - splat(MAGIC)
    return Begun(d, t, fma(n, splat(-LOG_2_LOW), fma(n, splat(-LOG_2_HIGH), d)) + low)


@inlined
def finished_double(begun):
    """Finish ``double``."""
    d, r, p = begun.d, begun.r, splat(P[0])
    for c in P[1:]:
        p = fma(p, r, splat(c))
    e = scale_exponent(splat(1.0) + fma(p * r, r, r), begun.t)
    e = where_less(d, splat(LOWEST_DOUBLE), splat(0.0), e)
    return where_ordered(d, d, e, d)  # the bits of a NaN's payload would upset the exponent


@inlined
def double(d, low):
    """exp(d + low) for d <= 0 and |low| <= ulp(d)/2; 0 below the smallest normal float64, NaN for NaN."""
    return finished_double(begun_double(d, low))


@inlined
def log1p(x):
    """log(1 + x) for x >= 0 within an ulp or so.

    The rounding error of 1 + x is taken along, NaN stays NaN.
    """
    u = splat(1.0) + x
    t = u - splat(1.0)
    error = (splat(1.0) - (u - t)) + (x - t)
    n, f = exponent(u), mantissa(u) - splat(1.0)
    s = f / (splat(2.0) + f)
    w = s * s
    a = splat(A[0])
    for c in A[1:]:
        a = fma(a, w, splat(c))
    half_square = splat(0.5) * f * f
    tail = fma(s, fma(w, a, half_square), fma(n, splat(LOG_2_LOW), error / u))
    # where u rounds to 1, n and f are 0 and the error is x itself
    result = fma(n, splat(LOG_2_HIGH), f - (half_square - tail))
    return where_ordered(x, x, result, x)


@inlined
def two_sum(a, b):
    """a + b and its rounding error (Knuth), 0 where the sum is not finite."""
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    return s, where_ordered(error, error, error, splat(0.0))


@inlined
def two_product(a, b):
    """a b and its rounding error, 0 where the product is not finite."""
    p = a * b
    error = fma(a, b, splat(0.0) - p)
    return p, where_ordered(error, error, error, splat(0.0))


@inlined
def log(x):
    """log x of normal x > 0 as a sum of two floats, within 2^-56 of the result; NaN stays NaN.

    The mantissa is (1 + s) / (1 - s), with s as two floats. Of 2 atanh(s) = 2 s + s^3 A(s^2) the second
    summand is at most a hundredth.
    """
    n, f = exponent(x), mantissa(x) - splat(1.0)
    b = splat(2.0) + f
    b_low = f - (b - splat(2.0))
    s = f / b
    s_low = (fma(splat(0.0) - s, b, f) - s * b_low) / b
    w = s * s
    a = splat(A[0])
    for c in A[1:]:
        a = fma(a, w, splat(c))
    # n times the high part is exact, and no smaller than 2 s where it is not 0
    high, error = two_sum(n * splat(LOG_2_HIGH), splat(2.0) * s)
    low = error + fma(n, splat(LOG_2_LOW), fma(s * w, a, splat(2.0) * s_low))
    total = high + low
    return where_ordered(x, x, total, x), low - (total - high)


@inlined
def log_single(x):
    """log x of normal x > 0 within 2^-35 of the result; it is any number where x is not of this kind."""
    n, f = exponent(x), mantissa(x) - splat(1.0)
    s = f / (splat(2.0) + f)
    w = s * s
    first, second = (
        fma(splat(A_SINGLE[0]), w, splat(A_SINGLE[1])),
        fma(splat(A_SINGLE[2]), w, splat(A_SINGLE[3])),
    )
    a = fma(first, w * w, second)
    return fma(n, splat(LOG_2), fma(s * w, a, s + s))


@inlined
def power(x, p, p_low):
    """x^(p + p_low) of 0 < x <= 1, for a result in the range of normal numbers, else 0.

    The logarithm and the exponent are two floats: in one the error of p log x would be that of the result.
    """
    high, low = log(x)
    d, error = two_product(high, p)
    return double(d, fma(low, p, fma(high, p_low, error)))


@inlined
def tanh(x):
    """Return tanh x as a sum of two floats, and 1 - tanh^2 x.

    They come from e = exp(-2|x|) and e - 1, neither by a lossy subtraction. Of
    e - 1 = (2^n - 1) + 2^n (e^r - 1) the first term is exact, so that the error is that of the second alone.
    """
    d = splat(-2.0) * absolute(x)
    t = fma(d, splat(LOG2_E), splat(MAGIC))
    n = t - splat(MAGIC)
    r = fma(n, splat(-LOG_2_LOW), fma(n, splat(-LOG_2_HIGH), d))
    p = splat(P[0])
    for c in P[1:]:
        p = fma(p, r, splat(c))
    lowest, zero, one, two = splat(LOWEST_DOUBLE), splat(0.0), splat(1.0), splat(2.0)
    power = where_less(d, lowest, zero, scale_exponent(one, t))
    rest = where_less(d, lowest, zero, fma(p * r, r, r))
    e = fma(power, rest, power)
    a, a_low = two_sum(power - one, power * rest)
    b, b_low = two_sum(two, a)
    high = a / b
    low = (fma(zero - high, b, a) - high * (b_low + a_low) + a_low) / b
    slope = splat(4.0) * e / ((one + e) * (one + e))
    high, low = with_sign(high, x), where_less(x, zero, low, zero - low)
    return where_ordered(x, x, high, x), where_ordered(x, x, low, zero), where_ordered(x, x, slope, x)


@inlined
def tanh_single(x):
    """Return (tanh x, 1 - tanh^2 x) with relative errors near 2^-32.

    This is for logits narrower than float64, and takes one division.
    """
    d = maximum(splat(-700.0), splat(-2.0) * absolute(x))  # a slope of e^-700 is 0 in every narrower type
    t = fma(d, splat(LOG2_E), splat(MAGIC))
    r = fma(t - splat(MAGIC), splat(-LOG_2), d)
    q = splat(Q[0])
    for c in Q[1:]:
        q = fma(q, r, splat(c))
    power = scale_exponent(splat(1.0), t)
    e_minus_one = fma(power, q * r, power - splat(1.0))
    inverse = splat(1.0) / (splat(2.0) + e_minus_one)
    value = with_sign(e_minus_one * inverse, x)
    slope = splat(4.0) * fma(power, q * r, power) * inverse * inverse
    return where_ordered(x, x, value, x), where_ordered(x, x, slope, x)
