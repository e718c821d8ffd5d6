"""Error-free transformations: a float64 result together with its rounding error.

A *two-float* is a pair (hi, lo) whose unevaluated sum is the value. In it the logits' shift z - max(z) is
exact; its rounding alone costs other implementations over a hundred ulp. See Ogita, Rump and Oishi,
"Accurate sum and dot product", SIAM J. Sci. Comput. 26 (2005). Everything here works elementwise on float64
arrays.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Real = TypeVar("Real", bound=Any)

_SPLIT = 134217729.0  # 2**27 + 1, Veltkamp: cuts 53 bits into two halves whose products are exact

# exp(d + low) = exp(d) (1 + low) holds for small corrections only. A larger one comes from numbers so large
# (over 2**43) that their own last digit is of its size: it is dropped.
LARGEST_LOW = 2.0**-10


def two_sum(a: Real, b: Real) -> tuple[Real, Real]:
    """Return (s, e) with s = fl(a + b) and s + e = a + b exactly (Knuth), for finite a, b and s.

    Of float64 arrays, tensors and numbers alike.
    """
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _split(a: Array) -> tuple[Array, Array]:
    t = _SPLIT * a
    high = t - (t - a)
    return high, a - high


def two_product(a: Array, b: Array | float) -> tuple[Array, Array]:
    """Return (p, e) with p = fl(a b) and p + e = a b exactly (Dekker), where nothing over- or underflows."""
    b = np.asarray(b, dtype=np.float64)
    p = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    e = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    return p, finite_or_zero(e)


def divide(a: Array, a_low: Array, b: Array | float) -> tuple[Array, Array]:
    """Return the two-float quotient (a + a_low) / b for a float64 b."""
    q = a / b
    p, e = two_product(q, b)
    return q, finite_or_zero(((a - p) - e + a_low) / b)


def finite_or_zero(low: Array) -> Array:
    """Drop the correction where it is not a number.

    There the high part is infinite or NaN, and says it all.
    """
    return np.where(np.isfinite(low), low, 0.0)


def small_or_zero(low: Array) -> Array:
    """Drop a correction that is no small one, or not a number."""
    return np.where(np.abs(low) < LARGEST_LOW, low, 0.0)


def row_sum(x: Array) -> Array:
    """Sum each row of ``x`` (n, K) to (n,), with the rounding errors of all additions carried along.

    The columns are folded in halves, so the order of the additions depends on K alone. A row's sum is
    bit-identical whatever batch it stands in. Its error stays near half an ulp at a million classes.
    """
    high = x.copy()
    low = np.zeros_like(high)
    k = high.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite sum has no rounding error to carry
        while k > 1:
            half = (k + 1) // 2
            pairs = k - half  # with an odd k the middle column waits for the next round
            s, e = two_sum(high[:, :pairs], high[:, half:k])
            high[:, :pairs] = s
            low[:, :pairs] += low[:, half:k] + e
            k = half
        return np.where(np.isfinite(high[:, 0]), high[:, 0] + low[:, 0], high[:, 0])


def round_once(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round float64 to ``dtype`` with a single rounding.

    bfloat16's own cast goes through float32, and so rounds twice. Here the first rounding is one to odd: it
    keeps a sticky last bit where the cast was inexact. Then the second rounding alone counts (Boldo and
    Melquiond).
    """
    # beyond the type's range, infinity and 0 are the right roundings
    with np.errstate(over="ignore", under="ignore"):
        if dtype.kind == "f":  # bfloat16 is a kind of its own
            return x.astype(dtype)
        single = x.astype(np.float32)
    bits = single.view(np.uint32)
    inexact = np.isfinite(x) & np.isfinite(single) & (single != x)
    toward_zero = np.where(np.abs(single) > np.abs(x), bits - 1, bits)
    odd = np.where(inexact, toward_zero | 1, bits).astype(np.uint32)
    return odd.view(np.float32).astype(dtype)
