r"""The target s of a row: one class, one class smoothed towards a prior, or a distribution.

With a class index y, s = (1 - eps_y) e_y + eps_y r. A given distribution t takes the place of e_y. The row's
formula needs sums over the classes (``target_sums``), and the gradient needs s_k itself (``less_target``).
With ``smooth = None`` the target is one class, and both vanish as the loop is compiled.

Here is also what a row's target looks up: its smoothing, its weight and its factor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .._rows import read_only
from ..spec import LossSpec, active
from .compiler import allocating, called_overload, helper, inlined, inlined_overload
from .relative import difference, log_relative
from .simd import WIDTH, fma, iota, least, maximum, splat, sum_lanes, where_equal
from .terms import ValueFields
from .transform import (
    Column,
    held_at,
    inside,
    load_some,
    loaded,
    masked,
    offset_of,
    per_class,
    slopes,
)

Array = NDArray[np.float64]


class Smooth(NamedTuple):
    """The smoothed or given target."""

    eps: Array  # (1,) or (K,), by target class
    prior: Array  # (1,) for uniform, or (K,); it need not sum to one
    rows: NDArray[Any]  # (N * K,) given distributions, or (0,) with class indices


class Weights(NamedTuple):
    """What multiplies a row."""

    weights: Array  # W by target class, w by row with a given distribution, or empty; log W with a gate
    factor: float  # for all rows
    factors: Array  # by row, or empty


class TargetSums(NamedTuple):
    """What the prior and the given distribution add up to: numbers, or eight lanes.

    Each is 0 where there is no such thing.
    """

    r_d: Any  # sum r_k d_k
    r_sum: Any  # sum r_k
    t_d: Any  # sum t_k d_k
    t_sum: Any  # sum t_k


class Spread(NamedTuple):
    """What multiplies the target's entries, which are then subtracted: numbers, or eight lanes."""

    prior: Any
    given: Any


_NO_ROWS, _UNIFORM = np.zeros(0), np.ones(1)


def smooth_of(spec: LossSpec, soft: NDArray[Any] | None) -> Smooth | None:
    """Return what a loop needs to know of the target, or None for plain class indices."""
    if soft is None and not active(spec.smoothing):
        return None
    prior = _UNIFORM if spec.prior is None else np.asarray(spec.prior)
    rows = _NO_ROWS if soft is None else np.ascontiguousarray(soft).reshape(-1)
    return Smooth(read_only(np.atleast_1d(np.asarray(spec.smoothing))), read_only(prior), read_only(rows))


# ---- what a row's target looks up ----


@allocating
def row_numbers(numbers):
    """Return the `Weights` and the `ValueFields` of the plain tuple that Python hands over."""
    weights, factor, factors = numbers[:3]
    return Weights(weights, factor, factors), ValueFields(*numbers[3:])


@inlined
def weight_of(weights, row, y, soft):
    """w of a row with target y, or log W where there is a gate."""
    return weights.weights[row if soft else y] if len(weights.weights) else 1.0


@inlined
def scale_of(weights, row):
    """What multiplies a row beside its weight."""
    return weights.factor * weights.factors[row] if len(weights.factors) else weights.factor


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


# ---- sums over the classes ----


def target_sums(smooth, source, chunk, peak):
    """Return the `TargetSums` of a chunk, d_k relative to ``peak``."""
    raise NotImplementedError("compiled only")


@called_overload(target_sums)
def _target_sums(smooth, source, chunk, peak):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, source, chunk, peak: TargetSums(0.0, 0.0, 0.0, 0.0)

    def sums(smooth, source, chunk, peak):
        t_d, t_sum = 0.0, 0.0
        r_d, r_sum = _moments(source, chunk, peak, smooth.prior, False)
        if len(smooth.rows):
            t_d, t_sum = _moments(source, chunk, peak, smooth.rows, True)
        return TargetSums(r_d, r_sum, t_d, t_sum)

    return sums


@helper
def _moments(source, chunk, peak, array, is_given):
    """Return sum a_k d_k and sum a_k of a chunk, where 0 * -inf is 0.

    ``array`` is the prior, over the classes that take part, or the given distributions.
    """
    m = splat(peak)
    product = total = splat(0.0)
    k, n = 0, chunk.count
    while k + WIDTH <= n:  # whole vectors by themselves: no question is asked inside
        p, a = _moment(source, inside(chunk, k, WIDTH), m, array, is_given)
        product, total = product + p, total + a
        k += WIDTH
    if k < n:
        p, a = _moment(source, inside(chunk, k, n - k), m, array, is_given)
        product, total = product + p, total + a
    return sum_lanes(product), sum_lanes(total)


@inlined
def _moment(source, classes, peak, array, is_given):
    """Return a_k d_k and a_k of up to eight classes."""
    if is_given:
        a = load_some(array, offset_of(classes), classes.count, 0.0)
    else:
        a = prior_at(source, classes, array)
    return _weighed(a, log_relative(source, classes, peak, splat(0.0))), a


@inlined
def _weighed(a, d):
    """a d: 0 for a class without mass, and at the maximum, whose share may be infinite."""
    zero = splat(0.0)
    return where_equal(a, zero, zero, where_equal(d, zero, zero, a * d))


