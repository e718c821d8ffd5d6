"""Loops over long rows: the classes of one row fill the lanes.

A row is worked on in chunks that stay in the first-level cache. Of each chunk its maximum is found, then its exponentials
relative to *that* maximum are written out and summed (the online normaliser of Milakov and Gimelshein, 2018, a chunk at
a time), so each logit comes from memory once; when the row is through, one multiplication a chunk brings all to the
row's maximum and normalises. Chunks and lanes depend on K alone: a row's result is bit-identical whatever the batch.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from .compiler import compiled, inlined
from .exponential import shifted
from .loss import exp_difference, row_terms
from .simd import WIDTH, fma, iota, load, load_first, max_lanes, maximum, splat, store, store_first, sum_lanes, where_equal

CHUNK = 4096  # entries: at most 32 KiB of float64, a first-level cache
BLOCK = 4 * WIDTH  # four independent chains of lanes hide the latency of a fused multiply-add


@inlined
def _peak(z, base, n):
    """Largest entry of z[base : base + n]; NaN is passed over, the sum will show it."""
    a = b = c = d = splat(-np.inf)
    k = 0
    while k + BLOCK <= n:
        a = maximum(load(z, base + k), a)
        b = maximum(load(z, base + k + WIDTH), b)
        c = maximum(load(z, base + k + 2 * WIDTH), c)
        d = maximum(load(z, base + k + 3 * WIDTH), d)
        k += BLOCK
    while k < n:
        a = maximum(load_first(z, base + k, min(WIDTH, n - k), -np.inf), a)
        k += WIDTH
    return max_lanes(maximum(maximum(a, b), maximum(c, d)))


def accumulate(z, total, error, x):
    """(total + x, error): float64 logits get the rounding errors of their sum along, float32 ones have digits to spare."""
    raise NotImplementedError("compiled only")


@overload(accumulate, inline="always")
def _accumulate(z, total, error, x):
    if z.dtype == types.float64:

        def with_error(z, total, error, x):
            t = total + x
            return t, error + (x - (t - total))  # exact where total >= x, and early on the error is small either way

        return with_error
    return lambda z, total, error, x: (total + x, error)


@inlined
def _reference(peak):
    """What a chunk is shifted by: its maximum, or 0 where it holds nothing above -inf (-inf less -inf is no number)."""
    return peak if peak > -np.inf else 0.0


@inlined
def _exponentials(z, base, n, peak, y, held, place):
    """Write exp(z - peak) of a chunk to held[place:], if any; return the sum, class ``y`` left out (none where y is outside)."""
    m, zero = splat(peak), splat(0.0)
    a = b = c = d = ea = eb = ec = ed = zero
    k = 0
    while k + BLOCK <= n:
        p = shifted(z, m, load(z, base + k))
        q = shifted(z, m, load(z, base + k + WIDTH))
        r = shifted(z, m, load(z, base + k + 2 * WIDTH))
        s = shifted(z, m, load(z, base + k + 3 * WIDTH))
        if held is not None:
            store(held, place + k, p)
            store(held, place + k + WIDTH, q)
            store(held, place + k + 2 * WIDTH, r)
            store(held, place + k + 3 * WIDTH, s)
        if k <= y < k + BLOCK:
            lane, i = splat(float(y - k)), iota()
            p = where_equal(i, lane, zero, p)
            q = where_equal(i + splat(8.0), lane, zero, q)
            r = where_equal(i + splat(16.0), lane, zero, r)
            s = where_equal(i + splat(24.0), lane, zero, s)
        a, ea = accumulate(z, a, ea, p)
        b, eb = accumulate(z, b, eb, q)
        c, ec = accumulate(z, c, ec, r)
        d, ed = accumulate(z, d, ed, s)
        k += BLOCK
    while k < n:
        count = min(WIDTH, n - k)
        p = shifted(z, m, load_first(z, base + k, count, -np.inf))
        if held is not None:
            store_first(held, place + k, count, p)
        if k <= y < k + WIDTH:
            p = where_equal(iota(), splat(float(y - k)), zero, p)
        a, ea = accumulate(z, a, ea, p)
        k += WIDTH
    return sum_lanes((a + b) + (c + d)) + sum_lanes((ea + eb) + (ec + ed))


@inlined
def _below_peak(z, base, n, peak):
    """Return sum of exp(z - peak) over the entries below the peak, and how many are at it: 1 + 1e-18 keeps its 1e-18."""
    m, zero, one = splat(peak), splat(0.0), splat(1.0)
    a = b = ea = eb = ties = zero
    k = 0
    while k + 2 * WIDTH <= n:
        x, y = load(z, base + k), load(z, base + k + WIDTH)
        ties += where_equal(x, m, one, zero) + where_equal(y, m, one, zero)
        a, ea = accumulate(z, a, ea, where_equal(x, m, zero, shifted(z, m, x)))
        b, eb = accumulate(z, b, eb, where_equal(y, m, zero, shifted(z, m, y)))
        k += 2 * WIDTH
    while k < n:
        x = load_first(z, base + k, min(WIDTH, n - k), -np.inf)
        ties += where_equal(x, m, one, zero)
        a, ea = accumulate(z, a, ea, where_equal(x, m, zero, shifted(z, m, x)))
        k += WIDTH
    return sum_lanes(a + b) + sum_lanes(ea + eb), sum_lanes(ties)


@inlined
def _prior_products(z, base, n, peak, prior, first):
    """Return sum_k r_k (z_k - peak) and sum_k r_k of a chunk; r_k = 1 where no prior is given, and 0 * -inf is 0."""
    m, zero, one = splat(peak), splat(0.0), splat(1.0)
    a = total = zero
    k = 0
    while k < n:
        count = min(WIDTH, n - k)
        r = load_first(prior, first + k, count, 0.0) if prior is not None else where_in(count, one, zero)
        d = load_first(z, base + k, count, peak) - m
        a += where_equal(r, zero, zero, r * d)
        total += r
        k += WIDTH
    return sum_lanes(a), sum_lanes(total)


@inlined
def where_in(count, x, y):
    """x in the first ``count`` lanes, y in the others."""
    from_count = iota() - splat(float(count) - 0.5)
    return where_equal(maximum(from_count, splat(0.0)), splat(0.0), x, y)


@inlined
def _scaled(held, place, out, base, n, factor):
    """out[base:] = factor * held[place:] over a chunk."""
    f = splat(factor)
    k = 0
    while k + BLOCK <= n:
        store(out, base + k, load(held, place + k) * f)
        store(out, base + k + WIDTH, load(held, place + k + WIDTH) * f)
        store(out, base + k + 2 * WIDTH, load(held, place + k + 2 * WIDTH) * f)
        store(out, base + k + 3 * WIDTH, load(held, place + k + 3 * WIDTH) * f)
        k += BLOCK
    while k < n:
        count = min(WIDTH, n - k)
        store_first(out, base + k, count, load_first(held, place + k, count, 0.0) * f)
        k += WIDTH


@inlined
def _less_prior(held, place, out, base, n, factor, beta, prior, first):
    """out[base:] = factor * held[place:] - beta * r over a chunk; r_k = 1 where no prior is given."""
    f, b = splat(factor), splat(-beta)
    k = 0
    while k + WIDTH <= n:
        minus = b * load(prior, first + k) if prior is not None else b
        store(out, base + k, fma(load(held, place + k), f, minus))
        k += WIDTH
    if k < n:
        minus = b * load_first(prior, first + k, n - k, 0.0) if prior is not None else b
        store_first(out, base + k, n - k, fma(load_first(held, place + k, n - k, 0.0), f, minus))


@inlined
def _fill(out, base, n, value):
    v = splat(value)
    k = 0
    while k < n:
        store_first(out, base + k, min(WIDTH, n - k), v)
        k += WIDTH


def holder(single, out, num_classes):
    """Where a row's exponentials wait for their factor: a float64 buffer for a row of one chunk, else ``out``."""
    raise NotImplementedError("compiled only")


