"""Loops over short rows: eight rows at once, one a lane.

A row shorter than a vector register leaves most of it empty; eight rows side by side fill it, and the
logarithm of the loss is taken for eight rows at a time too. Tiles of eight rows by eight classes are turned
over on the way in and out. Each lane does what it would do with any neighbours, so a row's result is
bit-identical whatever the batch; the last few rows of a batch share their register with copies of the last
one.
"""

from __future__ import annotations

import numpy as np
from numba import types

from .._rows import KEPT
from .affine import (
    capped,
    difference,
    exponential,
    inverse_temperature,
    is_shift,
    keep_low,
    less_log,
    plus,
    scratch,
    shifts_only,
    times,
)
from .compiler import allocating, called_overload, compiled, inlined, inlined_overload
from .exponential import double, log1p
from .loss import row_terms, soft_terms
from .rows import accumulate
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
    where_less,
)
from .target import prior_of, smoothing_of

# Rows of at most this many classes go through here: beyond it turning tiles over costs more than it saves.
MOST_CLASSES = 48


@inlined
def _room(num_classes):
    """Entries of a buffer for eight rows, in whole tiles."""
    return (num_classes + WIDTH - 1) // WIDTH * WIDTH * WIDTH


@inlined
def _gather(z, base, num_classes, count, rows):
    """Copy eight rows to ``rows``, eight entries a class."""
    if count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            load_tile(z, base + k, num_classes, min(WIDTH, num_classes - k), rows, k * WIDTH)
    else:
        for k in range(num_classes):
            store(rows, k * WIDTH, load_strided(z, base + k, num_classes, count))


@inlined
def _scatter(out, base, num_classes, count, rows):
    """Write eight rows from ``rows``."""
    if count == WIDTH:
        for k in range(0, num_classes, WIDTH):
            store_tile(out, base + k, num_classes, min(WIDTH, num_classes - k), rows, k * WIDTH)
    else:
        for k in range(num_classes):
            store_strided(out, base + k, num_classes, count, load(rows, k * WIDTH))


def transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin):
    """Bring eight rows of z in ``rows`` to u T, as ``affine.prepared`` does a chunk of one row."""
    raise NotImplementedError("compiled only")


@called_overload(transform)
def _transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin):
    if is_shift(affine):

        def add_bias(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin):
            for k in range(num_classes):
                store(rows, k * WIDTH, load(rows, k * WIDTH) + splat(affine.bias[k]))

        return add_bias
    if shifts_only(affine):
        return lambda affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin: None

    def eight_rows(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin):
        zero = splat(0.0)
        for i in range(WIDTH):
            margin[i] = -affine.margin[int(target[i]) if len(affine.margin) > 1 else 0]
        for k in range(num_classes):
            x, low = load(rows, k * WIDTH), zero
            if affine.cap > 0.0:
                x, low, slope = capped(z, x, affine.cap)
                store(caps, k * WIDTH, slope)
            x, low = times(z, x, low, splat(affine.scale[k if len(affine.scale) > 1 else 0]))
            if affine.bias_stride:
                for i in range(WIDTH):
                    lane[i] = affine.bias[int(target[i]) * affine.bias_stride + k]
                x, low = plus(z, x, low, load(lane, 0))
            else:
                x, low = plus(z, x, low, splat(affine.bias[k if len(affine.bias) > 1 else 0]))
            x, low = plus(z, x, low, where_equal(splat(float(k)), load(target, 0), load(margin, 0), zero))
            if len(affine.mask):
                for i in range(WIDTH):
                    kept = affine.mask[(row + min(i, count - 1)) * affine.mask_stride + k]
                    lane[i] = 0.0 if kept else -np.inf
                x = where_equal(load(lane, 0), zero, x, splat(-np.inf))
            store(rows, k * WIDTH, x)
            keep_low(lows, k * WIDTH, WIDTH, low)

    return eight_rows


def masked_lanes(affine, lane, row, count, k, x, fill):
    """x, and ``fill`` in the lanes whose mask is False for class k."""
    raise NotImplementedError("compiled only")


@inlined_overload(masked_lanes)
def _masked_lanes(affine, lane, row, count, k, x, fill):
    if shifts_only(affine):
        return lambda affine, lane, row, count, k, x, fill: x

    def where_kept(affine, lane, row, count, k, x, fill):
        if len(affine.mask):
            for i in range(WIDTH):
                lane[i] = 1.0 if affine.mask[(row + min(i, count - 1)) * affine.mask_stride + k] else 0.0
            x = where_equal(load(lane, 0), splat(1.0), x, splat(fill))
        return x

    return where_kept


