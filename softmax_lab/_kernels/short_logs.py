"""The log of the mean loss over short rows: eight rows at once, or sixteen of float32, as in ``short_rows``.

Value and gradient come in one pass. The gradient of each row's own logarithm is written, of order one; the
row's share, which is known only after the last row, multiplies it afterwards (``log_rows.scale_rows``).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._rows import KEPT
from .batch import first_without_class, is_asked
from .compiler import allocating_overload, compiled, inlined
from .exponential import LARGEST, REACH, two_sum
from .log_rows import scaled_rows, sum_of_logs
from .log_terms import LogTerms, lane_log_terms
from .long_rows import accumulate, fill
from .relative import difference, exponential, lane_below
from .short_rows import class_of, lookups_of, room_of, rows_at, scatter, transformed_rows
from .short_singles import (
    OTHERS,
    Rows,
    is_large,
    peaks_of,
    power_near,
    room_in_singles,
    sums_of,
    sums_of_large,
    tops_of,
    write_gradients,
)
from .simd import (
    SINGLES,
    WIDTH,
    absolute,
    least,
    load,
    maximum,
    scratch,
    splat,
    splat_single,
    store_strided,
    where_equal,
    where_less,
    widened,
)
from .singles import units_of
from .transform import (
    Column,
    Labels,
    held_at,
    hold,
    loaded,
    source_of,
    takes_singles,
    through,
)


class Others(NamedTuple):
    """What is found of the other classes of eight rows, in lanes."""

    peak: Any  # the largest u T, or 0 where there is none
    total: Any  # the exponentials relative to it
    d_y: Any  # the target's distance from it, over T
    low: Any  # its rounding error


@inlined
def look_up_labels(lookups, labels, ignore, rows):
    """Look up the labels of eight rows, 0 for an ignored one."""
    for i in range(WIDTH):
        y = labels[rows.row + least(i, rows.count - 1)]
        lookups.live[i] = 1.0
        if y == ignore:
            y, lookups.live[i] = 0, 0.0
        lookups.index[i] = y


@inlined
def others_of_rows(source, rows, num_classes, y):
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


class Results(NamedTuple):
    """Where the results of all rows go: see ``log_losses``."""

    out: Any
    wanted: bool
    logs: Any
    lows: Any
    kept: Any


@inlined
def _set_logs(results, rows, terms, live):
    """Write the logarithms of eight rows."""
    zero = splat(0.0)
    store_strided(results.logs, rows.row, 1, rows.count, where_equal(live, zero, splat(-np.inf), terms.high))
    store_strided(results.lows, rows.row, 1, rows.count, where_equal(live, zero, zero, terms.low))


def _log_losses(z, results, labels, ignore, transform, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_log_losses)
def _choose_log_losses(z, results, labels, ignore, transform, num_classes, start, stop):
    if takes_singles(z, transform):

        def in_sixteen_lanes(z, results, labels, ignore, transform, num_classes, start, stop):
            room, live = room_in_singles(num_classes), scratch(SINGLES)
            for row in range(start, stop, SINGLES):
                rows = Rows(row, least(SINGLES, stop - row), num_classes)
                ignored = _look_up_sixteen(room, live, labels, ignore, rows)
                _sixteen(z, results, room, live, rows)
                if results.wanted and ignored:
                    for i in range(rows.count):
                        if live[i] == 0.0:
                            fill(results.out, (row + i) * num_classes, num_classes, 0.0)

        return in_sixteen_lanes

    def in_lanes(z, results, labels, ignore, transform, num_classes, start, stop):
        source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
        held, lookups, zero = source.held, lookups_of(1.0), splat(0.0)
        targets = Labels(lookups.index, lookups.margin)
        for row in range(start, stop, WIDTH):
            rows = rows_at(row, stop)
            look_up_labels(lookups, labels, ignore, rows)
            transformed_rows(source, rows, num_classes, targets)
            y, live = load(lookups.index, 0), load(lookups.live, 0)
            found = others_of_rows(source, rows, num_classes, y)
            terms = lane_log_terms(z, found.total, found.d_y, found.low)
            _set_logs(results, rows, terms, live)
            alpha = where_equal(found.total, zero, zero, terms.slope / found.total)
            if results.wanted:
                _gradients(source, rows, num_classes, y, alpha, terms.slope, live)
                scatter(results.out, rows, num_classes, held)
            elif len(results.kept):
                _keep(results.kept, rows, found.peak, alpha, terms.slope)

    return in_lanes


# ---- float32 in sixteen lanes ----


class Half(NamedTuple):
    """What eight of sixteen rows come to, in lanes of float64."""

    terms: LogTerms
    factor: Any  # brings the exponentials that are held to the gradient


@inlined
def _look_up_sixteen(room, live, labels, ignore, rows):
    """Look up the labels of sixteen rows, 0 for an ignored one; return whether there is one."""
    ignored = False
    for i in range(SINGLES):
        y = labels[rows.row + least(i, rows.count - 1)]
        live[i] = 1.0
        if y == ignore:
            y, live[i], ignored = 0, 0.0, True
        room.skipped[i] = y
    return ignored


@inlined
def _sixteen(z, results, room, live, rows):
    """Logarithms, and gradients where they are wanted, of sixteen rows.

    The sums are those of ``short_singles.halves_of``, but relative to the other classes' own maximum, however
    far the target is above it.
    """
    own, target = peaks_of(z, room, rows, None, True)
    near = maximum(own, splat_single(-LARGEST))
    first, second = sums_of(z, room, rows, None, near, OTHERS, results.out)
    large = is_large(own)
    if large:
        first, second = sums_of_large(z, room, rows, None, widened(own), first, second)
    tops = tops_of(near)
    powers, owns, targets = widened(power_near(near)), widened(own), widened(target)
    a = _half(z, first, tops[0], powers[0], owns[0], targets[0], large)
    b = _half(z, second, tops[1], powers[1], owns[1], targets[1], large)
    _set_logs(results, Column(rows.row, least(WIDTH, rows.count), 0), a.terms, load(live, 0))
    # without a second half the last row takes its lanes, and what it writes is written twice
    place = Column(rows.row + least(WIDTH, rows.count - 1), max(1, rows.count - WIDTH), 0)
    _set_logs(results, place, b.terms, load(live, WIDTH))
    if results.wanted:
        zero = splat(0.0)
        at_targets = zero - a.terms.slope, zero - b.terms.slope
        write_gradients(room, rows, results.out, (a.factor, b.factor), at_targets)


@inlined
def _half(z, total, top, power, own, target, large):
    """Return what is `Half` of the rows, from their sums and the exponential of the largest other class."""
    zero, one, none = splat(0.0), splat(1.0), splat(-np.inf)
    peak = where_equal(own, none, zero, own)
    unit = units_of(power, peak)
    excess = top * unit - one
    if large:
        beyond = where_less(splat(LARGEST), absolute(own), one, zero)
        unit = where_equal(beyond, one, splat(2.0**-REACH), unit)
        excess = where_equal(beyond, one, zero, excess)
    others = total * unit - excess
    d_y, low = two_sum(target, zero - peak)
    terms = lane_log_terms(z, others, d_y, low)
    return Half(terms, where_equal(others, zero, zero, terms.slope / others) * unit)


# ---- the loop ----


@compiled
def log_losses(
    z, out, streaming, wanted, logs, lows, kept, labels, ignore, transform, num_classes, start, stop
):
    """Arguments as in ``log_rows.log_losses``.

    Where ``wanted``, ``out``, which may be z, gets the gradient of each row's own logarithm; else ``kept`` is
    filled, where it is not empty and logits do not go through sixteen lanes.

    Where ``logs`` has one entry more than there are labels, all rows are this call's. Then nothing is written
    where a label is no class, or is ``ignore``: the first such row is returned. Else -1 is. ``kept`` gets the
    rows' shares of the sum, where it is not empty, and the gradients are multiplied by them. The two numbers
    of ``log_rows.log_sum`` come last in ``logs`` and ``lows``: unless both are finite, nothing is multiplied.
    """
    asked = is_asked(logs, labels)
    wrong = first_without_class(labels, ignore, num_classes) if asked else -1
    if wrong >= 0:
        return wrong
    results = Results(out, wanted, logs, lows, kept[:0] if asked else kept)
    _log_losses(z, results, labels, ignore, transform, num_classes, start, stop)
    if asked and len(kept):
        logs[stop], lows[stop] = sum_of_logs(logs, lows, kept, z.itemsize < 8, start, stop)
        if wanted and math.isfinite(logs[stop]) and math.isfinite(lows[stop]):
            scaled_rows(out, out, kept, num_classes, start, stop)
    return -1