@overload(holder)
def _holder(single, out, num_classes):
    if isinstance(single, types.NoneType):
        return lambda single, out, num_classes: out
    return lambda single, out, num_classes: np.empty(num_classes)


@compiled
def _softmax(z, out, single, num_classes, start, stop):
    chunks = (num_classes + CHUNK - 1) // CHUNK
    peaks = np.empty(chunks)
    sums = np.empty(chunks)
    held = holder(single, out, num_classes)
    for row in range(start, stop):
        base, peak = row * num_classes, -np.inf
        place = 0 if single is not None else base
        for c in range(chunks):
            first = c * CHUNK
            n = min(CHUNK, num_classes - first)
            peaks[c] = _peak(z, base + first, n)
            sums[c] = _exponentials(z, base + first, n, _reference(peaks[c]), -1, held, place + first)
            peak = max(peak, peaks[c])
        total = 0.0
        for c in range(chunks):
            peaks[c] = exp_difference(peaks[c], peak)
            total += peaks[c] * sums[c]
        for c in range(chunks):
            first = c * CHUNK
            _scaled(held, place + first, out, base + first, min(CHUNK, num_classes - first), peaks[c] / total)


def softmax(z, out, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    _softmax(z, out, _single(num_classes), num_classes, start, stop)


def _single(num_classes):
    """What marks a row of one chunk, to the compiler too: its exponentials are held in float64 and rounded once, at the end.

    Of longer rows they are held in ``out``, in its type: float64 ones would not fit the second-level cache.
    """
    return True if num_classes <= CHUNK else None


@inlined
def _log_normaliser(z, base, num_classes, peaks, sums):
    """Return a row's maximum and log sum exp(z - max), the maximum's own 1 kept out of the sum.

    Where the others add up to one or more, nothing is lost by taking that 1 off again. Only a row that its maximum
    dominates is summed a second time, without the entries at the maximum.
    """
    chunks = len(peaks)
    peak = -np.inf
    for c in range(chunks):
        first = c * CHUNK
        n = min(CHUNK, num_classes - first)
        peaks[c] = _peak(z, base + first, n)
        sums[c] = _exponentials(z, base + first, n, _reference(peaks[c]), -1, None, 0)
        peak = max(peak, peaks[c])
    total = 0.0
    for c in range(chunks):
        total += exp_difference(peaks[c], peak) * sums[c]
    if total >= 2.0:
        return peak, math.log1p(total - 1.0)
    rest, ties = 0.0, 0.0
    for first in range(0, num_classes, CHUNK):
        below, at = _below_peak(z, base + first, min(CHUNK, num_classes - first), peak)
        rest += below
        ties += at
    return peak, math.log1p(rest + (ties - 1.0))


@compiled
def log_softmax(z, out, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    chunks = (num_classes + CHUNK - 1) // CHUNK
    peaks = np.empty(chunks)
    sums = np.empty(chunks)
    for row in range(start, stop):
        base = row * num_classes
        peak, log_total = _log_normaliser(z, base, num_classes, peaks, sums)
        if math.isinf(peak):  # +inf, or nothing above -inf: no distribution
            log_total = math.nan
        m, minus = splat(peak), splat(log_total)
        k = base
        end = base + num_classes
        while k + BLOCK <= end:
            p, q = load(z, k), load(z, k + WIDTH)
            r, s = load(z, k + 2 * WIDTH), load(z, k + 3 * WIDTH)
            store(out, k, log_difference(z, p, m, minus))
            store(out, k + WIDTH, log_difference(z, q, m, minus))
            store(out, k + 2 * WIDTH, log_difference(z, r, m, minus))
            store(out, k + 3 * WIDTH, log_difference(z, s, m, minus))
            k += BLOCK
        while k < end:
            x = load_first(z, k, min(WIDTH, end - k), 0.0)
            store_first(out, k, min(WIDTH, end - k), log_difference(z, x, m, minus))
            k += WIDTH


def log_difference(z, x, m, log_total):
    """(x - m) - log_total, the rounding error of x - m taken along for float64."""
    raise NotImplementedError("compiled only")


@overload(log_difference, inline="always")
def _log_difference(z, x, m, log_total):
    if z.dtype == types.float64:

        def with_error(z, x, m, log_total):
            d = x - m
            t = d - x
            low = (x - (d - t)) - (m + t)
            low = where_equal(low - low, splat(0.0), low, splat(0.0))  # no error where the difference is infinite
            return d + (low - log_total)

        return with_error
    return lambda z, x, m, log_total: (x - m) - log_total


@compiled
def logsumexp(z, values, num_classes, start, stop):
    """log sum exp of rows start ... stop - 1 of the flat array z to the float64 array values."""
    chunks = (num_classes + CHUNK - 1) // CHUNK
    peaks = np.empty(chunks)
    sums = np.empty(chunks)
    for row in range(start, stop):
        peak, log_total = _log_normaliser(z, row * num_classes, num_classes, peaks, sums)
        values[row] = peak if math.isinf(peak) and not math.isnan(log_total) else peak + log_total


def cross_entropy(z, out, labels, ignore, values, weight, scale, scales, eps, prior, gamma, z_loss, num_classes, start, stop):
    """Value and gradient of rows start ... stop - 1: out (flat, may be z; None for the value alone) and values (float64).

    ``weight`` is None or W, float64 (K,); ``scale`` times ``scales`` (None or float64 (N,)) multiplies the whole row;
    ``eps`` is None or float64 (1,) or (K,); ``prior`` is None (uniform) or float64 (K,).
    """
    single = _single(num_classes) if out is not None else None
    _cross_entropy(
        z, out, single, labels, ignore, values, weight, scale, scales, eps, prior, gamma, z_loss, num_classes, start, stop
    )  # fmt: skip


@compiled
def _cross_entropy(z, out, single, labels, ignore, values, weight, scale, scales, eps, prior, gamma, z_loss, num_classes, start, stop):
    chunks = (num_classes + CHUNK - 1) // CHUNK
    peaks = np.empty(chunks)
    sums = np.empty(chunks)
    r_ds = np.empty(chunks)
    r_sums = np.empty(chunks)
    held = holder(single, out, num_classes)
    for row in range(start, stop):
        base, y, peak = row * num_classes, labels[row], -np.inf
        if y == ignore:
            values[row] = 0.0
            if out is not None:
                _fill(out, base, num_classes, 0.0)
            continue
        place = 0 if single is not None else base
        z_y = float(z[base + y])
        r_d, r_sum = 0.0, 0.0
        for c in range(chunks):
            first = c * CHUNK
            n = min(CHUNK, num_classes - first)
            peaks[c] = _peak(z, base + first, n)
            if eps is not None:
                r_ds[c], r_sums[c] = _prior_products(z, base + first, n, _reference(peaks[c]), prior, first)
            sums[c] = _exponentials(z, base + first, n, _reference(peaks[c]), y - first, held, place + first)
            peak = max(peak, peaks[c])
        others = 0.0
        for c in range(chunks):
            if eps is not None:
                r_sum += r_sums[c]
                r_d += r_ds[c] + r_sums[c] * (_reference(peaks[c]) - peak)
            peaks[c] = exp_difference(peaks[c], peak)
            others += peaks[c] * sums[c]
        smoothing, r_y = 0.0, 0.0
        if eps is not None:
            smoothing = eps[y if len(eps) > 1 else 0]
            r_d /= r_sum
            r_y = (prior[y] if prior is not None else 1.0) / r_sum
        w = weight[y] if weight is not None else 1.0
        factor = scale * scales[row] if scales is not None else scale
        value, alpha, beta, at_target = row_terms(others, z_y, peak, smoothing, r_y, r_d, w, factor, gamma, z_loss)
        values[row] = value
        if out is not None:
            for c in range(chunks):
                first = c * CHUNK
                n = min(CHUNK, num_classes - first)
                if eps is not None:
                    _less_prior(held, place + first, out, base + first, n, peaks[c] * alpha, beta / r_sum, prior, first)
                else:
                    _scaled(held, place + first, out, base + first, n, peaks[c] * alpha)
            out[base + y] = at_target
