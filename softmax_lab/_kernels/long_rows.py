"""Loops over long rows: the classes of one row fill the lanes.

A row is worked on in chunks that stay in the first-level cache. Of each chunk its maximum is found, then its
exponentials relative to *that* maximum are summed and held in float64 (the online normaliser of Milakov and
Gimelshein, 2018, a chunk at a time), so each logit comes from memory once; when the row is through, one
multiplication a chunk brings all to the row's maximum and normalises, and every result is rounded once. Of a
row too long to be held the exponentials are taken a second time instead. Chunks and lanes depend on K alone:
a row's result is bit-identical whatever the batch.

While one chunk is worked on, the next is asked for from memory; results that no cache can hold are written
past it (``streamed``), which spares reading the lines that they replace.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from .._rows import KEPT
from .affine import (
    HELD,
    below,
    exp_below,
    inverse_temperature,
    load_some,
    log_relative,
    masked,
    prepared,
    relative,
    scratch,
    store_some,
    target_of,
    through,
    transformed,
    window,
)
from .compiler import called_overload, compiled, helper, inlined, inlined_overload
from .loss import part, row_terms, soft_terms
from .simd import (
    WIDTH,
    iota,
    load,
    load_first,
    prefetch,
    settle,
    splat,
    store,
    store_first,
    stream,
    sum_lanes,
    to_boundary,
    where_equal,
)
from .target import less_target, prior_of, products, smoothing_of

CHUNK = 2048  # entries: 16 KiB of float64, half of a first-level cache


@inlined
def reference(peak):
    """What a chunk is shifted by: its maximum, or 0 where it holds nothing above -inf (-inf less -inf is no
    number).
    """
    return peak if peak > -np.inf else 0.0


def shared_peak(affine, z, row, base, y, num_classes, held, lows, caps):
    """What all chunks of a row are relative to, if not to their own maxima: -inf, or for float64 the row's
    maximum.

    Chunks with maxima of their own are brought to the row's by a factor whose two roundings float64 would
    show.
    """
    raise NotImplementedError("compiled only")


@called_overload(shared_peak)
def _shared_peak(affine, z, row, base, y, num_classes, held, lows, caps):
    if z.dtype != types.float64:
        return lambda affine, z, row, base, y, num_classes, held, lows, caps: -np.inf

    def maximum_of_row(affine, z, row, base, y, num_classes, held, lows, caps):
        peak = -np.inf
        for first in range(0, num_classes, CHUNK):
            peak = max(
                peak,
                prepared(
                    affine, z, row, base, first, min(CHUNK, num_classes - first), y, held, lows, caps, 0
                ),
            )
        return peak

    return maximum_of_row


def accumulate(z, total, error, x):
    """(total + x, error): float64 logits get the rounding errors of their sum along, narrower ones have
    digits to spare.
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


@inlined
def exponentials(affine, z, offset, n, peak, y, held, lows, place, keep):
    """Return the sum of exp((u T - peak) / T) over a chunk, without entry ``y`` of it (none where y is
    outside).

    With ``keep`` the exponentials are written to held[place:]. The chunk that follows in memory is asked for
    meanwhile.
    """
    m, zero = splat(peak), splat(0.0)
    total = error = zero
    k, full = 0, n - n % WIDTH
    stop = y - y % WIDTH if 0 <= y < full else full
    while True:
        while k < stop:
            prefetch(z, offset + n + k)
            _, p = relative(affine, z, offset + k, held, lows, place + k, WIDTH, m)
            if keep:
                store(held, place + k, p)
            total, error = accumulate(z, total, error, p)
            k += WIDTH
        if k == n:
            break
        # the vector with entry y, or the last one, which is not full
        count = min(WIDTH, n - k)
        _, p = relative(affine, z, offset + k, held, lows, place + k, count, m)
        if keep:
            store_first(held, place + k, count, p)
        p = where_equal(iota(), splat(float(y - k)), zero, p)
        total, error = accumulate(z, total, error, p)
        k += count
        stop = full
    return sum_lanes(total) + sum_lanes(error)


