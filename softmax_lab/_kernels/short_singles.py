"""Short rows of float32 in sixteen lanes: softmax, its logarithm, log-sum-exp, and the sums of the loss.

Sixteen rows go through together. Up to sixteen classes, each row has a lane: tiles are turned over on the
way in and out. Beyond it the classes fill the lanes, and what a row alone would wait for (its maximum, its
sum, its logarithm) is found for all rows before the next step begins.

The exponentials are those of ``singles``, relative to a power of two of each row's own. A row whose maximum
is too large for them is worked on by itself, in float64, and joins the others before the results are written.
What a row comes to does not depend on its neighbours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .compiler import allocating, helper, inlined, inlined_overload
from .exponential import (
    LARGEST,
    LOG2_E,
    LOG_2,
    MAGIC_SINGLE,
    REACH,
    Base,
    log1p,
    parts,
)
from .simd import (
    SINGLES,
    WIDTH,
    absolute,
    ask_for,
    fma,
    least,
    load,
    load_first_singles,
    load_quad,
    load_singles,
    load_some_quad,
    max_lanes,
    max_of_each,
    maximum,
    narrowed,
    prefetch,
    scratch,
    scratch_singles,
    splat,
    splat_single,
    store,
    store_first,
    store_quad,
    store_singles,
    store_some_quad,
    sum_lanes,
    sum_of_each,
    two_largest_of_each,
    where_equal,
    where_less,
    widened,
)
from .singles import (
    BLOCK,
    LARGEST_FACTOR,
    SMALLEST,
    Ahead,
    Pace,
    fits_one_number,
    is_of_two_floats,
    lanes_relative,
    units_of,
)
from .transform import Classes, Source, has_factors, parts_of_class, with_nearest

ALL, OTHERS, BELOW = 0, 1, 2  # kinds of sums
ACROSS = 16  # classes up to which a row has a lane
BLOCK_OF_CLASSES = BLOCK // SINGLES
SIDE_BY_SIDE = Pace(SINGLES, 0, True)
SECONDS = SINGLES * SINGLES  # where the second sixteen vectors of ``Room.peaks`` begin


class Room(NamedTuple):
    """Scratch for sixteen rows."""

    tile: Any  # their logits, then exponentials: sixteen entries a class, or rows one after the other
    lows: Any  # as many: the rounding errors of these
    peaks: Any  # (512,): two times sixteen vectors, of which the maxima are found, then these
    floors: Any  # (16,) the members of a `Base`
    magics: Any  # (16,)
    sums: Any  # (128,) in float64: sixteen vectors, of which the sums are found, or sixteen sums
    skipped: Any  # (16,) the class that is kept out of a row's sum, or -1
    targets: Any  # (16,) the logit there
    factors: Any  # (16,) in float64
    aside: Any  # rows whose factor float32 does not hold


class Rows(NamedTuple):
    """Sixteen rows."""

    row: int  # the first
    count: int  # of them; lanes beyond repeat the last
    num_classes: int


@allocating
def room_in_singles(num_classes):
    """Return scratch for sixteen rows."""
    size = SINGLES * (num_classes + SINGLES)
    skipped = scratch_singles(SINGLES)
    store_singles(skipped, 0, splat_single(-1.0))
    return Room(
        scratch_singles(size),
        scratch_singles(size),
        scratch_singles(2 * SECONDS),
        scratch_singles(SINGLES),
        scratch_singles(SINGLES),
        scratch(SINGLES * WIDTH),
        skipped,
        scratch_singles(SINGLES),
        scratch(SINGLES),
        scratch_singles(SINGLES * num_classes),
    )


@inlined
def _base_at(rows, i):
    """Where in memory a row starts."""
    return (rows.row + least(i, rows.count - 1)) * rows.num_classes


@inlined
def _stride(rows):
    """Entries from a row to the next in the scratch arrays, where rows lie one after the other."""
    return (rows.num_classes + SINGLES - 1) // SINGLES * SINGLES


@inlined
def _row_of(rows, i):
    """The classes of a row."""
    return Classes(rows.row, _base_at(rows, i), 0, rows.num_classes, i * _stride(rows))


@inlined
def _copy_of(rows, i):
    """The same of a copy in the scratch array, in whole vectors."""
    return Classes(rows.row, i * _stride(rows), 0, _stride(rows), i * _stride(rows))


# ---- sixteen rows in and out, turned over ----


@inlined
def _gather(array, rows, tile):
    """Copy sixteen rows to ``tile``, sixteen entries a class."""
    base, n = rows.row * rows.num_classes, rows.num_classes
    if n < 4:
        load_some_quad(array, base, n, rows.count, n, tile, 0)
        return
    for k in range(0, n, 4):
        first = least(k, n - 4)  # the last four overlap those before
        load_quad(array, base + first, n, rows.count, 4, tile, first * SINGLES)


@inlined
def _scatter(out, rows, tile):
    """Write sixteen rows from ``tile``."""
    base, n = rows.row * rows.num_classes, rows.num_classes
    if n < 4:
        store_some_quad(out, base, n, rows.count, n, tile, 0)
        return
    for k in range(0, n, 4):
        first = least(k, n - 4)
        store_quad(out, base + first, n, rows.count, 4, tile, first * SINGLES)


# ---- maxima ----


@inlined
def peaks_of(z, room, rows, transform, skipping):
    """Return the maxima of u of sixteen rows, and where ``skipping`` the logits of the skipped classes.

    Those take no part in the maxima. Up to sixteen classes fill the tile. With a bias the maxima are rounded.
    """
    if rows.num_classes > ACROSS:
        if skipping:
            _copy_without(z, room, rows)
        for i in range(SINGLES):
            row, array = (_copy_of(rows, i), room.tile) if skipping else (_row_of(rows, i), z)
            store_singles(room.peaks, SINGLES * i, _lanes_along(transform, array, row.base, row.count))
        return max_of_each(room.peaks, 0), load_singles(room.targets, 0)
    _gather(z, rows, room.tile)
    peak = minus = target = splat_single(-np.inf)
    skipped = load_singles(room.skipped, 0)
    for k in range(rows.num_classes):
        x = load_singles(room.tile, k * SINGLES)
        if skipping:
            here = splat_single(float(k))
            target, x = where_equal(here, skipped, x, target), where_equal(here, skipped, minus, x)
            store_singles(room.tile, k * SINGLES, x)
        peak = maximum(_with_nearest(transform, x, k), peak)
    return peak, target


def _with_nearest(transform, x, k):
    """Sixteen rows' logits of one class with its bias: rounded, for a maximum."""
    raise NotImplementedError("compiled only")


