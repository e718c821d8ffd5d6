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
from .compiler import allocating, called_overload, compiled, helper, inlined
from .exponential import log1p
from .long_rows import accumulate
from .relative import difference, exponential, inverse_temperature, log_relative, relative
from .simd import (
    WIDTH,
    load,
    load_strided,
    load_tile,
    maximum,
    splat,
    store,
    store_strided,
    store_tile,
    where_equal,
)
from .target import (
    Array,
    Spread,
    less_target_of_rows,
    prior_of,
    row_numbers,
    scale_of,
    smoothing_of,
    target_sums_of_rows,
    weight_of,
)
from .terms import SoftSums, Sums, Terms, are_plain, plain_terms, row_terms, soft_terms
from .transform import (
    Column,
    Labels,
    held_at,
    hold,
    is_shift,
    loaded,
    look_up_margins,
    masked,
    per_class,
    slope_is_one,
    source_of,
    through,
    transformed_at,
)

# Rows of at most this many classes go through here: beyond it turning tiles over costs more than it saves.
MOST_CLASSES = 48


# ---- eight rows in and out ----


@inlined
def _room(num_classes):
    """Entries of a buffer for eight rows, in whole tiles."""
    return (num_classes + WIDTH - 1) // WIDTH * WIDTH * WIDTH


@inlined
def _rows_at(row, stop):
    """The first class of the eight rows from ``row`` on, or of those before ``stop``."""
    return Column(row, min(WIDTH, stop - row), 0)


@inlined
def _class_of(rows, k):
    """A class of eight rows."""
    return Column(rows.row, rows.count, k)


@inlined
def _gather(array, rows, num_classes, tile):
    """Copy eight rows to ``tile``, eight entries a class."""
    base = rows.row * num_classes
    if rows.count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            load_tile(array, base + k, num_classes, min(WIDTH, num_classes - k), tile, k * WIDTH)
    else:
        for k in range(num_classes):
            store(tile, k * WIDTH, load_strided(array, base + k, num_classes, rows.count))


@inlined
def _scatter(out, rows, num_classes, tile):
    """Write eight rows from ``tile``."""
    base = rows.row * num_classes
    if rows.count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            store_tile(out, base + k, num_classes, min(WIDTH, num_classes - k), tile, k * WIDTH)
    else:
        for k in range(num_classes):
            store_strided(out, base + k, num_classes, rows.count, load(tile, k * WIDTH))


@inlined
def _transformed(source, rows, num_classes, labels):
    """Bring eight rows to the scratch array as u T, and return their maxima."""
    _gather(source.z, rows, num_classes, source.held)
    _transform(source, rows, num_classes, labels)
    return _peak(source, rows, num_classes)


def _transform(source, rows, num_classes, labels):
    raise NotImplementedError("compiled only")


@called_overload(_transform)
def _choose_transform(source, rows, num_classes, labels):
    if is_shift(source):

        def add_bias(source, rows, num_classes, labels):
            for k in range(num_classes):
                column = _class_of(rows, k)
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
            transformed_at(source, _class_of(rows, k), labels)

    return transform


@inlined
def _peak(source, rows, num_classes):
    peak = splat(-np.inf)
    for k in range(num_classes):
        peak = maximum(held_at(source.held, _class_of(rows, k), 0.0), peak)
    return peak


# ---- softmax, its logarithm, log-sum-exp ----


@inlined
def _probabilities(source, rows, num_classes, peak):
    """Hold the softmax of eight rows."""
    total = error = splat(0.0)
    for k in range(num_classes):
        column = _class_of(rows, k)
        _, e = relative(source, column, peak)
        hold(source.held, column, e)
        total, error = accumulate(source.z, total, error, e)
    factor = splat(1.0) / (total + error)
    for k in range(num_classes):
        column = _class_of(rows, k)
        hold(source.held, column, masked(source, column, held_at(source.held, column, 0.0) * factor, 0.0))