@inlined
def total_of(affine, peaks, sums, peak):
    """Sum of the chunks' sums, each brought to the row's maximum, with the rounding errors of the
    additions.
    """
    total, error = 0.0, 0.0
    for c in range(len(peaks)):
        x = exp_below(affine, peaks[c], peak) * sums[c]
        t = total + x
        b = t - total
        error += (total - (t - b)) + (x - b)
        total = t
    return total + error if math.isfinite(error) else total


@helper
def _below_peak(affine, z, offset, n, peak, held, lows, place):
    """Return the sum over the entries below the peak, and how many are at it: 1 + 1e-18 keeps its 1e-18."""
    m, zero, one = splat(peak), splat(0.0), splat(1.0)
    a = error = ties = zero
    k = 0
    while k < n:
        x, p = relative(affine, z, offset + k, held, lows, place + k, min(WIDTH, n - k), m)
        ties += where_equal(x, m, one, zero)
        a, error = accumulate(z, a, error, where_equal(x, m, zero, p))
        k += WIDTH
    return sum_lanes(a) + sum_lanes(error), sum_lanes(ties)


@helper
def rest_of(affine, z, row, base, y, num_classes, peak, held, lows, caps, whole):
    """Sum of a row's exponentials without the one at its maximum, for a row that its maximum dominates."""
    rest, ties = 0.0, 0.0
    for first in range(0, num_classes, CHUNK):
        n, place = min(CHUNK, num_classes - first), first if whole else 0
        prepared(affine, z, row, base, first, n, y, held, lows, caps, place)
        below_peak, at_peak = _below_peak(affine, z, base + first, n, peak, held, lows, place)
        rest += below_peak
        ties += at_peak
    return rest + (ties - 1.0)


@inlined
def _until_line(out, offset, n, streaming):
    """How many entries to write the usual way before streamed ones: up to the start of a line, then line by
    line.
    """
    return min(n, to_boundary(out, offset)) if streaming else 0


@inlined
def _ask_for_ends(out, base, n, streaming):
    """Ask early for the lines that a row shares with its neighbours: they are not streamed, and a miss there
    holds up all stores.
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


@inlined
def _scaled(affine, row, first, held, place, out, offset, n, factor, fill, streaming):
    """out[offset:] = factor * held[place:] over a chunk, ``fill`` where the mask is False."""
    f, k = splat(factor), 0
    line = _until_line(out, offset, n, streaming)
    while k < n:
        if k >= line and k + WIDTH <= n:
            value = load(held, place + k) * f
            _put(out, offset + k, masked(affine, row, first + k, WIDTH, value, fill), streaming)
            k += WIDTH
        else:
            count = min(WIDTH, line - k if k < line else n - k)
            value = load_first(held, place + k, count, 0.0) * f
            store_first(out, offset + k, count, masked(affine, row, first + k, count, value, fill))
            k += count


@compiled
def softmax(z, out, streaming, affine, num_classes, start, stop):
    """Softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    chunks = (num_classes + CHUNK - 1) // CHUNK
    whole = num_classes <= HELD
    peaks, sums = np.empty(chunks), np.empty(chunks)
    held = np.empty(num_classes if whole else CHUNK)
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        base, peak = row * num_classes, -np.inf
        _ask_for_ends(out, base, num_classes, streaming)
        shared = shared_peak(affine, z, row, base, -1, num_classes, held, lows, caps)
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            peaks[c] = max(shared, prepared(affine, z, row, base, first, n, -1, held, lows, caps, place))
            sums[c] = exponentials(
                affine, z, base + first, n, reference(peaks[c]), -1, held, lows, place, True
            )
            peak = max(peak, peaks[c])
        total = total_of(affine, peaks, sums, peak)
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            if not whole:
                prepared(affine, z, row, base, first, n, -1, held, lows, caps, place)
                exponentials(affine, z, base + first, n, reference(peaks[c]), -1, held, lows, place, True)
            factor = exp_below(affine, peaks[c], peak) / total
            _scaled(affine, row, first, held, place, out, base + first, n, factor, 0.0, streaming)
    settle()


