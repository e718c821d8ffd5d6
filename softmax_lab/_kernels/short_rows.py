"""Loops over short rows: eight rows at once, one a lane.

A row shorter than a vector register leaves most of it empty. Eight rows side by side fill it, and the
logarithm of the loss is taken for eight rows at a time too. Tiles of eight rows by eight classes are turned
over on the way in and out. Each lane does what it would do with any neighbours, so a row's result is
bit-identical whatever the batch. The last few rows of a batch share their register with copies of the last
one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._rows import KEPT
from .batch import first_without_class, is_asked, sum_of
from .compiler import allocating, allocating_overload, called_overload, compiled, helper, inlined
from .exponential import log1p
from .long_rows import Given, accumulate, fill
from .relative import difference, exponential, inverse_temperature, log_relative, relative
from .short_singles import (
    Rows,
    halves_of,
    log_softmax_of_sixteen,
    logsumexp_of_sixteen,
    room_in_singles,
    softmax_of_sixteen,
    write_gradients,
)
from .simd import (
    SINGLES,
    WIDTH,
    least,
    load,
    load_strided,
    load_tile,
    maximum,
    scratch,
    splat,
    store,
    store_strided,
    store_tile,
    where_equal,
)
from .target import (
    Array,
    Spread,
    TargetSums,
    less_target_of_rows,
    prior_of,
    row_numbers,
    scale_of,
    smoothing_of,
    target_sums_of_rows,
    weight_of,
)
from .terms import SoftSums, Sums, Terms, are_plain, family_terms, plain_terms, soft_terms
from .transform import (
    Column,
    Labels,
    Source,
    held_at,
    hold,
    is_shift,
    loaded,
    look_up_margins,
    masked,
    per_class,
    slope_is_one,
    source_of,
    takes_singles,
    through,
    transformed_at,
)

# Rows of at most this many classes go through here: beyond it turning tiles over costs more than it saves.
MOST_CLASSES = 48
# The same in sixteen lanes: beyond it what is held of sixteen rows leaves the first-level cache.
MOST_IN_SINGLES = 384


# ---- eight rows in and out ----


@inlined
def room_of(num_classes):
    """Entries of a buffer for eight rows, in whole tiles."""
    return (num_classes + WIDTH - 1) // WIDTH * WIDTH * WIDTH


@inlined
def rows_at(row, stop):
    """The first class of the eight rows from ``row`` on, or of those before ``stop``."""
    return Column(row, least(WIDTH, stop - row), 0)


@inlined
def class_of(rows, k):
    """A class of eight rows."""
    return Column(rows.row, rows.count, k)


@inlined
def gather(array, rows, num_classes, tile):
    """Copy eight rows to ``tile``, eight entries a class."""
    base = rows.row * num_classes
    if rows.count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            load_tile(array, base + k, num_classes, least(WIDTH, num_classes - k), tile, k * WIDTH)
    else:
        for k in range(num_classes):
            store(tile, k * WIDTH, load_strided(array, base + k, num_classes, rows.count))


@inlined
def scatter(out, rows, num_classes, tile):
    """Write eight rows from ``tile``."""
    base = rows.row * num_classes
    if rows.count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            store_tile(out, base + k, num_classes, least(WIDTH, num_classes - k), tile, k * WIDTH)
    else:
        for k in range(num_classes):
            store_strided(out, base + k, num_classes, rows.count, load(tile, k * WIDTH))


@inlined
def transformed_rows(source, rows, num_classes, labels):
    """Bring eight rows to the scratch array as u T, and return their maxima."""
    gather(source.z, rows, num_classes, source.held)
    _transform(source, rows, num_classes, labels)
    return _peak(source, rows, num_classes)


def _transform(source, rows, num_classes, labels):
    raise NotImplementedError("compiled only")


@called_overload(_transform)
def _choose_transform(source, rows, num_classes, labels):
    if is_shift(source):

        def add_bias(source, rows, num_classes, labels):
            for k in range(num_classes):
                column = class_of(rows, k)
                hold(
                    source.held,
                    column,
                    held_at(source.held, column, 0.0) + per_class(source.transform.bias, column),
                )

        return add_bias
    if slope_is_one(source):
        return lambda source, rows, num_classes, labels: None

    def transform(source, rows, num_classes, labels):
        look_up_margins(source, labels)
        for k in range(num_classes):
            transformed_at(source, class_of(rows, k), labels)

    return transform


@inlined
def _peak(source, rows, num_classes):
    peak = splat(-np.inf)
    for k in range(num_classes):
        peak = maximum(held_at(source.held, class_of(rows, k), 0.0), peak)
    return peak


# ---- softmax, its logarithm, log-sum-exp ----


@inlined
def _probabilities(source, rows, num_classes, peak):
    """Hold the softmax of eight rows."""
    total = error = splat(0.0)
    for k in range(num_classes):
        column = class_of(rows, k)
        _, e = relative(source, column, peak)
        hold(source.held, column, e)
        total, error = accumulate(source.z, total, error, e)
    factor = splat(1.0) / (total + error)
    for k in range(num_classes):
        column = class_of(rows, k)
        hold(source.held, column, masked(source, column, held_at(source.held, column, 0.0) * factor, 0.0))


@allocating
def _no_labels():
    """Return `Labels` that say of eight rows that they have no target."""
    labels = Labels(scratch(WIDTH), scratch(WIDTH))
    store(labels.index, 0, splat(-1.0))
    return labels


def _softmax(z, out, transform, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_softmax)
def _choose_softmax(z, out, transform, num_classes, start, stop):
    if takes_singles(z, transform):

        def in_sixteen_lanes(z, out, transform, num_classes, start, stop):
            room = room_in_singles(num_classes)
            for row in range(start, stop, SINGLES):
                softmax_of_sixteen(z, out, room, Rows(row, least(SINGLES, stop - row), num_classes))

        return in_sixteen_lanes

    def in_lanes(z, out, transform, num_classes, start, stop):
        source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
        labels, held = _no_labels(), source.held
        for row in range(start, stop, WIDTH):
            rows = rows_at(row, stop)
            peak = transformed_rows(source, rows, num_classes, labels)
            _probabilities(source, rows, num_classes, peak)
            scatter(out, rows, num_classes, held)

    return in_lanes


@compiled
def softmax(z, out, streaming, transform, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    _softmax(z, out, transform, num_classes, start, stop)


@inlined
def _log_normaliser(source, rows, num_classes, peak):
    """log sum exp(u - peak) of eight rows; NaN where a row holds NaN."""
    zero, one = splat(0.0), splat(1.0)
    rest = error = ties = zero
    for k in range(num_classes):
        x, e = relative(source, class_of(rows, k), peak)
        ties += where_equal(x, peak, one, zero)
        rest, error = accumulate(source.z, rest, error, where_equal(x, peak, zero, e))
    return log1p((rest + error) + (ties - one))


@inlined
def _of_finite(peak, x):
    """x, and NaN where the maximum is +inf or nothing is above -inf: no distribution."""
    nan = splat(np.nan)
    return where_equal(peak, splat(np.inf), nan, where_equal(peak, splat(-np.inf), nan, x))


@inlined
def _logarithms(source, rows, num_classes, peak):
    """Hold the log-softmax of eight rows."""
    log_total = _of_finite(peak, _log_normaliser(source, rows, num_classes, peak))
    for k in range(num_classes):
        column = class_of(rows, k)
        x = log_relative(source, column, peak, log_total)
        hold(source.held, column, masked(source, column, x, -np.inf))


def _log_softmax(z, out, transform, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_log_softmax)
def _choose_log_softmax(z, out, transform, num_classes, start, stop):
    if takes_singles(z, transform):

        def in_sixteen_lanes(z, out, transform, num_classes, start, stop):
            room = room_in_singles(num_classes)
            for row in range(start, stop, SINGLES):
                log_softmax_of_sixteen(z, out, room, Rows(row, least(SINGLES, stop - row), num_classes))

        return in_sixteen_lanes

    def in_lanes(z, out, transform, num_classes, start, stop):
        source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
        labels, held = _no_labels(), source.held
        for row in range(start, stop, WIDTH):
            rows = rows_at(row, stop)
            peak = transformed_rows(source, rows, num_classes, labels)
            _logarithms(source, rows, num_classes, peak)
            scatter(out, rows, num_classes, held)

    return in_lanes


@compiled
def log_softmax(z, out, streaming, transform, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    _log_softmax(z, out, transform, num_classes, start, stop)


def _logsumexp(z, values, transform, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_logsumexp)
def _choose_logsumexp(z, values, transform, num_classes, start, stop):
    if takes_singles(z, transform):

        def in_sixteen_lanes(z, values, transform, num_classes, start, stop):
            room = room_in_singles(num_classes)
            for row in range(start, stop, SINGLES):
                logsumexp_of_sixteen(z, values, room, Rows(row, least(SINGLES, stop - row), num_classes))

        return in_sixteen_lanes

    def in_lanes(z, values, transform, num_classes, start, stop):
        source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
        labels = _no_labels()
        for row in range(start, stop, WIDTH):
            rows = rows_at(row, stop)
            peak = transformed_rows(source, rows, num_classes, labels)
            # an infinite peak is the result itself, where no NaN is beside it
            store_strided(values, row, 1, rows.count, peak + _log_normaliser(source, rows, num_classes, peak))

    return in_lanes


@compiled
def logsumexp(z, out, streaming, values, transform, num_classes, start, stop):
    """Log-sum-exp of rows start ... stop - 1 of the flat array z to the float64 array values.

    ``out`` is not used.
    """
    _logsumexp(z, values, transform, num_classes, start, stop)


# ---- the loss: what is looked up row by row ----


class Lookups(NamedTuple):
    """What is looked up by the rows' targets, one entry a lane."""

    index: Array  # the target, 0 for an ignored row
    margin: Array
    live: Array  # 0 for an ignored row, else 1
    eps: Array
    prior: Array  # the prior at the target, not normalised
    weights: Array
    scales: Array
    room: Array  # to lay lanes out as numbers


