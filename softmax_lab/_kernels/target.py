r"""The target s of a row as the loops read it: one class, one class smoothed towards a prior, or a
distribution.

With a class index y, s = (1 - eps_y) e_y + eps_y r; a given distribution t takes the place of e_y. What the
row's formula needs of it are sums over the classes (``products``); what the gradient needs is s_k itself
(``less_target``). With ``smooth = None`` the target is one class and both vanish as the loop is compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .._rows import read_only
from ..spec import LossSpec, active
from .affine import load_class, load_some, log_relative, masked, slopes
from .compiler import called_overload, helper, inlined, inlined_overload
from .simd import WIDTH, fma, iota, maximum, splat, sum_lanes, where_equal

Array = NDArray[np.float64]


class Smooth(NamedTuple):
    """The smoothed or given target."""

    eps: Array  # (1,) or (K,), by target class
    prior: Array  # (1,) for uniform, or (K,); it need not sum to one
    rows: NDArray[Any]  # (N * K,) given distributions, or (0,) with class indices


_NO_ROWS, _UNIFORM = np.zeros(0), np.ones(1)


def smooth_of(spec: LossSpec, soft: NDArray[Any] | None) -> Smooth | None:
    """Return what a loop needs to know of the target, or None for plain class indices."""
    if soft is None and not active(spec.smoothing):
        return None
    prior = _UNIFORM if spec.prior is None else np.asarray(spec.prior)
    rows = _NO_ROWS if soft is None else np.ascontiguousarray(soft).reshape(-1)
    return Smooth(read_only(np.atleast_1d(np.asarray(spec.smoothing))), read_only(prior), read_only(rows))


@inlined
def _moment(affine, z, offset, held, lows, row, place, first, count, peak, array, at, is_mass):
    """Return a_k d_k and a_k of up to eight classes."""
    zero = splat(0.0)
    a = load_some(array, at, count, 0.0) if is_mass else prior_at(affine, array, row, first, count)
    d = log_relative(affine, z, offset, held, lows, place, count, peak, zero)
    # 0 also at the maximum, whose share may be infinite
    return where_equal(a, zero, zero, where_equal(d, zero, zero, a * d)), a


@helper
def _moments(affine, z, offset, held, lows, row, place, first, n, peak, array, at, is_mass):
    """Return sum a_k d_k and sum a_k of a chunk, where 0 * -inf is 0.

    The prior is taken over the classes that take part.
    """
    m = splat(peak)
    product = total = splat(0.0)
    k = 0
    while k + WIDTH <= n:  # whole vectors by themselves: no question is asked inside
        p, a = _moment(
            affine, z, offset + k, held, lows, row, place + k, first + k, WIDTH, m, array, at + k, is_mass
        )
        product, total = product + p, total + a
        k += WIDTH
    if k < n:
        p, a = _moment(
            affine, z, offset + k, held, lows, row, place + k, first + k, n - k, m, array, at + k, is_mass
        )
        product, total = product + p, total + a
    return sum_lanes(product), sum_lanes(total)


@inlined
def prior_at(affine, prior, row, first, count):
    """The prior's entries from class ``first`` on, 0 beyond ``count`` and where the mask is False."""
    r = load_class(prior, first, count)
    if count < WIDTH:
        r = first_lanes(r, count)
    return masked(affine, row, first, count, r, 0.0)


@inlined
def first_lanes(x, count):
    """x in the first ``count`` lanes, 0 in the others."""
    return where_equal(lanes_from(count), splat(0.0), x, splat(0.0))


@inlined
def lanes_from(count):
    """0 in the first ``count`` lanes, positive in the others."""
    return maximum(iota() - splat(float(count) - 0.5), splat(0.0))


def products(smooth, affine, z, row, base, first, n, held, lows, place, peak):
    """Return (sum r_k d_k, sum r_k, sum t_k d_k, sum t_k) of a chunk, d_k relative to ``peak``.

    Zeros for what is not there.
    """
    raise NotImplementedError("compiled only")


@called_overload(products)
def _products(smooth, affine, z, row, base, first, n, held, lows, place, peak):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, affine, z, row, base, first, n, held, lows, place, peak: (0.0, 0.0, 0.0, 0.0)

    def sums(smooth, affine, z, row, base, first, n, held, lows, place, peak):
        t_d, t_sum = 0.0, 0.0
        r_d, r_sum = _moments(
            affine, z, base + first, held, lows, row, place, first, n, peak, smooth.prior, 0, False
        )
        if len(smooth.rows):
            t_d, t_sum = _moments(
                affine,
                z,
                base + first,
                held,
                lows,
                row,
                place,
                first,
                n,
                peak,
                smooth.rows,
                base + first,
                True,
            )
        return r_d, r_sum, t_d, t_sum

    return sums


def weighted_sums(smooth, affine, row, base, first, n, caps, place, tangents, start):
    """Return sum r_k (t_k - start) and sum s_k (t_k - start) of a chunk for tangents in u, s the given
    distribution.
    """
    raise NotImplementedError("compiled only")


@called_overload(weighted_sums)
def _weighted_sums(smooth, affine, row, base, first, n, caps, place, tangents, start):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, affine, row, base, first, n, caps, place, tangents, start: (0.0, 0.0)

    def sums(smooth, affine, row, base, first, n, caps, place, tangents, start):
        by_prior = by_target = splat(0.0)
        k = 0
        while k < n:
            count = min(WIDTH, n - k)
            t = load_some(tangents, base + first + k, count, 0.0) * slopes(
                affine, first + k, caps, place + k, count
            )
            t = masked(affine, row, first + k, count, t, 0.0) - splat(start)
            by_prior += prior_at(affine, smooth.prior, row, first + k, count) * t
            if len(smooth.rows):
                by_target += load_some(smooth.rows, base + first + k, count, 0.0) * t
            k += WIDTH
        return sum_lanes(by_prior), sum_lanes(by_target)

    return sums


def smoothing_of(smooth, y):
    """Return (epsilon, whether a distribution is given) for a row with target y."""
    raise NotImplementedError("compiled only")


@called_overload(smoothing_of)
def _smoothing_of(smooth, y):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, y: (0.0, False)
    return lambda smooth, y: (smooth.eps[y if len(smooth.eps) > 1 else 0], len(smooth.rows) > 0)


def prior_of(smooth, y, r_sum):
    """r_y, normalised."""
    raise NotImplementedError("compiled only")


@called_overload(prior_of)
def _prior_of(smooth, y, r_sum):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, y, r_sum: 0.0
    return lambda smooth, y, r_sum: smooth.prior[y if len(smooth.prior) > 1 else 0] / r_sum


def less_target(smooth, affine, row, base, first, count, g, r_factor, t_factor):
    """g - r_factor r_k - t_factor t_k for up to eight classes from ``first`` on."""
    raise NotImplementedError("compiled only")


@inlined_overload(less_target)
def _less_target(smooth, affine, row, base, first, count, g, r_factor, t_factor):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, affine, row, base, first, count, g, r_factor, t_factor: g

    def subtract(smooth, affine, row, base, first, count, g, r_factor, t_factor):
        if r_factor != 0.0:
            g = fma(splat(-r_factor), load_class(smooth.prior, first, count), g)
        if len(smooth.rows):
            g = fma(splat(-t_factor), load_some(smooth.rows, base + first, count, 0.0), g)
        return g

    return subtract