@inlined
def _log_normaliser(affine, z, row, num_classes, peaks, sums, held, lows, caps, whole):
    """Return a row's maximum (times T) and log sum exp(u - max), the maximum's own 1 kept out of the sum.

    Where the others add up to one or more, nothing is lost by taking that 1 off again. Only a row that its
    maximum dominates is summed a second time, without the entries at the maximum.
    """
    chunks, base = len(peaks), row * num_classes
    peak = -np.inf
    shared = shared_peak(affine, z, row, base, -1, num_classes, held, lows, caps)
    for c in range(chunks):
        first = c * CHUNK
        n, place = min(CHUNK, num_classes - first), first if whole else 0
        peaks[c] = max(shared, prepared(affine, z, row, base, first, n, -1, held, lows, caps, place))
        sums[c] = exponentials(affine, z, base + first, n, reference(peaks[c]), -1, held, lows, place, False)
        peak = max(peak, peaks[c])
    total = total_of(affine, peaks, sums, peak)
    if total >= 2.0:
        return peak, math.log1p(total - 1.0)
    return peak, math.log1p(rest_of(affine, z, row, base, -1, num_classes, peak, held, lows, caps, whole))


@compiled
def log_softmax(z, out, streaming, affine, num_classes, start, stop):
    """Log-softmax of rows start ... stop - 1 of the flat array z to out, which may be z."""
    chunks = (num_classes + CHUNK - 1) // CHUNK
    whole = num_classes <= HELD
    peaks, sums = np.empty(chunks), np.empty(chunks)
    held = np.empty(num_classes if whole else CHUNK)
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        base = row * num_classes
        _ask_for_ends(out, base, num_classes, streaming)
        peak, log_total = _log_normaliser(affine, z, row, num_classes, peaks, sums, held, lows, caps, whole)
        if math.isinf(peak):  # +inf, or nothing above -inf: no distribution
            log_total = math.nan
        m, minus = splat(peak), splat(log_total)
        for c in range(chunks):
            first = c * CHUNK
            n, place, offset = min(CHUNK, num_classes - first), first if whole else 0, base + first
            prepared(affine, z, row, base, first, n, -1, held, lows, caps, place)
            line, k = _until_line(out, offset, n, streaming), 0
            while k < n:
                if k >= line and k + WIDTH <= n:
                    x = log_relative(affine, z, offset + k, held, lows, place + k, WIDTH, m, minus)
                    _put(out, offset + k, masked(affine, row, first + k, WIDTH, x, -np.inf), streaming)
                    k += WIDTH
                else:
                    count = min(WIDTH, line - k if k < line else n - k)
                    x = log_relative(affine, z, offset + k, held, lows, place + k, count, m, minus)
                    store_first(out, offset + k, count, masked(affine, row, first + k, count, x, -np.inf))
                    k += count
    settle()


@compiled
def logsumexp(z, out, streaming, values, affine, num_classes, start, stop):
    """log sum exp of rows start ... stop - 1 of the flat array z to the float64 array values.

    ``out`` is not used.
    """
    chunks = (num_classes + CHUNK - 1) // CHUNK
    whole = num_classes <= HELD
    peaks, sums = np.empty(chunks), np.empty(chunks)
    held = np.empty(num_classes if whole else CHUNK)
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        peak, log_total = _log_normaliser(affine, z, row, num_classes, peaks, sums, held, lows, caps, whole)
        values[row] = peak if math.isinf(peak) and not math.isnan(log_total) else peak + log_total


@helper
def fill(out, offset, n, value):
    v = splat(value)
    k = 0
    while k < n:
        store_first(out, offset + k, min(WIDTH, n - k), v)
        k += WIDTH