@inlined_overload(_with_nearest)
def _choose_with_nearest(transform, x, k):
    if has_factors(transform):
        return lambda transform, x, k: x + splat_single(np.float64(transform.nearest[k]))
    return lambda transform, x, k: x


@inlined
def _lanes_along(transform, array, base, n):
    """Sixteen numbers whose maximum is that of a row."""
    peak, k = splat_single(-np.inf), 0
    while k + SINGLES <= n:
        peak = maximum(with_nearest(transform, load_singles(array, base + k), k), peak)
        k += SINGLES
    # the last vector overlaps the one before
    last = with_nearest(transform, load_singles(array, base + n - SINGLES), n - SINGLES)
    return maximum(last, peak)


@inlined
def _copy_without(z, room, rows):
    """Copy sixteen rows to the tile, the skipped classes at -inf: no vector has to look for them later."""
    for i in range(SINGLES):
        row, k = _row_of(rows, i), 0
        while k + SINGLES <= row.count:
            prefetch(z, row.base + SINGLES * row.count + k)
            store_singles(room.tile, row.at + k, load_singles(z, row.base + k))
            k += SINGLES
        if k < row.count:
            rest = load_first_singles(z, row.base + k, row.count - k, -np.inf)
            store_singles(room.tile, row.at + k, rest)
        room.targets[i] = z[row.base + int(room.skipped[i])]
    for i in range(SINGLES):
        room.tile[i * _stride(rows) + int(room.skipped[i])] = -np.inf


# ---- sums ----


