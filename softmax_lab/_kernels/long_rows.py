"""Loops over long rows: the classes of one row fill the lanes.

A row is worked on in chunks that stay in the first-level cache. Each chunk's maximum is found first. Its
exponentials relative to *that* maximum are then summed and held in float64 (the online normaliser of Milakov
and Gimelshein, 2018, a chunk at a time), so each logit comes from memory once. When the row is through, one
multiplication a chunk brings all to the row's maximum and normalises, and every result is rounded once. Of a
row too long to be held the exponentials are taken a second time instead. Chunks and lanes depend on K alone:
a row's result is bit-identical whatever the batch.

While one chunk is worked on, the next is asked for from memory. Results that no cache can hold are written
past it (``streaming``), which spares reading the lines that they replace.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._rows import KEPT
from .batch import first_without_class, is_asked, sum_of
from .compiler import (
    allocating,
    allocating_overload,
    called_overload,
    compiled,
    helper,
    inlined,
    inlined_overload,
)
from .exponential import LARGEST
from .relative import (
    below,
    exp_below,
    exponential,
    finished,
    inverse_temperature,
    log_relative,
    relative,
    relative_begun,
)
from .simd import (
    WIDTH,
    iota,
    least,
    load,
    prefetch,
    scratch,
    scratch_singles,
    settle,
    splat,
    store,
    store_first,
    stream,
    sum_lanes,
    where_equal,
)
from .singles import (
    AHEAD,
    SHOWN,
    Ahead,
    anew_in_singles,
    excess_in_singles,
    exponentials_in_singles,
    fits_one_number,
    index_in_singles,
    is_of_two_floats,
    less_in_singles,
    scaled_in_singles,
    share_in_singles,
    unit_in_singles,
    until_line,
)
from .target import (
    Spread,
    TargetSums,
    less_target,
    prior_of,
    row_numbers,
    scale_of,
    smoothing_of,
    target_sums,
    weight_of,
)
from .terms import SoftSums, Sums, Terms, are_plain, family_terms, part, plain_terms, row_terms, soft_terms
from .transform import (
    CHUNK,
    HELD,
    Classes,
    Source,
    in_singles,
    inside,
    is_shift,
    load_some,
    long_source_of,
    masked,
    member,
    offset_of,
    peak_without,
    store_some,
    takes_singles,
    target_of,
    through,
    transformed,
    transformed_again,
    window,
)

# ---- a row's chunks ----


class Row(NamedTuple):
    """A row and its target."""

    row: int
    num_classes: int
    y: int
    skipped: int  # the class that is kept out of the sums: y, or -1 with a given distribution


@inlined
def chunks_of(num_classes):
    """How many chunks a row has."""
    return (num_classes + CHUNK - 1) // CHUNK


@inlined
def held_of(num_classes):
    """How many entries of a row are held: all of them, or a chunk of a very long row."""
    return num_classes if num_classes <= HELD else CHUNK


@inlined
def is_whole(source, num_classes):
    """Whether all entries of a row are held."""
    return len(source.held) >= num_classes


@inlined
def chunk_of(source, row, c, num_classes):
    """The c-th chunk of a row."""
    first = c * CHUNK
    at = first if is_whole(source, num_classes) else 0
    return Classes(row, row * num_classes, first, least(CHUNK, num_classes - first), at)


@inlined
def reference(peak):
    """What a chunk is shifted by: its maximum, or 0 where it holds nothing above -inf.

    -inf less -inf is no number.
    """
    return peak if peak > -np.inf else 0.0


def shared_peak(source, row, y, num_classes):
    """Return what all chunks of a row are relative to, at least: for float64 the row's maximum, else -inf.

    Chunks with maxima of their own are brought to the row's by a factor whose two roundings float64 would
    show.
    """
    raise NotImplementedError("compiled only")


@called_overload(shared_peak)
def _shared_peak(source, row, y, num_classes):
    if member(source, "z").dtype != types.float64:
        return lambda source, row, y, num_classes: -np.inf

    def maximum_of_row(source, row, y, num_classes):
        peak = -np.inf
        for first in range(0, num_classes, CHUNK):
            # each in the place of the one before
            chunk = Classes(row, row * num_classes, first, least(CHUNK, num_classes - first), 0)
            peak = max(peak, transformed(source, chunk, y))
        return peak

    return maximum_of_row


def accumulate(z, total, error, x):
    """Return (total + x, error).

    Float64 logits get the rounding errors of their sum along. Narrower ones have digits to spare.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(accumulate)
def _accumulate(z, total, error, x):
    if z.dtype == types.float64:

        def with_error(z, total, error, x):
            t = total + x
            # exact where total >= x, and early on the error is small either way
            return t, error + (x - (t - total))

        return with_error
    return lambda z, total, error, x: (total + x, error)


def exponentials(source, chunk, peak, y, keep, ahead):
    """Return the sum of exp((u T - peak) / T) over a chunk, without its y-th entry (none where y is outside).

    In sixteen lanes it is relative to a power of two (``share_of``, ``unit_of``). With ``keep`` the
    exponentials are held. What is needed next is asked for meanwhile: the chunk that follows in memory, and
    in sixteen lanes the places of the results (``ahead``).
    """
    raise NotImplementedError("compiled only")


@inlined_overload(exponentials)
def _exponentials(source, chunk, peak, y, keep, ahead):
    if in_singles(source):
        return lambda source, chunk, peak, y, keep, ahead: exponentials_in_singles(
            source, chunk, peak, y, keep, ahead
        )
    return lambda source, chunk, peak, y, keep, ahead: _sum_in_lanes(source, chunk, peak, y, keep)


