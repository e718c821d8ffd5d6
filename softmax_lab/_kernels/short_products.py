"""Hessian-vector products of short rows: eight rows at once, one a lane.

The sums are those of ``products``, taken relative to the tangent at each row's most probable class. The tiles
and what is looked up by the targets are those of ``short_rows``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compiler import compiled, inlined
from .exponential import log1p
from .long_rows import accumulate
from .products import add
from .relative import difference, exponential, inverse_temperature
from .short_rows import (
    class_of,
    gather,
    gather_given,
    look_up,
    lookups_of,
    room_of,
    rows_at,
    scatter,
    targets_of,
    transformed_rows,
)
from .simd import WIDTH, fma, load, splat, where_equal
from .target import (
    Spread,
    TargetSums,
    less_target_of_rows,
    row_numbers,
    smoothing_of,
    tangent_under_prior_of_rows,
    target_sums_of_rows,
)
from .terms import (
    ProductTerms,
    SoftSums,
    Sums,
    Tangent,
    Terms,
    are_plain,
    family_product_terms,
    family_terms,
    lane_soft_product_terms,
    plain_product_terms,
    plain_terms,
)
from .transform import (
    Labels,
    curvature_of_rows,
    held_at,
    hold,
    is_bent,
    loaded,
    masked,
    slopes,
    source_of,
    through,
)

# ---- a walk over the classes of eight rows ----


class Tiles(NamedTuple):
    """Scratch for eight rows, eight entries a class."""

    tangents: Any  # in u
    logits: Any  # as they are given, where u is bent
    given: Any  # distributions, where there are any


class Found(NamedTuple):
    """What is found of eight rows, in lanes."""

    sums: Sums
    e_y: Any  # the exponential at the target
    target: TargetSums
    tangent: Tangent
    t_0: Any  # the tangent at the row's maximum
    mean: Any  # q.t less that: tau_k = (t_k - t_0) - mean


@inlined
def hold_tangents(source, rows, num_classes, tile):
    """Bring tangents to u: times the slope, 0 where a class takes no part."""
    for k in range(num_classes):
        column = class_of(rows, k)
        t = held_at(tile, column, 0.0) * slopes(source, column)
        hold(tile, column, masked(source, column, t, 0.0))


@inlined
def _walk(source, rows, num_classes, peak, tangents, y):
    """Hold the exponentials of eight rows; return their `Sums` but for the prior's, e_y, t_0 and t_y."""
    others = error = e_y = d_y = low_y = t_0 = t_y = zero = splat(0.0)
    for k in range(num_classes):
        column, here = class_of(rows, k), splat(float(k))
        x, low = loaded(source, column, 0.0)
        d, low = difference(source, x, low, peak)
        e, t = exponential(source.z, d, low), held_at(tangents, column, 0.0)
        hold(source.held, column, e)
        d_y, low_y = where_equal(here, y, d, d_y), where_equal(here, y, low, low_y)
        e_y, t_y = where_equal(here, y, e, e_y), where_equal(here, y, t, t_y)
        t_0 = where_equal(x, peak, t, t_0)
        others, error = accumulate(source.z, others, error, where_equal(here, y, zero, e))
    shift = peak * splat(inverse_temperature(source))
    return Sums(others + error, d_y, low_y, shift, zero, zero, zero), e_y, t_0, t_y


@inlined
def moment_of_rows(source, rows, num_classes, t_0, tangents):
    """Return sum e_k (t_k - t_0) of eight rows whose exponentials are held."""
    product = error = zero = splat(0.0)
    for k in range(num_classes):
        column = class_of(rows, k)
        e, t = held_at(source.held, column, 0.0), held_at(tangents, column, 0.0) - t_0
        product, error = add(source.z, product, error, where_equal(e, zero, zero, e * t))
    return product + error


@inlined
def _found(source, smooth, rows, num_classes, peak, tiles, lookups, soft):
    """Return what is `Found` of eight rows, whose exponentials are held then."""
    target = target_sums_of_rows(smooth, tiles.given, source, rows, num_classes, peak)
    sums, e_y, t_0, t_y = _walk(source, rows, num_classes, peak, tiles.tangents, targets_of(lookups, soft))
    mean = moment_of_rows(source, rows, num_classes, t_0, tiles.tangents) / (sums.others + e_y)
    r_tau = tangent_under_prior_of_rows(smooth, source, rows, num_classes, t_0, tiles.tangents)
    eps, zero = load(lookups.eps, 0), splat(0.0)
    tangent = Tangent(
        (t_y - t_0) - mean, where_equal(eps, zero, zero, r_tau / target.r_sum - mean), t_0 + mean
    )
    smoothed = Sums(
        sums.others,
        sums.d_y,
        sums.low,
        sums.shift,
        eps,
        where_equal(eps, zero, zero, load(lookups.prior, 0) / target.r_sum),
        where_equal(eps, zero, zero, target.r_d / target.r_sum),
    )
    return Found(smoothed, e_y, target, tangent, t_0, mean)


# ---- what eight rows come to ----