@inlined
def power_near(peak):
    """N of each lane: the integer nearest to peak / log 2."""
    magic = splat_single(MAGIC_SINGLE)
    return fma(peak, splat_single(LOG2_E), magic) - magic


@inlined
def bases_of(peak):
    """The `Base` of each lane."""
    lowest = power_near(peak) - splat_single(REACH + 127.0)
    return Base(lowest * splat_single(LOG_2), splat_single(MAGIC_SINGLE) - lowest)


@inlined
def is_large(peak):
    """Whether a lane's maximum is too large, or infinite."""
    return not max_lanes(maximum(peak, splat_single(0.0) - peak)) <= LARGEST


@inlined
def sums_of(z, room, rows, transform, peak, kind, out):
    """Return the sums of exponentials of sixteen rows, two vectors of float64, 2^REACH times too large.

    They are relative to the power of two near each lane's ``peak``. ``kind`` says of which classes: ALL, the
    OTHERS but the skipped ones, or those BELOW, without the one at the number in ``room.targets``. All but
    the last are held, as sums of two floats, and the places of the results are asked for meanwhile.
    """
    base = bases_of(peak)
    if rows.num_classes <= ACROSS:
        return _sums_across(room, rows, transform, base, kind, out)
    store_singles(room.floors, 0, base.floor)
    store_singles(room.magics, 0, base.magic)
    ahead = Ahead(out, True)
    for i in range(SINGLES):
        own = Base(splat_single(np.float64(room.floors[i])), splat_single(np.float64(room.magics[i])))
        if kind == OTHERS:
            source, row = Source(transform, room.tile, room.tile, room.lows, None, None), _copy_of(rows, i)
            pace = Pace(0, _base_at(rows, i) - row.base, True)
            store(room.sums, WIDTH * i, lanes_relative(source, row, own, -1, True, ahead, pace))
        elif kind == BELOW:
            store(room.sums, WIDTH * i, _lanes_below(z, _row_of(rows, i), room.targets[i], own))
        else:
            source, row = Source(transform, z, room.tile, room.lows, None, None), _row_of(rows, i)
            store(room.sums, WIDTH * i, lanes_relative(source, row, own, -1, True, ahead, SIDE_BY_SIDE))
    return sum_of_each(room.sums, 0), sum_of_each(room.sums, WIDTH * WIDTH)


class Running(NamedTuple):
    """A sum of singles that loses nothing (Dekker's fast sum): it starts larger than what is added."""

    total: Any
    error: Any  # the rounding errors and the low parts


START = 2.0 ** (REACH + 4)


@inlined
def _added(running, high, low, power):
    """The sum and (high + low) power."""
    new = fma(high, power, running.total)
    error = fma(low, power, running.error + fma(high, power, running.total - new))
    return Running(new, error)


@inlined
def _sums_across(room, rows, transform, base, kind, out):
    a = b = splat(0.0)
    total, top, k = splat_single(START), load_singles(room.targets, 0), 0
    base_of_next = (rows.row + SINGLES) * rows.num_classes
    while k < rows.num_classes:
        end, running = least(k + BLOCK_OF_CLASSES, rows.num_classes), Running(total, splat_single(0.0))
        while k < end:
            x = load_singles(room.tile, k * SINGLES)
            if kind == BELOW:
                x = where_equal(x, top, splat_single(-np.inf), x)
            high, low, power = parts_of_class(transform, x, base, k)
            if kind != BELOW:
                ask_for(out, base_of_next + k * SINGLES)
                store_singles(room.tile, k * SINGLES, high * power)
                store_singles(room.lows, k * SINGLES, low * power)
            running = _added(running, high, low, power)
            k += 1
        first, second = widened(running.error)
        a, b, total = a + first, b + second, running.total
    first, second = widened(total)
    return first - splat(START) + a, second - splat(START) + b