@inlined
def _peak(num_classes, rows):
    peak = splat(-np.inf)
    for k in range(num_classes):
        peak = maximum(load(rows, k * WIDTH), peak)
    return peak


def low_at(lows, place):
    """The rounding errors kept at a place, or zeros."""
    raise NotImplementedError("compiled only")


@called_overload(low_at)
def _low_at(lows, place):
    if isinstance(lows, types.NoneType):
        return lambda lows, place: splat(0.0)
    return lambda lows, place: load(lows, place)


@inlined
def _difference(affine, z, rows, lows, k, peak):
    return difference(affine, z, load(rows, k * WIDTH), low_at(lows, k * WIDTH), peak)


@compiled
def softmax(z, out, streaming, affine, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    rows, target = np.empty(_room(num_classes)), np.full(WIDTH, -1.0)
    lows, caps = scratch(affine, z, len(rows))
    lane, margin = np.empty(WIDTH), np.empty(WIDTH)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        _gather(z, base, num_classes, count, rows)
        transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin)
        peak = _peak(num_classes, rows)
        total = error = splat(0.0)
        for k in range(num_classes):
            d, low = _difference(affine, z, rows, lows, k, peak)
            e = exponential(z, d, low)
            store(rows, k * WIDTH, e)
            total, error = accumulate(z, total, error, e)
        factor = splat(1.0) / (total + error)
        for k in range(num_classes):
            store(
                rows,
                k * WIDTH,
                masked_lanes(affine, lane, row, count, k, load(rows, k * WIDTH) * factor, 0.0),
            )
        _scatter(out, base, num_classes, count, rows)


@inlined
def _log_normaliser(affine, z, rows, lows, num_classes, peak):
    """log sum exp(u - peak) of eight rows; NaN where a row holds NaN."""
    zero, one = splat(0.0), splat(1.0)
    rest = error = ties = zero
    for k in range(num_classes):
        x = load(rows, k * WIDTH)
        d, low = _difference(affine, z, rows, lows, k, peak)
        ties += where_equal(x, peak, one, zero)
        rest, error = accumulate(z, rest, error, where_equal(x, peak, zero, exponential(z, d, low)))
    return log1p((rest + error) + (ties - one))


@inlined
def _of_finite(peak, x):
    """x, and NaN where the maximum is +inf or nothing is above -inf: no distribution."""
    nan = splat(np.nan)
    return where_equal(peak, splat(np.inf), nan, where_equal(peak, splat(-np.inf), nan, x))


@compiled
def log_softmax(z, out, streaming, affine, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    rows, target = np.empty(_room(num_classes)), np.full(WIDTH, -1.0)
    lows, caps = scratch(affine, z, len(rows))
    lane, margin = np.empty(WIDTH), np.empty(WIDTH)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        _gather(z, base, num_classes, count, rows)
        transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin)
        peak = _peak(num_classes, rows)
        log_total = _log_normaliser(affine, z, rows, lows, num_classes, peak)
        log_total = _of_finite(peak, log_total)
        for k in range(num_classes):
            d, low = _difference(affine, z, rows, lows, k, peak)
            store(
                rows,
                k * WIDTH,
                masked_lanes(affine, lane, row, count, k, less_log(z, d, low, log_total), -np.inf),
            )
        _scatter(out, base, num_classes, count, rows)


@compiled
def logsumexp(z, out, streaming, values, affine, num_classes, start, stop):
    """log sum exp of rows start ... stop - 1 of the flat array z to the float64 array values.

    ``out`` is not used.
    """
    rows, target = np.empty(_room(num_classes)), np.full(WIDTH, -1.0)
    lows, caps = scratch(affine, z, len(rows))
    lane, margin = np.empty(WIDTH), np.empty(WIDTH)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        _gather(z, base, num_classes, count, rows)
        transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin)
        peak = _peak(num_classes, rows)
        # an infinite peak is the result itself, where no NaN is beside it
        store_strided(values, row, 1, count, peak + _log_normaliser(affine, z, rows, lows, num_classes, peak))


# ---- the loss ----


def target_sums(smooth, affine, z, row, count, num_classes, rows, lows, given, peak, lane):
    """Return (sum r_k d_k, sum r_k, sum t_k d_k, sum t_k) of eight rows.

    A given distribution is copied to ``given``.
    """
    raise NotImplementedError("compiled only")


