"""The exponential of the loops, on every argument that rows of 16 and 32 bits can ask for.

Its argument is a difference d = x - max(x) <= 0. It is tried on every float32 in [-104, 0], on every multiple
of 2^-24 there (all differences of two float16 are among them), and on the difference of every pair of
bfloat16. A difference of two float32 can have more digits than a float32, so it is also tried on 2^30
differences of random pairs. Below -104 all count as 0.

The sixteen lanes of float32 take the logit itself. They are tried on every float32 that they are used for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
from numba import njit

from softmax_lab._kernels import exponential, simd

from .tally import PIECE, UNSURE, Array, Check, Tally, is_nearest, pieces_of

_simd: Any = simd  # its functions have the compiler's arguments

LOWEST = -104.0  # exp of it is below half the smallest float32


@njit(nogil=True)
def _exponentials(d: Any, e: Any) -> None:
    """The loops' exponential of whole vectors."""
    for k in range(0, len(d), simd.WIDTH):
        simd.store(e, k, exponential.single(simd.load(d, k)))  # type: ignore[call-arg]


@njit(nogil=True)
def _compare(d: Any, e: Any, unsure: Any) -> tuple[int, float, float, int]:
    """Return how many of e, rounded to float32, are not exp(d) rounded.

    Return also the largest relative error, its d, and how many are unsure.
    """
    misrounded, worst, where, found = 0, 0.0, 0.0, 0
    for i in range(len(d)):
        exact = math.exp(d[i])
        rounded = np.float32(exact)
        if np.float32(exact * (1 - UNSURE)) != np.float32(exact * (1 + UNSURE)):
            unsure[found] = i
            found += 1
        elif np.float32(e[i]) != rounded:
            misrounded += 1
        if exact >= 2.0**-150 and abs(e[i] - exact) > worst * exact:
            worst, where = abs(e[i] - exact) / exact, d[i]
    return misrounded, worst, where, found


