"""The log of the mean loss over short rows: eight rows at once, as in ``short_rows``.

Value and gradient come in one pass. The gradient of each row's own logarithm is written, of order one; the
row's share, which is known only after the last row, multiplies it afterwards (``log_rows.scale_rows``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._rows import KEPT
from .compiler import compiled, inlined
from .log_terms import lane_log_terms
from .long_rows import accumulate
from .relative import difference, exponential, lane_below
from .short_rows import class_of, lookups_of, room_of, rows_at, scatter, transformed_rows
from .simd import WIDTH, least, load, maximum, scratch, splat, store_strided, where_equal
from .transform import Labels, held_at, hold, loaded, source_of, through


class Others(NamedTuple):
    """What is found of the other classes of eight rows, in lanes."""

    peak: Any  # the largest u T, or 0 where there is none
    total: Any  # the exponentials relative to it
    d_y: Any  # the target's distance from it, over T
    low: Any  # its rounding error


@inlined
def _look_up(lookups, labels, ignore, rows):
    """Look up the labels of eight rows, 0 for an ignored one."""
    for i in range(WIDTH):
        y = labels[rows.row + least(i, rows.count - 1)]
        lookups.live[i] = 1.0
        if y == ignore:
            y, lookups.live[i] = 0, 0.0
        lookups.index[i] = y


@inlined
def _others(source, rows, num_classes, y):
    """Hold the exponentials of eight rows, and sum them without the targets'."""
    zero, none = splat(0.0), splat(-np.inf)
    peak = none
    for k in range(num_classes):
        x = held_at(source.held, class_of(rows, k), 0.0)
        peak = maximum(where_equal(splat(float(k)), y, none, x), peak)
    peak = where_equal(peak, none, zero, peak)
    total = error = u_y = low_y = zero
    for k in range(num_classes):
        column, here = class_of(rows, k), splat(float(k))
        x, x_low = loaded(source, column, 0.0)
        d, low = difference(source, x, x_low, peak)
        u_y, low_y = where_equal(here, y, x, u_y), where_equal(here, y, x_low, low_y)
        # of the target's distance, which may be any positive number, no exponential is taken
        e = where_equal(here, y, zero, exponential(source.z, where_equal(here, y, zero, d), low))
        hold(source.held, column, e)
        total, error = accumulate(source.z, total, error, e)
    d_y, low = lane_below(source, u_y, low_y, peak)
    return Others(peak, total + error, d_y, low)


@inlined
def _gradients(source, rows, num_classes, y, alpha, slope, live):
    """Hold the gradients of eight rows in place of their exponentials."""
    zero = splat(0.0)
    for k in range(num_classes):
        column = class_of(rows, k)
        g = where_equal(splat(float(k)), y, zero - slope, held_at(source.held, column, 0.0) * alpha)
        hold(source.held, column, where_equal(live, zero, zero, through(source, column, g)))


@inlined
def _keep(kept, rows, peak, alpha, slope):
    """Store what is kept of eight rows."""
    place, count, zero = rows.row * KEPT, rows.count, splat(0.0)
    store_strided(kept, place, KEPT, count, peak)
    store_strided(kept, place + 1, KEPT, count, alpha)
    store_strided(kept, place + 2, KEPT, count, zero)
    store_strided(kept, place + 3, KEPT, count, zero - slope)
    store_strided(kept, place + 4, KEPT, count, splat(1.0))


@compiled
def log_losses(
    z, out, streaming, wanted, logs, lows, kept, labels, ignore, transform, num_classes, start, stop
):
    """Arguments as in ``log_rows.log_losses``.

    Where ``wanted``, ``out``, which may be z, gets the gradient of each row's own logarithm; else ``kept`` is
    filled, where it is not empty.
    """
    source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
    held, lookups = source.held, lookups_of(1.0)
    targets, zero, none = Labels(lookups.index, lookups.margin), splat(0.0), splat(-np.inf)
    for row in range(start, stop, WIDTH):
        rows = rows_at(row, stop)
        _look_up(lookups, labels, ignore, rows)
        transformed_rows(source, rows, num_classes, targets)
        y, live = load(lookups.index, 0), load(lookups.live, 0)
        found = _others(source, rows, num_classes, y)
        terms = lane_log_terms(found.total, found.d_y, found.low)
        store_strided(logs, row, 1, rows.count, where_equal(live, zero, none, terms.high))
        store_strided(lows, row, 1, rows.count, where_equal(live, zero, zero, terms.low))
        alpha = where_equal(found.total, zero, zero, terms.slope / found.total)
        if wanted:
            _gradients(source, rows, num_classes, y, alpha, terms.slope, live)
            scatter(out, rows, num_classes, held)
        elif len(kept):
            _keep(kept, rows, found.peak, alpha, terms.slope)