@called_overload(target_sums)
def _target_sums(smooth, affine, z, row, count, num_classes, rows, lows, given, peak, lane):
    if isinstance(smooth, types.NoneType):

        def nothing(smooth, affine, z, row, count, num_classes, rows, lows, given, peak, lane):
            return splat(0.0), splat(0.0), splat(0.0), splat(0.0)

        return nothing

    def sums(smooth, affine, z, row, count, num_classes, rows, lows, given, peak, lane):
        zero = splat(0.0)
        r_d = r_sum = t_d = t_sum = zero
        soft = len(smooth.rows) > 0
        gather_given(smooth, row, num_classes, count, given)
        for k in range(num_classes):
            d, _ = _difference(affine, z, rows, lows, k, peak)
            r = masked_lanes(
                affine, lane, row, count, k, splat(smooth.prior[k if len(smooth.prior) > 1 else 0]), 0.0
            )
            r_d, r_sum = r_d + where_equal(r, zero, zero, r * d), r_sum + r
            if soft:
                t = load(given, k * WIDTH)
                t_d, t_sum = t_d + where_equal(t, zero, zero, where_equal(d, zero, zero, t * d)), t_sum + t
        return r_d, r_sum, t_d, t_sum

    return sums


def gather_given(smooth, row, num_classes, count, given):
    """Copy the given distributions of eight rows to ``given``, where there are any."""
    raise NotImplementedError("compiled only")


@called_overload(gather_given)
def _gather_given(smooth, row, num_classes, count, given):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, row, num_classes, count, given: None

    def copy(smooth, row, num_classes, count, given):
        if len(smooth.rows):
            _gather(smooth.rows, row * num_classes, num_classes, count, given)

    return copy


def less_targets(smooth, affine, row, count, k, given, g, r_factor, t_factor):
    """g - r_factor r_k - t_factor t_k, factors per lane."""
    raise NotImplementedError("compiled only")


@called_overload(less_targets)
def _less_targets(smooth, affine, row, count, k, given, g, r_factor, t_factor):
    if isinstance(smooth, types.NoneType):
        return lambda smooth, affine, row, count, k, given, g, r_factor, t_factor: g

    def subtract(smooth, affine, row, count, k, given, g, r_factor, t_factor):
        g = g - r_factor * splat(smooth.prior[k if len(smooth.prior) > 1 else 0])
        if len(smooth.rows):
            g = g - t_factor * load(given, k * WIDTH)
        return g

    return subtract


def through_lanes(affine, lane, row, count, k, caps, g):
    """A gradient in u to one in z; masked entries get 0."""
    raise NotImplementedError("compiled only")


@inlined_overload(through_lanes)
def _through_lanes(affine, lane, row, count, k, caps, g):
    if shifts_only(affine):
        return lambda affine, lane, row, count, k, caps, g: g

    def chain(affine, lane, row, count, k, caps, g):
        g = g * splat(affine.scale[k if len(affine.scale) > 1 else 0] * affine.inverse)
        if affine.cap > 0.0:
            g = g * load(caps, k * WIDTH)
        return masked_lanes(affine, lane, row, count, k, g, 0.0)

    return chain