class Product(NamedTuple):
    """What the products of eight rows are made of, in lanes: see ``products.Product``."""

    terms: ProductTerms
    spread: Spread  # what multiplies the targets' entries in the product
    # the gradient, which the curvature of u multiplies
    alpha: Any
    gradient_spread: Spread
    gradient_at_target: Any


@inlined
def _product_of(found, lookups, fields, bent):
    """Return the `Product` of eight rows with class indices; ``bent`` says that the gradient is needed."""
    sums, e_y, weight, scale = found.sums, found.e_y, load(lookups.weights, 0), load(lookups.scales, 0)
    plain, r_sum, zero = are_plain(fields), found.target.r_sum, splat(0.0)
    gradient = Terms(zero, zero, zero, zero, weight)
    if plain:
        if bent or fields.gate != 0.0:
            gradient = plain_terms(sums, e_y, weight, scale, fields.gate)
        product = plain_product_terms(sums, e_y, found.tangent, gradient.weight, scale)
    else:
        if bent or fields.gate != 0.0:
            gradient = family_terms(sums, e_y, weight, scale, fields)
        product = family_product_terms(sums, e_y, found.tangent, gradient.weight, scale, fields)
    spread = Spread(where_equal(product.beta, zero, zero, product.beta / r_sum), zero)
    own = Spread(where_equal(sums.eps, zero, zero, gradient.beta / r_sum), zero)
    return Product(product, spread, gradient.alpha, own, gradient.at_target)


@inlined
def _given_product_of(found, lookups, fields):
    """Return the `Product` of eight rows with given distributions: nothing is at a target."""
    zero, one, eps = splat(0.0), splat(1.0), found.sums.eps
    weight, scale, total = load(lookups.weights, 0), load(lookups.scales, 0), found.sums.others
    # the value is not asked for: the last digit of the logarithm moves nothing here
    sums = SoftSums(total, log1p(total - one), found.sums.shift, (one - eps) * found.target.t_sum + eps, zero)
    product = lane_soft_product_terms(sums, found.tangent.mu, weight, scale, fields)
    beta, none = scale * weight, Spread(zero, zero)
    own = Spread(where_equal(eps, zero, zero, beta * eps / found.target.r_sum), beta * (one - eps))
    return Product(product, none, product.tilt, own, zero)


@inlined
def components(source, smooth, rows, num_classes, tiles, found, product, y):
    """Hold the products of eight rows in place of their exponentials."""
    terms = product.terms
    for k in range(num_classes):
        column, here = class_of(rows, k), splat(float(k))
        e, t = held_at(source.held, column, 0.0), held_at(tiles.tangents, column, 0.0)
        x = e * fma(terms.tilt, (t - found.t_0) - found.mean, terms.constant)
        x = less_target_of_rows(smooth, tiles.given, column, x, product.spread)
        x = through(source, column, where_equal(here, y, terms.at_target, x))
        g = less_target_of_rows(smooth, tiles.given, column, e * product.alpha, product.gradient_spread)
        g = where_equal(here, y, product.gradient_at_target, g)
        hold(source.held, column, x + curvature_of_rows(source, column, tiles.logits, t, g))


@inlined
def without_ignored(source, rows, num_classes, lookups):
    """Hold 0 in the lanes of ignored rows."""
    zero, live = splat(0.0), load(lookups.live, 0)
    for k in range(num_classes):
        column = class_of(rows, k)
        hold(source.held, column, where_equal(live, zero, zero, held_at(source.held, column, 0.0)))


@compiled
def cross_entropy_hvp(
    z, out, streaming, tangents, labels, ignore, numbers, transform, smooth, num_classes, start, stop
):
    """Hessian times tangent of rows start ... stop - 1: arguments as in ``products.cross_entropy_hvp``."""
    size, soft = room_of(num_classes), smoothing_of(smooth, 0)[1]
    source = source_of(transform, z, size, np.empty(WIDTH))
    bent = is_bent(source)
    tiles = Tiles(np.empty(size), np.empty(size if bent else 0), np.empty(size if soft else 0))
    weights, fields = row_numbers(numbers)
    lookups = lookups_of(weights.factor)
    targets = Labels(lookups.index, lookups.margin)
    for row in range(start, stop, WIDTH):
        rows = rows_at(row, stop)
        ignored, _ = look_up(lookups, labels, ignore, smooth, weights, rows)
        peak = transformed_rows(source, rows, num_classes, targets)
        gather_given(smooth, rows, num_classes, tiles.given)
        gather(tangents, rows, num_classes, tiles.tangents)
        if bent:
            gather(z, rows, num_classes, tiles.logits)
        hold_tangents(source, rows, num_classes, tiles.tangents)
        found = _found(source, smooth, rows, num_classes, peak, tiles, lookups, soft)
        if smooth is not None and soft:  # without it the branch is not compiled
            product = _given_product_of(found, lookups, fields)
        else:
            product = _product_of(found, lookups, fields, bent)
        components(source, smooth, rows, num_classes, tiles, found, product, targets_of(lookups, soft))
        if ignored:
            without_ignored(source, rows, num_classes, lookups)
        scatter(out, rows, num_classes, source.held)
