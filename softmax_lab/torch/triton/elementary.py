r"""The elementary functions of the kernels.

Triton's own ``tl.exp`` multiplies by log2 e, rounds, and asks the hardware for a power of two. At -80 its
relative error is some thirty ulp. Here the multiple of log 2 is taken off in two exact parts, and a
polynomial does the rest. The error is below one ulp, for a dozen operations. A kernel that waits for memory
has plenty of those.

Powers are taken in float64: few members of the family need them, and those once a row.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["exp", "exp_and_expm1", "log1p", "power", "sech2_and_tanh"]


@triton.jit
def exp_and_expm1(d):
    """Return exp(d) and exp(d) - 1 for float32 d <= 0.

    The first is subnormal where it is below the normal numbers: many such terms may add up to a normal one.
    The second is good where d > -0.34.
    """
    shifted = d * 1.4426950408889634 + 12582912.0  # 1.5 * 2^23: the last bits hold the nearest integer
    n = shifted - 12582912.0
    # log 2 = 355/512 - ...: the first product is exact
    r = (d - n * 0.693359375) - n * -2.12194440054690583e-4
    # relative error 2^-28.3 on |r| <= log(2) / 2: minimax, found with Remez's exchange
    q = 0.4999999403953552 + r * (
        0.1666651964187622
        + r * (0.041668400168418884 + r * (0.00836885068565607 + r * 0.0013814321719110012))
    )
    less_one = r + r * r * q
    # 2^32 times as large until the end, so that no exponent leaves the normal numbers on the way
    lifted = ((shifted.to(tl.int32, bitcast=True) + (127 + 32)) << 23).to(tl.float32, bitcast=True)
    e = (lifted + lifted * less_one) * 2.3283064365386963e-10
    return tl.where(d < -104.0, 0.0, e), less_one


@triton.jit
def exp(d):
    """exp(d) for float32 d <= 0, subnormal where it is below the normal numbers."""
    e, _ = exp_and_expm1(d)
    return e


@triton.jit
def log1p(x):
    """log(1 + x) for float32 x >= 0."""
    u = 1.0 + x
    bits = u.to(tl.int32, bitcast=True)
    # u = 2^k (1 + f) with 1 + f about 1, from its square root of a half to that of two
    k = (bits - 0x3F3504F3) >> 23
    f = (bits - (k << 23)).to(tl.float32, bitcast=True) - 1.0
    n = k.to(tl.float32)
    # log(1 + f) = 2 artanh(s), of which f - f^2 / 2 is exact enough to be kept apart (Cody and Waite 1980)
    s = tl.div_rn(f, 2.0 + f)
    z = s * s
    tail = z * (
        0.6666666666666666
        + z * (0.4 + z * (0.2857142857142857 + z * (0.2222222222222222 + z * 0.18181818181818182)))
    )
    half = 0.5 * f * f
    low = n * -2.12194440054690583e-4 + tl.div_rn(x - (u - 1.0), u)  # what the sum 1 + x lost comes back
    result = n * 0.693359375 - ((half - (s * (half + tail) + low)) - f)
    return tl.where(x < float("inf"), result, x)  # NaN and infinity as they are


@triton.jit
def power(base, exponent):
    """Return base ^ exponent for base >= 0.

    For base 0 it is 0, with a negative exponent too; for exponent 0 it is 1. In float64: a logarithm of a few
    dozen, rounded to float32, would cost as many ulp.
    """
    result = tl.exp(exponent.to(tl.float64) * tl.log(tl.where(base > 0.0, base, 1.0).to(tl.float64))).to(
        tl.float32
    )
    result = tl.where(base == base, result, base)
    return tl.where(base == 0.0, tl.where(exponent == 0.0, 1.0, 0.0), result)


@triton.jit
def sech2_and_tanh(x):
    """1 / cosh(x)^2 and tanh(x), float32."""
    t = exp(-2.0 * tl.abs(x))
    far = (1.0 - t) / (1.0 + t)
    x2 = x * x
    # Taylor's series: the first term left out is 2e-10 of the first at 1/4
    near = x + x * x2 * (
        -0.3333333333333333
        + x2
        * (
            0.13333333333333333
            + x2 * (-0.05396825396825397 + x2 * (0.021869488536155203 - x2 * 0.008863235529902197))
        )
    )
    return 4.0 * t / ((1.0 + t) * (1.0 + t)), tl.where(tl.abs(x) < 0.25, near, tl.where(x < 0.0, -far, far))