@compiled
def cross_entropy(z, out, streaming, wanted, values, kept, labels, ignore, weights, power, factor, factors, affine, smooth, gamma, z_loss, num_classes, start, stop):  # fmt: skip # noqa: E501
    """Value and gradient of rows start ... stop - 1: arguments as in ``rows.cross_entropy``."""
    rows = np.empty(_room(num_classes))
    given = np.empty(len(rows) if smoothing_of(smooth, 0)[1] else 0)
    lows, caps = scratch(affine, z, len(rows))
    lane, margin = np.empty(WIDTH), np.empty(WIDTH)
    # one entry a lane: what is looked up by the row's target
    target, live, smoothing, r_target = np.zeros(WIDTH), np.ones(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    row_weights, row_factors = np.ones(WIDTH), np.full(WIDTH, factor)
    zero, one = splat(0.0), splat(1.0)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        ignored, soft = False, False
        for i in range(WIDTH):
            n = row + min(i, count - 1)
            y = labels[n]
            live[i] = 1.0
            if y == ignore:
                ignored, live[i], y = True, 0.0, 0
            smoothing[i], soft = smoothing_of(smooth, y)
            target[i] = y
            r_target[i] = prior_of(smooth, y, 1.0)
            if len(weights):
                row_weights[i] = weights[n if soft else y]
            if len(factors):
                row_factors[i] = factor * factors[n]
        _gather(z, base, num_classes, count, rows)
        transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin)
        peak = _peak(num_classes, rows)
        r_d, r_sum, t_d, t_sum = target_sums(
            smooth, affine, z, row, count, num_classes, rows, lows, given, peak, lane
        )
        log_total = (
            _of_finite(peak, _log_normaliser(affine, z, rows, lows, num_classes, peak)) if soft else zero
        )
        y = splat(-1.0) if soft else load(target, 0)
        others = error = d_y = low_y = zero
        for k in range(num_classes):
            d, low = _difference(affine, z, rows, lows, k, peak)
            e = exponential(z, d, low)
            store(rows, k * WIDTH, e)
            here = splat(float(k))
            d_y, low_y = where_equal(here, y, d, d_y), where_equal(here, y, low, low_y)
            others, error = accumulate(z, others, error, where_equal(here, y, zero, e))
        others += error
        w, f, eps = load(row_weights, 0), load(row_factors, 0), load(smoothing, 0)
        if soft:
            value, alpha, beta = _soft_lanes(
                others, log_total, peak, affine, eps, r_d, r_sum, t_d, t_sum, row_weights, row_factors, z_loss
            )
            at_target, t_factor = zero, beta * (one - eps)
        elif gamma != 0.0 or z_loss != 0.0:
            value, alpha, beta, at_target, w = _scalar_lanes(
                others,
                d_y,
                low_y,
                peak,
                affine,
                smoothing,
                r_target,
                r_d,
                r_sum,
                row_weights,
                power,
                row_factors,
                gamma,
                z_loss,
            )
            t_factor = zero
        else:
            e_y = exponential(z, d_y, low_y)
            total = others + e_y
            at_top = where_equal(d_y, zero, one, zero)
            log_x = log1p(where_equal(at_top, one, others / e_y, (others - one) + e_y))
            value = where_equal(at_top, one, log_x, (log_x - low_y) - d_y)
            if power != 0.0:
                w = _gated(w, value, power)
            smoothed = log_x + where_equal(at_top, one, low_y, zero) - r_d / r_sum
            value = where_equal(eps, one, zero, (one - eps) * value) + where_equal(
                eps, zero, zero, eps * smoothed
            )
            value = (w * f) * value
            alpha, beta = (w * f) / total, (w * f) * eps
            at_target = (
                where_equal(eps, zero, zero, beta * (one - load(r_target, 0) / r_sum)) - alpha * others
            )
            t_factor = zero
        if ignored:  # 0, and not the NaN that an ignored row may hold
            value, w = (
                where_equal(load(live, 0), zero, zero, value),
                where_equal(load(live, 0), zero, zero, w),
            )
        store_strided(values, row, 1, count, value)
        r_factor = where_equal(beta * eps, zero, zero, beta / r_sum if not soft else beta * eps / r_sum)
        if len(kept):
            _keep(kept, row, count, peak, alpha, r_factor, t_factor if soft else at_target, w)
        if not wanted:
            continue
        for k in range(num_classes):
            g = less_targets(
                smooth, affine, row, count, k, given, alpha * load(rows, k * WIDTH), r_factor, t_factor
            )
            g = where_equal(splat(float(k)), y, at_target, g)
            g = through_lanes(affine, lane, row, count, k, caps, g)
            if ignored:
                g = where_equal(load(live, 0), zero, zero, g)
            store(rows, k * WIDTH, g)
        _scatter(out, base, num_classes, count, rows)


@inlined
def _keep(kept, row, count, peak, alpha, r_factor, own, w):
    """Store what is kept of eight rows."""
    place = row * KEPT
    store_strided(kept, place, KEPT, count, peak)
    store_strided(kept, place + 1, KEPT, count, alpha)
    store_strided(kept, place + 2, KEPT, count, r_factor)
    store_strided(kept, place + 3, KEPT, count, own)
    store_strided(kept, place + 4, KEPT, count, w)