@compiled
def softmax(z, out, streaming, transform, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    source = source_of(transform, z, _room(num_classes), np.empty(WIDTH))
    labels, held = Labels(np.full(WIDTH, -1.0), np.empty(WIDTH)), source.held
    for row in range(start, stop, WIDTH):
        rows = _rows_at(row, stop)
        peak = _transformed(source, rows, num_classes, labels)
        _probabilities(source, rows, num_classes, peak)
        _scatter(out, rows, num_classes, held)


@inlined
def _log_normaliser(source, rows, num_classes, peak):
    """log sum exp(u - peak) of eight rows; NaN where a row holds NaN."""
    zero, one = splat(0.0), splat(1.0)
    rest = error = ties = zero
    for k in range(num_classes):
        x, e = relative(source, _class_of(rows, k), peak)
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
        column = _class_of(rows, k)
        x = log_relative(source, column, peak, log_total)
        hold(source.held, column, masked(source, column, x, -np.inf))


@compiled
def log_softmax(z, out, streaming, transform, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    source = source_of(transform, z, _room(num_classes), np.empty(WIDTH))
    labels, held = Labels(np.full(WIDTH, -1.0), np.empty(WIDTH)), source.held
    for row in range(start, stop, WIDTH):
        rows = _rows_at(row, stop)
        peak = _transformed(source, rows, num_classes, labels)
        _logarithms(source, rows, num_classes, peak)
        _scatter(out, rows, num_classes, held)


@compiled
def logsumexp(z, out, streaming, values, transform, num_classes, start, stop):
    """Log-sum-exp of rows start ... stop - 1 of the flat array z to the float64 array values.

    ``out`` is not used.
    """
    source = source_of(transform, z, _room(num_classes), np.empty(WIDTH))
    labels = Labels(np.full(WIDTH, -1.0), np.empty(WIDTH))
    for row in range(start, stop, WIDTH):
        rows = _rows_at(row, stop)
        peak = _transformed(source, rows, num_classes, labels)
        # an infinite peak is the result itself, where no NaN is beside it
        store_strided(values, row, 1, rows.count, peak + _log_normaliser(source, rows, num_classes, peak))


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


_LANES_OF_A_ROW = len(Sums._fields)


@allocating
def _lookups(factor):
    """Return room for them: weights of one, and one factor for all rows."""
    return Lookups(
        np.zeros(WIDTH),
        np.empty(WIDTH),
        np.ones(WIDTH),
        np.zeros(WIDTH),
        np.zeros(WIDTH),
        np.ones(WIDTH),
        np.full(WIDTH, factor),
        np.empty(_LANES_OF_A_ROW * WIDTH),
    )


@inlined
def _label_at(lookups, labels, ignore, rows, i):
    """Look up the label of the i-th row; return the row and its label, 0 for an ignored one."""
    row = rows.row + min(i, rows.count - 1)
    y = labels[row]
    lookups.live[i] = 1.0
    if y == ignore:
        lookups.live[i], y = 0.0, 0
    lookups.index[i] = y
    return row, y


@inlined
def _look_up(lookups, labels, ignore, smooth, weights, rows):
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


def _gather_given(smooth, rows, num_classes, given):
    """Copy the given distributions of eight rows to ``given``, where there are any."""
    raise NotImplementedError("compiled only")


@called_overload(_gather_given)
def _choose_gather_given(smooth, rows, num_classes, given):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, rows, num_classes, given: None

    def copy(smooth, rows, num_classes, given):
        if len(smooth.rows):
            _gather(smooth.rows, rows, num_classes, given)

    return copy


# ---- the loss: what eight rows come to ----


class Summed(NamedTuple):
    """What is summed of eight rows in lanes, and what is found at their targets."""

    others: Any  # the exponentials without the target's
    d_y: Any  # d at the target
    low: Any  # its rounding error


@inlined
def _targets(lookups, soft):
    """The targets in lanes, or -1 for none: with given distributions."""
    return splat(-1.0) if soft else load(lookups.index, 0)


@inlined
def _summed(source, rows, num_classes, peak, y):
    """Hold the exponentials of eight rows, and sum them without the classes in the lanes ``y``."""
    others = error = d_y = low_y = zero = splat(0.0)
    for k in range(num_classes):
        column = _class_of(rows, k)
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
def _terms_of(source, sums, log_total, target, lookups, fields, soft):
    """Return the `Terms` of eight rows."""
    if soft:
        return _given_row_by_row(sums, log_total, target, lookups, fields)
    if not are_plain(fields):
        return _row_by_row(sums, lookups, fields)
    e_y = exponential(source.z, sums.d_y, sums.low)
    return plain_terms(sums, e_y, load(lookups.weights, 0), load(lookups.scales, 0), fields.gate)


@inlined
def _without_ignored(lookups, terms):
    """The `Terms` with the value 0 and the weight 0 for an ignored row, which may hold NaN."""
    zero, live = splat(0.0), load(lookups.live, 0)
    value = where_equal(live, zero, zero, terms.value)
    weight = where_equal(live, zero, zero, terms.weight)
    return Terms(value, terms.alpha, terms.beta, terms.at_target, weight)


@inlined
def _lay_out(room, numbers):
    """Lay lanes out as numbers: for a formula with powers, which no vector instruction has."""
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
def _row_by_row(sums, lookups, fields):
    """Return the `Terms` of eight rows, one by one."""
    room = lookups.room
    _lay_out(room, sums)
    for i in range(WIDTH):
        eps = lookups.eps[i]
        row = Sums(
            room[i],
            room[WIDTH + i],
            room[2 * WIDTH + i],
            room[3 * WIDTH + i],
            eps,
            room[5 * WIDTH + i] if eps != 0.0 else 0.0,
            room[6 * WIDTH + i] if eps != 0.0 else 0.0,
        )
        _set_terms(room, i, row_terms(row, lookups.weights[i], lookups.scales[i], fields))
    return _collected(room)


@helper
def _given_row_by_row(sums, log_total, target, lookups, fields):
    """Return the `Terms` of eight rows with given distributions, one by one: nothing is at a target."""
    zero, one, eps, room = splat(0.0), splat(1.0), sums.eps, lookups.room
    s_sum = (one - eps) * target.t_sum + eps
    s_d = where_equal(eps, one, zero, (one - eps) * target.t_d) + where_equal(eps, zero, zero, eps * sums.r_d)
    _lay_out(room, SoftSums(sums.others, log_total, sums.shift, s_sum, s_d))
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
    return Gradient(alpha, spread, at_target, _targets(lookups, soft), live, ignored)


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
        column = _class_of(rows, k)
        _component(source, smooth, given, column, held_at(source.held, column, 0.0), gradient)


@inlined
def _gradients_again(source, smooth, given, rows, num_classes, peak, gradient):
    """Hold the gradients of eight rows in place of u T."""
    for k in range(num_classes):
        column = _class_of(rows, k)
        _component(source, smooth, given, column, relative(source, column, peak)[1], gradient)


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
    source = source_of(transform, z, _room(num_classes), np.empty(WIDTH))
    held, zero = source.held, splat(0.0)
    given = np.empty(len(held) if smoothing_of(smooth, 0)[1] else 0)
    weights, fields = row_numbers(numbers)
    lookups = _lookups(weights.factor)
    targets = Labels(lookups.index, lookups.margin)
    for row in range(start, stop, WIDTH):
        rows = _rows_at(row, stop)
        ignored, soft = _look_up(lookups, labels, ignore, smooth, weights, rows)
        peak = _transformed(source, rows, num_classes, targets)
        _gather_given(smooth, rows, num_classes, given)
        target = target_sums_of_rows(smooth, given, source, rows, num_classes, peak)
        log_total = _of_finite(peak, _log_normaliser(source, rows, num_classes, peak)) if soft else zero
        summed = _summed(source, rows, num_classes, peak, _targets(lookups, soft))
        sums = _sums_of(source, summed, target, lookups, peak)
        terms = _terms_of(source, sums, log_total, target, lookups, fields, soft)
        if ignored:
            terms = _without_ignored(lookups, terms)
        store_strided(values, row, 1, rows.count, terms.value)
        spread = _spread_of(sums, target, terms, soft)
        if len(kept):
            _keep(kept, rows, peak, terms, spread.prior, spread.given if soft else terms.at_target)
        if not wanted:
            continue
        gradient = _gradient_of(lookups, terms.alpha, spread, terms.at_target, soft, ignored)
        _gradients(source, smooth, given, rows, num_classes, gradient)
        _scatter(out, rows, num_classes, held)
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
    source = source_of(transform, z, _room(num_classes), np.empty(WIDTH))
    held, soft = source.held, smoothing_of(smooth, 0)[1]
    given = np.empty(len(held) if soft else 0)
    lookups = _lookups(upstream[0])
    targets = Labels(lookups.index, lookups.margin)
    for row in range(start, stop, WIDTH):
        rows = _rows_at(row, stop)
        ignored = _look_up_again(lookups, labels, ignore, upstream, rows)
        _transformed(source, rows, num_classes, targets)
        _gather_given(smooth, rows, num_classes, given)
        peak, gradient = _kept_gradient(kept, rows, lookups, soft, ignored)
        _gradients_again(source, smooth, given, rows, num_classes, peak, gradient)
        _scatter(out, rows, num_classes, held)