_LANES_OF_A_ROW = len(SoftSums._fields)


@allocating
def lookups_of(factor):
    """Return room for them: weights of one, and one factor for all rows."""
    lookups = Lookups(
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(WIDTH),
        scratch(_LANES_OF_A_ROW * WIDTH),
    )
    zero, one = splat(0.0), splat(1.0)
    store(lookups.index, 0, zero)
    store(lookups.live, 0, one)
    store(lookups.eps, 0, zero)
    store(lookups.prior, 0, zero)
    store(lookups.weights, 0, one)
    store(lookups.scales, 0, splat(factor))
    return lookups


@inlined
def _label_at(lookups, labels, ignore, rows, i):
    """Look up the label of the i-th row; return the row and its label, 0 for an ignored one."""
    row = rows.row + least(i, rows.count - 1)
    y = labels[row]
    lookups.live[i] = 1.0
    if y == ignore:
        lookups.live[i], y = 0.0, 0
    lookups.index[i] = y
    return row, y


@inlined
def look_up(lookups, labels, ignore, smooth, weights, rows):
    """Look up what eight rows need; return whether one is ignored, and whether distributions are given."""
    ignored, soft = False, False
    for i in range(WIDTH):
        row, y = _label_at(lookups, labels, ignore, rows, i)
        ignored = ignored or lookups.live[i] == 0.0
        lookups.eps[i], soft = smoothing_of(smooth, y)
        lookups.prior[i] = prior_of(smooth, y, 1.0)
        if len(weights.weights):
            lookups.weights[i] = weight_of(weights, row, y, soft)
        if len(weights.factors):
            lookups.scales[i] = scale_of(weights, row)
    return ignored, soft