@inlined
def _sum_in_lanes(source, chunk, peak, y, keep):
    m, zero = splat(peak), splat(0.0)
    total = error = zero
    k, n = 0, chunk.count
    full = n - n % WIDTH
    stop = y - y % WIDTH if 0 <= y < full else full
    while True:
        # what is begun of four vectors is finished after the next four are begun, as in ``singles``
        if k + FOUR <= stop:
            halves = _four(source, chunk, k, m)
            while k + 2 * FOUR <= stop:
                following = _four(source, chunk, k + FOUR, m)
                total, error = _add_four(source, chunk, halves, k, (total, error), keep)
                halves, k = following, k + FOUR
            total, error = _add_four(source, chunk, halves, k, (total, error), keep)
            k += FOUR
        while k < stop:
            total, error = _add(source, chunk, _half(source, chunk, k, m), k, (total, error), keep)
            k += WIDTH
        if k == n:
            break
        # the vector with entry y, or the last one, which is not full
        count = least(WIDTH, n - k)
        _, p = relative(source, inside(chunk, k, count), m)
        if keep:
            store_first(source.held, chunk.at + k, count, p)
        p = where_equal(iota(), splat(float(y - k)), zero, p)
        total, error = accumulate(source.z, total, error, p)
        k += count
        stop = full
    return sum_lanes(total) + sum_lanes(error)


FOUR = 4 * WIDTH


@inlined
def _half(source, chunk, k, m):
    """Begin with eight exponentials from the chunk's k-th entry on."""
    prefetch(source.z, offset_of(chunk) + AHEAD * chunk.count + k)
    return relative_begun(source, inside(chunk, k, WIDTH), m)


@inlined
def _add(source, chunk, half, k, sums, keep):
    """Finish with them: hold them where they are kept, and add them to the sums (total, error)."""
    p = finished(source.z, half)
    if keep:
        store(source.held, chunk.at + k, p)
    return accumulate(source.z, sums[0], sums[1], p)


@inlined
def _four(source, chunk, k, m):
    """Begin with four vectors."""
    return (
        _half(source, chunk, k, m),
        _half(source, chunk, k + WIDTH, m),
        _half(source, chunk, k + 2 * WIDTH, m),
        _half(source, chunk, k + 3 * WIDTH, m),
    )


@inlined
def _add_four(source, chunk, halves, k, sums, keep):
    """Finish with four vectors."""
    sums = _add(source, chunk, halves[0], k, sums, keep)
    sums = _add(source, chunk, halves[1], k + WIDTH, sums, keep)
    sums = _add(source, chunk, halves[2], k + 2 * WIDTH, sums, keep)
    return _add(source, chunk, halves[3], k + 3 * WIDTH, sums, keep)


def holding_in(source, smooth, out, streaming, row, num_classes):
    """Return the source that holds a row's exponentials where its results will be: that spares memory.

    It does so in sixteen lanes, of rows of many chunks, where nothing asks for the logits again.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(holding_in)
def _holding_in(source, smooth, out, streaming, row, num_classes):
    if not in_singles(source) or not isinstance(smooth, types.NoneType):
        return lambda source, smooth, out, streaming, row, num_classes: source

    def in_results(source, smooth, out, streaming, row, num_classes):
        if streaming or num_classes <= CHUNK or num_classes > len(source.lows):
            return source
        held = out[row * num_classes : (row + 1) * num_classes]
        return Source(source.transform, source.z, held, source.lows, source.caps, source.lane)

    return in_results


def share_of(source, a, b):
    """What brings sums and held exponentials from one maximum to another, or from power to power of two."""
    raise NotImplementedError("compiled only")


@inlined_overload(share_of)
def _share_of(source, a, b):
    if in_singles(source):
        return lambda source, a, b: share_in_singles(a, b)
    return lambda source, a, b: exp_below(source, a, b)


def unit_of(source, peak):
    """What brings sums and held exponentials to exp(u - peak)."""
    raise NotImplementedError("compiled only")


@inlined_overload(unit_of)
def _unit_of(source, peak):
    if in_singles(source):
        return lambda source, peak: unit_in_singles(peak)
    return lambda source, peak: 1.0


def excess_at_peak(source, peak):
    """Return how much more than 1 the maximum's own exponential is in the sums.

    In sixteen lanes it has a rounding error, which is taken off where 1 is.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(excess_at_peak)
def _excess_at_peak(source, peak):
    if in_singles(source) and not is_shift(source):  # with a bias the maximum is a rounded number itself
        return lambda source, peak: excess_in_singles(peak)
    return lambda source, peak: 0.0


@inlined
def summed(source, peaks, sums, row, num_classes, keep, ahead):
    """Fill the maxima and the sums of a row's chunks, and return the row's maximum."""
    peak = -np.inf
    shared = shared_peak(source, row, -1, num_classes)
    for c in range(len(peaks)):
        chunk = chunk_of(source, row, c, num_classes)
        peaks[c] = max(shared, transformed(source, chunk, -1))
        sums[c] = exponentials(source, chunk, reference(peaks[c]), -1, keep, ahead)
        peak = max(peak, peaks[c])
    return peak


@inlined
def held_again(source, chunk, y, peak, whole, ahead):
    """Hold a chunk's exponentials again, where a row is not held as a whole."""
    if not whole:
        transformed_again(source, chunk, y)
        exponentials(source, chunk, reference(peak), -1, True, ahead)


