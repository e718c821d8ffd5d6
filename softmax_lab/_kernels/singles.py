"""Exponentials of float32 in sixteen lanes: twice as many results an instruction as in float64.

An exponential is a sum of two floats (``exponential.parts``), and so is what it is multiplied by at the end,
so that a result is rounded once but for about a quarter of its last digit. It is relative to a power of two
near the maximum's: chunks with maxima of their own are merged without another rounding.

A maximum of more than ``LARGEST`` leaves no digits for the logarithm of that power. Its chunk is worked on in
float64, relative to the maximum itself, and held in the same form.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .compiler import helper, inlined
from .exponential import (
    LARGEST,
    LOG_2,
    LOG_2_HIGH,
    LOG_2_LOW,
    MAGIC_SINGLE,
    REACH,
    Base,
    base_of,
    double,
    parts,
    power_near,
)
from .relative import relative
from .simd import (
    SINGLES,
    WIDTH,
    ask_for,
    fma,
    iota,
    iota_singles,
    least,
    load_first,
    load_first_singles,
    load_singles,
    max_lanes,
    narrowed,
    prefetch,
    splat,
    splat_single,
    store_first,
    store_first_singles,
    store_singles,
    stream_singles,
    sum_lanes,
    to_boundary,
    where_equal,
    widened,
)
from .transform import inside, load_some, offset_of, parts_of, parts_of_half, reduced_of


class Ahead(NamedTuple):
    """Where results will be written."""

    out: Any
    wanted: bool  # whether to ask for the places: not of results that are written past the caches


class Pace(NamedTuple):
    """How far ahead memory is asked for what is needed next, and how exponentials are held."""

    rows: int  # what is read next is so many rows, or chunks, ahead; 0: nothing is asked for
    entries: int  # and the place of a result that is asked for, so many entries
    padded: bool  # whether what is held has room for whole vectors


# One row ahead is too late: a thread would wait for memory a sixth of its time. Two do, and four do no harm.
AHEAD = 4
ROW_BY_ROW = Pace(AHEAD, 512, False)
RESULTS = Pace(AHEAD, 0, False)  # of exponentials that are not held


@inlined
def exponentials_in_singles(source, chunk, peak, y, keep, ahead):
    """Return the sum of exp(u - peak) of a chunk without its y-th entry, relative to the power near ``peak``.

    It is 2^REACH times too large. With ``keep`` the exponentials are held, in the same measure. The places of
    the results are asked for meanwhile, where that is wanted: memory is idle while arithmetic takes its time.
    """
    if abs(peak) <= LARGEST:
        return sum_relative(source, chunk, base_of(peak), y, keep, ahead, ROW_BY_ROW)
    return _sum_of_large(source, chunk, peak, y, keep)


BLOCK = 128  # entries whose low parts float32 can sum
FOUR = 4 * SINGLES


@inlined
def sum_relative(source, chunk, base, y, keep, ahead, pace):
    """Return the sum of the exponentials relative to a `Base`, which are held as sums of two floats."""
    return sum_lanes(lanes_relative(source, chunk, base, y, keep, ahead, pace))


@inlined
def lanes_relative(source, chunk, base, y, keep, ahead, pace):
    """Return the same as eight lanes, which are still to be summed.

    A lane's sum starts so large that the rounding error of an addition is exact (Dekker's fast sum). Rounding
    errors and low parts are summed apart, a block at a time.
    """
    first_total, zero = splat_single(2.0 ** (REACH + 1)), splat_single(0.0)
    total, error, a, b = first_total, zero, splat(0.0), splat(0.0)
    k, n = 0, chunk.count
    full = n - n % SINGLES
    stop = y - y % SINGLES if 0 <= y < full else full
    while True:
        # what is begun of four vectors is finished after the next four are begun: none waits for its own
        if k + FOUR <= stop:
            begun, left = _four(source, chunk, base, k, pace), BLOCK - FOUR
            while k + 2 * FOUR <= stop:
                following = _four(source, chunk, base, k + FOUR, pace)
                total, error = _add_four(source, chunk, begun, k, (total, error), keep, ahead, pace)
                begun, k = following, k + FOUR
                if left == 0:
                    a, b = _flushed(a, b, error)
                    error, left = zero, BLOCK
                left -= FOUR
            total, error = _add_four(source, chunk, begun, k, (total, error), keep, ahead, pace)
            k += FOUR
            if left == 0 and k < full:
                a, b = _flushed(a, b, error)
                error = zero
        while k < stop:
            half = _half(source, chunk, base, k, pace)
            total, error = _add(source, chunk, half, k, (total, error), keep, ahead, pace)
            k += SINGLES
        if k < full:
            a, b = _flushed(a, b, error)
            error = zero
        if k == n:
            break
        # the vector with entry y, or the last one, which is not full
        count = least(SINGLES, n - k)
        z = load_first_singles(source.z, offset_of(chunk) + k, count, -np.inf)
        if y >= 0:
            z = where_equal(iota_singles(), splat_single(float(y - k)), splat_single(-np.inf), z)
        high, low, power = parts_of(source.transform, z, base, chunk.first + k)
        if keep and (pace.padded or count == SINGLES):
            store_singles(source.held, chunk.at + k, high * power)
            store_singles(source.lows, chunk.at + k, low * power)
        elif keep:
            store_first_singles(source.held, chunk.at + k, count, high * power)
            store_first_singles(source.lows, chunk.at + k, count, low * power)
        new = fma(high, power, total)
        error = fma(low, power, error + fma(high, power, total - new))
        total = new
        k += count
        stop = full
    first, second = widened(total - first_total)  # exact: a multiple of the total's last place
    first_error, second_error = widened(error)
    return (first + (a + first_error)) + (second + (b + second_error))


@inlined
def _half(source, chunk, base, k, pace):
    """Begin with sixteen exponentials from the chunk's k-th entry on."""
    if pace.rows:
        prefetch(source.z, offset_of(chunk) + pace.rows * chunk.count + k)
    return reduced_of(source.transform, load_singles(source.z, offset_of(chunk) + k), base, chunk.first + k)