@inlined
def _lanes_below(z, row, top, own):
    """Eight lanes whose sum is that of a row without what is at ``top``, relative to a `Base` of its own."""
    top, minus, k = splat_single(np.float64(top)), splat_single(-np.inf), 0
    base, n, full = row.base, row.count, row.count - row.count % SINGLES
    running, a, b = Running(splat_single(START), splat_single(0.0)), splat(0.0), splat(0.0)
    while k < full:
        end = least(k + BLOCK, full)
        while k < end:
            prefetch(z, base + SINGLES * n + k)
            x = where_equal(load_singles(z, base + k), top, minus, load_singles(z, base + k))
            high, low, power = parts(x, own)
            running = _added(running, high, low, power)
            k += SINGLES
        if k < full:
            first, second = widened(running.error)
            a, b, running = a + first, b + second, Running(running.total, splat_single(0.0))
    if k < n:
        x = load_first_singles(z, base + k, n - k, -np.inf)
        high, low, power = parts(where_equal(x, top, minus, x), own)
        running = _added(running, high, low, power)
    first, second = widened(running.total - splat_single(START))
    first_error, second_error = widened(running.error)
    return (first + (a + first_error)) + (second + (b + second_error))


def bias_of(transform, k):
    """The bias of a class, 0 where there is none."""
    raise NotImplementedError("compiled only")


@inlined_overload(bias_of)
def _choose_bias_of(transform, k):
    if has_factors(transform):
        return lambda transform, k: transform.bias[k]
    return lambda transform, k: 0.0


@helper
def sums_of_large(z, room, rows, transform, peaks, first, second):
    """Take the sums of rows with large maxima relative to these, and their exponentials."""
    store(room.factors, 0, peaks[0])
    store(room.factors, WIDTH, peaks[1])
    store(room.sums, 0, first)
    store(room.sums, WIDTH, second)
    for i in range(SINGLES):
        own, total = room.factors[i], 0.0
        if abs(own) <= LARGEST:
            continue
        shift = own if own > -np.inf else 0.0
        for k in range(rows.num_classes):
            if k == int(room.skipped[i]):
                continue
            at = i * _stride(rows) + k if rows.num_classes > ACROSS else k * SINGLES + i
            u = np.float64(z[_base_at(rows, i) + k]) + bias_of(transform, k)
            e = math.exp(u - shift) * 2.0**REACH
            room.tile[at] = e
            room.lows[at] = e - np.float64(room.tile[at])
            total += e
        room.sums[i] = total
    return load(room.sums, 0), load(room.sums, WIDTH)


# ---- results ----


@inlined
def two_floats(first, second):
    """Two vectors of float64 as a sum of two singles."""
    high = narrowed(first, second)
    first_high, second_high = widened(high)
    return high, narrowed(first - first_high, second - second_high)


@inlined
def write_scaled(room, rows, out, first, second):
    """Write sixteen rows: what is held times a factor a row, rounded once."""
    high, low = two_floats(first, second)
    tile, lows = room.tile, room.lows
    if rows.num_classes <= ACROSS:
        for k in range(rows.num_classes):
            e = load_singles(tile, k * SINGLES)
            store_singles(
                tile, k * SINGLES, fma(e, high, fma(load_singles(lows, k * SINGLES), high, e * low))
            )
        _scatter(out, rows, tile)
        return
    store_singles(room.floors, 0, high)
    store_singles(room.magics, 0, low)
    for i in range(rows.count):
        f, f_low = splat_single(np.float64(room.floors[i])), splat_single(np.float64(room.magics[i]))
        at, offset, k, n = i * _stride(rows), _base_at(rows, i), 0, rows.num_classes
        while k + SINGLES <= n:
            e = load_singles(tile, at + k)
            store_singles(out, offset + k, fma(e, f, fma(load_singles(lows, at + k), f, e * f_low)))
            k += SINGLES
        if k < n:  # the last vector overlaps the one before: a masked store costs more
            k = n - SINGLES
            e = load_singles(tile, at + k)
            store_singles(out, offset + k, fma(e, f, fma(load_singles(lows, at + k), f, e * f_low)))


@helper
def set_aside(room, rows):
    """Set rows aside, worked on in float64, whose factor float32 does not hold."""
    for i in range(rows.count):
        factor = room.factors[i]
        if factor == 0.0 or is_of_two_floats(factor):
            continue
        for k in range(rows.num_classes):
            at = i * _stride(rows) + k if rows.num_classes > ACROSS else k * SINGLES + i
            e = np.float64(room.tile[at]) + np.float64(room.lows[at])
            room.aside[i * rows.num_classes + k] = e * factor


