r"""The Hessian of the loss times a vector, in closed form: three reads of a row that does not fit on the
chip.

With t the tangent in u and tau = t - q.t, the product is e_k (a tau_k + b) - c r_k
(:func:`.terms.product_terms`). Tangents are counted from that of the largest entry: a confident row's t - q.t
would cancel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._base.options import Options
from .._formula.fields import SpecTensors
from .elementary import log1p
from .family import part_of_sums, prepare, sums_of_weights, total_weight
from .launch import as_rows, from_rows, launch
from .rows import (
    at,
    exponentials,
    finite_or_zero,
    label_of,
    load_tile,
    prior_of,
    slopes,
    target_of,
    transformed,
)
from .terms import cross_of, factor_of, product_terms, row_terms, soft_terms, weight_of

__all__ = ["hvp"]


@triton.jit
def product_kernel(
    out,
    tangents,
    logits,
    targets,
    sample_weights,
    total,
    scales,
    biases,
    margins,
    smoothings,
    priors,
    class_weights,
    temperature,
    scale,
    bias,
    margin,
    smoothing,
    class_weight,
    gate,
    gamma,
    z_loss,
    softcap,
    ignore_index,
    logits_stride,
    targets_stride,
    tangents_stride,
    n,
    k,
    SOFT: tl.constexpr,
    SCALED: tl.constexpr,
    SCALE: tl.constexpr,
    BIAS: tl.constexpr,
    MARGIN: tl.constexpr,
    SMOOTHING: tl.constexpr,
    GATE: tl.constexpr,
    GAMMA: tl.constexpr,
    Z_LOSS: tl.constexpr,
    CAP: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """out (n, K): the product, each row's times its factor. A row that fits is one part, and its reads come
    from the cache.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    starts, lanes, last = rows * logits_stride, tl.arange(0, BLOCK), (tl.cdiv(k, BLOCK) - 1) * BLOCK
    CARRY: tl.constexpr = logits.dtype.element_ty == tl.float32
    label, live = tl.zeros_like(rows).to(tl.int32), inside
    if not SOFT:
        label, live = label_of(targets, rows, inside, ignore_index, k)
    own_margin = at(margins, margin, label)

    # ---- the peak, and the tangent there ----
    peak, origin = tl.full((ROWS,), -float("inf"), tl.float32), tl.zeros((ROWS,), tl.float32)
    for start in range(0, k, BLOCK):
        cols = start + lanes
        mask = inside[:, None] & (cols < k)[None, :]
        z = load_tile(logits, starts, cols, mask, -float("inf"))
        t = load_tile(tangents, rows * tangents_stride, cols, mask, 0.0)
        slope, _bend = slopes(z, cols, k, scales, scale, temperature, softcap, SCALE, CAP)
        u = transformed(
            z, cols, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
        )
        u = tl.where(mask, u, -float("inf"))
        here = tl.max(u, 1)
        there = tl.max(tl.where(u == here[:, None], t * slope, -float("inf")), 1)
        origin = tl.where(here > peak, there, origin)
        peak = tl.maximum(peak, here)

    # ---- the sums ----
    zero = tl.zeros((ROWS,), tl.float64)
    ties, below, e_t, r_t = zero, zero, zero, zero
    a_sum, a_d, t_sum, t_weight, d_y, e_y, t_y = zero, zero, zero, zero, zero, zero, zero
    base = finite_or_zero(peak)
    for start in range(0, k, BLOCK):
        cols = start + lanes
        mask = inside[:, None] & (cols < k)[None, :]
        z = load_tile(logits, starts, cols, mask, -float("inf"))
        slope, _bend = slopes(z, cols, k, scales, scale, temperature, softcap, SCALE, CAP)
        t = load_tile(tangents, rows * tangents_stride, cols, mask, 0.0) * slope - origin[:, None]
        u = transformed(
            z, cols, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
        )
        u = tl.where(mask, u, -float("inf"))
        d, e = exponentials(u, base, temperature, SCALED, CARRY)
        top = d == 0.0
        ties += tl.sum(tl.where(top, 1.0, 0.0), 1)
        below += tl.sum(tl.where(top, 0.0, e), 1)
        e_t += tl.sum(e * tl.where(mask, t, 0.0), 1)
        s = u
        if SOFT:
            given_t, s = target_of(
                targets, rows * targets_stride, cols, mask, priors, smoothing, k, SMOOTHING
            )
            more_t, more_weight = sums_of_weights(given_t, class_weights, class_weight, cols, k)
            t_sum, t_weight = t_sum + more_t, t_weight + more_weight
        else:
            own = mask & (cols[None, :] == label[:, None])
            d_y += tl.sum(tl.where(own, d, 0.0), 1)
            e_y += tl.sum(tl.where(own, e, 0.0), 1)
            t_y += tl.sum(tl.where(own, t, 0.0), 1)
        if SOFT or SMOOTHING:
            more, more_d = part_of_sums(u, base, temperature, cols, k, priors, s, SCALED, SMOOTHING, SOFT)
            a_sum, a_d = a_sum + more, a_d + more_d
        if SMOOTHING and GAMMA:
            r_t += tl.sum(prior_of(priors, cols, k) * tl.where(mask, t, 0.0), 1)

    # ---- what the row comes to ----
    ties, below, e_t, r_t = ties.to(tl.float32), below.to(tl.float32), e_t.to(tl.float32), r_t.to(tl.float32)
    a_sum, a_d, t_sum, t_weight = (
        a_sum.to(tl.float32),
        a_d.to(tl.float32),
        t_sum.to(tl.float32),
        t_weight.to(tl.float32),
    )
    d_y, e_y, t_y, zero = d_y.to(tl.float32), e_y.to(tl.float32), t_y.to(tl.float32), zero.to(tl.float32)
    factor = factor_of(sample_weights, total, rows, inside, MEAN)
    ties += peak - peak  # NaN for a row without finite differences
    scaled_peak = peak / temperature
    mean = tl.div_rn(e_t, below + ties)  # of t, from its origin
    mu = mean + origin
    at_target, c, g_alpha, g_beta, g_target = zero, zero, zero, zero, zero
    if SOFT:
        weight = tl.where(t_sum > 0.0, tl.div_rn(t_weight, tl.where(t_sum > 0.0, t_sum, 1.0)), 1.0)
        rest = below + (ties - 1.0)
        _value, g_alpha, g_beta = soft_terms(rest, scaled_peak, a_sum, a_d, weight, z_loss, Z_LOSS)
        a, b = weight * a_sum, zero
        if Z_LOSS:
            a += 2.0 * z_loss * (scaled_peak + log1p(rest))
            b = 2.0 * z_loss * mu
        a, b = tl.div_rn(a, 1.0 + rest), tl.div_rn(b, 1.0 + rest)
    else:
        _cross, _log_total, others = cross_of(ties, below, d_y, e_y)
        weight = weight_of(at(class_weights, class_weight, label), tl.div_rn(e_y, others + e_y), gate, GATE)
        eps, r_y = at(smoothings, smoothing, label), at(priors, 1.0 / k, label)
        a, b, c, at_target = product_terms(
            ties,
            below,
            d_y,
            e_y,
            scaled_peak,
            eps,
            r_y,
            a_d,
            t_y - mean,
            r_t - mean,
            mu,
            weight,
            gamma,
            z_loss,
            SMOOTHING,
            GAMMA,
            Z_LOSS,
        )
        if CAP:
            _value, g_alpha, g_beta, g_target = row_terms(
                ties,
                below,
                d_y,
                e_y,
                scaled_peak,
                eps,
                r_y,
                a_d,
                weight,
                gamma,
                z_loss,
                SMOOTHING,
                GAMMA,
                Z_LOSS,
            )

    # ---- the product ----
    a, b, c = (a * factor)[:, None], (b * factor)[:, None], (c * factor)[:, None]
    at_target, mean = (at_target * factor)[:, None], mean[:, None]
    g_alpha, g_beta = (g_alpha * factor)[:, None], (g_beta * factor)[:, None]
    g_target = (g_target * factor)[:, None]
    for start in range(0, k, BLOCK):
        cols = (last - start) + lanes
        mask = inside[:, None] & (cols < k)[None, :]
        z = load_tile(logits, starts, cols, mask, -float("inf"))
        tangent = load_tile(tangents, rows * tangents_stride, cols, mask, 0.0)
        slope, bend = slopes(z, cols, k, scales, scale, temperature, softcap, SCALE, CAP)
        u = transformed(
            z, cols, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
        )
        _d, e = exponentials(u, peak, temperature, SCALED, CARRY)
        h = e * (a * (tangent * slope - origin[:, None] - mean) + b)
        own = cols[None, :] == label[:, None]
        if not SOFT:
            if SMOOTHING and GAMMA:
                h = h - c * prior_of(priors, cols, k)
            h = tl.where(own, at_target, h)
        h = h * slope
        if CAP:
            g = g_alpha * e
            if SOFT:
                _, s = target_of(targets, rows * targets_stride, cols, mask, priors, smoothing, k, SMOOTHING)
                g = g - g_beta * s
            else:
                if SMOOTHING:
                    g = g - g_beta * prior_of(priors, cols, k)
                g = tl.where(own, g_target, g)
            h = h + g * slope * bend * tangent
        h = tl.where(live[:, None], h, 0.0)
        tl.store(out + (rows * k)[:, None] + cols[None, :], h.to(out.dtype.element_ty), mask=mask)


def hvp(
    logits: Tensor,
    target: Tensor,
    tangent: Tensor,
    spec: SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the Hessian of the loss times ``tangent``."""
    p, moved = prepare(logits, target, spec, sample_weight, options), as_rows(tangent, options.dim)
    out = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device)
    total = total_weight(p, options)
    launch(
        product_kernel,
        p.z,
        out,
        moved,
        p.z,
        p.target,
        p.sample_weight,
        total,
        *p.arguments.arrays,
        *p.arguments.numbers,
        options.ignore_index,
        p.z.stride(0),
        p.target.stride(0),
        moved.stride(0),
        **p.arguments.modes,
        MEAN=total is not None,
    )
    return from_rows(out, logits, options.dim)
