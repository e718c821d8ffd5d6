"""Products with the Hessian of the log of the mean loss, over short rows: eight rows at once, one a lane.

The formula is that of ``log_products``. The sums over the other classes are those of ``short_logs``, the
tiles and the components those of ``short_products``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compiler import compiled, inlined
from .log_terms import LogTerms, lane_log_terms
from .short_logs import look_up_labels, others_of_rows
from .short_products import Product, Tiles, components, hold_tangents, moment_of_rows, without_ignored
from .short_rows import class_of, gather, lookups_of, room_of, rows_at, scatter, transformed_rows
from .simd import (
    WIDTH,
    load,
    load_strided,
    maximum,
    scratch,
    splat,
    store,
    store_strided,
    sum_lanes,
    where_equal,
    where_less,
)
from .target import Spread
from .terms import ProductTerms
from .transform import Labels, held_at, is_bent, source_of


class Found(NamedTuple):
    """What is found of eight rows, in lanes: see ``log_products.Found``."""

    total: Any
    terms: LogTerms
    t_0: Any
    mean: Any
    along: Any


@inlined
def _found(source, rows, num_classes, tangents, y):
    """Hold the exponentials of eight rows, 0 at the targets, and return what is `Found` of them."""
    others = others_of_rows(source, rows, num_classes, y)
    t_0 = t_y = largest = zero = splat(0.0)
    for k in range(num_classes):
        column = class_of(rows, k)
        e, t = held_at(source.held, column, 0.0), held_at(tangents, column, 0.0)
        t_y = where_equal(splat(float(k)), y, t, t_y)
        t_0 = where_less(largest, e, t, t_0)
        largest = maximum(e, largest)
    moment = moment_of_rows(source, rows, num_classes, t_0, tangents)
    mean = where_equal(others.total, zero, zero, moment / others.total)
    terms = lane_log_terms(source.z, others.total, others.d_y, others.low)
    return Found(others.total, terms, t_0, mean, (t_0 - t_y) + mean)


@inlined
def _product_of(found, share, deviation):
    """Return the ``short_products.Product`` of eight rows."""
    slope, zero = found.terms.slope, splat(0.0)
    a, none = deviation - slope * found.terms.rest * found.along, Spread(zero, zero)
    at_target = zero - share * slope
    tilt = where_equal(found.total, zero, zero, share * slope / found.total)
    terms = ProductTerms(tilt, tilt * a, zero, at_target * a)
    return Product(terms, none, tilt, none, at_target)


@compiled
def log_cross_entropy_hvp(
    z, out, streaming, tangents, across, labels, ignore, transform, num_classes, start, stop
):
    """Arguments as in ``log_products.log_cross_entropy_hvp``."""
    size, zero, none = room_of(num_classes), splat(0.0), splat(-np.inf)
    source = source_of(transform, z, size, scratch(WIDTH))
    bent = is_bent(source)
    tiles = Tiles(scratch(size), scratch(size if bent else 0), scratch(0))
    logs, lows, moments, shares, deviations = across
    lookups = lookups_of(1.0)
    targets = Labels(lookups.index, lookups.margin)
    for row in range(start, stop, WIDTH):
        rows = rows_at(row, stop)
        look_up_labels(lookups, labels, ignore, rows)
        transformed_rows(source, rows, num_classes, targets)
        gather(tangents, rows, num_classes, tiles.tangents)
        if bent:
            gather(z, rows, num_classes, tiles.logits)
        hold_tangents(source, rows, num_classes, tiles.tangents)
        y, live = load(lookups.index, 0), load(lookups.live, 0)
        found = _found(source, rows, num_classes, tiles.tangents, y)
        if not len(shares):
            moment = found.terms.slope * found.along
            store_strided(logs, row, 1, rows.count, where_equal(live, zero, none, found.terms.high))
            store_strided(lows, row, 1, rows.count, where_equal(live, zero, zero, found.terms.low))
            store_strided(moments, row, 1, rows.count, where_equal(live, zero, zero, moment))
            continue
        share = load_strided(shares, row, 1, rows.count)
        product = _product_of(found, share, load_strided(deviations, row, 1, rows.count))
        components(source, None, rows, num_classes, tiles, found, product, y)
        live = where_equal(share, zero, zero, where_equal(found.terms.slope, zero, zero, live))
        if sum_lanes(live) < WIDTH:
            store(lookups.live, 0, live)
            without_ignored(source, rows, num_classes, lookups)
        scatter(out, rows, num_classes, source.held)
