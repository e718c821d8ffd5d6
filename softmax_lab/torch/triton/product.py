r"""The Hessian of the loss times a vector, in closed form.

A row that does not fit on the chip is read three times. With t the tangent in u and tau = t - q.t, the
product is e_k (a tau_k + b) - beta s_k (:func:`.terms.product_terms`). Tangents are counted from that of the
largest entry: a confident row's t - q.t would cancel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._base.options import Options
from .._formula.fields import SpecTensors
from .arguments import Weights, matrix, prepare, spec_argument
from .cross_entropy import total_weight
from .launch import as_rows, from_rows, launch
from .terms import (
    ProductTerms,
    RowTerms,
    Tangent,
    factor_of,
    own_of,
    product_terms,
    row_terms,
    soft_product_terms,
    soft_terms,
    sums_of,
)
from .tiles import (
    exponentials,
    finite_or_zero,
    gradient_by_u,
    less_target,
    load,
    part_at,
    rows_with,
    share_sums,
    slopes,
    spread_of,
    store,
    tile_at,
)

__all__ = ["hvp"]


@triton.jit
def tangent_at_peak(tangents, logits, targets, rows, spec, BLOCK: tl.constexpr):
    """Return the largest entry of each row, and the tangent there."""
    ROWS: tl.constexpr = rows.index.shape[0]
    peak, origin = tl.full((ROWS,), -float("inf"), tl.float32), tl.zeros((ROWS,), tl.float32)
    for start in range(0, rows.k, BLOCK):
        tile = tile_at(start, rows, BLOCK)
        part = part_at(logits, targets, rows, tile, spec)
        slope, _bend = slopes(part.z, tile, spec)
        t = load(tangents, rows, tile, 0.0) * slope
        here = tl.max(part.u, 1)
        there = tl.max(tl.where(part.u == here[:, None], t, -float("inf")), 1)
        origin = tl.where(here > peak, there, origin)
        peak = tl.maximum(peak, here)
    return peak, origin


@triton.jit
def product_sums(tangents, logits, targets, rows, peak, origin, spec, BLOCK: tl.constexpr, CARRY):
    """Return the sums of each row, the mean of the tangent, and its numbers.

    Nine arguments: all that the pass before has found, and all that is read.
    """
    ROWS: tl.constexpr = rows.index.shape[0]
    zero, base = tl.zeros((ROWS,), tl.float64), finite_or_zero(peak)
    ties, below, e_t, s_t, t_y = zero, zero, zero, zero, zero
    s_sum, s_d, t_sum, t_weight = zero, zero, zero, zero
    u_y = tl.full((ROWS,), -float("inf"), tl.float32)
    for start in range(0, rows.k, BLOCK):
        tile = tile_at(start, rows, BLOCK)
        part = part_at(logits, targets, rows, tile, spec)
        slope, _bend = slopes(part.z, tile, spec)
        t = tl.where(tile.mask, load(tangents, rows, tile, 0.0) * slope - origin[:, None], 0.0)
        d, e = exponentials(part.u, base, spec.temperature, CARRY)
        top = d == 0.0
        ties += tl.sum(tl.where(top, 1.0, 0.0), 1)
        below += tl.sum(tl.where(top, 0.0, e), 1)
        e_t += tl.sum(e * t, 1)
        more, more_d, more_t, more_weight = share_sums(part, base, rows, tile, targets, spec)
        s_sum, s_d, t_sum, t_weight = s_sum + more, s_d + more_d, t_sum + more_t, t_weight + more_weight
        if not targets.SOFT:
            own = tile.cols[None, :] == rows.label[:, None]
            u_y = tl.maximum(u_y, tl.max(tl.where(own, part.u, -float("inf")), 1))
            t_y += tl.sum(tl.where(own, t, 0.0), 1)
        if spec.smoothing.MODE and spec.gamma.MODE:
            s_t += tl.sum(spread_of(part, rows, tile, targets, spec) * t, 1)
    shares = s_sum.to(tl.float32), s_d.to(tl.float32), t_sum.to(tl.float32), t_weight.to(tl.float32)
    sums = sums_of(ties.to(tl.float32), below.to(tl.float32), peak, u_y, shares, spec, CARRY)
    mean = tl.div_rn(e_t.to(tl.float32), sums.below + sums.ties)  # of the tangent, from its origin
    return sums, mean, Tangent(t_y.to(tl.float32) - mean, s_t.to(tl.float32) - mean, mean + origin)


@triton.jit
def product_kernel(
    out,
    tangents,
    logits,
    targets,
    weights,
    spec,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """out (n, K): the product, each row's times its factor.

    A row that fits is one part, and its reads come from the cache.
    """
    CARRY: tl.constexpr = logits.entries.dtype.element_ty == tl.float32
    rows = rows_with(targets, spec, n, k, ROWS)
    peak, origin = tangent_at_peak(tangents, logits, targets, rows, spec, BLOCK)
    sums, mean, tangent = product_sums(tangents, logits, targets, rows, peak, origin, spec, BLOCK, CARRY)

    own, f = own_of(sums, rows, targets, spec), factor_of(weights, rows)
    g = soft_terms(sums, own, spec) if targets.SOFT else row_terms(sums, own, spec)
    g = RowTerms(g.value, g.alpha * f, g.beta * f, g.at_target * f)
    h = (
        soft_product_terms(sums, own, tangent, spec)
        if targets.SOFT
        else product_terms(sums, own, tangent, spec)
    )
    h = ProductTerms(h.a * f, h.b * f, h.beta * f, h.at_target * f)

    last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
    for start in range(0, k, BLOCK):
        tile = tile_at(last - start, rows, BLOCK)
        part = part_at(logits, targets, rows, tile, spec)
        t = load(tangents, rows, tile, 0.0)
        slope, bend = slopes(part.z, tile, spec)
        _d, e = exponentials(part.u, peak, spec.temperature, CARRY)
        tau = t * slope - origin[:, None] - mean[:, None]
        x = e * (h.a[:, None] * tau + h.b[:, None])
        SPREAD: tl.constexpr = spec.smoothing.MODE and spec.gamma.MODE
        x = less_target(x, part, h, rows, tile, targets, spec, SPREAD) * slope
        if spec.softcap.MODE:  # the cap's own curvature
            x = x + gradient_by_u(part, e, g, rows, tile, targets, spec) * slope * bend * t
        store(out, rows, tile, tl.where(rows.live[:, None], x, 0.0))


def hvp(
    logits: Tensor,
    target: Tensor,
    tangent: Tensor,
    spec: SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the Hessian of the loss times ``tangent``."""
    p = prepare(logits, target, spec, sample_weight, options)
    out = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device)
    launch(
        product_kernel,
        p.z,
        matrix(out),
        matrix(as_rows(tangent, options.dim)),
        matrix(p.z),
        p.targets(options.ignore_index),
        Weights(p.sample_weight, total_weight(p, options)),
        spec_argument(p.spec),
    )
    return from_rows(out, logits, options.dim)
