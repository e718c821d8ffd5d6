"""Loops that multiply by a derivative: the softmax's Jacobian, and the Hessian of the loss.

Both are sums over t_k - q.t, taken relative to the tangent at the row's most probable class. There nothing is
lost, since q.t - t_top sums the other classes only. Chunks and their merging are those of ``long_rows``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types

from .compiler import allocating, compiled, helper, inlined, inlined_overload
from .exponential import two_sum
from .long_rows import (
    Row,
    chunk_of,
    chunks_of,
    exponentials,
    fill,
    held_again,
    held_of,
    is_whole,
    reference,
    shared_peak,
    total_of,
)
from .relative import below, exp_below, inverse_temperature
from .simd import (
    WIDTH,
    entry,
    fma,
    iota,
    least,
    max_lanes,
    maximum,
    put,
    scratch,
    splat,
    sum_lanes,
    where_equal,
)
from .singles import Ahead
from .target import (
    Array,
    Spread,
    less_target,
    prior_of,
    row_numbers,
    scale_of,
    smoothing_of,
    tangent_at,
    tangent_under_prior,
    target_sums,
    weight_of,
)
from .terms import (
    SoftSums,
    Sums,
    Tangent,
    product_terms,
    row_terms,
    soft_product_terms,
    soft_terms,
)
from .transform import (
    Classes,
    Source,
    curvature,
    inside,
    load_some,
    loaded,
    offset_of,
    slopes,
    source_of,
    store_some,
    target_of,
    through,
    transformed,
)


def add(z, total, error, x):
    """(total + x, error) for x of either sign: the rounding errors come along for float64."""
    raise NotImplementedError("compiled only")


@inlined_overload(add)
def _add(z, total, error, x):
    if z.dtype == types.float64:

        def with_error(z, total, error, x):
            s, low = two_sum(total, x)
            return s, error + low

        return with_error
    return lambda z, total, error, x: (total + x, error)


@compiled
def softmax_product(p, out, streaming, tangents, sums, inverse, num_classes, start, stop):
    """p (t - p.t) / T of rows start ... stop - 1 of flat arrays, to out, which may be either.

    ``sums`` (N,) gets the sum of each row's probabilities, or -1 where one of them is negative.
    """
    m, zero = splat(inverse), splat(0.0)
    for row in range(start, stop):
        base, n = row * num_classes, num_classes
        peak = low = splat(-np.inf)
        total = error = zero
        k = 0
        while k < n:
            x = load_some(p, base + k, least(WIDTH, n - k), 0.0)
            peak, low = maximum(x, peak), maximum(zero - x, low)
            total, error = add(p, total, error, x)
            k += WIDTH
        sums[row] = sum_lanes(total) + sum_lanes(error) if max_lanes(low) <= 0.0 else -1.0
        whole = Classes(row, base, 0, n, 0)
        at_peak = index_of(Source(None, p, None, None, None, None), whole, max_lanes(peak), -1)
        top = splat(entry(tangents, base + at_peak))
        total = error = zero
        k = 0
        while k < n:
            count = least(WIDTH, n - k)
            x = load_some(p, base + k, count, 0.0)
            away = load_some(tangents, base + k, count, 0.0) - top
            total, error = add(p, total, error, where_equal(x, zero, zero, x * away))
            k += WIDTH
        mean = splat(sum_lanes(total) + sum_lanes(error))
        k = 0
        while k < n:
            count = least(WIDTH, n - k)
            centred = (load_some(tangents, base + k, count, 0.0) - top) - mean
            store_some(out, base + k, count, load_some(p, base + k, count, 0.0) * centred * m)
            k += WIDTH


@helper
def index_of(source, chunk, peak, skipped):
    """Where in a chunk a number stands first, but for its entry ``skipped``; 0 where it does not."""
    m, none = splat(peak), splat(-np.inf)
    best = none
    k = 0
    while k < chunk.count:
        x, _ = loaded(source, inside(chunk, k, least(WIDTH, chunk.count - k)), -np.inf)
        place = splat(float(-k)) - iota()
        place = where_equal(x, m, place, none)
        best = maximum(where_equal(place, splat(float(-skipped)), none, place), best)
        k += WIDTH
    found = max_lanes(best)
    return int(-found) if found > -np.inf else 0


# ---- the Hessian: first a walk over the row's chunks, which sums them ----


class Parts(NamedTuple):
    """What is summed of each chunk of a row, one entry a chunk."""

    peaks: Array
    sums: Array  # exponentials without the target's
    all_sums: Array  # exponentials
    starts: Array  # the tangent in u at the chunk's maximum
    moments: Array  # sum e_k (t_k - start)
    r_t: Array  # sum r_k (t_k - start)
    r_sums: Array  # sum r_k
    t_sums: Array  # the sum of the given distribution
    r_ds: Array  # sum r_k d_k


@allocating
def _parts(chunks):
    return Parts(
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
        scratch(chunks),
    )


class Found(NamedTuple):
    """What the walk finds of a row."""

    peak: float  # its maximum
    at_peak: int  # the chunk of it
    u_y: float  # u T at the target
    low_y: float  # its rounding error
    t_y: float  # the tangent in u at the target


@helper
def moment_of(source, chunk, tangents, start):
    """Return sum e_k (t_k - start) and sum e_k of a chunk whose exponentials are held."""
    zero, t_0 = splat(0.0), splat(start)
    product = error = total = total_error = zero
    k = 0
    while k < chunk.count:
        classes = inside(chunk, k, least(WIDTH, chunk.count - k))
        e = load_some(source.held, classes.at, classes.count, 0.0)
        t = tangent_at(source, classes, tangents) - t_0
        product, error = add(source.z, product, error, where_equal(e, zero, zero, e * t))
        total, total_error = add(source.z, total, total_error, e)
        k += WIDTH
    return sum_lanes(product) + sum_lanes(error), sum_lanes(total) + sum_lanes(total_error)


@inlined
def one_tangent(source, chunk, k, tangents):
    """The tangent in u at the k-th class of a chunk."""
    return sum_lanes(tangent_at(source, inside(chunk, k, 1), tangents))


@inlined
def _walk(source, smooth, tangents, parts, row):
    """Fill the `Parts` of a row, and return what is `Found`."""
    peak, at_peak, u_y, low_y, t_y = -np.inf, 0, 0.0, 0.0, 0.0
    y, skipped = row.y, row.skipped
    shared = shared_peak(source, row.row, y, row.num_classes)
    for c in range(len(parts.peaks)):
        chunk = chunk_of(source, row.row, c, row.num_classes)
        own = transformed(source, chunk, y)
        relative_to = max(shared, own)
        start = one_tangent(source, chunk, index_of(source, chunk, own, -1), tangents)
        target = target_sums(smooth, source, chunk, reference(relative_to))
        parts.r_t[c] = tangent_under_prior(smooth, source, chunk, tangents, start)
        if chunk.first <= skipped < chunk.first + chunk.count:
            u_y, low_y = target_of(source, inside(chunk, y - chunk.first, 1))
            t_y = one_tangent(source, chunk, y - chunk.first, tangents)
        parts.sums[c] = exponentials(
            source, chunk, reference(relative_to), skipped - chunk.first, True, Ahead(source.z, False)
        )
        parts.moments[c], parts.all_sums[c] = moment_of(source, chunk, tangents, start)
        parts.peaks[c], parts.starts[c] = relative_to, start
        parts.r_ds[c], parts.r_sums[c], parts.t_sums[c] = target.r_d, target.r_sum, target.t_sum
        if own > peak:
            peak, at_peak = own, c
    return Found(peak, at_peak, u_y, low_y, t_y)


class Merged(NamedTuple):
    """What a row adds up to, relative to its maximum and to the tangent there."""

    others: float  # exponentials without the target's
    mean: float  # q.(t - t_0)
    r_tau: float  # sum r_k (t_k - t_0)
    r_d: float  # sum r_k d_k
    r_sum: float  # sum r_k
    t_sum: float  # the sum of the given distribution


@inlined
def _merged(source, parts, peak, t_0):
    """Bring the chunks' parts to the row's maximum."""
    moment, r_tau, r_d, r_sum, t_sum = 0.0, 0.0, 0.0, 0.0, 0.0
    for c in range(len(parts.peaks)):
        away = parts.starts[c] - t_0
        shift = below(source, reference(parts.peaks[c]), 0.0, reference(peak))[0]
        moment += exp_below(source, parts.peaks[c], peak) * (parts.moments[c] + away * parts.all_sums[c])
        r_tau = r_tau + parts.r_t[c] + away * parts.r_sums[c]
        r_d = r_d + parts.r_ds[c] + shift * parts.r_sums[c]
        r_sum, t_sum = r_sum + parts.r_sums[c], t_sum + parts.t_sums[c]
    others = total_of(source, parts.peaks, parts.sums, peak)
    total = total_of(source, parts.peaks, parts.all_sums, peak)
    return Merged(others, moment / total, r_tau, r_d, r_sum, t_sum)


# ---- the Hessian: what a row comes to, and the product's components ----


class Product(NamedTuple):
    """What a row's product is made of.

    It is e_k (tilt tau_k + constant), less the target's entries, and the soft cap's part.
    """

    tilt: float
    constant: float
    spread: Spread  # what multiplies the target's entries in the product
    at_target: float  # the product's component there, before du/dz
    t_0: float  # the tangent at the row's maximum
    mean: float  # q.t less that: tau_k = (t_k - t_0) - mean
    # the gradient, which a soft cap's curvature multiplies
    alpha: float
    gradient_spread: Spread
    gradient_at_target: float


@inlined
def _given_product(merged, eps, shift, t_0, weight, scale, fields):
    """The `Product` of a row with a given distribution."""
    # the value is not asked for: its last digit moves nothing here
    log_total = math.log1p(merged.others - 1.0)
    sums = SoftSums(merged.others, log_total, shift, (1.0 - eps) * merged.t_sum + eps, 0.0)
    product = soft_product_terms(sums, t_0 + merged.mean, weight, scale, fields)
    gradient = soft_terms(sums, weight, scale, fields)
    r_factor = gradient.beta * eps / merged.r_sum if eps != 0.0 else 0.0
    spread, none = Spread(r_factor, gradient.beta * (1.0 - eps)), Spread(0.0, 0.0)
    return Product(product.tilt, product.constant, none, 0.0, t_0, merged.mean, gradient.alpha, spread, 0.0)


@inlined
def _labelled_product(merged, sums, tangent, t_0, weight, scale, fields):
    """The `Product` of a row with a class index."""
    gradient = row_terms(sums, weight, scale, fields)
    product = product_terms(sums, tangent, gradient.weight, scale, fields)
    spread = Spread(product.beta / merged.r_sum if product.beta != 0.0 else 0.0, 0.0)
    gradient_spread = Spread(gradient.beta / merged.r_sum if sums.eps != 0.0 else 0.0, 0.0)
    return Product(
        product.tilt,
        product.constant,
        spread,
        product.at_target,
        t_0,
        merged.mean,
        gradient.alpha,
        gradient_spread,
        gradient.at_target,
    )


@inlined
def _component_at(source, chunk, k, tangents, product):
    """The product's component at the target, the k-th class of a chunk."""
    target = inside(chunk, k, 1)
    raw = splat(entry(tangents, offset_of(target)))
    curved = curvature(source, target, raw, splat(product.gradient_at_target))
    return sum_lanes(_first((splat(product.at_target) + curved) * slopes(source, target)))


