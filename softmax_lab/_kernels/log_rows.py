"""The log of the mean loss over long rows: what a row comes to before the rows are summed.

The other classes are summed relative to the largest of *them*, chunk by chunk as in ``long_rows``. The
gradient is that of ``cross_entropy_gradient``, as of any row of which a few numbers were kept: the factor
that is known only after the last row, the row's share, is one of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types

from .._rows import KEPT
from .compiler import called_overload, compiled, helper, inlined
from .exponential import double, two_sum
from .log_terms import log_terms
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
from .relative import below
from .simd import (
    WIDTH,
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
)
from .singles import Ahead
from .transform import (
    in_singles,
    inside,
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


@compiled
def log_losses(z, out, streaming, logs, lows, kept, labels, ignore, transform, num_classes, start, stop):
    """Write log l of rows start ... stop - 1 to ``logs``, its rounding error to ``lows``, both float64.

    ``kept`` gets ``KEPT`` numbers a row: what ``cross_entropy_gradient`` needs for the gradient of log l.
    Rows whose label is ``ignore`` get log l = -inf and the gradient 0. ``out`` is not used.
    """
    peaks, sums = scratch(chunks_of(num_classes)), scratch(chunks_of(num_classes))
    source = long_source_of(transform, z, held_of(num_classes))
    for n in range(start, stop):
        y, place = labels[n], n * KEPT
        if y == ignore:
            logs[n], lows[n] = -np.inf, 0.0
            kept[place : place + KEPT] = 0.0
            continue
        found = others_of(source, peaks, sums, Row(n, num_classes, y, y))
        terms = log_terms(found.total, found.d_y, found.low)
        logs[n], lows[n] = terms.high, terms.low
        alpha = terms.slope / found.total if found.total != 0.0 else 0.0
        kept[place], kept[place + 1], kept[place + 2] = found.peak, alpha, 0.0
        kept[place + 3], kept[place + 4] = -terms.slope, 1.0


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


@helper
def sum_of_logs(logs, lows, shares, start, stop):
    """Return (a, b), whose sum is log sum exp(log + low) over rows start ... stop - 1, and write the shares.

    The order of the additions depends on the number of rows alone. Something must be above -inf, and nothing
    at +inf. The errors may be any number beside logarithms of 1e38, where rows may differ by nothing else: so
    what is relative to the largest logarithm has a largest entry of its own.
    """
    zero, none = splat(0.0), splat(-np.inf)
    peak, k = none, start
    while k < stop:
        peak = maximum(load_some(logs, k, least(WIDTH, stop - k), -np.inf), peak)
        k += WIDTH
    first, second = splat(max_lanes(peak)), zero
    if not abs(max_lanes(peak)) <= _MODERATE:
        second, k = none, start
        while k < stop:
            second = maximum(_distance(logs, lows, k, least(WIDTH, stop - k), first)[0], second)
            k += WIDTH
    beyond, k = splat(max_lanes(second)), start
    total, error = zero, zero
    while k < stop:
        count = least(WIDTH, stop - k)
        x, x_low = _distance(logs, lows, k, count, first)
        y, y_low = two_sum(x, zero - beyond)
        power = double(y, x_low + y_low)
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
def log_sum(logs, lows, shares, start, stop):
    """``sum_of_logs``, where it is called by itself."""
    return sum_of_logs(logs, lows, shares, start, stop)