def gather_given(smooth, rows, num_classes, given):
    """Copy the given distributions of eight rows to ``given``, where there are any."""
    raise NotImplementedError("compiled only")


@called_overload(gather_given)
def _choose_gather_given(smooth, rows, num_classes, given):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, rows, num_classes, given: None

    def copy(smooth, rows, num_classes, given):
        if len(smooth.rows):
            gather(smooth.rows, rows, num_classes, given)

    return copy


# ---- the loss: what eight rows come to ----


class Summed(NamedTuple):
    """What is summed of eight rows in lanes, and what is found at their targets."""

    others: Any  # the exponentials without the target's
    d_y: Any  # d at the target
    low: Any  # its rounding error


@inlined
def targets_of(lookups, soft):
    """The targets in lanes, or -1 for none: with given distributions."""
    return splat(-1.0) if soft else load(lookups.index, 0)


@inlined
def _summed(source, rows, num_classes, peak, y):
    """Hold the exponentials of eight rows, and sum them without the classes in the lanes ``y``."""
    others = error = d_y = low_y = zero = splat(0.0)
    for k in range(num_classes):
        column = class_of(rows, k)
        x, low = loaded(source, column, 0.0)
        d, low = difference(source, x, low, peak)
        e = exponential(source.z, d, low)
        hold(source.held, column, e)
        here = splat(float(k))
        d_y, low_y = where_equal(here, y, d, d_y), where_equal(here, y, low, low_y)
        others, error = accumulate(source.z, others, error, where_equal(here, y, zero, e))
    return Summed(others + error, d_y, low_y)