@inlined
def _components(source, smooth, chunk, factor, product, tangents, out):
    """Write the product's components of a chunk."""
    f, t_start, m = splat(factor), splat(product.t_0), splat(product.mean)
    a, b, g_a = splat(product.tilt), splat(product.constant), splat(product.alpha)
    k = 0
    while k < chunk.count:
        classes = inside(chunk, k, least(WIDTH, chunk.count - k))
        e = load_some(source.held, classes.at, classes.count, 0.0) * f
        tau = (tangent_at(source, classes, tangents) - t_start) - m
        result = less_target(smooth, classes, e * fma(a, tau, b), product.spread)
        gradient = less_target(smooth, classes, e * g_a, product.gradient_spread)
        t = load_some(tangents, offset_of(classes), classes.count, 0.0)
        result = result + curvature(source, classes, t, gradient)
        store_some(out, offset_of(classes), classes.count, through(source, classes, result))
        k += WIDTH


@inlined
def _first(x):
    """The first lane, and 0 in the others."""
    return where_equal(iota(), splat(0.0), x, splat(0.0))


@inlined
def _product_of(source, smooth, parts, found, row, weights, fields):
    """Return a row's `Product`."""
    eps, soft = smoothing_of(smooth, row.y)
    t_0 = parts.starts[found.at_peak]
    merged = _merged(source, parts, found.peak, t_0)
    weight, scale = weight_of(weights, row.row, row.y, soft), scale_of(weights, row.row)
    shift = found.peak * inverse_temperature(source)
    if smooth is not None and soft:  # without it the branch is not compiled
        return _given_product(merged, eps, shift, t_0, weight, scale, fields)
    r_y = prior_of(smooth, row.y, merged.r_sum)
    r_d, r_tau = merged.r_d, merged.r_tau
    if eps != 0.0:
        r_d, r_tau = r_d / merged.r_sum, r_tau / merged.r_sum - merged.mean
    d_y, low = below(source, found.u_y, found.low_y, found.peak)
    sums = Sums(merged.others, d_y, low, shift, eps, r_y, r_d)
    tangent = Tangent((found.t_y - t_0) - merged.mean, r_tau, t_0 + merged.mean)
    return _labelled_product(merged, sums, tangent, t_0, weight, scale, fields)


