r"""The loss of the family and its gradient: one read of the logits where a row fits on the chip, the online
normaliser where not.

The gradient is written over the logits only where its caller says so; that is safe for every plan, since one
program owns a row and has read each entry for the last time when it writes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._rows import KEPT
from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import loss_dtype
from .._formula.fields import SpecTensors
from .launch import as_rows, from_rows, launch
from .rows import (
    at,
    exponentials,
    finite_or_zero,
    label_of,
    load_tile,
    online,
    prior_of,
    relative,
    slopes,
    target_of,
    transformed,
)
from .terms import cross_of, factor_of, row_terms, soft_terms, weight_of

__all__ = [
    "Arguments",
    "Prepared",
    "gradient",
    "loss",
    "loss_and_gradient",
    "loss_and_kept",
    "prepare",
    "rows_in_place",
    "total_weight",
]


# ---- on the device ----


@triton.jit
def part_of_sums(u, base, temperature, cols, k, priors, s, SCALED, SMOOTHING, SOFT):
    """Return sum a_k, sum a_k d_k with d relative to ``base`` and a the prior, or the target distribution.

    0 * -inf is 0, and so is inf * 0: a share may be infinite at the maximum.
    """
    a = prior_of(priors, cols, k)
    if SOFT:
        a = s
    d = relative(u, base, temperature, SCALED)
    none = (a == 0.0) | (d == 0.0)
    product = tl.where(none, 0.0, a * tl.where(none, 0.0, d))
    return tl.sum(a + tl.zeros_like(d), 1), tl.sum(product, 1)


@triton.jit
def sums_of_weights(t, class_weights, class_weight, cols, k):
    """Return sum t_k and sum t_k W_k of a tile."""
    total = tl.sum(t, 1)
    if class_weights is None:
        weighted = total * class_weight
    else:
        weights = tl.load(class_weights + cols, mask=cols < k, other=0.0).to(tl.float32)[None, :]
        weighted = tl.sum(t * weights, 1)
    return total, weighted


@triton.jit
def gradient_of(
    e,
    z,
    s,
    cols,
    label,
    live,
    k,
    alpha,
    beta,
    at_target,
    priors,
    scales,
    scale,
    temperature,
    softcap,
    SOFT,
    SCALED,
    SCALE,
    SMOOTHING,
    CAP,
):
    """Return dL/dz of a tile; ``s`` is read for distributions alone."""
    g = alpha * e
    if SOFT:
        g = g - beta * s
    else:
        if SMOOTHING:
            g = g - beta * prior_of(priors, cols, k)
        g = tl.where(cols[None, :] == label[:, None], at_target, g)
    if SCALED or SCALE or CAP:
        slope, _bend = slopes(z, cols, k, scales, scale, temperature, softcap, SCALE, CAP)
        g = g * slope
    return tl.where(live[:, None], g, 0.0)


@triton.jit
def loss_kernel(
    values,
    kept,
    gradient,
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
    gradient_stride,
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
    GRADIENT: tl.constexpr,
    MEAN: tl.constexpr,
    KEEP: tl.constexpr,
    KEPT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """values (n,), (n, KEPT) float32 where KEEP, gradient (n, K) where GRADIENT.

    All but the weights times each row's factor.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    starts = rows * logits_stride
    lanes = tl.arange(0, BLOCK)
    CARRY: tl.constexpr = logits.dtype.element_ty == tl.float32

    # ---- the label, and what the fields are for it ----
    label, live = tl.zeros_like(rows).to(tl.int32), inside
    if not SOFT:
        label, live = label_of(targets, rows, inside, ignore_index, k)
    own_margin = at(margins, margin, label)

    # ---- the normaliser, and the sums that the value asks for ----
    zero = tl.zeros((ROWS,), tl.float32)
    a_sum, a_d, t_sum, t_weight = zero, zero, zero, zero
    if WHOLE:
        mask = inside[:, None] & (lanes < k)[None, :]
        z = load_tile(logits, starts, lanes, mask, -float("inf"))
        u = transformed(
            z, lanes, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
        )
        u = tl.where(mask, u, -float("inf"))
        peak = tl.max(u, 1)
        d, e = exponentials(u, peak, temperature, SCALED, CARRY)
        top = d == 0.0
        ties = tl.sum(tl.where(top, 1.0, 0.0), 1)
        below = tl.sum(tl.where(top, 0.0, e), 1)
        s = u
        if SOFT:
            t, s = target_of(targets, rows * targets_stride, lanes, mask, priors, smoothing, k, SMOOTHING)
            t_sum, t_weight = sums_of_weights(t, class_weights, class_weight, lanes, k)
        else:
            u_y = tl.max(tl.where(lanes[None, :] == label[:, None], u, -float("inf")), 1)
        if SOFT or SMOOTHING:
            a_sum, a_d = part_of_sums(u, peak, temperature, lanes, k, priors, s, SCALED, SMOOTHING, SOFT)
    else:
        peak = tl.full((ROWS,), -float("inf"), tl.float32)
        lane_ties, rest = tl.zeros((ROWS, BLOCK), tl.float32), tl.zeros((ROWS, BLOCK), tl.float32)
        wide = zero.to(tl.float64)
        long_sum, long_d, long_t, long_weight = wide, wide, wide, wide
        lost, u_y = tl.zeros((ROWS, BLOCK), tl.float32), tl.full((ROWS, BLOCK), -float("inf"), tl.float32)
        for start in range(0, k, BLOCK):
            cols = start + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            z = load_tile(logits, starts, cols, mask, -float("inf"))
            u = transformed(
                z, cols, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
            )
            u = tl.where(mask, u, -float("inf"))
            before = finite_or_zero(peak)
            peak, lane_ties, rest, lost = online(u, peak, lane_ties, rest, lost, temperature, SCALED, CARRY)
            s = u
            if SOFT:
                t, s = target_of(targets, rows * targets_stride, cols, mask, priors, smoothing, k, SMOOTHING)
                more_t, more_weight = sums_of_weights(t, class_weights, class_weight, cols, k)
                long_t, long_weight = long_t + more_t, long_weight + more_weight
            else:
                u_y = tl.where(cols[None, :] == label[:, None], u, u_y)
            if SOFT or SMOOTHING:
                base = finite_or_zero(peak)
                more, more_d = part_of_sums(u, base, temperature, cols, k, priors, s, SCALED, SMOOTHING, SOFT)
                long_d += more_d + tl.where(
                    before == base, 0.0, long_sum * ((before - base).to(tl.float64) / temperature)
                )
                long_sum += more
        ties = tl.sum(lane_ties, 1)
        below = tl.sum(rest.to(tl.float64) - lost.to(tl.float64), 1).to(tl.float32)
        a_sum, a_d = long_sum.to(tl.float32), long_d.to(tl.float32)
        t_sum, t_weight = long_t.to(tl.float32), long_weight.to(tl.float32)
        if not SOFT:
            u_y = tl.max(u_y, 1)

    # ---- what the row comes to ----
    factor = factor_of(sample_weights, total, rows, inside, MEAN)
    scaled_peak = peak / temperature
    # a row with nan, with +inf or with nothing above -inf has no finite difference from its peak
    ties = ties + (peak - peak)
    at_target, d_y, e_y = zero, zero, zero
    if SOFT:
        if class_weights is None:
            own_weight = tl.where(t_sum > 0.0, class_weight, 1.0)
        else:
            own_weight = tl.where(t_sum > 0.0, tl.div_rn(t_weight, tl.where(t_sum > 0.0, t_sum, 1.0)), 1.0)
        value, alpha, beta = soft_terms(
            below + (ties - 1.0), scaled_peak, a_sum, a_d, own_weight, z_loss, Z_LOSS
        )
    else:
        d_column, e_column = exponentials(u_y[:, None], peak, temperature, SCALED, CARRY)
        d_y, e_y = tl.sum(d_column, 1), tl.sum(e_column, 1)
        _cross, _log_total, others = cross_of(ties, below, d_y, e_y)
        own_weight = weight_of(
            at(class_weights, class_weight, label), tl.div_rn(e_y, others + e_y), gate, GATE
        )
        eps, r_y = at(smoothings, smoothing, label), at(priors, 1.0 / k, label)
        value, alpha, beta, at_target = row_terms(
            ties,
            below,
            d_y,
            e_y,
            scaled_peak,
            eps,
            r_y,
            a_d,
            own_weight,
            gamma,
            z_loss,
            SMOOTHING,
            GAMMA,
            Z_LOSS,
        )
    tl.store(values + rows, tl.where(live, value * factor, 0.0), mask=inside)
    alpha, beta, at_target = alpha * factor, beta * factor, at_target * factor
    if KEEP:
        place = kept + rows * KEPT
        tl.store(place, peak, mask=inside)
        tl.store(place + 1, alpha, mask=inside)
        tl.store(place + 2, beta, mask=inside)
        tl.store(place + 3, at_target, mask=inside)
        tl.store(place + 4, tl.where(live, own_weight, 0.0), mask=inside)

    # ---- the gradient ----
    if GRADIENT:
        alpha, beta, at_target = alpha[:, None], beta[:, None], at_target[:, None]
        if WHOLE:
            g = gradient_of(
                e,
                z,
                s,
                lanes,
                label,
                live,
                k,
                alpha,
                beta,
                at_target,
                priors,
                scales,
                scale,
                temperature,
                softcap,
                SOFT,
                SCALED,
                SCALE,
                SMOOTHING,
                CAP,
            )
            tl.store(
                gradient + (rows * gradient_stride)[:, None] + lanes[None, :],
                g.to(gradient.dtype.element_ty),
                mask=mask,
            )
        else:
            last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
            for start in range(0, k, BLOCK):
                cols = (last - start) + lanes  # what was read last is still in the cache
                mask = inside[:, None] & (cols < k)[None, :]
                z = load_tile(logits, starts, cols, mask, -float("inf"))
                u = transformed(
                    z,
                    cols,
                    label,
                    k,
                    scales,
                    biases,
                    scale,
                    bias,
                    own_margin,
                    softcap,
                    SCALE,
                    BIAS,
                    MARGIN,
                    CAP,
                )
                _d, e = exponentials(u, peak, temperature, SCALED, CARRY)
                s = e
                if SOFT:
                    t, s = target_of(
                        targets, rows * targets_stride, cols, mask, priors, smoothing, k, SMOOTHING
                    )
                g = gradient_of(
                    e,
                    z,
                    s,
                    cols,
                    label,
                    live,
                    k,
                    alpha,
                    beta,
                    at_target,
                    priors,
                    scales,
                    scale,
                    temperature,
                    softcap,
                    SOFT,
                    SCALED,
                    SCALE,
                    SMOOTHING,
                    CAP,
                )
                tl.store(
                    gradient + (rows * gradient_stride)[:, None] + cols[None, :],
                    g.to(gradient.dtype.element_ty),
                    mask=mask,
                )


