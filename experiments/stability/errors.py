"""Errors of the variants against exact values, and the bounds of the standard model.

The model is fl(x op y) = (x op y)(1 + d) with |d| <= u, after Blanchard, Higham and Higham (IMA J. Numer.
Anal. 41, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab._ulp import float_format, ulp_distance
from softmax_lab.audit.values import Exact, exact_values

from .variants import Rows, Variant, peak_of, total_of

__all__ = [
    "DTYPES",
    "LIBRARY_ERROR",
    "Bounds",
    "bounds",
    "error_table",
    "exp_range",
    "relative_error",
    "rows",
    "ulps",
    "unit_roundoff",
]


DTYPES = ("float16", "bfloat16", "float32", "float64")
# c: exp and log are within c units of roundoff, 4 ulp; NumPy's float32 exp states 2.52 ulp
LIBRARY_ERROR = 8.0


def rows(
    dtype: str, *, offset: float = 0.0, gap: float = 10.0, shape: tuple[int, int] = (8, 16), seed: int = 0
) -> Rows:
    """Return logits (N, K) of ``dtype``: the largest is ``offset``, the smallest ``gap`` below.

    Both are up to rounding.
    """
    draw, last_bits = np.random.default_rng(seed).normal(size=(2, *shape))
    below = draw - draw.max(axis=1, keepdims=True)
    z = offset - gap * below / below.min(axis=1, keepdims=True)
    # an offset added in float64 leaves float64 rows on the grid on which z - max(z) happens to be exact: fill
    # their last bits again
    return np.asarray((z * (1 + 2.0**-30 * last_bits)).astype(dtype))


def unit_roundoff(dtype: Any) -> float:
    """Return u, half the distance from 1 to the next float."""
    return float_format(dtype).eps / 2


def exp_range(dtype: Any) -> tuple[float, float, float]:
    """Return where exp overflows, where it leaves the normal numbers, and where it is rounded to 0."""
    form = float_format(dtype)
    tiniest = np.log(form.smallest) + (1 - form.bits) * np.log(2.0)  # log of the smallest subnormal number
    return float(np.log(form.largest)), float(np.log(form.smallest)), float(tiniest - np.log(2.0))


def ulps(function: str, computed: Rows, z: Rows, y: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the error of every entry, in ulp of the type of ``z``.

    It is infinite for NaN or an infinity where a number is due.
    """
    exact = exact_values(function, z, y)
    return ulp_distance(computed, exact.high, exact.low, z.dtype, exact.scale)


def relative_error(computed: Rows, exact: Exact, dtype: Any) -> NDArray[np.float64]:
    """Return |computed - exact| / |exact|.

    It is NaN where the exact value is below the normal numbers, which the model leaves out.
    """
    seen = np.abs(exact.high) >= float_format(dtype).smallest
    error = np.abs((np.asarray(computed, dtype=np.float64) - exact.high) - exact.low)
    return np.where(seen, error / np.where(seen, np.abs(exact.high), 1.0), np.nan)


def _quiet(variant: Variant, z: Rows) -> Rows:
    with np.errstate(all="ignore"):
        return variant(z)


def error_table(variants: Mapping[str, Variant], function: str, inputs: Mapping[Any, Rows]) -> pd.DataFrame:
    """Return the largest error in ulp: a row an input, a column a variant."""
    worst = {
        key: [float(ulps(function, _quiet(variant, z), z).max()) for variant in variants.values()]
        for key, z in inputs.items()
    }
    return pd.DataFrame.from_dict(worst, orient="index", columns=list(variants))


class Bounds(NamedTuple):
    """First-order bounds (N, K) on the relative error of each entry; the derivation is in chapter 2."""

    naive: NDArray[np.float64]
    division: NDArray[np.float64]
    shifted_log: NDArray[np.float64]
    lse: NDArray[np.float64]


def bounds(z: Rows, *, library_error: float = LIBRARY_ERROR) -> Bounds:
    """Bound the relative error of the variants of `SOFTMAX` on the rows ``z`` (N, K).

    Nothing may over- or underflow.

    With u the unit roundoff, c = ``library_error``, d_k = max(z) - z_k, l = lse(z) and s = sum exp(-d)::

        exp(z) / sum                (2c + K) u
        exp(z - max) / sum          (d_k + <d> + 2c + K) u                     <d> = sum_j p_j d_j <= log K
        exp((z - max) - log sum)    (d_k + <d> + 2c + K - 1 + c log s - log p_k) u
        exp(z - lse)                (|l| + <d> + 2c + K - 1 + c log s - log p_k) u
    """
    wide, c, u = z.astype(np.float64), library_error, unit_roundoff(z.dtype)
    k = z.shape[1]
    d = peak_of(wide) - wide
    log_p = sl.log_softmax(wide)
    average = total_of(np.exp(log_p) * d)
    lse = np.asarray(sl.logsumexp(wide, axis=1, keepdims=True))
    log_s = lse - peak_of(wide)
    tail = average + 2 * c + k - 1 + c * log_s - log_p
    return Bounds(
        np.full(z.shape, (2 * c + k) * u),
        (d + average + 2 * c + k) * u,
        (d + tail) * u,
        (np.abs(lse) + tail) * u,
    )