def is_written_anew(source, smooth, chunk, peak, factor, gradient, out, streaming):
    """Write a chunk's results without holding its exponentials; return False where that is not done.

    It is done in sixteen lanes, of usual numbers.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(is_written_anew)
def _is_written_anew(source, smooth, chunk, peak, factor, gradient, out, streaming):
    if not in_singles(source) or not isinstance(smooth, types.NoneType):
        return lambda source, smooth, chunk, peak, factor, gradient, out, streaming: False

    def anew(source, smooth, chunk, peak, factor, gradient, out, streaming):
        if abs(peak) > LARGEST or not is_of_two_floats(factor):
            return False
        y, at_y = gradient.y - chunk.first, gradient.at_target
        anew_in_singles(source, chunk, peak, out, factor, y, at_y, streaming)
        return True

    return anew


@inlined
def total_of(source, peaks, sums, peak):
    """Sum of the chunks' sums, each brought to the row's maximum, or in sixteen lanes its power of two.

    The rounding errors of the additions are in it.
    """
    if len(peaks) == 1:
        return share_of(source, peaks[0], peak) * sums[0]
    total, error = 0.0, 0.0
    for c in range(len(peaks)):
        x = share_of(source, peaks[c], peak) * sums[c]
        t = total + x
        b = t - total
        error += (total - (t - b)) + (x - b)
        total = t
    return total + error if math.isfinite(error) else total


@helper
def _below_peak(source, chunk, peak):
    """Return the sum over the entries below the peak, and how many are at it: 1 + 1e-18 keeps its 1e-18."""
    m, zero, one = splat(peak), splat(0.0), splat(1.0)
    a = error = ties = zero
    k = 0
    while k < chunk.count:
        x, p = relative(source, inside(chunk, k, least(WIDTH, chunk.count - k)), m)
        ties += where_equal(x, m, one, zero)
        a, error = accumulate(source.z, a, error, where_equal(x, m, zero, p))
        k += WIDTH
    return sum_lanes(a) + sum_lanes(error), sum_lanes(ties)


def rest_of(source, row, y, num_classes, peak):
    """Sum of a row's exponentials without the one at its maximum, for a row that its maximum dominates."""
    raise NotImplementedError("compiled only")


@called_overload(rest_of)
def _rest_of(source, row, y, num_classes, peak):
    if in_singles(source):
        return lambda source, row, y, num_classes, peak: (
            _rest_in_singles(source, row, num_classes, peak)
            if abs(peak) <= LARGEST
            else _rest_in_lanes(source, row, y, num_classes, peak)
        )
    return lambda source, row, y, num_classes, peak: _rest_in_lanes(source, row, y, num_classes, peak)


@inlined
def _rest_in_singles(source, row, num_classes, peak):
    """Each chunk is relative to the maximum of what is summed."""
    top = index_in_singles(source.z, row * num_classes, num_classes, peak)
    rest = 0.0
    for c in range(chunks_of(num_classes)):
        chunk = chunk_of(source, row, c, num_classes)
        own = reference(peak_without(source, chunk, top, top))
        total = exponentials(source, chunk, own, top - chunk.first, False, Ahead(source.z, False))
        rest += share_of(source, own, peak) * total
    return rest * unit_of(source, peak)


@inlined
def _rest_in_lanes(source, row, y, num_classes, peak):
    rest, ties = 0.0, 0.0
    for c in range(chunks_of(num_classes)):
        chunk = chunk_of(source, row, c, num_classes)
        transformed(source, chunk, y)
        below_peak, at_peak = _below_peak(source, chunk, peak)
        rest += below_peak
        ties += at_peak
    return rest + (ties - 1.0)


# ---- results, on the way out ----


class Gradient(NamedTuple):
    """What a row's gradient is made of."""

    spread: Spread  # what multiplies the target's entries
    at_target: float  # the component at the target, before du/dz
    y: int  # the target, or -1 for none: with a given distribution


_NO_TARGET = Gradient(Spread(0.0, 0.0), 0.0, -1)


@inlined
def _ask_for_ends(out, base, n, streaming):
    """Ask early for the lines that a row shares with its neighbours.

    They are not written past the caches, and a miss there holds up all stores.
    """
    if streaming:
        prefetch(out, base)
        prefetch(out, base + n)


@inlined
def _put(out, offset, value, streaming):
    """Write eight entries, past the caches where streaming."""
    if streaming:
        stream(out, offset, value)
    else:
        store(out, offset, value)


@helper
def fill(out, offset, n, value):
    """Write one value n times."""
    v = splat(value)
    k = 0
    while k < n:
        store_first(out, offset + k, least(WIDTH, n - k), v)
        k += WIDTH


# ---- softmax, its logarithm, log-sum-exp ----


def held_exponentials(source, at, count):
    """Up to eight of the exponentials that are held, in float64."""
    raise NotImplementedError("compiled only")


@inlined_overload(held_exponentials)
def _held_exponentials(source, at, count):
    if in_singles(source):
        return lambda source, at, count: (
            load_some(source.held, at, count, 0.0) + load_some(source.lows, at, count, 0.0)
        )
    return lambda source, at, count: load_some(source.held, at, count, 0.0)


def _scaled(source, chunk, out, factor, streaming):
    """out = factor * held over a chunk, 0 where the mask is False."""
    raise NotImplementedError("compiled only")


@inlined_overload(_scaled)
def _choose_scaled(source, chunk, out, factor, streaming):
    if not in_singles(source):
        return lambda source, chunk, out, factor, streaming: _scaled_in_lanes(
            source, chunk, out, factor, streaming
        )

    def in_sixteen_lanes(source, chunk, out, factor, streaming):
        if is_of_two_floats(factor):
            scaled_in_singles(source, chunk, out, factor, -1, 0.0, streaming)
        else:
            _scaled_seldom(source, chunk, out, factor, streaming)

    return in_sixteen_lanes


@helper
def _scaled_seldom(source, chunk, out, factor, streaming):
    _scaled_in_lanes(source, chunk, out, factor, streaming)


@inlined
def _scaled_in_lanes(source, chunk, out, factor, streaming):
    f, k, n, offset = splat(factor), 0, chunk.count, offset_of(chunk)
    line = until_line(out, offset, n, streaming)
    while k < n:
        if k >= line and k + WIDTH <= n:
            value = held_exponentials(source, chunk.at + k, WIDTH) * f
            _put(out, offset + k, masked(source, inside(chunk, k, WIDTH), value, 0.0), streaming)
            k += WIDTH
        else:
            count = least(WIDTH, line - k if k < line else n - k)
            value = held_exponentials(source, chunk.at + k, count) * f
            store_first(out, offset + k, count, masked(source, inside(chunk, k, count), value, 0.0))
            k += count