@inlined
def _sums_of(source, summed, target, lookups, peak):
    """The `Sums` of eight rows, in lanes."""
    return Sums(
        summed.others,
        summed.d_y,
        summed.low,
        peak * splat(inverse_temperature(source)),
        load(lookups.eps, 0),
        load(lookups.prior, 0) / target.r_sum,
        target.r_d / target.r_sum,
    )


@inlined
def _terms_of(source, smooth, sums, log_total, target, lookups, fields, soft):
    """Return the `Terms` of eight rows."""
    if smooth is not None and soft:  # without it the branch is not compiled
        return _given_row_by_row(sums, log_total, target, lookups, fields)
    e_y = exponential(source.z, sums.d_y, sums.low)
    weight, scale = load(lookups.weights, 0), load(lookups.scales, 0)
    if not are_plain(fields):
        return family_terms(sums, e_y, weight, scale, fields)
    return plain_terms(sums, e_y, weight, scale, fields.gate)


@inlined
def _without_ignored(lookups, terms):
    """The `Terms` with the value 0 and the weight 0 for an ignored row, which may hold NaN."""
    zero, live = splat(0.0), load(lookups.live, 0)
    value = where_equal(live, zero, zero, terms.value)
    weight = where_equal(live, zero, zero, terms.weight)
    return Terms(value, terms.alpha, terms.beta, terms.at_target, weight)


@inlined
def lay_out(room, numbers):
    """Lay lanes out as numbers: for a formula that takes a row at a time."""
    for i in range(len(numbers)):
        store(room, i * WIDTH, numbers[i])


@inlined
def _collected(room):
    """The `Terms` of eight rows, from where ``_set_terms`` has put them."""
    return Terms(
        load(room, 0), load(room, WIDTH), load(room, 2 * WIDTH), load(room, 3 * WIDTH), load(room, 4 * WIDTH)
    )


@inlined
def _set_terms(room, i, terms):
    for n in range(len(terms)):
        room[n * WIDTH + i] = terms[n]


@helper
def _given_row_by_row(sums, log_total, target, lookups, fields):
    """Return the `Terms` of eight rows with given distributions, one by one: nothing is at a target."""
    zero, one, eps, room = splat(0.0), splat(1.0), sums.eps, lookups.room
    s_sum = (one - eps) * target.t_sum + eps
    s_d = where_equal(eps, one, zero, (one - eps) * target.t_d) + where_equal(eps, zero, zero, eps * sums.r_d)
    lay_out(room, SoftSums(sums.others, log_total, sums.shift, s_sum, s_d))
    for i in range(WIDTH):
        row = SoftSums(
            room[i], room[WIDTH + i], room[2 * WIDTH + i], room[3 * WIDTH + i], room[4 * WIDTH + i]
        )
        weight = lookups.weights[i]
        value, alpha, beta = soft_terms(row, weight, lookups.scales[i], fields)
        _set_terms(room, i, Terms(value, alpha, beta, 0.0, weight))
    return _collected(room)


@inlined
def _keep(kept, rows, peak, terms, r_factor, own):
    """Store what is kept of eight rows."""
    place, count = rows.row * KEPT, rows.count
    store_strided(kept, place, KEPT, count, peak)
    store_strided(kept, place + 1, KEPT, count, terms.alpha)
    store_strided(kept, place + 2, KEPT, count, r_factor)
    store_strided(kept, place + 3, KEPT, count, own)
    store_strided(kept, place + 4, KEPT, count, terms.weight)


# ---- the loss: its gradient ----


class Gradient(NamedTuple):
    """What the gradients of eight rows are made of, in lanes."""

    alpha: Any  # multiplies the exponentials
    spread: Spread  # what multiplies the targets' entries
    at_target: Any  # the component at the target, before du/dz
    y: Any  # the target, or -1 for none: with a given distribution
    live: Any  # 0 for an ignored row
    ignored: Any  # whether there is one


@inlined
def _gradient_of(lookups, alpha, spread, at_target, soft, ignored):
    live = load(lookups.live, 0)
    return Gradient(alpha, spread, at_target, targets_of(lookups, soft), live, ignored)


@inlined
def _component(source, smooth, given, column, e, gradient):
    """Hold the gradients' components of one class, whose exponentials are ``e``."""
    g = less_target_of_rows(smooth, given, column, gradient.alpha * e, gradient.spread)
    g = where_equal(splat(float(column.k)), gradient.y, gradient.at_target, g)
    g = through(source, column, g)
    if gradient.ignored:
        g = where_equal(gradient.live, splat(0.0), splat(0.0), g)
    hold(source.held, column, g)