@inlined
def are_of_two_floats(factors):
    """Whether ``is_of_two_floats`` holds in all lanes, or 0 or NaN."""
    zero, one, size = splat(0.0), splat(1.0), absolute(factors)
    small = where_less(size, splat(SMALLEST), where_less(zero, size, one, zero), zero)
    return max_lanes(maximum(small, where_less(splat(LARGEST_FACTOR), size, one, zero))) == 0.0


@helper
def write_aside(room, rows, out):
    """Write the rows that were set aside."""
    for i in range(rows.count):
        if room.factors[i] == 0.0 or is_of_two_floats(room.factors[i]):
            continue
        for k in range(rows.num_classes):
            out[_base_at(rows, i) + k] = room.aside[i * rows.num_classes + k]


@inlined
def write_gradients(room, rows, out, factors, at_targets):
    """Write the gradients of sixteen rows: what is held times a factor a row, and at the targets numbers.

    Both are two vectors of float64. The targets are the skipped classes.
    """
    store(room.factors, 0, factors[0])
    store(room.factors, WIDTH, factors[1])
    some_aside = not (are_of_two_floats(factors[0]) and are_of_two_floats(factors[1]))
    if some_aside:
        set_aside(room, rows)
    write_scaled(room, rows, out, factors[0], factors[1])
    if some_aside:
        write_aside(room, rows, out)
    store(room.factors, 0, at_targets[0])
    store(room.factors, WIDTH, at_targets[1])
    for i in range(rows.count):
        out[_base_at(rows, i) + int(room.skipped[i])] = room.factors[i]


# ---- the loss: what its formula needs of sixteen rows ----


class Half(NamedTuple):
    """What eight of the rows come to, in lanes of float64."""

    others: Any  # the exponentials without the target's, relative to the maximum
    d_y: Any  # the target's distance from it
    peak: Any
    unit: Any  # what brings held exponentials to exp(z - peak)


@inlined
def halves_of(z, out, room, rows, transform):
    """Return the two `Half` of sixteen rows whose targets are the skipped classes; exponentials are held.

    The other classes' sum is relative to their own maximum. Where it is the row's, the rounding error of its
    exponential is taken off, as in ``singles.excess_in_singles``. With a bias it is not: the maximum is a
    rounded number then.
    """
    own, target = peaks_of(z, room, rows, transform, True)
    owns, targets = widened(own), _with_bias(transform, room, widened(target))
    peaks = maximum(targets[0], owns[0]), maximum(targets[1], owns[1])
    near = maximum(own, splat_single(-LARGEST))
    first, second = sums_of(z, room, rows, transform, near, OTHERS, out)
    large = are_large(peaks)
    if large:
        first, second = sums_of_large(z, room, rows, transform, peaks, first, second)
    powers, tops = widened(power_near(near)), _tops_of(transform, near)
    a = _half(first, tops[0], powers[0], peaks[0], owns[0], targets[0], large)
    b = _half(second, tops[1], powers[1], peaks[1], owns[1], targets[1], large)
    return a, b


def _with_bias(transform, room, targets):
    """The logits of the skipped classes, two vectors of float64, with their biases."""
    raise NotImplementedError("compiled only")


@inlined_overload(_with_bias)
def _choose_with_bias(transform, room, targets):
    if not has_factors(transform):
        return lambda transform, room, targets: targets

    def add(transform, room, targets):
        for i in range(SINGLES):
            room.factors[i] = transform.bias[int(room.skipped[i])]
        return targets[0] + load(room.factors, 0), targets[1] + load(room.factors, WIDTH)

    return add


def _tops_of(transform, near):
    """The exponentials of the largest other classes, two vectors of float64; 0 where they do not matter."""
    raise NotImplementedError("compiled only")


@inlined_overload(_tops_of)
def _choose_tops_of(transform, near):
    if has_factors(transform):
        return lambda transform, near: (splat(0.0), splat(0.0))
    return lambda transform, near: tops_of(near)


