"""Loops over short rows: eight rows at once, one a lane.

A row shorter than a vector register leaves most of it empty; eight rows side by side fill it, and the logarithm of the
loss is taken for eight rows at a time too. Each lane does what it would do with any neighbours, so a row's result is
bit-identical whatever the batch; the last few rows of a batch share their register with copies of the last one.
"""

from __future__ import annotations

import numpy as np

from .compiler import compiled, inlined
from .exponential import log1p, shifted
from .loss import row_terms
from .rows import accumulate, log_difference
from .simd import (
    WIDTH,
    load,
    load_strided,
    maximum,
    splat,
    store,
    store_strided,
    where_equal,
)

# Rows of at most this many classes go through here: beyond it the gathering of lanes costs more than it saves.
MOST_CLASSES = 48


@inlined
def _gathered(z, base, num_classes, count, rows):
    """Copy eight rows to ``rows`` (K, 8), and return the maximum of each; NaN is passed over."""
    peak = splat(-np.inf)
    for k in range(num_classes):
        x = load_strided(z, base + k, num_classes, count)
        store(rows, k * WIDTH, x)
        peak = maximum(x, peak)
    return peak


@compiled
def softmax(z, out, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    rows = np.empty(num_classes * WIDTH)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        peak = _gathered(z, base, num_classes, count, rows)
        total = error = splat(0.0)
        for k in range(num_classes):
            e = shifted(z, peak, load(rows, k * WIDTH))
            store(rows, k * WIDTH, e)
            total, error = accumulate(z, total, error, e)
        factor = splat(1.0) / (total + error)
        for k in range(num_classes):
            store_strided(out, base + k, num_classes, count, load(rows, k * WIDTH) * factor)


@inlined
def _log_normaliser(z, rows, num_classes, peak):
    """log sum exp(z - peak) of eight rows; NaN where a row holds NaN."""
    zero, one = splat(0.0), splat(1.0)
    rest = error = ties = zero
    for k in range(num_classes):
        x = load(rows, k * WIDTH)
        ties += where_equal(x, peak, one, zero)
        rest, error = accumulate(z, rest, error, where_equal(x, peak, zero, shifted(z, peak, x)))
    return log1p((rest + error) + (ties - one))


@compiled
def log_softmax(z, out, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    rows = np.empty(num_classes * WIDTH)
    infinite, nan = splat(np.inf), splat(np.nan)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        peak = _gathered(z, base, num_classes, count, rows)
        log_total = _log_normaliser(z, rows, num_classes, peak)
        log_total = where_equal(peak, infinite, nan, where_equal(peak, splat(-np.inf), nan, log_total))
        for k in range(num_classes):
            store_strided(out, base + k, num_classes, count, log_difference(z, load(rows, k * WIDTH), peak, log_total))


@compiled
def logsumexp(z, values, num_classes, start, stop):
    """log sum exp of rows start ... stop - 1 of the flat array z to the float64 array values."""
    rows = np.empty(num_classes * WIDTH)
    for row in range(start, stop, WIDTH):
        count = min(WIDTH, stop - row)
        peak = _gathered(z, row * num_classes, num_classes, count, rows)
        log_total = _log_normaliser(z, rows, num_classes, peak)
        # an infinite peak is the result itself, where no NaN is beside it
        store_strided(values, row, 1, count, peak + log_total)


@compiled
def cross_entropy(z, out, labels, ignore, values, weight, scale, scales, eps, prior, gamma, z_loss, num_classes, start, stop):
    """Value and gradient of rows start ... stop - 1: arguments as in ``rows.cross_entropy``."""
    rows = np.empty(num_classes * WIDTH)
    # one entry a lane: what the scalar formula reads and writes where the vector one does not reach
    target, z_target, smoothing, r_target, live = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    weights, factors, products, finished = np.ones(WIDTH), np.full(WIDTH, scale), np.full(WIDTH, scale), np.zeros(WIDTH)
    zero, one = splat(0.0), splat(1.0)
    r_sum = prior.sum() if prior is not None else float(num_classes)
    for row in range(start, stop, WIDTH):
        base, count = row * num_classes, min(WIDTH, stop - row)
        ignored = False
        for i in range(WIDTH):
            n = row + min(i, count - 1)
            y = labels[n]
            live[i] = 1.0
            if y == ignore:
                ignored, live[i], y = True, 0.0, 0
            target[i] = y
            z_target[i] = z[n * num_classes + y]
            if weight is not None or scales is not None:
                weights[i] = weight[y] if weight is not None else 1.0
                factors[i] = scale * scales[n] if scales is not None else scale
                products[i] = weights[i] * factors[i]
            if eps is not None:
                smoothing[i] = eps[y if len(eps) > 1 else 0]
                r_target[i] = (prior[y] if prior is not None else 1.0) / r_sum
        peak = _gathered(z, base, num_classes, count, rows)
        y, z_y, others, error, r_d = load(target, 0), load(z_target, 0), zero, zero, zero
        for k in range(num_classes):
            x = load(rows, k * WIDTH)
            e = shifted(z, peak, x)
            store(rows, k * WIDTH, e)
            others, error = accumulate(z, others, error, where_equal(splat(float(k)), y, zero, e))
            if eps is not None:
                r = splat((prior[k] if prior is not None else 1.0) / r_sum)
                r_d += where_equal(r, zero, zero, r * (x - peak))
        others += error
        if gamma != 0.0 or z_loss != 0.0:
            value, alpha, beta, at_target = _scalar_terms(others, z_y, peak, r_d, smoothing, r_target, weights, factors, gamma, z_loss)
        else:
            e_y = shifted(z, peak, z_y)
            total = others + e_y
            log_total = log1p(where_equal(z_y, peak, others, (others - one) + e_y))
            f, small, r_y = load(products, 0), load(smoothing, 0), load(r_target, 0)
            value = zero - log_difference(z, z_y, peak, log_total)
            if eps is not None:
                value = (one - small) * value + where_equal(small, zero, zero, small * (log_total - r_d))
            value = f * value
            alpha, beta = f / total, f * small
            at_target = beta * (one - r_y) - alpha * others
        if ignored:  # factors of 0, and not of NaN where the ignored row holds one
            here = load(live, 0)
            value, at_target = where_equal(here, zero, zero, value), where_equal(here, zero, zero, at_target)
        store_strided(values, row, 1, count, value)
        if out is None:
            continue
        store(finished, 0, at_target)
        for k in range(num_classes):
            g = alpha * load(rows, k * WIDTH)
            if eps is not None:
                g = g - beta * splat((prior[k] if prior is not None else 1.0) / r_sum)
            if ignored:
                g = where_equal(load(live, 0), zero, zero, g)
            store_strided(out, base + k, num_classes, count, g)
        for i in range(count):
            out[base + i * num_classes + int(target[i])] = finished[i]


@inlined
def _scalar_terms(others, z_y, peak, r_d, smoothing, r_target, weights, factors, gamma, z_loss):
    """The row formula lane by lane: it has powers that no vector instruction has."""
    o, zy, m, rd = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    value, alpha, beta, at_target = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    store(o, 0, others)
    store(zy, 0, z_y)
    store(m, 0, peak)
    store(rd, 0, r_d)
    for i in range(WIDTH):
        value[i], alpha[i], beta[i], at_target[i] = row_terms(
            o[i], zy[i], m[i], smoothing[i], r_target[i], rd[i], weights[i], factors[i], gamma, z_loss
        )
    return load(value, 0), load(alpha, 0), load(beta, 0), load(at_target, 0)