@inlined
def _gradients(source, smooth, given, rows, num_classes, gradient):
    """Hold the gradients of eight rows in place of their exponentials."""
    for k in range(num_classes):
        column = class_of(rows, k)
        _component(source, smooth, given, column, held_at(source.held, column, 0.0), gradient)


@inlined
def _gradients_again(source, smooth, given, rows, num_classes, peak, gradient):
    """Hold the gradients of eight rows in place of u T."""
    for k in range(num_classes):
        column = class_of(rows, k)
        _component(source, smooth, given, column, relative(source, column, peak)[1], gradient)


class Results(NamedTuple):
    """Where the results of all rows go: see ``long_rows.cross_entropy``."""

    out: Any
    wanted: bool
    values: Any
    kept: Any


def _cross_entropy(z, results, given, transform, smooth, num_classes, start, stop):
    raise NotImplementedError("compiled only")


@allocating_overload(_cross_entropy)
def _choose_cross_entropy(z, results, given, transform, smooth, num_classes, start, stop):
    if takes_singles(z, transform) and isinstance(smooth, types.NoneType):

        def in_sixteen_lanes(z, results, given, transform, smooth, num_classes, start, stop):
            room = room_in_singles(num_classes)
            lookups = lookups_of(given.weights.factor), lookups_of(given.weights.factor)
            for row in range(start, stop, SINGLES):
                rows = Rows(row, least(SINGLES, stop - row), num_classes)
                _loss_of_sixteen(z, results, given, transform, room, lookups, rows)

        return in_sixteen_lanes

    def in_lanes(z, results, given, transform, smooth, num_classes, start, stop):
        out, labels, ignore = results.out, given.labels, given.ignore
        values, kept, weights, fields = results.values, results.kept, given.weights, given.fields
        source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
        held, zero = source.held, splat(0.0)
        target_rows = scratch(len(held) if smoothing_of(smooth, 0)[1] else 0)
        lookups = lookups_of(weights.factor)
        targets = Labels(lookups.index, lookups.margin)
        for row in range(start, stop, WIDTH):
            rows = rows_at(row, stop)
            ignored, soft = look_up(lookups, labels, ignore, smooth, weights, rows)
            peak = transformed_rows(source, rows, num_classes, targets)
            gather_given(smooth, rows, num_classes, target_rows)
            target = target_sums_of_rows(smooth, target_rows, source, rows, num_classes, peak)
            log_total = zero
            if smooth is not None and soft:  # without it the branch is not compiled
                log_total = _of_finite(peak, _log_normaliser(source, rows, num_classes, peak))
            summed = _summed(source, rows, num_classes, peak, targets_of(lookups, soft))
            sums = _sums_of(source, summed, target, lookups, peak)
            terms = _terms_of(source, smooth, sums, log_total, target, lookups, fields, soft)
            if ignored:
                terms = _without_ignored(lookups, terms)
            store_strided(values, row, 1, rows.count, terms.value)
            spread = _spread_of(sums, target, terms, soft)
            if len(kept):
                _keep(kept, rows, peak, terms, spread.prior, spread.given if soft else terms.at_target)
            if not results.wanted:
                continue
            gradient = _gradient_of(lookups, terms.alpha, spread, terms.at_target, soft, ignored)
            _gradients(source, smooth, target_rows, rows, num_classes, gradient)
            scatter(out, rows, num_classes, held)

    return in_lanes


@inlined
def _loss_of_sixteen(z, results, given, transform, room, lookups, rows):
    """Value and gradient of sixteen rows: exponentials in sixteen lanes, their formula twice in eight."""
    places = (
        Column(rows.row, least(WIDTH, rows.count), 0),
        # without a second half the last row takes its lanes, and what it writes is written twice
        Column(rows.row + least(WIDTH, rows.count - 1), max(1, rows.count - WIDTH), 0),
    )
    first_ignored, _ = look_up(lookups[0], given.labels, given.ignore, None, given.weights, places[0])
    second_ignored, _ = look_up(lookups[1], given.labels, given.ignore, None, given.weights, places[1])
    for i in range(WIDTH):
        room.skipped[i], room.skipped[WIDTH + i] = lookups[0].index[i], lookups[1].index[i]
    first, second = halves_of(z, results.out, room, rows, transform)
    a = _terms_of_half(z, results, given, first, lookups[0], places[0], first_ignored)
    b = _terms_of_half(z, results, given, second, lookups[1], places[1], second_ignored)
    if not results.wanted:
        return
    factors = a.alpha * first.unit, b.alpha * second.unit
    write_gradients(room, rows, results.out, factors, (a.at_target, b.at_target))
    if not (first_ignored or second_ignored):
        return
    for i in range(rows.count):
        if (lookups[0].live[i] if i < WIDTH else lookups[1].live[i - WIDTH]) == 0.0:
            fill(results.out, (rows.row + i) * rows.num_classes, rows.num_classes, 0.0)


