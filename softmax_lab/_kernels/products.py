"""Loops that multiply by a derivative: the softmax's Jacobian, and the Hessian of the loss.

Both are sums over t_k - q.t, taken relative to the tangent at the row's most probable class: there nothing is
lost, since q.t - t_top sums the other classes only. Chunks and their merging are those of ``rows``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from .affine import (
    HELD,
    below,
    bends,
    exp_below,
    inverse_temperature,
    load_some,
    loaded,
    masked,
    prepared,
    scratch,
    shifts_only,
    slopes,
    store_some,
    target_of,
    through,
)
from .compiler import compiled, helper, inlined, inlined_overload
from .exponential import two_sum
from .loss import cross_of, gated, product_terms, row_terms, soft_product_terms, soft_terms
from .rows import CHUNK, exponentials, fill, reference, shared_peak, total_of
from .simd import WIDTH, entry, fma, iota, max_lanes, maximum, put, splat, sum_lanes, where_equal
from .target import less_target, prior_of, products, smoothing_of, weighted_sums


def add(z, total, error, x):
    """(total + x, error) for x of either sign: the rounding errors come along for float64."""
    raise NotImplementedError("compiled only")


@inlined_overload(add)
def _add(z, total, error, x):
    if z.dtype == types.float64:

        def with_error(z, total, error, x):
            s, low = two_sum(total, x)
            return s, error + low

        return with_error
    return lambda z, total, error, x: (total + x, error)


@compiled
def softmax_product(p, out, streaming, tangents, sums, inverse, num_classes, start, stop):
    """p (t - p.t) / T of rows start ... stop - 1 of flat arrays, to out, which may be either.

    ``sums`` (N,) gets the sum of each row's probabilities, or -1 where one of them is negative.
    """
    m, zero = splat(inverse), splat(0.0)
    for row in range(start, stop):
        base, n = row * num_classes, num_classes
        peak = low = splat(-np.inf)
        total = error = zero
        k = 0
        while k < n:
            x = load_some(p, base + k, min(WIDTH, n - k), 0.0)
            peak, low = maximum(x, peak), maximum(zero - x, low)
            total, error = add(p, total, error, x)
            k += WIDTH
        sums[row] = sum_lanes(total) + sum_lanes(error) if max_lanes(low) <= 0.0 else -1.0
        top = splat(entry(tangents, base + _index(None, p, base, p, p, 0, n, max_lanes(peak))))
        total = error = zero
        k = 0
        while k < n:
            count = min(WIDTH, n - k)
            x = load_some(p, base + k, count, 0.0)
            total, error = add(
                p,
                total,
                error,
                where_equal(x, zero, zero, x * (load_some(tangents, base + k, count, 0.0) - top)),
            )
            k += WIDTH
        mean = splat(sum_lanes(total) + sum_lanes(error))
        k = 0
        while k < n:
            count = min(WIDTH, n - k)
            centred = (load_some(tangents, base + k, count, 0.0) - top) - mean
            store_some(out, base + k, count, load_some(p, base + k, count, 0.0) * centred * m)
            k += WIDTH


@helper
def _index(affine, z, offset, held, lows, place, n, peak):
    """Where in a chunk its maximum stands first; 0 where it has none."""
    m, none = splat(peak), splat(-np.inf)
    best = none
    k = 0
    while k < n:
        x, _ = loaded(affine, z, offset + k, held, lows, place + k, min(WIDTH, n - k), -np.inf)
        best = maximum(where_equal(x, m, splat(float(-k)) - iota(), none), best)
        k += WIDTH
    found = max_lanes(best)
    return int(-found) if found > -np.inf else 0


@inlined
def _tangent(affine, row, first, caps, place, count, tangents, offset):
    """The tangent in u of up to eight classes: t du/dz, 0 where the class takes no part."""
    t = load_some(tangents, offset, count, 0.0)
    return masked(affine, row, first, count, t * slopes(affine, first, caps, place, count), 0.0)


@helper
def _moment(affine, z, row, first, caps, held, place, n, tangents, offset, start):
    """Return sum e_k (t_k - start) and sum e_k of a chunk, e in ``held``."""
    zero, t_0 = splat(0.0), splat(start)
    product = error = total = total_error = zero
    k = 0
    while k < n:
        count = min(WIDTH, n - k)
        e = load_some(held, place + k, count, 0.0)
        t = _tangent(affine, row, first + k, caps, place + k, count, tangents, offset + k) - t_0
        product, error = add(z, product, error, where_equal(e, zero, zero, e * t))
        total, total_error = add(z, total, total_error, e)
        k += WIDTH
    return sum_lanes(product) + sum_lanes(error), sum_lanes(total) + sum_lanes(total_error)


def cap_term(affine, z, offset, count, t, g):
    """What a soft cap's own curvature adds: dL/du d^2u/dz^2 t, before the slope."""
    raise NotImplementedError("compiled only")