@inlined
def _add(source, chunk, half, k, sums, keep, ahead, pace):
    """Finish with them: hold them where they are kept, and add them to the sums (total, error)."""
    high, low = parts_of_half(source.transform, half, chunk.first + k)
    total, error = sums
    if keep:
        if ahead.wanted:
            ask_for(ahead.out, offset_of(chunk) + k + pace.entries)
        store_singles(source.held, chunk.at + k, high * half.power)
        store_singles(source.lows, chunk.at + k, low * half.power)
    new = fma(high, half.power, total)
    return new, fma(low, half.power, error + fma(high, half.power, total - new))


@inlined
def _four(source, chunk, base, k, pace):
    """Begin with four vectors."""
    return (
        _half(source, chunk, base, k, pace),
        _half(source, chunk, base, k + SINGLES, pace),
        _half(source, chunk, base, k + 2 * SINGLES, pace),
        _half(source, chunk, base, k + 3 * SINGLES, pace),
    )


@inlined
def _add_four(source, chunk, halves, k, sums, keep, ahead, pace):
    """Finish with four vectors."""
    sums = _add(source, chunk, halves[0], k, sums, keep, ahead, pace)
    sums = _add(source, chunk, halves[1], k + SINGLES, sums, keep, ahead, pace)
    sums = _add(source, chunk, halves[2], k + 2 * SINGLES, sums, keep, ahead, pace)
    return _add(source, chunk, halves[3], k + 3 * SINGLES, sums, keep, ahead, pace)


@inlined
def _flushed(a, b, error):
    """Add sixteen rounding errors to eight of float64."""
    first, second = widened(error)
    return a + first, b + second


@helper
def _sum_of_large(source, chunk, peak, y, keep):
    """Return the sum relative to the peak itself, taken in float64."""
    m, zero, scale = splat(peak), splat(0.0), splat(2.0**REACH)
    total, k = zero, 0
    while k < chunk.count:
        count = least(WIDTH, chunk.count - k)
        p = relative(source, inside(chunk, k, count), m)[1] * scale
        if keep:
            store_first(source.held, chunk.at + k, count, p)
            high = load_first(source.held, chunk.at + k, count, 0.0)
            store_first(source.lows, chunk.at + k, count, p - high)
        total += where_equal(iota(), splat(float(y - k)), zero, p)
        k += WIDTH
    return sum_lanes(total)