@compiled
def cross_entropy_gradient(
    z, out, streaming, kept, upstream, labels, ignore, affine, smooth, num_classes, start, stop
):
    """Gradient of rows start ... stop - 1 from what ``cross_entropy`` kept of them: arguments as in
    ``rows.cross_entropy_gradient``.
    """
    rows = np.empty(_room(num_classes))
    _, soft = smoothing_of(smooth, 0)
    given = np.empty(len(rows) if soft else 0)
    lows, caps = scratch(affine, z, len(rows))
    lane, margin = np.empty(WIDTH), np.empty(WIDTH)
    target, live, factors = np.zeros(WIDTH), np.ones(WIDTH), np.full(WIDTH, upstream[0])
    zero = splat(0.0)
    for row in range(start, stop, WIDTH):
        base, count, place = row * num_classes, min(WIDTH, stop - row), row * KEPT
        ignored = False
        for i in range(WIDTH):
            n = row + min(i, count - 1)
            y = labels[n]
            live[i] = 1.0
            if y == ignore:
                ignored, live[i], y = True, 0.0, 0
            target[i] = y
            if len(upstream) > 1:
                factors[i] = upstream[n]
        _gather(z, base, num_classes, count, rows)
        transform(affine, z, row, count, num_classes, rows, lows, caps, target, lane, margin)
        gather_given(smooth, row, num_classes, count, given)
        f, peak = load(factors, 0), load_strided(kept, place, KEPT, count)
        alpha, r_factor = (
            load_strided(kept, place + 1, KEPT, count) * f,
            load_strided(kept, place + 2, KEPT, count) * f,
        )
        own = load_strided(kept, place + 3, KEPT, count) * f
        y, t_factor = splat(-1.0) if soft else load(target, 0), own
        for k in range(num_classes):
            d, low = _difference(affine, z, rows, lows, k, peak)
            g = less_targets(
                smooth, affine, row, count, k, given, alpha * exponential(z, d, low), r_factor, t_factor
            )
            g = through_lanes(affine, lane, row, count, k, caps, where_equal(splat(float(k)), y, own, g))
            if ignored:
                g = where_equal(load(live, 0), zero, zero, g)
            store(rows, k * WIDTH, g)
        _scatter(out, base, num_classes, count, rows)


@inlined
def _gated(log_weight, cross, power):
    """w = W^(q_y^g) of eight rows: see ``loss.gated``."""
    zero = splat(0.0)
    fit = double(splat(-power) * cross, zero)
    # beyond e^709 there is no number; a weight so large is its own trouble
    exponent = where_less(splat(709.0), fit * log_weight, splat(709.0), fit * log_weight)
    return double(where_equal(fit, zero, zero, exponent), zero)


@allocating
def _numbers(lanes):
    """Eight lanes as an array: for a formula with powers, which no vector instruction has."""
    numbers = np.empty(WIDTH)
    store(numbers, 0, lanes)
    return numbers


@allocating
def _scalar_lanes(
    others, d_y, low_y, peak, affine, smoothing, r_target, r_d, r_sum, weights, power, factors, gamma, z_loss
):
    """The row formula lane by lane."""
    o, dy, ly, m, rd, rs = (
        _numbers(others),
        _numbers(d_y),
        _numbers(low_y),
        _numbers(peak),
        _numbers(r_d),
        _numbers(r_sum),
    )
    value, alpha, beta, at_target, w = (
        np.empty(WIDTH),
        np.empty(WIDTH),
        np.empty(WIDTH),
        np.empty(WIDTH),
        np.empty(WIDTH),
    )
    for i in range(WIDTH):
        r_y, mean_d = (r_target[i] / rs[i], rd[i] / rs[i]) if smoothing[i] != 0.0 else (0.0, 0.0)
        shift = m[i] * inverse_temperature(affine)
        value[i], alpha[i], beta[i], at_target[i], w[i] = row_terms(
            o[i], dy[i], ly[i], shift, smoothing[i], r_y, mean_d, weights[i], power, factors[i], gamma, z_loss
        )
    return load(value, 0), load(alpha, 0), load(beta, 0), load(at_target, 0), load(w, 0)


@allocating
def _soft_lanes(total, log_total, peak, affine, eps, r_d, r_sum, t_d, t_sum, weights, factors, z_loss):
    """The formula of a given distribution lane by lane."""
    zero, one = splat(0.0), splat(1.0)
    s_sum = _numbers((one - eps) * t_sum + eps)
    s_d = _numbers(
        where_equal(eps, one, zero, (one - eps) * t_d) + where_equal(eps, zero, zero, eps * (r_d / r_sum))
    )
    sums, logs, m = _numbers(total), _numbers(log_total), _numbers(peak)
    value, alpha, beta = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    for i in range(WIDTH):
        shift = m[i] * inverse_temperature(affine)
        value[i], alpha[i], beta[i] = soft_terms(
            sums[i], logs[i], shift, s_sum[i], s_d[i], weights[i], factors[i], z_loss
        )
    return load(value, 0), load(alpha, 0), load(beta, 0)