@inlined_overload(cap_term)
def _cap_term(affine, z, offset, count, t, g):
    if shifts_only(affine):
        return lambda affine, z, offset, count, t, g: splat(0.0)

    def curved(affine, z, offset, count, t, g):
        return g * t * bends(affine, z, offset, count) if affine.cap > 0.0 else splat(0.0)

    return curved


@compiled
def cross_entropy_hvp(z, out, streaming, tangents, labels, ignore, weights, power, factor, factors, affine, smooth, gamma, z_loss, num_classes, start, stop):  # fmt: skip # noqa: E501
    """Hessian times tangent of rows start ... stop - 1 of flat arrays, to out, which may be z: arguments as
    ``rows.cross_entropy``.
    """
    chunks = (num_classes + CHUNK - 1) // CHUNK
    whole = num_classes <= HELD
    peaks, sums, all_sums = np.empty(chunks), np.empty(chunks), np.empty(chunks)
    starts, moments = np.empty(chunks), np.empty(chunks)
    r_t, t_t, r_sums, t_sums = np.empty(chunks), np.empty(chunks), np.empty(chunks), np.empty(chunks)
    r_ds, t_ds = np.empty(chunks), np.empty(chunks)
    held = np.empty(num_classes if whole else CHUNK)
    lows, caps = scratch(affine, z, len(held))
    for row in range(start, stop):
        base, y, peak, at_peak = row * num_classes, labels[row], -np.inf, 0
        if y == ignore:
            fill(out, base, num_classes, 0.0)
            continue
        eps, soft = smoothing_of(smooth, y)
        skipped = -1 if soft else y
        shared = shared_peak(affine, z, row, base, y, num_classes, held, lows, caps)
        u_y, low_y, t_y = 0.0, 0.0, 0.0
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            offset = base + first
            own = prepared(affine, z, row, base, first, n, y, held, lows, caps, place)
            peaks[c] = max(shared, own)
            k = _index(affine, z, offset, held, lows, place, n, own)
            starts[c] = sum_lanes(_tangent(affine, row, first + k, caps, place + k, 1, tangents, offset + k))
            r_ds[c], r_sums[c], t_ds[c], t_sums[c] = products(
                smooth, affine, z, row, base, first, n, held, lows, place, reference(peaks[c])
            )
            r_t[c], t_t[c] = weighted_sums(
                smooth, affine, row, base, first, n, caps, place, tangents, starts[c]
            )
            if first <= skipped < first + n:
                u_y, low_y = target_of(affine, z, base + y, held, lows, place + y - first)
                t_y = sum_lanes(_tangent(affine, row, y, caps, place + y - first, 1, tangents, base + y))
            sums[c] = exponentials(
                affine, z, offset, n, reference(peaks[c]), skipped - first, held, lows, place, True
            )
            moments[c], all_sums[c] = _moment(
                affine, z, row, first, caps, held, place, n, tangents, offset, starts[c]
            )
            if own > peak:
                peak, at_peak = own, c
        t_0 = starts[at_peak]
        moment, r_tau, s_tau, r_d, t_d, r_sum, t_sum = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for c in range(chunks):
            away = starts[c] - t_0
            shift = below(affine, reference(peaks[c]), 0.0, reference(peak))[0]
            moment += exp_below(affine, peaks[c], peak) * (moments[c] + away * all_sums[c])
            r_tau, s_tau = r_tau + r_t[c] + away * r_sums[c], s_tau + t_t[c] + away * t_sums[c]
            r_d, t_d = r_d + r_ds[c] + shift * r_sums[c], t_d + t_ds[c] + shift * t_sums[c]
            r_sum, t_sum = r_sum + r_sums[c], t_sum + t_sums[c]
        others = total_of(affine, peaks, sums, peak)
        total = total_of(affine, peaks, all_sums, peak)
        mean = moment / total
        w = weights[row if soft else y] if len(weights) else 1.0
        scale = factor * factors[row] if len(factors) else factor
        lse_shift = peak * inverse_temperature(affine)
        beta, at_target, g_beta, g_target, g_alpha, r_y = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        if soft:
            # the value is not asked for: its last digit moves nothing here
            log_total = math.log1p(others - 1.0)
            s_sum = (1.0 - eps) * t_sum + eps
            tau_factor, constant = soft_product_terms(
                others, log_total, lse_shift, s_sum, t_0 + mean, w, scale, z_loss
            )
            _, g_alpha, g_beta = soft_terms(others, log_total, lse_shift, s_sum, 0.0, w, scale, z_loss)
        else:
            r_y = prior_of(smooth, y, r_sum)
            if eps != 0.0:
                r_d, r_tau = r_d / r_sum, r_tau / r_sum - mean
            d_y, low = below(affine, u_y, low_y, peak)
            if power != 0.0:
                w = gated(w, cross_of(others, d_y, low)[0], power)
            tau_factor, constant, beta, at_target = product_terms(
                others,
                d_y,
                low,
                lse_shift,
                eps,
                r_y,
                r_d,
                (t_y - t_0) - mean,
                r_tau,
                t_0 + mean,
                w,
                scale,
                gamma,
                z_loss,
            )
            _, g_alpha, g_beta, g_target, _ = row_terms(
                others, d_y, low, lse_shift, eps, r_y, r_d, w, 0.0, scale, gamma, z_loss
            )
        r_factor = beta / r_sum if beta != 0.0 else 0.0
        g_t_factor = g_beta * (1.0 - eps) if soft else 0.0
        g_r_factor = (g_beta * eps if soft else g_beta) / r_sum if eps != 0.0 else 0.0
        result_y = 0.0
        for c in range(chunks):
            first = c * CHUNK
            n, place = min(CHUNK, num_classes - first), first if whole else 0
            offset = base + first
            if not whole:
                prepared(affine, z, row, base, first, n, y, held, lows, caps, place)
                exponentials(affine, z, offset, n, reference(peaks[c]), -1, held, lows, place, True)
            if first <= skipped < first + n:
                raw = splat(entry(tangents, base + y))
                curved = cap_term(affine, z, base + y, 1, raw, splat(g_target))
                result_y = sum_lanes(
                    _first((splat(at_target) + curved) * slopes(affine, y, caps, place + y - first, 1))
                )
            f, t_start, m = splat(exp_below(affine, peaks[c], peak)), splat(t_0), splat(mean)
            a, b, g_a = splat(tau_factor), splat(constant), splat(g_alpha)
            k = 0
            while k < n:
                count = min(WIDTH, n - k)
                e = load_some(held, place + k, count, 0.0) * f
                tau = (
                    _tangent(affine, row, first + k, caps, place + k, count, tangents, offset + k) - t_start
                ) - m
                product = less_target(
                    smooth, affine, row, base, first + k, count, e * fma(a, tau, b), r_factor, 0.0
                )
                gradient = less_target(
                    smooth, affine, row, base, first + k, count, e * g_a, g_r_factor, g_t_factor
                )
                product = product + cap_term(
                    affine, z, offset + k, count, load_some(tangents, offset + k, count, 0.0), gradient
                )
                store_some(
                    out, offset + k, count, through(affine, row, first + k, caps, place + k, count, product)
                )
                k += WIDTH
        if not soft:
            put(out, base + y, result_y)


@inlined
def _first(x):
    """The first lane, and 0 in the others."""
    return where_equal(iota(), splat(0.0), x, splat(0.0))