@inlined
def tops_of(near):
    """The exponentials of the maxima, relative as the sums are."""
    high, low, power = parts(near, bases_of(near))
    tops, lows = widened(high * power), widened(low * power)
    return tops[0] + lows[0], tops[1] + lows[1]


@inlined
def are_large(peaks):
    """Whether a maximum of two vectors is too large, or infinite."""
    return not max_lanes(maximum(absolute(peaks[0]), absolute(peaks[1]))) <= LARGEST


@inlined
def _half(total, top, power, peak, own, target, large):
    zero, one = splat(0.0), splat(1.0)
    unit = units_of(power, peak)
    excess = where_equal(top, zero, zero, where_less(target, own, top * unit - one, zero))
    if large:
        beyond = where_less(splat(LARGEST), absolute(peak), one, zero)
        unit = where_equal(beyond, one, splat(2.0**-REACH), unit)
        excess = where_equal(beyond, one, zero, excess)
    return Half(total * unit - excess, target - peak, peak, unit)


# ---- softmax, its logarithm, log-sum-exp ----


@inlined
def softmax_of_sixteen(z, out, room, rows):
    """Softmax of sixteen rows."""
    peak, _ = peaks_of(z, room, rows, None, False)
    first, second = sums_of(z, room, rows, None, peak, ALL, out)
    if is_large(peak):
        first, second = sums_of_large(z, room, rows, None, widened(peak), first, second)
    write_scaled(room, rows, out, splat(1.0) / first, splat(1.0) / second)


@inlined
def _log_normalisers(z, room, rows):
    """Return the maxima of sixteen rows and log sum exp(z - max), in float64.

    The maximum's own 1 is kept out of the sum. What is below it is relative to its own maximum, and keeps its
    digits however little it is.
    """
    peak, second_peak = _two_peaks(z, room, rows)
    store_singles(room.peaks, 0, peak)
    store_singles(room.targets, 0, peak)
    ties, one = splat_single(0.0), splat_single(1.0)
    if max_lanes(where_equal(second_peak, peak, one, ties)) > 0.0:
        ties = _ties(z, room, rows, peak)
    first_ties, second_ties = widened(ties)
    below = maximum(second_peak, splat_single(-LARGEST))
    first, second = sums_of(z, room, rows, None, below, BELOW, z)
    first_power, second_power = widened(power_near(below))
    first_peak, second_peak = widened(peak)
    first = first * units_of(first_power, first_peak) + first_ties
    second = second * units_of(second_power, second_peak) + second_ties
    if is_large(peak):
        first, second = _rests_of_large(z, room, rows, first, second)
    return first_peak, second_peak, log1p(first), log1p(second)


@inlined
def _two_peaks(z, room, rows):
    """Return each row's largest logit and the largest of the others. Up to sixteen classes fill the tile."""
    peak = second = splat_single(-np.inf)
    if rows.num_classes <= ACROSS:
        _gather(z, rows, room.tile)
        for k in range(rows.num_classes):
            peak, second = _with_peak(peak, second, load_singles(room.tile, k * SINGLES))
        return peak, second
    for i in range(SINGLES):
        first, other = _lanes_of_two_peaks(z, _base_at(rows, i), rows.num_classes)
        store_singles(room.peaks, SINGLES * i, first)
        store_singles(room.peaks, SECONDS + SINGLES * i, other)
    return two_largest_of_each(room.peaks, 0, SECONDS)


@helper
def _ties(z, room, rows, peak):
    """How many more than one are at each row's maximum: they are counted, and not summed."""
    one, zero, ties = splat_single(1.0), splat_single(0.0), splat_single(-1.0)
    if rows.num_classes <= ACROSS:
        for k in range(rows.num_classes):
            ties += where_equal(load_singles(room.tile, k * SINGLES), peak, one, zero)
        return ties
    for i in range(SINGLES):
        own, found, k = splat_single(np.float64(room.peaks[i])), zero, 0
        while k < rows.num_classes:
            count = least(SINGLES, rows.num_classes - k)
            found += where_equal(load_first_singles(z, _base_at(rows, i) + k, count, np.nan), own, one, zero)
            k += SINGLES
        room.floors[i] = sum_lanes(found)
    return load_singles(room.floors, 0) + ties