@inlined
def _softmax_of_row(held_in, out, streaming, peaks, sums, row, num_classes):
    whole, ahead = is_whole(held_in, num_classes), Ahead(out, not streaming)
    _ask_for_ends(out, row * num_classes, num_classes, streaming)
    source = holding_in(held_in, None, out, streaming, row, num_classes)
    peak = summed(source, peaks, sums, row, num_classes, whole, ahead)
    total = total_of(source, peaks, sums, peak)
    for c in range(len(peaks)):
        chunk = chunk_of(source, row, c, num_classes)
        factor = share_of(source, peaks[c], peak) / total
        shift = reference(peaks[c])
        if whole or not is_written_anew(source, None, chunk, shift, factor, _NO_TARGET, out, streaming):
            held_again(source, chunk, -1, peaks[c], whole, ahead)
            _scaled(source, chunk, out, factor, streaming)


@compiled
def softmax(z, out, streaming, transform, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    peaks, sums = scratch(chunks_of(num_classes)), scratch(chunks_of(num_classes))
    source = long_source_of(transform, z, held_of(num_classes))
    for row in range(start, stop):
        _softmax_of_row(source, out, streaming, peaks, sums, row, num_classes)
    settle()


def shows_rest(source, total):
    """Whether the rest beside the maximum's own 1 keeps its digits when that 1 is taken off.

    Narrow results need fewer of them.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(shows_rest)
def _shows_rest(source, total):
    if in_singles(source):
        return lambda source, total: total >= 1.0 + SHOWN
    return lambda source, total: total >= 2.0


@inlined
def _log_normaliser(source, peaks, sums, row, num_classes):
    """Return a row's maximum (times T) and log sum exp(u - max), the maximum's own 1 kept out of the sum.

    Where the others add up to one or more, nothing is lost by taking that 1 off again. Only a row that its
    maximum dominates is summed a second time, without the entries at the maximum.
    """
    peak = summed(source, peaks, sums, row, num_classes, False, Ahead(source.z, False))
    total = total_of(source, peaks, sums, peak) * unit_of(source, peak)
    if total < 2.0:
        total -= excess_at_peak(source, peak)
    if shows_rest(source, total):
        return peak, math.log1p(total - 1.0)
    return peak, math.log1p(rest_of(source, row, -1, num_classes, peak))


def _logarithms(source, chunk, out, peak, log_total, streaming):
    """out = (u T - peak) / T - log_total over a chunk, -inf where the mask is False."""
    raise NotImplementedError("compiled only")


@inlined_overload(_logarithms)
def _choose_logarithms(source, chunk, out, peak, log_total, streaming):
    if not in_singles(source):
        return lambda source, chunk, out, peak, log_total, streaming: _logarithms_in_lanes(
            source, chunk, out, peak, log_total, streaming
        )

    def in_sixteen_lanes(source, chunk, out, peak, log_total, streaming):
        if fits_one_number(peak, log_total):
            less_in_singles(source, chunk, out, peak + log_total, streaming)
        else:
            _logarithms_seldom(source, chunk, out, peak, log_total, streaming)

    return in_sixteen_lanes


@helper
def _logarithms_seldom(source, chunk, out, peak, log_total, streaming):
    _logarithms_in_lanes(source, chunk, out, peak, log_total, streaming)


@inlined
def _logarithms_in_lanes(source, chunk, out, peak, log_total, streaming):
    k, n, offset = 0, chunk.count, offset_of(chunk)
    line = until_line(out, offset, n, streaming)
    m, minus = splat(peak), splat(log_total)
    while k < n:
        if k >= line and k + WIDTH <= n:
            x = log_relative(source, inside(chunk, k, WIDTH), m, minus)
            _put(out, offset + k, masked(source, inside(chunk, k, WIDTH), x, -np.inf), streaming)
            k += WIDTH
        else:
            count = least(WIDTH, line - k if k < line else n - k)
            x = log_relative(source, inside(chunk, k, count), m, minus)
            store_first(out, offset + k, count, masked(source, inside(chunk, k, count), x, -np.inf))
            k += count


@inlined
def _log_softmax_of_row(source, out, streaming, peaks, sums, row, num_classes):
    _ask_for_ends(out, row * num_classes, num_classes, streaming)
    peak, log_total = _log_normaliser(source, peaks, sums, row, num_classes)
    if math.isinf(peak):  # +inf, or nothing above -inf: no distribution
        log_total = math.nan
    for c in range(len(peaks)):
        chunk = chunk_of(source, row, c, num_classes)
        transformed_again(source, chunk, -1)
        _logarithms(source, chunk, out, peak, log_total, streaming)


@compiled
def log_softmax(z, out, streaming, transform, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    peaks, sums = scratch(chunks_of(num_classes)), scratch(chunks_of(num_classes))
    source = long_source_of(transform, z, held_of(num_classes))
    for row in range(start, stop):
        _log_softmax_of_row(source, out, streaming, peaks, sums, row, num_classes)
    settle()


@inlined
def _logsumexp_of_row(source, peaks, sums, row, num_classes):
    peak, log_total = _log_normaliser(source, peaks, sums, row, num_classes)
    return peak if math.isinf(peak) and not math.isnan(log_total) else peak + log_total


@compiled
def logsumexp(z, out, streaming, values, transform, num_classes, start, stop):
    """Log-sum-exp of rows start ... stop - 1 of the flat array z to the float64 array values.

    ``out`` is not used.
    """
    peaks, sums = scratch(chunks_of(num_classes)), scratch(chunks_of(num_classes))
    source = long_source_of(transform, z, held_of(num_classes))
    for row in range(start, stop):
        values[row] = _logsumexp_of_row(source, peaks, sums, row, num_classes)


# ---- the loss ----


def _gradient(source, smooth, chunk, factor, gradient, out, streaming):
    """out = (factor * held, less the target's entries) du/dz over a chunk.

    The target has its own number.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(_gradient)
def _choose_gradient(source, smooth, chunk, factor, gradient, out, streaming):
    if not in_singles(source) or not isinstance(smooth, types.NoneType):
        return lambda source, smooth, chunk, factor, gradient, out, streaming: _gradient_in_lanes(
            source, smooth, chunk, factor, gradient, out, streaming
        )

    def in_sixteen_lanes(source, smooth, chunk, factor, gradient, out, streaming):
        if is_of_two_floats(factor):
            y = gradient.y - chunk.first
            scaled_in_singles(source, chunk, out, factor, y, gradient.at_target, streaming)
        else:
            _gradient_seldom(source, smooth, chunk, factor, gradient, out, streaming)

    return in_sixteen_lanes


@helper
def _gradient_seldom(source, smooth, chunk, factor, gradient, out, streaming):
    _gradient_in_lanes(source, smooth, chunk, factor, gradient, out, streaming)


@inlined
def _gradient_in_lanes(source, smooth, chunk, factor, gradient, out, streaming):
    f, target, k, n, offset = splat(factor), splat(gradient.at_target), 0, chunk.count, offset_of(chunk)
    y = gradient.y - chunk.first
    line = until_line(out, offset, n, streaming)
    while k < n:
        if k >= line and k + WIDTH <= n:
            classes = inside(chunk, k, WIDTH)
            g = held_exponentials(source, classes.at, WIDTH) * f
            g = less_target(smooth, classes, g, gradient.spread)
            if k <= y < k + WIDTH:
                g = where_equal(iota(), splat(float(y - k)), target, g)
            _put(out, offset + k, through(source, classes, g), streaming)
            k += WIDTH
        else:
            classes = inside(chunk, k, least(WIDTH, line - k if k < line else n - k))
            g = held_exponentials(source, classes.at, classes.count) * f
            g = less_target(smooth, classes, g, gradient.spread)
            g = where_equal(iota(), splat(float(y - k)), target, g)
            store_first(out, offset + k, classes.count, through(source, classes, g))
            k += classes.count


@inlined
def _moved(source, sums, old, new):
    """A row's `TargetSums`, brought from one maximum to a larger one."""
    moved = below(source, reference(new), 0.0, old)[0] if old > -np.inf else 0.0
    return TargetSums(
        sums.r_d - moved * sums.r_sum, sums.r_sum, sums.t_d - part(moved, sums.t_sum), sums.t_sum
    )


@inlined
def _with_chunk(sums, own, shift):
    """A row's `TargetSums` and those of a chunk, which ``shift`` brings to the row's maximum."""
    return TargetSums(
        sums.r_d + own.r_d + shift * own.r_sum,
        sums.r_sum + own.r_sum,
        sums.t_d + own.t_d + part(shift, own.t_sum),
        sums.t_sum + own.t_sum,
    )


@inlined
def _keep(kept, row, peak, terms, r_factor, own):
    """Store what is kept of a row."""
    place = row * KEPT
    kept[place], kept[place + 1], kept[place + 2] = peak, terms.alpha, r_factor
    kept[place + 3], kept[place + 4] = own, terms.weight


class Found(NamedTuple):
    """What the walk over a row's chunks finds."""

    peak: float  # the row's maximum
    u_y: float  # u T at the target
    low_y: float  # its rounding error
    target: TargetSums


@inlined
def walk(source, smooth, peaks, sums, row, keep, ahead):
    """Fill the maxima and the sums of a row's chunks, and return what is `Found`.

    With ``keep`` the exponentials are held.
    """
    u_y, low_y, peak, target = 0.0, 0.0, -np.inf, TargetSums(0.0, 0.0, 0.0, 0.0)
    shared = shared_peak(source, row.row, row.y, row.num_classes)
    for c in range(len(peaks)):
        chunk = chunk_of(source, row.row, c, row.num_classes)
        peaks[c] = max(shared, peak_without(source, chunk, row.y, row.skipped))
        start_at = reference(peaks[c])
        own = target_sums(smooth, source, chunk, start_at)
        if chunk.first <= row.skipped < chunk.first + chunk.count:
            u_y, low_y = target_of(source, inside(chunk, row.y - chunk.first, 1))
        sums[c] = exponentials(source, chunk, start_at, row.skipped - chunk.first, keep, ahead)
        if peaks[c] > peak:  # all that is relative to the maximum so far moves to the new one
            target, peak = _moved(source, target, peak, peaks[c]), peaks[c]
        target = _with_chunk(target, own, below(source, start_at, 0.0, reference(peak))[0])
    if 0 <= row.skipped < row.num_classes and u_y > peak:  # it was kept out of the maxima
        target, peak = _moved(source, target, peak, u_y), u_y
    return Found(peak, u_y, low_y, target)


class Room(NamedTuple):
    """Scratch for a row of the loss."""

    peaks: Any  # the maxima of its chunks
    sums: Any  # their sums
    aside: Any  # as ``Source.held``, with given distributions


def _aside(source, size):
    raise NotImplementedError("compiled only")


@allocating_overload(_aside)
def _choose_aside(source, size):
    if in_singles(source):
        return lambda source, size: scratch_singles(size)
    return lambda source, size: scratch(size)


@allocating
def _room_of(source, smooth, num_classes):
    chunks = chunks_of(num_classes)
    return Room(
        scratch(chunks),
        scratch(chunks),
        _aside(source, len(source.held) if smoothing_of(smooth, 0)[1] else 0),
    )


@helper
def _log_total(source, row, peak, total, aside):
    """Return log S of a row with a given distribution; its exponentials stay where they are held."""
    if shows_rest(source, total) or total != total:
        return math.log1p(total - 1.0)
    held = source.held if not is_whole(source, row.num_classes) else aside
    beside = Source(source.transform, source.z, held, source.lows, source.caps, None)
    return math.log1p(rest_of(beside, row.row, row.y, row.num_classes, peak))


@inlined
def _given_terms(total, log_total, shift, eps, target, weight, scale, fields):
    """The `Terms` of a row with a given distribution: nothing is at a target."""
    s_sum, s_d = (1.0 - eps) * target.t_sum, part(1.0 - eps, target.t_d)
    if eps != 0.0:
        s_sum, s_d = s_sum + eps, s_d + eps * (target.r_d / target.r_sum)
    given = soft_terms(SoftSums(total, log_total, shift, s_sum, s_d), weight, scale, fields)
    return Terms(given.value, given.alpha, given.beta, 0.0, weight)


@inlined
def _labelled_sums(source, smooth, others, shift, eps, found, y):
    """The `Sums` of a row with a class index."""
    target = found.target
    r_d = target.r_d / target.r_sum if eps != 0.0 else target.r_d
    d_y, low = below(source, found.u_y, found.low_y, found.peak)
    return Sums(others, d_y, low, shift, eps, prior_of(smooth, y, target.r_sum), r_d)


@inlined
def _spread_of(beta, eps, r_sum, soft):
    """What multiplies the target's entries of a row."""
    if soft:
        return Spread(beta * eps / r_sum if eps != 0.0 else 0.0, beta * (1.0 - eps))
    return Spread(beta / r_sum if eps != 0.0 else 0.0, 0.0)


class Results(NamedTuple):
    """Where the results of all rows go: see ``cross_entropy``."""

    out: Any
    streaming: bool
    wanted: bool
    values: Any
    kept: Any


@inlined
def _set_ignored(results, row, num_classes):
    """Write the zeros of an ignored row."""
    results.values[row] = 0.0
    if len(results.kept):
        for i in range(KEPT):
            results.kept[row * KEPT + i] = 0.0
    if results.wanted:
        fill(results.out, row * num_classes, num_classes, 0.0)


@inlined
def _loss_of_row(held_in, smooth, results, room, row, weights, fields):
    out, streaming, num_classes = results.out, results.streaming, row.num_classes
    peaks, sums = room.peaks, room.sums
    whole, ahead = is_whole(held_in, num_classes), Ahead(out, not streaming)
    _ask_for_ends(out, row.row * num_classes, num_classes, streaming)
    source = held_in
    if results.wanted:
        source = holding_in(held_in, smooth, out, streaming, row.row, num_classes)
    eps, soft = smoothing_of(smooth, row.y)
    found = walk(source, smooth, peaks, sums, row, results.wanted and whole, ahead)
    unit = unit_of(source, found.peak)
    others = unit * total_of(source, peaks, sums, found.peak)
    if others < 2.0 and (soft or found.u_y < found.peak):
        others -= excess_at_peak(source, found.peak)
    w, scale = weight_of(weights, row.row, row.y, soft), scale_of(weights, row.row)
    shift = found.peak * inverse_temperature(source)
    if smooth is not None and soft:  # without it the branch is not compiled
        log_total = _log_total(source, row, found.peak, others, room.aside)
        terms = _given_terms(others, log_total, shift, eps, found.target, w, scale, fields)
    else:
        of_row = _labelled_sums(source, smooth, others, shift, eps, found, row.y)
        terms = row_terms(of_row, w, scale, fields)
    results.values[row.row] = terms.value
    spread = _spread_of(terms.beta, eps, found.target.r_sum, soft)
    if len(results.kept):
        own = spread.given if soft else terms.at_target
        _keep(results.kept, row.row, found.peak, terms, spread.prior, own)
    if not results.wanted:
        return
    gradient = Gradient(spread, terms.at_target, row.skipped)
    for c in range(len(peaks)):
        chunk = chunk_of(source, row.row, c, num_classes)
        factor = unit * share_of(source, peaks[c], found.peak) * terms.alpha
        near = reference(peaks[c])
        if whole or not is_written_anew(source, smooth, chunk, near, factor, gradient, out, streaming):
            held_again(source, chunk, row.y, peaks[c], whole, ahead)
            _gradient(source, smooth, chunk, factor, gradient, out, streaming)


# ---- the loss: rows in groups ----

# What rows come to is one formula for eight of them at once (``terms.lane_terms``): a row alone would wait
# for each of its logarithms, exponentials and divisions. The rows of a group are held together.

# Entries that are held together, of float64 and of narrower types: more leave the first-level cache too long.
_TOGETHER, _TOGETHER_IN_NARROW = 1 << 10, 1 << 12


class Group(NamedTuple):
    """What is found of up to eight rows, one a lane, and room for what their formula makes of it."""

    peaks: Any  # the maxima of their chunks, row by row
    sums: Any  # and the sums
    tops: Any  # (8,) the rows' maxima
    units: Any  # (8,) what brings held exponentials to exp(u - max)
    others: Any  # (8,) the exponentials without the target's; then alpha
    d_y: Any  # (8,) the target's distance from the maximum; then the gradient at the target
    low: Any  # (8,) its rounding error; then the value
    weights: Any  # (8,)
    scales: Any  # (8,)


def _rows_together(z, transform, num_classes):
    """How many rows are a group's: it depends on types and the number of classes alone.

    So a row's value is the same with a gradient and without. In sixteen lanes a row is a group: there the
    cache is worth more.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(_rows_together)
def _choose_rows_together(z, transform, num_classes):
    if takes_singles(z, transform):
        return lambda z, transform, num_classes: 1
    most = _TOGETHER if z.dtype == types.float64 else _TOGETHER_IN_NARROW
    return lambda z, transform, num_classes: max(1, least(WIDTH, most // num_classes))


@allocating
def _group_of(num_classes):
    size = WIDTH * chunks_of(num_classes)
    return Group(
        scratch(size),
        scratch(size),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
    )


def _own_place(source, i, size):
    """Return the source that holds the i-th row of a group in its own place."""
    raise NotImplementedError("compiled only")


@inlined_overload(_own_place)
def _choose_own_place(source, i, size):
    has_lows, has_caps = (not isinstance(member(source, name), types.NoneType) for name in ("lows", "caps"))
    if in_singles(source):  # a row is a group
        return lambda source, i, size: source
    if has_lows and has_caps:

        def with_both(source, i, size):
            held, lows = source.held[i * size : (i + 1) * size], source.lows[i * size : (i + 1) * size]
            caps = source.caps[i * size : (i + 1) * size]
            return Source(source.transform, source.z, held, lows, caps, source.lane)

        return with_both
    if has_caps:

        def with_caps(source, i, size):
            held, caps = source.held[i * size : (i + 1) * size], source.caps[i * size : (i + 1) * size]
            return Source(source.transform, source.z, held, source.lows, caps, source.lane)

        return with_caps

    def with_neither(source, i, size):
        held = source.held[i * size : (i + 1) * size]
        return Source(source.transform, source.z, held, source.lows, source.caps, source.lane)

    return with_neither


@inlined
def _find(held_in, results, group, i, row, weights):
    """Fill in what is found of the i-th row of a group; its exponentials are held, where that is wanted."""
    num_classes, chunks = row.num_classes, chunks_of(row.num_classes)
    together = _rows_together(held_in.z, held_in.transform, num_classes)
    peaks, sums = group.peaks[i * chunks : (i + 1) * chunks], group.sums[i * chunks : (i + 1) * chunks]
    whole, ahead = is_whole(held_in, num_classes), Ahead(results.out, not results.streaming)
    _ask_for_ends(results.out, row.row * num_classes, num_classes, results.streaming)
    source = held_in
    if results.wanted:
        mine = _own_place(held_in, i, num_classes if together > 1 else len(held_in.held))
        source = holding_in(mine, None, results.out, results.streaming, row.row, num_classes)
    found = walk(source, None, peaks, sums, row, results.wanted and whole, ahead)
    unit = unit_of(source, found.peak)
    others = unit * total_of(source, peaks, sums, found.peak)
    if others < 2.0 and found.u_y < found.peak:
        others -= excess_at_peak(source, found.peak)
    d_y, low = below(source, found.u_y, found.low_y, found.peak)
    group.tops[i], group.units[i], group.others[i] = found.peak, unit, others
    group.d_y[i], group.low[i] = d_y, low
    group.weights[i] = weight_of(weights, row.row, row.y, False)
    group.scales[i] = scale_of(weights, row.row)


@inlined
def _conclude(source, group, fields):
    """Take the formula of a group's rows."""
    zero = splat(0.0)
    shift = load(group.tops, 0) * splat(inverse_temperature(source))
    d_y, low = load(group.d_y, 0), load(group.low, 0)
    sums = Sums(load(group.others, 0), d_y, low, shift, zero, zero, zero)
    e_y = exponential(source.z, d_y, low)
    weight, scale = load(group.weights, 0), load(group.scales, 0)
    if are_plain(fields):
        terms = plain_terms(sums, e_y, weight, scale, fields.gate)
    else:
        terms = family_terms(sums, e_y, weight, scale, fields)
    store(group.others, 0, terms.alpha)
    store(group.d_y, 0, terms.at_target)
    store(group.low, 0, terms.value)
    store(group.weights, 0, terms.weight)


@inlined
def _conclude_alone(source, group, fields):
    """The same of a row alone: it would only wait for vectors that are written by parts."""
    shift = group.tops[0] * inverse_temperature(source)
    sums = Sums(group.others[0], group.d_y[0], group.low[0], shift, 0.0, 0.0, 0.0)
    terms = row_terms(sums, group.weights[0], group.scales[0], fields)
    group.others[0], group.d_y[0], group.low[0] = terms.alpha, terms.at_target, terms.value
    group.weights[0] = terms.weight


@inlined
def _write(held_in, results, group, i, row):
    """Write the value of the i-th row of a group, what is kept of it, and its gradient."""
    out, streaming, num_classes = results.out, results.streaming, row.num_classes
    chunks, peak, alpha, at_target = chunks_of(num_classes), group.tops[i], group.others[i], group.d_y[i]
    results.values[row.row] = group.low[i]
    if len(results.kept):
        terms = Terms(group.low[i], alpha, 0.0, at_target, group.weights[i])
        _keep(results.kept, row.row, peak, terms, 0.0, at_target)
    if not results.wanted:
        return
    whole, ahead = is_whole(held_in, num_classes), Ahead(out, not streaming)
    together = _rows_together(held_in.z, held_in.transform, num_classes)
    mine = _own_place(held_in, i, num_classes if together > 1 else len(held_in.held))
    source = holding_in(mine, None, out, streaming, row.row, num_classes)
    gradient = Gradient(Spread(0.0, 0.0), at_target, row.y)
    for c in range(chunks):
        chunk, own = chunk_of(source, row.row, c, num_classes), group.peaks[i * chunks + c]
        factor = group.units[i] * share_of(source, own, peak) * alpha
        if whole or not is_written_anew(
            source, None, chunk, reference(own), factor, gradient, out, streaming
        ):
            held_again(source, chunk, row.y, own, whole, ahead)
            _gradient(source, None, chunk, factor, gradient, out, streaming)


class Given(NamedTuple):
    """What is given beside the logits."""

    labels: Any
    ignore: int
    weights: Any
    fields: Any


def _losses(z, results, given, transform, smooth, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_losses)
def _choose_losses(z, results, given, transform, smooth, num_classes, start, stop):
    if isinstance(smooth, types.NoneType):

        def in_groups(z, results, given, transform, smooth, num_classes, start, stop):
            labels, ignore = given.labels, given.ignore
            together = _rows_together(z, transform, num_classes)
            size = together * num_classes if results.wanted and together > 1 else held_of(num_classes)
            source = long_source_of(transform, z, size)
            group = _group_of(num_classes)
            for first in range(start, stop, together):
                count = least(together, stop - first)
                for i in range(count):
                    y = labels[first + i]
                    if y != ignore:
                        _find(source, results, group, i, Row(first + i, num_classes, y, y), given.weights)
                if together == 1:
                    _conclude_alone(source, group, given.fields)
                else:
                    _conclude(source, group, given.fields)
                for i in range(count):
                    y = labels[first + i]
                    if y == ignore:
                        _set_ignored(results, first + i, num_classes)
                    else:
                        _write(source, results, group, i, Row(first + i, num_classes, y, y))

        return in_groups

    def one_by_one(z, results, given, transform, smooth, num_classes, start, stop):
        labels, ignore = given.labels, given.ignore
        source = long_source_of(transform, z, held_of(num_classes))
        room = _room_of(source, smooth, num_classes)
        for n in range(start, stop):
            y = labels[n]
            if y == ignore:
                _set_ignored(results, n, num_classes)
                continue
            row = Row(n, num_classes, y, -1 if smoothing_of(smooth, y)[1] else y)
            _loss_of_row(source, smooth, results, room, row, given.weights, given.fields)

    return one_by_one


@compiled
def cross_entropy(
    z,
    out,
    streaming,
    wanted,
    values,
    kept,
    labels,
    ignore,
    numbers,
    transform,
    smooth,
    num_classes,
    start,
    stop,
):
    """Value and gradient of rows start ... stop - 1 of the flat array z.

    The values go to ``values`` (float64), and where ``wanted`` the gradient to ``out``, which may be z. Rows
    whose label is ``ignore`` get 0. ``numbers`` are the `Weights` and the `ValueFields` in a plain tuple,
    which costs less to hand over. ``transform`` and ``smooth`` are what ``transform_of`` and ``smooth_of``
    return. Where ``kept`` is not empty it gets ``KEPT`` numbers a row: what ``cross_entropy_gradient`` needs,
    and the row's w.

    Where ``values`` has one entry more than there are labels, all rows are this call's, and the entry gets
    the sum of the values. Then nothing is written where a label is no class, or is ``ignore``: the first such
    row is returned. Else -1 is.
    """
    asked = is_asked(values, labels)
    wrong = first_without_class(labels, ignore, num_classes) if asked else -1
    if wrong >= 0:
        return wrong
    weights, fields = row_numbers(numbers)
    results = Results(out, streaming, wanted, values, kept)
    given = Given(labels, ignore, weights, fields)
    _losses(z, results, given, transform, smooth, num_classes, start, stop)
    settle()
    if asked:
        values[stop] = sum_of(values, stop)
    return -1


@inlined
def _gradient_of_row(source, smooth, out, streaming, kept, factor, y, chunks):
    row, num_classes = chunks
    _ask_for_ends(out, row * num_classes, num_classes, streaming)
    _, soft = smoothing_of(smooth, y)
    place, ahead = row * KEPT, Ahead(out, not streaming)
    peak, alpha = reference(kept[place]), factor * kept[place + 1]
    r_factor, own = factor * kept[place + 2], factor * kept[place + 3]
    t_factor, at_target, marked = (own, 0.0, -1) if soft else (0.0, own, y)
    gradient = Gradient(Spread(r_factor, t_factor), at_target, marked)
    factor = unit_of(source, peak) * alpha
    for c in range(chunks_of(num_classes)):
        chunk = chunk_of(source, row, c, num_classes)
        if not is_written_anew(source, smooth, chunk, peak, factor, gradient, out, streaming):
            transformed_again(source, chunk, y)
            exponentials(source, chunk, peak, -1, True, ahead)
            _gradient(source, smooth, chunk, factor, gradient, out, streaming)


@compiled
def cross_entropy_gradient(
    z, out, streaming, kept, upstream, labels, ignore, transform, smooth, num_classes, start, stop
):
    """Gradient of rows start ... stop - 1 to ``out``, which may be z.

    It comes from what ``cross_entropy`` kept of them. ``upstream`` (one number, or one a row) multiplies it
    before anything is rounded. One exponential a logit is taken, no maximum and no sum.
    """
    source = long_source_of(transform, z, window(transform, num_classes, CHUNK))
    for row in range(start, stop):
        y = labels[row]
        if y == ignore:
            fill(out, row * num_classes, num_classes, 0.0)
            continue
        factor = upstream[row if len(upstream) > 1 else 0]
        _gradient_of_row(source, smooth, out, streaming, kept, factor, y, (row, num_classes))
    settle()


@compiled
def rescale(out, factor, start, stop):
    """Multiply entries start ... stop - 1 of a flat array."""
    f, k = splat(factor), start
    while k + 4 * WIDTH <= stop:
        a, b, c, d = (load(out, k), load(out, k + WIDTH), load(out, k + 2 * WIDTH), load(out, k + 3 * WIDTH))
        store(out, k, a * f)
        store(out, k + WIDTH, b * f)
        store(out, k + 2 * WIDTH, c * f)
        store(out, k + 3 * WIDTH, d * f)
        k += 4 * WIDTH
    while k < stop:
        count = least(WIDTH, stop - k)
        store_some(out, k, count, load_some(out, k, count, 0.0) * f)
        k += WIDTH