@inlined
def write(source, smooth, parts, found, row, product, tangents, out):
    """Write a row's product."""
    result_y, whole = 0.0, is_whole(source, row.num_classes)
    for c in range(len(parts.peaks)):
        chunk = chunk_of(source, row.row, c, row.num_classes)
        held_again(source, chunk, row.y, parts.peaks[c], whole, Ahead(source.z, False))
        if chunk.first <= row.skipped < chunk.first + chunk.count:
            result_y = _component_at(source, chunk, row.y - chunk.first, tangents, product)
        factor = exp_below(source, parts.peaks[c], found.peak)
        _components(source, smooth, chunk, factor, product, tangents, out)
    if row.skipped >= 0:
        put(out, row.row * row.num_classes + row.y, result_y)


@compiled
def cross_entropy_hvp(
    z, out, streaming, tangents, labels, ignore, numbers, transform, smooth, num_classes, start, stop
):
    """Hessian times tangent of rows start ... stop - 1 of flat arrays, to out, which may be z.

    Arguments as in ``long_rows.cross_entropy``.
    """
    source = source_of(transform, z, held_of(num_classes), None)
    parts = _parts(chunks_of(num_classes))
    weights, fields = row_numbers(numbers)
    for n in range(start, stop):
        y = labels[n]
        if y == ignore:
            fill(out, n * num_classes, num_classes, 0.0)
            continue
        row = Row(n, num_classes, y, -1 if smoothing_of(smooth, y)[1] else y)
        found = _walk(source, smooth, tangents, parts, row)
        product = _product_of(source, smooth, parts, found, row, weights, fields)
        write(source, smooth, parts, found, row, product, tangents, out)