@inlined
def _with_peak(peak, second, x):
    return maximum(x, peak), maximum(where_less(x, peak, x, peak), second)


@inlined
def _lanes_of_two_peaks(z, base, n):
    """The largest and the second largest logit of a row in each of sixteen lanes."""
    peak = second = splat_single(-np.inf)
    k = 0
    while k + SINGLES <= n:
        peak, second = _with_peak(peak, second, load_singles(z, base + k))
        k += SINGLES
    if k < n:
        x = load_first_singles(z, base + k, n - k, -np.inf)
        peak, second = _with_peak(peak, second, x)
    return peak, second


@helper
def _rests_of_large(z, room, rows, first, second):
    """Sum the exponentials below large maxima, and those at them but one."""
    store(room.sums, 0, first)
    store(room.sums, WIDTH, second)
    for i in range(SINGLES):
        peak, rest = np.float64(room.peaks[i]), -1.0
        if abs(peak) <= LARGEST:
            continue
        for k in range(rows.num_classes):
            x = np.float64(z[_base_at(rows, i) + k])
            rest += 1.0 if x == peak else math.exp(x - peak)
        room.sums[i] = rest
    return load(room.sums, 0), load(room.sums, WIDTH)


@inlined
def _of_finite(peak, x):
    """x, and NaN where the maximum is +inf or nothing is above -inf: no distribution."""
    nan = splat(np.nan)
    return where_equal(peak, splat(np.inf), nan, where_equal(peak, splat(-np.inf), nan, x))


@inlined
def log_softmax_of_sixteen(z, out, room, rows):
    """Log-softmax of sixteen rows."""
    first_peak, second_peak, first, second = _log_normalisers(z, room, rows)
    first, second = _of_finite(first_peak, first), _of_finite(second_peak, second)
    if rows.num_classes <= ACROSS:
        for k in range(rows.num_classes):
            a, b = widened(load_singles(room.tile, k * SINGLES))
            value = narrowed(a - first_peak - first, b - second_peak - second)
            store_singles(room.tile, k * SINGLES, value)
        _scatter(out, rows, room.tile)
        return
    store(room.sums, 0, first)
    store(room.sums, WIDTH, second)
    for i in range(rows.count):
        peak, log_total, offset = np.float64(room.peaks[i]), room.sums[i], _base_at(rows, i)
        if fits_one_number(peak, log_total):
            _write_less(z, out, offset, rows.num_classes, splat(peak + log_total))
        else:
            _write_apart(z, out, offset, rows.num_classes, splat(peak), splat(log_total))


@inlined
def _write_less(z, out, offset, n, both):
    """out = z - both of a row, rounded once."""
    k, last = 0, offset + n - SINGLES
    # the last vector overlaps the one before, which may be written where it is read
    rest = load_singles(z, last)
    while k + SINGLES <= n:
        a, b = widened(load_singles(z, offset + k))
        store_singles(out, offset + k, narrowed(a - both, b - both))
        k += SINGLES
    if k < n:
        a, b = widened(rest)
        store_singles(out, last, narrowed(a - both, b - both))


@helper
def _write_apart(z, out, offset, n, m, minus):
    """The same with a difference more, where one number is not enough for both."""
    k, last = 0, offset + n - SINGLES
    a_last, b_last = widened(load_singles(z, last))
    while k + SINGLES <= n:
        a, b = widened(load_singles(z, offset + k))
        store_singles(out, offset + k, narrowed(a - m - minus, b - m - minus))
        k += SINGLES
    if k < n:
        store_singles(out, last, narrowed(a_last - m - minus, b_last - m - minus))


@inlined
def logsumexp_of_sixteen(z, values, room, rows):
    """Log-sum-exp of sixteen rows."""
    first_peak, second_peak, first, second = _log_normalisers(z, room, rows)
    # an infinite maximum is the result itself, where no NaN is beside it
    store_first(values, rows.row, least(WIDTH, rows.count), first_peak + first)
    if rows.count > WIDTH:
        store_first(values, rows.row + WIDTH, rows.count - WIDTH, second_peak + second)