@inlined
def _terms_of_half(z, results, given, half, lookups, rows, ignored):
    """The `Terms` of eight rows, whose values are written and kept."""
    source = Source(None, z, None, None, None, None)
    zero = splat(0.0)
    nothing = TargetSums(zero, zero, zero, zero)
    sums = _sums_of(source, Summed(half.others, half.d_y, zero), nothing, lookups, half.peak)
    terms = _terms_of(source, None, sums, zero, nothing, lookups, given.fields, False)
    if ignored:
        terms = _without_ignored(lookups, terms)
    store_strided(results.values, rows.row, 1, rows.count, terms.value)
    if len(results.kept):
        _keep(results.kept, rows, half.peak, terms, zero, terms.at_target)
    return terms


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
    """Value and gradient of rows start ... stop - 1: arguments as in ``long_rows.cross_entropy``."""
    asked = is_asked(values, labels)
    wrong = first_without_class(labels, ignore, num_classes) if asked else -1
    if wrong >= 0:
        return wrong
    weights, fields = row_numbers(numbers)
    given = Given(labels, ignore, weights, fields)
    _cross_entropy(z, Results(out, wanted, values, kept), given, transform, smooth, num_classes, start, stop)
    if asked:
        values[stop] = sum_of(values, stop)
    return -1


@inlined
def _spread_of(sums, target, terms, soft):
    """What multiplies the targets' entries of eight rows."""
    zero, smoothed = splat(0.0), terms.beta * sums.eps
    r_factor = where_equal(smoothed, zero, zero, (smoothed if soft else terms.beta) / target.r_sum)
    return Spread(r_factor, terms.beta * (splat(1.0) - sums.eps) if soft else zero)


@inlined
def _look_up_again(lookups, labels, ignore, upstream, rows):
    """Look up what the gradients of eight rows need; return whether one is ignored."""
    ignored = False
    for i in range(WIDTH):
        row, _ = _label_at(lookups, labels, ignore, rows, i)
        ignored = ignored or lookups.live[i] == 0.0
        if len(upstream) > 1:
            lookups.scales[i] = upstream[row]
    return ignored


@inlined
def _kept_gradient(kept, rows, lookups, soft, ignored):
    """Return the maxima of eight rows and their `Gradient`, from what was kept and their factors."""
    place, count, f = rows.row * KEPT, rows.count, load(lookups.scales, 0)
    alpha = load_strided(kept, place + 1, KEPT, count) * f
    r_factor = load_strided(kept, place + 2, KEPT, count) * f
    own = load_strided(kept, place + 3, KEPT, count) * f
    gradient = _gradient_of(lookups, alpha, Spread(r_factor, own), own, soft, ignored)
    return load_strided(kept, place, KEPT, count), gradient


@compiled
def cross_entropy_gradient(
    z, out, streaming, kept, upstream, labels, ignore, transform, smooth, num_classes, start, stop
):
    """Gradient of rows start ... stop - 1 from what ``cross_entropy`` kept of them.

    Arguments as in ``long_rows.cross_entropy_gradient``.
    """
    source = source_of(transform, z, room_of(num_classes), scratch(WIDTH))
    held, soft = source.held, smoothing_of(smooth, 0)[1]
    given = scratch(len(held) if soft else 0)
    lookups = lookups_of(upstream[0])
    targets = Labels(lookups.index, lookups.margin)
    for row in range(start, stop, WIDTH):
        rows = rows_at(row, stop)
        ignored = _look_up_again(lookups, labels, ignore, upstream, rows)
        transformed_rows(source, rows, num_classes, targets)
        gather_given(smooth, rows, num_classes, given)
        peak, gradient = _kept_gradient(kept, rows, lookups, soft, ignored)
        _gradients_again(source, smooth, given, rows, num_classes, peak, gradient)
        scatter(out, rows, num_classes, held)