@inlined
def _anchor(peak):
    """The logarithm of what sums and exponentials of a chunk are relative to."""
    return power_near(peak) * LOG_2 if abs(peak) <= LARGEST else peak


@inlined
def share_in_singles(a, b):
    """What brings them from one maximum's anchor to another's."""
    a, b = _anchor(a), _anchor(b)
    return 1.0 if a == b else math.exp(a - b)


@inlined
def unit_in_singles(peak):
    """What brings them to exp(u - peak)."""
    n = power_near(peak)
    away = (n * LOG_2_HIGH - peak) + n * LOG_2_LOW if abs(peak) <= LARGEST else 0.0
    return math.exp(away) * 2.0**-REACH


@inlined
def units_of(n, peak):
    """What brings sums relative to 2^n to exp(u - peak), of eight lanes."""
    d = fma(n, splat(LOG_2_HIGH), splat(0.0) - peak) + n * splat(LOG_2_LOW)
    return double(d, splat(0.0)) * splat(2.0**-REACH)


@inlined
def peaks_in_lanes(n, peak):
    """The exponentials of the maxima, relative to 2^n as the sums are, of eight lanes."""
    lowest = n - splat(REACH + 127.0)
    floor, magic = lowest * splat(LOG_2), splat(MAGIC_SINGLE) - lowest
    high, low, power = parts(narrowed(peak, peak), Base(narrowed(floor, floor), narrowed(magic, magic)))
    return widened(high * power)[0] + widened(low * power)[0]


@helper
def excess_in_singles(peak):
    """Return how much more than 1 the exponential of the maximum is in the sums."""
    if abs(peak) > LARGEST:
        return 0.0
    high, low, power = parts(splat_single(peak), base_of(peak))
    return max_lanes(widened(high * power)[0] + widened(low * power)[0]) * unit_in_singles(peak) - 1.0


@inlined
def index_in_singles(z, base, n, x):
    """The last place of a number among z[base : base + n], 0 where it has none."""
    found, m, k = splat(0.0), splat(x), 0
    while k < n:
        at = splat(float(k)) + iota()
        found = where_equal(load_some(z, base + k, least(WIDTH, n - k), 0.0), m, at, found)
        k += WIDTH
    return least(int(max_lanes(found)), n - 1)


#: From so much on, what the others add to the maximum's own 1 keeps its digits where that 1 is taken off.
SHOWN = 0.25
LOG_SHOWN = math.log1p(SHOWN)


@inlined
def fits_one_number(peak, log_total):
    """Whether float64 has room for the maximum and the logarithm in one sum.

    Of a confident row the logarithm would be lost in the maximum.
    """
    return log_total >= LOG_SHOWN and abs(peak) <= LARGEST


# ---- results, on the way out ----


@inlined
def until_line(out, offset, n, streaming):
    """How many entries come before the first whole line: they are not written past the caches."""
    return least(n, to_boundary(out, offset)) if streaming else 0


SMALLEST, LARGEST_FACTOR = 2.0**-100, 2.0**90


@inlined
def is_of_two_floats(factor):
    """Whether float32 has room for the factor, its rounding error and its products with what is held."""
    return SMALLEST <= abs(factor) <= LARGEST_FACTOR


@inlined
def scaled_in_singles(source, chunk, out, factor, y, at_y, streaming):
    """out = factor * held over a chunk, rounded once; its y-th entry is ``at_y``."""
    high = np.float64(np.float32(factor))
    f, low, offset = splat_single(high), splat_single(factor - high), offset_of(chunk)
    k, line, stop, full = _segments(out, offset, chunk.count, y, streaming)
    while k < chunk.count:
        while line <= k < stop:
            e = load_singles(source.held, chunk.at + k)
            value = fma(e, f, fma(load_singles(source.lows, chunk.at + k), f, e * low))
            _put(out, offset + k, value, streaming)
            k += SINGLES
        count, stop = _seldom(k, line, stop, full, chunk.count)
        if count:
            e = load_first_singles(source.held, chunk.at + k, count, 0.0)
            value = fma(e, f, fma(load_first_singles(source.lows, chunk.at + k, count, 0.0), f, e * low))
            _put_first(out, offset + k, count, value, y - k, at_y)
            k += count


