"""Rows: the canonical layout, and the one shifted exponential that everything in NumPy stands on.

Any array with any class axis is seen as rows (N, K); rows are worked on in blocks that fit a core's cache, in
float64, and are rounded once on the way out. No result crosses rows, so none depends on the block it was in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _twofloat
from ._twofloat import Array, divide, finite_or_zero, row_sum, small_or_zero, two_sum

#: Numbers that are kept of a row of the loss whose gradient is made later: what its exponentials are relative
#: to, the factors of its exponentials and of the prior's entries, the component at the target (the factor of
#: a given distribution's entries), and its weight w.
KEPT = 5

#: Numbers that are found of a row's part, where its classes are spread over processes: the maximum of u T,
#: the sum of the exponentials relative to it without the target's, u T at the target, and the prior's sum
#: r_k d_k and sum r_k.
PART = 5

_BLOCK = 1 << 16  # entries a block: 512 KiB of float64, so that its temporaries stay in a core's L2 cache


def as_rows(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """View ``array`` as (N, K) with the classes last; copies only where the memory order demands it."""
    if array.ndim == 2 and axis == 1:
        return array
    moved = array if axis == array.ndim - 1 else np.moveaxis(array, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """View ``array`` as one that cannot be written.

    To Numba that is a type of its own. It compiles a loop for each mix of types, and so what the loops only
    read comes to them like this, whoever made it.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def blocks(rows: int, num_classes: int) -> Iterator[slice]:
    """Yield slices over ``rows`` of about ``_BLOCK`` entries each."""
    step = max(1, _BLOCK // num_classes)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


class RowWriter:
    """Writes finished rows to an array of any axis order, each entry rounded once."""

    def __init__(self, out: NDArray[Any], axis: int) -> None:
        self._moved = np.moveaxis(out, axis, -1)
        self._flat = self._moved.reshape(-1, out.shape[axis])
        # reshape had to copy: collect the rows there, and copy them over at the end
        self._copied = not np.shares_memory(self._flat, out) and out.size > 0

    def write(self, block: slice, values: Array) -> None:
        self._flat[block] = _twofloat.round_once(values, self._flat.dtype)

    def close(self) -> None:
        if self._copied:
            self._moved[...] = self._flat.reshape(self._moved.shape)


def detached(source: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """Return ``source``, copied if writing ``out`` would overwrite entries that are still to be read.

    ``out is source`` in full is safe (each block is read before it is written); a shifted overlap is not.
    """
    if out is None or not np.may_share_memory(source, out):
        return source
    same = (
        out.__array_interface__["data"] == source.__array_interface__["data"]
        and out.strides == source.strides
    )
    return source if same else source.copy()


class Shifted(NamedTuple):
    """Rows u = peak + d with the largest entry's exponential, exactly 1, kept apart from the rest."""

    top: NDArray[np.int64]  # (n,) index of the largest entry
    peak: Array  # (n,) its value, before the division by the temperature
    d: Array  # (n, K) (u - peak) / T, two-float high part
    d_low: Array  # (n, K) its low part
    e: Array  # (n, K) exp(d + d_low), exactly 1 at top
    rest: Array  # (n,) sum of e without the top entry

    @property
    def probs(self) -> Array:
        return self.e / (1.0 + self.rest)[:, None]

    @property
    def log_normaliser(self) -> Array:
        """log sum exp(d): log1p keeps a confident row's 1e-18 that log(1 + 1e-18) would lose."""
        return np.log1p(self.rest)

    @property
    def log_probs(self) -> Array:
        return self.d + (self.d_low - self.log_normaliser[:, None])

    def others(self, index: NDArray[np.int64]) -> Array:
        """Return sum_{k != index} p_k, the true 1 - p_index, per row.

        At the top entry that is ``rest`` itself; elsewhere the top's 1 is among the others, so
        1 + (rest - e) loses no digits.
        """
        e = take(self.e, index)
        return np.where(index == self.top, self.rest, 1.0 + (self.rest - e)) / (1.0 + self.rest)


def take(rows: Array, index: NDArray[np.int64]) -> Array:
    """Return rows[i, index[i]] as (n,)."""
    return rows[np.arange(rows.shape[0]), index]


def shifted_exp(
    u: Array, u_low: Array | None = None, *, mask: NDArray[np.bool_] | None = None, temperature: float = 1.0
) -> Shifted:
    """Exponentiate rows (n, K) of float64 about their maximum, the shift's rounding error included.

    The temperature divides after the shift: z / T may overflow where (z - max) / T only tends to -inf.
    A row with NaN, with +inf, or with nothing above -inf comes out NaN.
    """
    if mask is not None:
        u = np.where(mask, u, -np.inf)
    top = np.argmax(u, axis=1)
    peak = take(u, top)
    d, d_low = two_sum(u, -peak[:, None])
    if u_low is not None:
        d_low = d_low + (u_low - take(u_low, top)[:, None])
    d_low = finite_or_zero(d_low)
    if temperature != 1.0:
        d, d_low = divide(d, d_low, temperature)
    d_low = small_or_zero(d_low)
    e = np.exp(d)
    e += e * d_low  # exp(d + d_low) to first order; d_low is at most half an ulp of d
    at_top = np.arange(len(top)), top
    e[at_top] = 0.0
    rest = row_sum(e)
    e[at_top] = np.where(np.isnan(take(d, top)), np.nan, 1.0)
    return Shifted(top, peak, d, d_low, e, np.where(np.isnan(take(d, top)), np.nan, rest))