def check_exponentials(d: Array) -> dict[str, Tally]:
    """Compare the loops' exponential with the C library's, relative to the result."""
    count = len(d)
    whole = np.zeros(-(-count // simd.WIDTH) * simd.WIDTH)
    whole[:count] = d
    e, unsure = np.empty_like(whole), np.empty(count, np.int64)
    _exponentials(whole, e)
    misrounded, worst, where, found = _compare(d, e, unsure)
    for i in unsure[:found]:
        with mpmath.workprec(200):
            misrounded += not is_nearest(np.float32(e[i]), mpmath.exp(mpmath.mpf(float(d[i]))))
    return {"exp": Tally(count, count, misrounded, 0, worst, repr(float(where)))}


@njit(nogil=True)
def _exponentials_in_singles(z: Any, e: Any, d: Any) -> None:
    """Exponentials of whole vectors in sixteen lanes, and what they are relative to the power near each."""
    for k in range(0, len(z), _simd.SINGLES):
        peak = max(z[k], z[k + _simd.SINGLES - 1])
        x = _simd.load_singles(z, k)
        high, low, power = exponential.parts(x, exponential.base_of(peak))
        highs, lows = _simd.widened(high * power), _simd.widened(low * power)
        scale = _simd.splat(2.0**-exponential.REACH)
        _simd.store(e, k, (highs[0] + lows[0]) * scale)
        _simd.store(e, k + _simd.WIDTH, (highs[1] + lows[1]) * scale)
        n = exponential.power_near(peak)
        for i in range(k, k + _simd.SINGLES):
            d[i] = (np.float64(z[i]) - n * exponential.LOG_2_HIGH) - n * exponential.LOG_2_LOW


def check_singles(z: Array) -> dict[str, Tally]:
    """Compare the exponentials in sixteen lanes with the C library's; ``z`` are whole vectors of float32."""
    e, d, unsure = np.empty(len(z)), np.empty(len(z)), np.empty(len(z), np.int64)
    _exponentials_in_singles(z, e, d)
    misrounded, worst, where, found = _compare(d, e, unsure)
    for i in unsure[:found]:
        with mpmath.workprec(200):
            misrounded += not is_nearest(np.float32(e[i]), mpmath.exp(mpmath.mpf(float(d[i]))))
    return {"exp in sixteen lanes": Tally(len(z), len(z), misrounded, 0, worst, repr(float(where)))}


_LARGEST_BITS = int(np.float32(exponential.LARGEST).view(np.uint32))


def _every_logit(piece: int) -> Array:
    """Float32 numbers from 0 upwards and from -0 downwards, by their bits, in whole vectors."""
    half = pieces_of(_LARGEST_BITS)
    start, sign = (piece % half) * PIECE, piece // half
    bits = np.arange(start, min(start + PIECE, _LARGEST_BITS), dtype=np.uint32)
    return (bits | np.uint32(sign << 31)).view(np.float32)


def _float32(piece: int) -> Array:
    """Float32 numbers from -0 downwards, by their bits."""
    stop = int(np.float32(LOWEST).view(np.uint32)) + 1
    start = (1 << 31) + piece * PIECE
    return np.arange(start, min(start + PIECE, stop), dtype=np.uint32).view(np.float32).astype(np.float64)


_FLOAT32_COUNT = int(np.float32(LOWEST).view(np.uint32)) + 1 - (1 << 31)


def _float16_grid(piece: int) -> Array:
    """Multiples of 2^-24, the smallest float16, from 0 downwards."""
    start = piece * PIECE
    return np.arange(start, min(start + PIECE, _GRID_COUNT), dtype=np.float64) * -(2.0**-24)


_GRID_COUNT = int(-LOWEST * 2**24) + 1
_PEAKS = 32


@cache
def _bfloat16() -> Array:
    """Every finite bfloat16, ascending."""
    with np.errstate(invalid="ignore"):
        every = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float64)
    return np.sort(every[np.isfinite(every)])


_BFLOAT16_COUNT = 2 * 255 * 128


def _bfloat16_differences(piece: int) -> Array:
    """x - peak for some peaks and every x that is not above, nor out of reach of the exponential."""
    x = _bfloat16()
    parts = []
    for peak in x[piece * _PEAKS : (piece + 1) * _PEAKS]:
        first, last = np.searchsorted(x, peak + LOWEST), np.searchsorted(x, peak, side="right")
        parts.append(x[first:last] - peak)
    return np.concatenate(parts)


def _float32_differences(piece: int) -> Array:
    """x - peak of random float32: any magnitude of the difference up to 104, any of the peak up to 1024."""
    rng = np.random.default_rng([20260101, piece])
    high = (np.float32(-LOWEST).view(np.uint32), np.float32(1024).view(np.uint32))
    gap, peak = (rng.integers(0, n, PIECE, dtype=np.uint32).view(np.float32) for n in high)
    peak *= rng.choice(np.array([-1, 1], np.float32), PIECE)
    d = (peak - gap).astype(np.float64) - peak
    return d[d >= LOWEST]


def _exponential(arguments: str, pieces: int, make: Callable[[int], Array]) -> Check:
    return Check("exponential", arguments, "relative", pieces, lambda piece: check_exponentials(make(piece)))


EXPONENTIALS: dict[str, Check] = {
    "float32": _exponential("every float32 in [-104, 0]", pieces_of(_FLOAT32_COUNT), _float32),
    "float16 differences": _exponential(
        "every multiple of 2^-24 in [-104, 0]", pieces_of(_GRID_COUNT), _float16_grid
    ),
    "bfloat16 differences": _exponential(
        "every pair of bfloat16", pieces_of(_BFLOAT16_COUNT, _PEAKS), _bfloat16_differences
    ),
    "float32 differences": _exponential("random pairs of float32", 1024, _float32_differences),
    "float32 in sixteen lanes": Check(
        "exponential",
        "every float32 between -8192 and 8192",
        "relative",
        2 * pieces_of(_LARGEST_BITS),
        lambda piece: check_singles(_every_logit(piece)),
    ),
}
