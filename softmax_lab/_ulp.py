"""Distances in ulp, vectorised: computed floats against exact values held as two float64 (high + low)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Format(NamedTuple):
    """Significand bits, and the smallest normal and the largest finite number, of a floating type."""

    bits: int
    smallest: float
    largest: float

    @property
    def eps(self) -> float:
        return 2.0 ** (1 - self.bits)


def float_format(dtype: Any) -> Format:
    """Return the format of a NumPy dtype, bfloat16 included (which numpy.finfo does not know)."""
    kind = np.dtype(dtype)
    if kind.name == "bfloat16":
        return Format(8, 2.0**-126, 2.0**127 * (2 - 2.0**-7))
    info = np.finfo(kind)
    return Format(info.nmant + 1, float(info.smallest_normal), float(info.max))


def ulp_distance(computed: Any, high: Array, low: Array, dtype: Any, scale: Array | None = None) -> Array:
    """Return |computed - (high + low)| in ulps of ``dtype``, elementwise.

    One ulp is the distance between neighbouring floats at the exact value, or at ``scale`` where that is
    larger: the largest term of a sum that truly cancels. It is never less than the smallest normal number: a
    result flushed to zero below it counts at most 1.

    An exact NaN or infinity must be met by the same. An exact value that overflows the type must be met by
    infinity or, from a wider type, by itself. Anything else there is infinitely far, and so is a NaN or an
    infinity in place of a finite value.
    """
    form = float_format(dtype)
    value = np.asarray(computed, dtype=np.float64)
    size = np.abs(high) if scale is None else np.maximum(np.abs(high), scale)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs((value - high) - low) / _ulp(size, low * np.sign(high), form)
    distance = np.where(np.isfinite(value), distance, np.inf)
    # an exact value rounds to infinity from halfway to the next float that there would be
    overflow = (np.abs(high) > form.largest) & (np.abs(high) >= form.largest * (1 + 2.0 ** -(form.bits + 1)))
    met = np.isinf(value) & (np.sign(value) == np.sign(high))
    distance = np.where(overflow & met, 0.0, np.where(np.isinf(high), np.inf, distance))
    return np.where(np.isnan(high), np.where(np.isnan(value), 0.0, np.inf), distance)


def spacing(values: Any, dtype: Any) -> Array:
    """Return the distance between neighbouring floats of a type at each value, at least that of 0."""
    return _ulp(np.abs(np.asarray(values, dtype=np.float64)), np.zeros(np.shape(values)), float_format(dtype))


def _ulp(size: Array, low: Array, form: Format) -> Array:
    """Return the spacing of floats at ``size``; just below a power of two (low < 0) it is the finer one."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(size), size, 1.0))
    exponent = exponent - ((mantissa == 0.5) & (low < 0))
    spacing = np.ldexp(1.0, exponent - form.bits)
    subnormal = (size < form.smallest) | ((size == form.smallest) & (low < 0))
    return np.where(subnormal, form.smallest, spacing)