@triton.jit
def gradient_kernel(
    gradient,
    logits,
    kept,
    upstream,
    targets,
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
    per_row,
    logits_stride,
    targets_stride,
    gradient_stride,
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
    KEPT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """gradient (n, K), from what ``loss_kernel`` kept, times the upstream gradient: one read of the logits,
    and one rounding.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    lanes = tl.arange(0, BLOCK)
    CARRY: tl.constexpr = logits.dtype.element_ty == tl.float32
    label, live = tl.zeros_like(rows).to(tl.int32), inside
    if not SOFT:
        label, live = label_of(targets, rows, inside, ignore_index, k)
    own_margin = at(margins, margin, label)
    factor = tl.load(upstream + rows * per_row, mask=inside, other=0.0).to(tl.float32)
    place = kept + rows * KEPT
    peak = tl.load(place, mask=inside, other=0.0)
    alpha = (tl.load(place + 1, mask=inside, other=0.0) * factor)[:, None]
    beta = (tl.load(place + 2, mask=inside, other=0.0) * factor)[:, None]
    at_target = (tl.load(place + 3, mask=inside, other=0.0) * factor)[:, None]
    for start in range(0, k, BLOCK):
        cols = start + lanes
        mask = inside[:, None] & (cols < k)[None, :]
        z = load_tile(logits, rows * logits_stride, cols, mask, -float("inf"))
        u = transformed(
            z, cols, label, k, scales, biases, scale, bias, own_margin, softcap, SCALE, BIAS, MARGIN, CAP
        )
        _d, e = exponentials(u, peak, temperature, SCALED, CARRY)
        s = e
        if SOFT:
            _t, s = target_of(targets, rows * targets_stride, cols, mask, priors, smoothing, k, SMOOTHING)
        g = gradient_of(
            e,
            z,
            s,
            cols,
            label,
            live,
            k,
            alpha,
            beta,
            at_target,
            priors,
            scales,
            scale,
            temperature,
            softcap,
            SOFT,
            SCALED,
            SCALE,
            SMOOTHING,
            CAP,
        )
        tl.store(
            gradient + (rows * gradient_stride)[:, None] + cols[None, :],
            g.to(gradient.dtype.element_ty),
            mask=mask,
        )


# ---- from the host ----


class Arguments(NamedTuple):
    """A spec as a kernel takes it: arrays or None, numbers, and the modes that are compiled in."""

    arrays: tuple[Tensor | None, ...]
    numbers: tuple[float, ...]
    modes: dict[str, Any]


class Prepared(NamedTuple):
    """Arguments as rows."""

    z: Tensor  # (n, K)
    target: Tensor  # (n,) or (n, K)
    sample_weight: Tensor | None  # (n,)
    spec: SpecTensors
    arguments: Arguments
    soft: bool


def _number(value: float | Tensor, neutral: float) -> float:
    return neutral if isinstance(value, Tensor) else value


def _mode(value: float | Tensor, neutral: float) -> int:
    return 1 + value.ndim if isinstance(value, Tensor) else int(value != neutral)


def arguments_of(spec: SpecTensors, soft: bool) -> Arguments:
    """Return the fields of a spec for a kernel."""
    names = ("scale", "bias", "margin", "smoothing", "prior", "class_weight")
    given = [value if isinstance(value := getattr(spec, name), Tensor) else None for name in names]
    arrays = tuple(None if array is None else array.contiguous() for array in given)
    numbers = (
        spec.temperature,
        _number(spec.scale, 1.0),
        _number(spec.bias, 0.0),
        _number(spec.margin, 0.0),
        _number(spec.smoothing, 0.0),
        _number(spec.class_weight, 1.0),
        spec.gate,
        spec.gamma,
        spec.z_loss,
        spec.softcap or 1.0,
    )
    modes = {
        "SOFT": soft,
        "SCALED": spec.temperature != 1.0,
        "SCALE": _mode(spec.scale, 1.0),
        "BIAS": _mode(spec.bias, 0.0),
        "MARGIN": bool(_mode(spec.margin, 0.0)),
        "SMOOTHING": bool(_mode(spec.smoothing, 0.0)),
        "GATE": spec.gate != 0.0,
        "GAMMA": spec.gamma != 0.0,
        "Z_LOSS": spec.z_loss != 0.0,
        "CAP": spec.softcap is not None,
    }
    return Arguments(arrays, tuple(float(number) for number in numbers), modes)


def prepare(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> Prepared:
    """Bring checked arguments into rows; copies only what has no neighbouring classes."""
    soft = target.is_floating_point()
    rows = as_rows(target, options.dim) if soft else target.reshape(-1)
    weights = None if sample_weight is None else sample_weight.reshape(-1)
    if spec.prior is not None:  # given by hand it may not sum to one
        spec = spec._replace(prior=spec.prior / spec.prior.sum())
    return Prepared(as_rows(logits, options.dim), rows, weights, spec, arguments_of(spec, soft), soft)


def _run(
    p: Prepared, ignore_index: int, total: Tensor | None, gradient: Tensor | None, *, keep: bool
) -> tuple[Tensor, Tensor]:
    """Return values (n,) and where ``keep`` what is kept of the rows (n, KEPT): float32, all but the weights
    times each row's factor.
    """
    n = len(p.z)
    values, kept = (
        p.z.new_empty(n, dtype=torch.float32),
        p.z.new_empty((n if keep else 0, KEPT), dtype=torch.float32),
    )
    strides = p.z.stride(0), p.target.stride(0), p.z.stride(0) if gradient is None else gradient.stride(0)
    launch(
        loss_kernel,
        p.z,
        values,
        kept,
        p.z if gradient is None else gradient,
        p.z,
        p.target,
        p.sample_weight,
        total,
        *p.arguments.arrays,
        *p.arguments.numbers,
        ignore_index,
        *strides,
        **p.arguments.modes,
        GRADIENT=gradient is not None,
        MEAN=total is not None,
        KEEP=keep,
        KEPT=KEPT,
    )
    return values, kept


def total_weight(p: Prepared, options: Options) -> Tensor | None:
    """Return the divisor of a mean, a float64 scalar; None for other reductions.

    Where the rows' weights depend on the logits (a gate) or on whole distributions, that is a pass of its own
    over them.
    """
    if options.reduction != "mean":
        return None
    if _weighed_by_the_kernel(p):
        weights = _run(p, options.ignore_index, None, None, keep=True)[1][:, -1]
    elif p.soft:
        weights = p.z.new_ones(len(p.z), dtype=torch.float32)
    else:
        given, live = labels_of(p.target, options.ignore_index)
        if isinstance(p.spec.class_weight, Tensor):
            # a label out of range ends in the kernel's assertion, which names it
            label = given.clamp(0, p.z.shape[1] - 1)
            weights = torch.where(live, p.spec.class_weight[label], 0.0)
        else:
            weights = live.float() * p.spec.class_weight
    return _sum_of(weights, p)


def _weighed_by_the_kernel(p: Prepared) -> bool:
    return bool(p.spec.gate or (p.soft and _mode(p.spec.class_weight, 1.0)))


def _sum_of(weights: Tensor, p: Prepared) -> Tensor:
    """Return the sum of the rows' weights times their sample weights; a NaN row's does not count."""
    return (weights if p.sample_weight is None else weights * p.sample_weight).nansum(dtype=torch.float64)


def _reduced(values: Tensor, total: Tensor | None, logits: Tensor, options: Options) -> Tensor:
    dtype = loss_dtype(logits.dtype)
    if options.reduction == "none":
        moved = logits.movedim(options.dim, -1)
        return values.to(dtype).reshape(moved.shape[:-1])
    result = values.sum(dtype=torch.float64)
    if total is not None and options.empty == "nan":
        result = torch.where(total == 0, torch.nan, result)
    return result.to(dtype)


def loss(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> Tensor:
    """Return the reduced loss of checked arguments."""
    p = prepare(logits, target, spec, sample_weight, options)
    total = total_weight(p, options)
    values, _ = _run(p, options.ignore_index, total, None, keep=False)
    return _reduced(values, total, logits, options)


def loss_and_gradient(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor]:
    """Return the reduced loss and its gradient; with "none", the gradient of each row's own value."""
    p = prepare(logits, target, spec, sample_weight, options)
    total = total_weight(p, options)
    gradient = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device)
    values, _ = _run(p, options.ignore_index, total, gradient, keep=False)
    return _reduced(values, total, logits, options), from_rows(gradient, logits, options.dim)