@inlined
def prior_at(source, classes, prior):
    """The prior's entries, 0 beyond the last class and where the mask is False."""
    r = per_class(prior, classes)
    if classes.count < WIDTH:
        r = first_lanes(r, classes.count)
    return masked(source, classes, r, 0.0)


@inlined
def first_lanes(x, count):
    """x in the first ``count`` lanes, 0 in the others."""
    return where_equal(lanes_from(count), splat(0.0), x, splat(0.0))


@inlined
def lanes_from(count):
    """0 in the first ``count`` lanes, positive in the others."""
    return maximum(iota() - splat(float(count) - 0.5), splat(0.0))


def target_sums_of_rows(smooth, given, source, rows, num_classes, peak):
    """Return the `TargetSums` of eight rows; ``rows`` is a `Column` of theirs.

    ``given`` holds their distributions, eight entries a class, where there are any.
    """
    raise NotImplementedError("compiled only")


@called_overload(target_sums_of_rows)
def _target_sums_of_rows(smooth, given, source, rows, num_classes, peak):
    if isinstance(smooth, types.NoneType):

        def nothing(smooth, given, source, rows, num_classes, peak):
            return TargetSums(splat(0.0), splat(0.0), splat(0.0), splat(0.0))

        return nothing

    def sums(smooth, given, source, rows, num_classes, peak):
        r_d = r_sum = t_d = t_sum = splat(0.0)
        for k in range(num_classes):
            column = Column(rows.row, rows.count, k)
            x, low = loaded(source, column, 0.0)
            d, _ = difference(source, x, low, peak)
            r = masked(source, column, per_class(smooth.prior, column), 0.0)
            r_d, r_sum = r_d + _weighed(r, d), r_sum + r
            if len(smooth.rows):
                t = held_at(given, column, 0.0)
                t_d, t_sum = t_d + _weighed(t, d), t_sum + t
        return TargetSums(r_d, r_sum, t_d, t_sum)

    return sums


def tangent_under_prior(smooth, source, chunk, tangents, start):
    """Return sum r_k (t_k - start) of a chunk for tangents in u."""
    raise NotImplementedError("compiled only")


@called_overload(tangent_under_prior)
def _tangent_under_prior(smooth, source, chunk, tangents, start):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, source, chunk, tangents, start: 0.0

    def total(smooth, source, chunk, tangents, start):
        by_prior = splat(0.0)
        k = 0
        while k < chunk.count:
            classes = inside(chunk, k, least(WIDTH, chunk.count - k))
            by_prior += prior_at(source, classes, smooth.prior) * (
                tangent_at(source, classes, tangents) - splat(start)
            )
            k += WIDTH
        return sum_lanes(by_prior)

    return total


def tangent_under_prior_of_rows(smooth, source, rows, num_classes, start, tangents):
    """Return sum r_k (t_k - start) of eight rows; ``tangents`` holds those in u, eight entries a class."""
    raise NotImplementedError("compiled only")


@called_overload(tangent_under_prior_of_rows)
def _tangent_under_prior_of_rows(smooth, source, rows, num_classes, start, tangents):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, source, rows, num_classes, start, tangents: splat(0.0)

    def total(smooth, source, rows, num_classes, start, tangents):
        by_prior = splat(0.0)
        for k in range(num_classes):
            column = Column(rows.row, rows.count, k)
            r = masked(source, column, per_class(smooth.prior, column), 0.0)
            by_prior += r * (held_at(tangents, column, 0.0) - start)
        return by_prior

    return total


@inlined
def tangent_at(source, classes, tangents):
    """The tangent in u of up to eight classes: t du/dz, 0 where the class takes no part."""
    t = load_some(tangents, offset_of(classes), classes.count, 0.0)
    return masked(source, classes, t * slopes(source, classes), 0.0)


# ---- the target's entries ----


def less_target(smooth, classes, g, spread):
    """g less the target's entries of up to eight classes, by the factors in ``spread``."""
    raise NotImplementedError("compiled only")


@inlined_overload(less_target)
def _less_target(smooth, classes, g, spread):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, classes, g, spread: g

    def subtract(smooth, classes, g, spread):
        if spread.prior != 0.0:
            g = fma(splat(-spread.prior), per_class(smooth.prior, classes), g)
        if len(smooth.rows):
            g = fma(splat(-spread.given), load_some(smooth.rows, offset_of(classes), classes.count, 0.0), g)
        return g

    return subtract


def less_target_of_rows(smooth, given, column, g, spread):
    """g less the targets' entries of a column, by a factor a lane.

    ``given`` is as in ``target_sums_of_rows``. The products are rounded, not fused as those of long rows are.
    """
    raise NotImplementedError("compiled only")


@called_overload(less_target_of_rows)
def _less_target_of_rows(smooth, given, column, g, spread):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, given, column, g, spread: g

    def subtract(smooth, given, column, g, spread):
        g = g - spread.prior * per_class(smooth.prior, column)
        if len(smooth.rows):
            g = g - spread.given * held_at(given, column, 0.0)
        return g

    return subtract