@inlined
def _gradient(
    affine,
    smooth,
    row,
    base,
    first,
    y,
    at_target,
    held,
    caps,
    place,
    out,
    n,
    factor,
    r_factor,
    t_factor,
    streaming,
):
    """out = (factor * held - r_factor r - t_factor t) du/dz over a chunk.

    ``at_target`` times the slope at entry ``y`` of it.
    """
    f, target, offset, k = splat(factor), splat(at_target), base + first, 0
    line = _until_line(out, offset, n, streaming)
    while k < n:
        if k >= line and k + WIDTH <= n:
            g = less_target(
                smooth, affine, row, base, first + k, WIDTH, load(held, place + k) * f, r_factor, t_factor
            )
            if k <= y < k + WIDTH:
                g = where_equal(iota(), splat(float(y - k)), target, g)
            _put(out, offset + k, through(affine, row, first + k, caps, place + k, WIDTH, g), streaming)
            k += WIDTH
        else:
            count = min(WIDTH, line - k if k < line else n - k)
            g = load_first(held, place + k, count, 0.0) * f
            g = less_target(smooth, affine, row, base, first + k, count, g, r_factor, t_factor)
            g = where_equal(iota(), splat(float(y - k)), target, g)
            store_first(out, offset + k, count, through(affine, row, first + k, caps, place + k, count, g))
            k += count


@compiled
def cross_entropy(z, out, streaming, wanted, values, kept, labels, ignore, weights, power, factor, factors, affine, smooth, gamma, z_loss, num_classes, start, stop):  # fmt: skip # noqa: E501
    """Value and gradient of rows start ... stop - 1 of the flat array z: to values (float64) and, where
    ``wanted``, to out.

    ``out`` may be z. Rows whose label is ``ignore`` get 0. ``weights`` is W by target class, with a given
    distribution w per row, or empty; with a gate, whose g is ``power``, it is log W. ``factor`` times
    ``factors`` (per row, or empty) multiplies the whole row; ``affine`` and ``smooth`` are what ``affine_of``
    and ``smooth_of`` return. Where ``kept`` is not empty it gets ``KEPT`` numbers a row: what
    ``cross_entropy_gradient`` needs, and the row's w.
    """
    chunks = (num_classes + CHUNK - 1) // CHUNK
    whole = num_classes <= HELD
    peaks, sums = np.empty(chunks), np.empty(chunks)
    held = np.empty(num_classes if whole else CHUNK)
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        base, y, peak = row * num_classes, labels[row], -np.inf
        if y == ignore:
            values[row] = 0.0
            if len(kept):
                kept[row * KEPT : (row + 1) * KEPT] = 0.0
            if wanted:
                fill(out, base, num_classes, 0.0)
            continue
        _ask_for_ends(out, base, num_classes, streaming)
        eps, soft = smoothing_of(smooth, y)
        skipped = -1 if soft else y
        shared = shared_peak(affine, z, row, base, y, num_classes, held, lows, caps)
        u_y, low_y = 0.0, 0.0
        r_d, r_sum, t_d, t_sum = 0.0, 0.0, 0.0, 0.0
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            peaks[c] = max(shared, prepared(affine, z, row, base, first, n, y, held, lows, caps, place))
            start_at = reference(peaks[c])
            a, b, t_a, t_b = products(smooth, affine, z, row, base, first, n, held, lows, place, start_at)
            if first <= skipped < first + n:
                u_y, low_y = target_of(affine, z, base + y, held, lows, place + y - first)
            sums[c] = exponentials(
                affine, z, base + first, n, start_at, skipped - first, held, lows, place, wanted and whole
            )
            if peaks[c] > peak:  # all that is relative to the maximum so far moves to the new one
                moved = below(affine, start_at, 0.0, peak)[0] if peak > -np.inf else 0.0
                r_d, t_d, peak = r_d - moved * r_sum, t_d - part(moved, t_sum), peaks[c]
            shift = below(affine, start_at, 0.0, reference(peak))[0]
            r_d, r_sum, t_d, t_sum = r_d + a + shift * b, r_sum + b, t_d + t_a + part(shift, t_b), t_sum + t_b
        others = total_of(affine, peaks, sums, peak)
        w = weights[row if soft else y] if len(weights) else 1.0
        scale = factor * factors[row] if len(factors) else factor
        lse_shift = peak * inverse_temperature(affine)
        beta, at_target = 0.0, 0.0
        if soft:
            if others >= 2.0 or others != others:
                log_total = math.log1p(others - 1.0)
            else:
                log_total = math.log1p(rest_of(affine, z, row, base, y, num_classes, peak, held if not whole else np.empty(num_classes), lows, caps, whole))  # fmt: skip # noqa: E501
            s_sum, s_d = (1.0 - eps) * t_sum, part(1.0 - eps, t_d)
            if eps != 0.0:
                s_sum, s_d = s_sum + eps, s_d + eps * (r_d / r_sum)
            value, alpha, beta = soft_terms(others, log_total, lse_shift, s_sum, s_d, w, scale, z_loss)
            t_factor, r_factor = beta * (1.0 - eps), beta * eps / r_sum if eps != 0.0 else 0.0
        else:
            r_y = prior_of(smooth, y, r_sum)
            if eps != 0.0:
                r_d /= r_sum
            d_y, low = below(affine, u_y, low_y, peak)
            value, alpha, beta, at_target, w = row_terms(
                others, d_y, low, lse_shift, eps, r_y, r_d, w, power, scale, gamma, z_loss
            )
            t_factor, r_factor = 0.0, beta / r_sum if eps != 0.0 else 0.0
        values[row] = value
        if len(kept):
            place = row * KEPT
            kept[place], kept[place + 1], kept[place + 2] = peak, alpha, r_factor
            kept[place + 3], kept[place + 4] = t_factor if soft else at_target, w
        if not wanted:
            continue
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            if not whole:
                prepared(affine, z, row, base, first, n, y, held, lows, caps, place)
                exponentials(affine, z, base + first, n, reference(peaks[c]), -1, held, lows, place, True)
            chunk_factor = exp_below(affine, peaks[c], peak) * alpha
            _gradient(
                affine,
                smooth,
                row,
                base,
                first,
                skipped - first,
                at_target,
                held,
                caps,
                place,
                out,
                n,
                chunk_factor,
                r_factor,
                t_factor,
                streaming,
            )
    settle()