def loss_and_kept(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor]:
    """Return the reduced loss, and what :func:`gradient` needs of the rows: (n, KEPT) float32.

    Where the kernel itself finds the rows' weights, what it has written is divided by their sum afterwards,
    and nothing runs twice.
    """
    p = prepare(logits, target, spec, sample_weight, options)
    late = options.reduction == "mean" and _weighed_by_the_kernel(p)
    total = None if late else total_weight(p, options)
    values, kept = _run(p, options.ignore_index, total, None, keep=True)
    if late:
        total = _sum_of(kept[:, -1], p)
        share = torch.where(total == 0, 0.0, 1.0 / torch.where(total == 0, 1.0, total))
        values = values * share
        kept[:, 1:-1] *= share
    return _reduced(values, total, logits, options), kept


def gradient(
    logits: Tensor,
    kept: Tensor,
    upstream: Tensor,
    target: Tensor,
    spec: SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Return the gradient times ``upstream``, one number or one a row.

    ``out`` may be the logits themselves, contiguous, classes last.
    """
    p = prepare(logits, target, spec, sample_weight, options)
    result = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device) if out is None else p.z
    launch(
        gradient_kernel,
        p.z,
        result,
        p.z,
        kept,
        upstream.reshape(-1),
        p.target,
        *p.arguments.arrays,
        *p.arguments.numbers,
        options.ignore_index,
        int(upstream.ndim > 0),
        p.z.stride(0),
        p.target.stride(0),
        result.stride(0),
        **p.arguments.modes,
        KEPT=KEPT,
    )
    return from_rows(result, logits, options.dim) if out is None else out


def rows_in_place(z: Tensor, target: Tensor, spec: SpecTensors, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights (n,) of rows z (n, K), and where ``gradient`` is set leave that of each row's
    own value in z.
    """
    p = prepare(z, target, spec, None, Options(reduction="none"))
    values, kept = _run(p, -100, None, z if gradient else None, keep=True)
    return values, kept[:, -1]
