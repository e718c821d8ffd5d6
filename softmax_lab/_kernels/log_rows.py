"""The log of the mean loss over long rows: what a row comes to before the rows are summed.

The other classes are summed relative to the largest of *them*, chunk by chunk as in ``long_rows``. The
gradient is that of ``cross_entropy_gradient``, as of any row of which a few numbers were kept: the factor
that is known only after the last row, the row's share, is one of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._rows import KEPT
from .compiler import called_overload, compiled, helper, inlined, inlined_overload
from .exponential import LARGEST, REACH, double, power_near, single, two_sum
from .log_terms import lane_log_terms
from .long_rows import (
    Row,
    chunk_of,
    chunks_of,
    excess_at_peak,
    exponentials,
    fill,
    held_of,
    reference,
    total_of,
    unit_of,
)
from .relative import below, lane_below
from .simd import (
    WIDTH,
    absolute,
    entry,
    iota,
    least,
    load,
    max_lanes,
    maximum,
    put,
    scratch,
    splat,
    store,
    sum_lanes,
    where_equal,
    where_less,
)
from .singles import Ahead, exponentials_in_singles, peaks_in_lanes, units_of
from .transform import (
    in_singles,
    inside,
    is_shift,
    load_some,
    loaded,
    long_source_of,
    member,
    peak_without,
    store_some,
    target_of,
    transformed,
)


class Others(NamedTuple):
    """What is found of the classes of a row other than the target."""

    peak: float  # the largest u T
    total: float  # the exponentials relative to it
    d_y: float  # the target's distance from it, over T
    low: float  # its rounding error


def peak_of_others(source, chunk, y):
    """Return the maximum of u T over a chunk without class y; what ``transformed`` holds is held."""
    raise NotImplementedError("compiled only")


@called_overload(peak_of_others)
def _peak_of_others(source, chunk, y):
    if in_singles(source):
        return lambda source, chunk, y: peak_without(source, chunk, y, y)

    def in_lanes(source, chunk, y):
        peak, k = transformed(source, chunk, y), y - chunk.first
        if not 0 <= k < chunk.count or target_of(source, inside(chunk, k, 1))[0] < peak:
            return peak
        return _peak_without(source, chunk, k)

    return in_lanes


@inlined
def _peak_without(source, chunk, skipped):
    """The maximum of u T over a chunk, once it is transformed, without its entry ``skipped``."""
    none = splat(-np.inf)
    peak = none
    k = 0
    while k < chunk.count:
        x, _ = loaded(source, inside(chunk, k, least(WIDTH, chunk.count - k)), -np.inf)
        peak = maximum(where_equal(iota(), splat(float(skipped - k)), none, x), peak)
        k += WIDTH
    return max_lanes(peak)


def shared_peak_of_others(source, row):
    """Return what all chunks of a row are relative to, at least: see ``long_rows.shared_peak``."""
    raise NotImplementedError("compiled only")


@called_overload(shared_peak_of_others)
def _shared_peak_of_others(source, row):
    if member(source, "z").dtype != types.float64:
        return lambda source, row: -np.inf

    def maximum_of_row(source, row):
        peak, chunks = -np.inf, chunks_of(row.num_classes)
        if chunks > 1:
            for c in range(chunks):
                peak = max(peak, peak_of_others(source, chunk_of(source, row.row, c, row.num_classes), row.y))
        return peak

    return maximum_of_row


@inlined
def others_of(source, peaks, sums, row):
    """Sum the other classes of a row, and return what is found of them: `Others`."""
    u_y, low_y, peak, shared = 0.0, 0.0, -np.inf, shared_peak_of_others(source, row)
    for c in range(len(peaks)):
        chunk = chunk_of(source, row.row, c, row.num_classes)
        peaks[c] = max(shared, peak_of_others(source, chunk, row.y))
        k = row.y - chunk.first
        if 0 <= k < chunk.count:
            u_y, low_y = target_of(source, inside(chunk, k, 1))
        sums[c] = exponentials(source, chunk, reference(peaks[c]), k, False, Ahead(source.z, False))
        peak = max(peak, peaks[c])
    near = reference(peak)
    total = 0.0
    if peak > -np.inf:
        total = unit_of(source, peak) * total_of(source, peaks, sums, peak)
        if total < 2.0:
            total -= excess_at_peak(source, peak)
    else:
        total = np.sum(sums)  # 0, or NaN where the row holds one
    d_y, low = below(source, u_y, low_y, near)
    return Others(near, total, d_y, low)


class Room(NamedTuple):
    """Eight rows' `Others`, to be taken as lanes, and room for a row's chunks."""

    peaks: Any
    totals: Any
    distances: Any
    lows: Any
    chunk_peaks: Any
    chunk_sums: Any


class Rows(NamedTuple):
    """Up to eight rows, and the labels of all."""

    first: int
    count: int
    num_classes: int
    labels: Any
    ignore: int


def others_of_rows(source, rows, room):
    """Fill the room with the `Others` of up to eight rows; an ignored row is as one without other classes."""
    raise NotImplementedError("compiled only")


@inlined_overload(others_of_rows)
def _others_of_rows(source, rows, room):
    if not in_singles(source) or is_shift(source):  # with a bias the maximum is a rounded number itself
        return lambda source, rows, room: _one_by_one(source, rows, room)

    def in_sixteen_lanes(source, rows, room):
        if chunks_of(rows.num_classes) > 1:
            _one_by_one(source, rows, room)
        else:
            _in_lanes(source, rows, room)

    return in_sixteen_lanes


@inlined
def _one_by_one(source, rows, room):
    for i in range(rows.count):
        row, found = rows.first + i, Others(0.0, 0.0, 0.0, 0.0)
        y = rows.labels[row]
        if y != rows.ignore:
            found = others_of(source, room.chunk_peaks, room.chunk_sums, Row(row, rows.num_classes, y, y))
        room.peaks[i], room.totals[i] = found.peak, found.total
        room.distances[i], room.lows[i] = found.d_y, found.low


@inlined
def _in_lanes(source, rows, room):
    """The same of rows of one chunk. What is a few numbers a row is taken in lanes."""
    for i in range(rows.count):
        row = rows.first + i
        y, own, total, target, n = rows.labels[row], 0.0, 0.0, 0.0, 0.0
        if y != rows.ignore:
            chunk = chunk_of(source, row, 0, rows.num_classes)
            own = peak_of_others(source, chunk, y)
            ahead = Ahead(source.z, False)
            total = exponentials_in_singles(source, chunk, reference(own), y, False, ahead)
            target = target_of(source, inside(chunk, y, 1))[0]
            n = power_near(reference(own)) if abs(own) <= LARGEST else 0.0
        room.peaks[i], room.totals[i], room.distances[i], room.lows[i] = own, total, target, n
    zero, one = splat(0.0), splat(1.0)
    own, n = load(room.peaks, 0), load(room.lows, 0)
    peak = where_equal(own, splat(-np.inf), zero, own)
    large = where_less(splat(LARGEST), absolute(peak), one, zero)
    unit = where_equal(large, one, splat(2.0**-REACH), units_of(n, peak))
    total = load(room.totals, 0) * unit
    near = where_equal(large, one, zero, peak)
    excess = where_equal(large, one, zero, peaks_in_lanes(n, near) * unit - one)
    # of a sum that is not much more than the maximum's own 1 the error of that is taken off
    total = where_less(total, splat(2.0), total - excess, total)
    d_y, low = lane_below(source, load(room.distances, 0), zero, peak)
    store(room.peaks, 0, peak)
    store(room.totals, 0, total)
    store(room.distances, 0, d_y)
    store(room.lows, 0, low)


@compiled
def log_losses(z, out, streaming, logs, lows, kept, labels, ignore, transform, num_classes, start, stop):
    """Write log l of rows start ... stop - 1 to ``logs``, its rounding error to ``lows``, both float64.

    ``kept`` gets ``KEPT`` numbers a row: what ``cross_entropy_gradient`` needs for the gradient of log l.
    Rows whose label is ``ignore`` get log l = -inf and the gradient 0. ``out`` is not used.
    """
    source = long_source_of(transform, z, held_of(num_classes))
    # the logarithms of eight rows are taken together: each would wait for its own
    eight, chunks, zero = WIDTH, chunks_of(num_classes), splat(0.0)
    room = Room(
        scratch(eight), scratch(eight), scratch(eight), scratch(eight), scratch(chunks), scratch(chunks)
    )
    for first in range(start, stop, WIDTH):
        count = least(WIDTH, stop - first)
        others_of_rows(source, Rows(first, count, num_classes, labels, ignore), room)
        totals = load(room.totals, 0)
        terms = lane_log_terms(z, totals, load(room.distances, 0), load(room.lows, 0))
        store_some(logs, first, count, terms.high)
        store_some(lows, first, count, terms.low)
        store(room.totals, 0, where_equal(totals, zero, zero, terms.slope / totals))
        store(room.distances, 0, zero - terms.slope)
        for i in range(count):
            place = (first + i) * KEPT
            kept[place], kept[place + 1], kept[place + 2] = room.peaks[i], room.totals[i], 0.0
            kept[place + 3], kept[place + 4] = room.distances[i], 1.0


@inlined
def scaled_rows(z, out, factors, num_classes, start, stop):
    """Multiply rows start ... stop - 1 of z by a factor each, to ``out``, which may be z.

    Of a factor of 0 nothing is read: a row may hold anything.
    """
    for row in range(start, stop):
        f, base = splat(factors[row]), row * num_classes
        if factors[row] == 0.0:
            fill(out, base, num_classes, 0.0)
        elif num_classes < WIDTH:  # one by one: a masked store costs more
            for k in range(num_classes):
                put(out, base + k, entry(z, base + k) * factors[row])
        else:
            # the last vector overlaps the one before, which may be written where it is read
            last = load(z, base + num_classes - WIDTH) * f
            for k in range(0, num_classes - WIDTH + 1, WIDTH):
                store(out, base + k, load(z, base + k) * f)
            store(out, base + num_classes - WIDTH, last)


@compiled
def scale_rows(z, out, streaming, factors, num_classes, start, stop):
    """``scaled_rows`` of flat arrays."""
    scaled_rows(z, out, factors, num_classes, start, stop)


@inlined
def _distance(logs, lows, k, count, peak):
    """Return log + low - peak of up to eight rows, as two floats."""
    d, d_low = two_sum(load_some(logs, k, count, -np.inf), splat(0.0) - peak)
    return two_sum(d, load_some(lows, k, count, 0.0) + d_low)


_MODERATE = 2.0**30  # of smaller logarithms the largest is known but for its last digit
_SMALL = 2.0**16  # of smaller ones the last digit is none that a narrower type shows in a share


@inlined
def _power(logs, lows, k, count, first, beyond, moderate, narrow):
    """exp(log + low - first - beyond) of up to eight rows; ``beyond`` is 0 of moderate logarithms."""
    if moderate and narrow:
        return single(load_some(logs, k, count, -np.inf) - first)
    if moderate:
        d, d_low = two_sum(load_some(logs, k, count, -np.inf), splat(0.0) - first)
        return double(d, load_some(lows, k, count, 0.0) + d_low)
    x, x_low = _distance(logs, lows, k, count, first)
    y, y_low = two_sum(x, splat(0.0) - beyond)
    return double(y, x_low + y_low)


@helper
def sum_of_logs(logs, lows, shares, narrow, start, stop):
    """Return (a, b), whose sum is log sum exp(log + low) over rows start ... stop - 1, and write the shares.

    Of logits ``narrow``er than float64 the shares are as good as the rows' own exponentials. The order of the
    additions depends on the number of rows alone. Something must be above -inf, and nothing at +inf. The
    errors may be any number beside logarithms of 1e38, where rows may differ by nothing else: so what is
    relative to the largest logarithm has a largest entry of its own.
    """
    zero, none = splat(0.0), splat(-np.inf)
    peak, k = none, start
    while k < stop:
        peak = maximum(load_some(logs, k, least(WIDTH, stop - k), -np.inf), peak)
        k += WIDTH
    first, second = splat(max_lanes(peak)), zero
    moderate = abs(max_lanes(peak)) <= _MODERATE
    narrow = narrow and abs(max_lanes(peak)) <= _SMALL
    if not moderate:
        second, k = none, start
        while k < stop:
            second = maximum(_distance(logs, lows, k, least(WIDTH, stop - k), first)[0], second)
            k += WIDTH
    beyond, k = splat(max_lanes(second)), start
    total, error = zero, zero
    while k < stop:
        count = least(WIDTH, stop - k)
        power = _power(logs, lows, k, count, first, beyond, moderate, narrow)
        store_some(shares, k, count, power)
        total, low = two_sum(total, power)
        error, k = error + low, k + WIDTH
    whole = sum_lanes(total) + sum_lanes(error)
    if start < stop:
        f, k = splat(1.0 / whole), start
        while k < stop:
            count = least(WIDTH, stop - k)
            store_some(shares, k, count, load_some(shares, k, count, 0.0) * f)
            k += WIDTH
    return max_lanes(first), max_lanes(beyond) + math.log(whole)


@compiled
def log_sum(logs, lows, shares, narrow, start, stop):
    """``sum_of_logs``, where it is called by itself."""
    return sum_of_logs(logs, lows, shares, narrow, start, stop)