@inlined
def anew_in_singles(source, chunk, peak, out, factor, y, at_y, streaming):
    """out = factor * the exponentials over a chunk, which are taken again, not held."""
    high, base = np.float64(np.float32(factor)), base_of(peak)
    f, low, offset = splat_single(high), splat_single(factor - high), offset_of(chunk)
    k, line, stop, full = _segments(out, offset, chunk.count, y, streaming)
    scale = Scale(f, low)
    while k < chunk.count:
        if line <= k <= stop - FOUR:  # as in ``lanes_relative``
            begun = _four(source, chunk, base, k, RESULTS)
            while k + 2 * FOUR <= stop:
                following = _four(source, chunk, base, k + FOUR, RESULTS)
                _put_four(source, chunk, begun, k, scale, out, streaming)
                begun, k = following, k + FOUR
            _put_four(source, chunk, begun, k, scale, out, streaming)
            k += FOUR
        while line <= k < stop:
            half = _half(source, chunk, base, k, RESULTS)
            _put(out, offset + k, _product(source.transform, half, chunk.first + k, scale), streaming)
            k += SINGLES
        count, stop = _seldom(k, line, stop, full, chunk.count)
        if count:
            x = load_first_singles(source.z, offset + k, count, -np.inf)
            half = reduced_of(source.transform, x, base, chunk.first + k)
            value = _product(source.transform, half, chunk.first + k, scale)
            _put_first(out, offset + k, count, value, y - k, at_y)
            k += count


@inlined
def less_in_singles(source, chunk, out, lse, streaming):
    """out = z - lse over a chunk, rounded once."""
    minus, offset = splat(lse), offset_of(chunk)
    k, line, stop, full = _segments(out, offset, chunk.count, -1, streaming)
    while k < chunk.count:
        while line <= k < stop:
            a, b = widened(load_singles(source.z, offset + k))
            _put(out, offset + k, narrowed(a - minus, b - minus), streaming)
            k += SINGLES
        count, stop = _seldom(k, line, stop, full, chunk.count)
        if count:
            a, b = widened(load_first_singles(source.z, offset + k, count, 0.0))
            store_first_singles(out, offset + k, count, narrowed(a - minus, b - minus))
            k += count


@inlined
def _segments(out, offset, n, y, streaming):
    """Return 0, where whole lines begin, where the vector with entry y does, and where whole vectors end."""
    line = until_line(out, offset, n, streaming)
    full = n - (n - line) % SINGLES
    return 0, line, (y - (y - line) % SINGLES if line <= y < full else full), full


@inlined
def _seldom(k, line, stop, full, n):
    """Return how many entries are written by a mask, and where the next whole vectors end.

    They are those before the first whole line, the vector with entry y, or the last ones.
    """
    if k < line:
        return least(SINGLES, line - k), stop
    return least(SINGLES, n - k), full


class Scale(NamedTuple):
    """A factor as a sum of two floats."""

    high: Any
    low: Any


@inlined
def _product(transform, half, k, scale):
    """exp(u) times a factor, rounded once, of sixteen classes from class k on that are begun."""
    high, low = parts_of_half(transform, half, k)
    e = high * half.power
    return fma(e, scale.high, fma(low * half.power, scale.high, e * scale.low))


@inlined
def _put_four(source, chunk, halves, k, scale, out, streaming):
    """Write four vectors of results that are begun."""
    offset, at = offset_of(chunk) + k, chunk.first + k
    for i in range(4):
        _put(
            out,
            offset + i * SINGLES,
            _product(source.transform, halves[i], at + i * SINGLES, scale),
            streaming,
        )


@inlined
def _put(out, offset, value, streaming):
    """Write sixteen entries, past the caches where streaming."""
    if streaming:
        stream_singles(out, offset, value)
    else:
        store_singles(out, offset, value)


@inlined
def _put_first(out, offset, count, value, y, at_y):
    """Write the first ``count`` of sixteen entries; the y-th is ``at_y``."""
    value = where_equal(iota_singles(), splat_single(float(y)), splat_single(at_y), value)
    store_first_singles(out, offset, count, value)