@compiled
def cross_entropy_gradient(
    z, out, streaming, kept, upstream, labels, ignore, affine, smooth, num_classes, start, stop
):
    """Gradient of rows start ... stop - 1 to ``out``, which may be z: from what ``cross_entropy`` kept of
    them.

    ``upstream`` (one number, or one a row) multiplies it before anything is rounded. One exponential a logit;
    no maximum, no sum.
    """
    held = np.empty(window(affine, num_classes, CHUNK))
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        base, y = row * num_classes, labels[row]
        if y == ignore:
            fill(out, base, num_classes, 0.0)
            continue
        _ask_for_ends(out, base, num_classes, streaming)
        _, soft = smoothing_of(smooth, y)
        factor, place = upstream[row if len(upstream) > 1 else 0], row * KEPT
        peak, alpha, r_factor, own = (
            reference(kept[place]),
            factor * kept[place + 1],
            factor * kept[place + 2],
            factor * kept[place + 3],
        )
        t_factor, at_target, marked = (own, 0.0, -1) if soft else (0.0, own, y)
        for first in range(0, num_classes, CHUNK):
            n, at = min(CHUNK, num_classes - first), first if len(held) == num_classes else 0
            transformed(affine, z, row, base, first, n, y, held, lows, caps, at)
            exponentials(affine, z, base + first, n, peak, -1, held, lows, at, True)
            _gradient(
                affine,
                smooth,
                row,
                base,
                first,
                marked - first,
                at_target,
                held,
                caps,
                at,
                out,
                n,
                alpha,
                r_factor,
                t_factor,
                streaming,
            )
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
        count = min(WIDTH, stop - k)
        store_some(out, k, count, load_some(out, k, count, 0.0) * f)
        k += WIDTH
