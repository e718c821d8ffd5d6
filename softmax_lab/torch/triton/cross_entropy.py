r"""The loss of the family and its gradient.

A row that fits on the chip is read once. A longer one is read by the online normaliser, and again for its
gradient.

The gradient is written over the logits only where its caller says so. That is safe for every plan: one
program owns a row, and it has read an entry for the last time when it writes it.
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
from . import plain
from .arguments import Prepared, Weights, is_neutral, matrix, prepare, spec_argument
from .launch import from_rows, launch, one_a_row
from .terms import factor_of, own_of, row_terms, soft_terms, sums_of
from .tiles import (
    exponentials,
    finite_or_zero,
    gradient_by_u,
    logit_of,
    nothing_yet,
    online,
    part_at,
    rows_with,
    share_sums,
    slopes,
    store,
    tile_at,
    totals,
)

__all__ = ["gradient", "loss", "loss_and_gradient", "loss_and_kept", "rows_in_place", "total_weight"]


# ---- on the device ----

_KEPT = tl.constexpr(KEPT)


class Kept(NamedTuple):
    """What is kept of a row for its gradient, in the order of the memory."""

    peak: Any  # what its exponentials are relative to
    alpha: Any
    beta: Any
    at_target: Any
    weight: Any  # w


@triton.jit
def sums_of_parts(logits, targets, rows, spec, BLOCK: tl.constexpr, CARRY: tl.constexpr):
    """Return the peak and the sums of rows that are read a tile at a time."""
    ROWS: tl.constexpr = rows.index.shape[0]
    so_far = nothing_yet(ROWS, BLOCK)
    zero = tl.zeros((ROWS,), tl.float64)
    s_sum, s_d, t_sum, t_weight = zero, zero, zero, zero
    u_y = tl.full((ROWS, BLOCK), -float("inf"), tl.float32)
    for start in range(0, rows.k, BLOCK):
        tile = tile_at(start, rows, BLOCK)
        part = part_at(logits, targets, rows, tile, spec)
        before = finite_or_zero(so_far.peak)
        so_far = online(part.u, so_far, spec.temperature, CARRY)
        if not targets.SOFT:
            u_y = tl.where(tile.cols[None, :] == rows.label[:, None], part.u, u_y)
        if targets.SOFT or spec.smoothing.MODE:
            base = finite_or_zero(so_far.peak)
            more, more_d, more_t, more_weight = share_sums(part, base, rows, tile, targets, spec)
            # counted from another entry, what was summed so far moves by its mass
            moved = s_sum * ((before - base).to(tl.float64) / spec.temperature.number)
            s_d += more_d + tl.where(before == base, 0.0, moved)
            s_sum, t_sum, t_weight = s_sum + more, t_sum + more_t, t_weight + more_weight
    ties, below = totals(so_far)
    shares = s_sum.to(tl.float32), s_d.to(tl.float32), t_sum.to(tl.float32), t_weight.to(tl.float32)
    return so_far.peak, sums_of(ties, below, so_far.peak, tl.max(u_y, 1), shares, spec, CARRY)


@triton.jit
def gradient_of(part, e, kept, rows, tile, targets, spec):
    """dL/dz of a tile; 0 in rows that do not count."""
    g = gradient_by_u(part, e, kept, rows, tile, targets, spec)
    if spec.temperature.MODE or spec.scale.MODE or spec.softcap.MODE:
        slope, _bend = slopes(part.z, tile, spec)
        g = g * slope
    return tl.where(rows.live[:, None], g, 0.0)


@triton.jit
def write_gradient(gradient, logits, targets, rows, tile, kept, spec, CARRY: tl.constexpr):
    """Read a tile and write its gradient."""
    part = part_at(logits, targets, rows, tile, spec)
    _d, e = exponentials(part.u, kept.peak, spec.temperature, CARRY)
    store(gradient, rows, tile, gradient_of(part, e, kept, rows, tile, targets, spec))


@triton.jit
def loss_kernel(
    values,
    kept,
    gradient,
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
    """values (n,) and, where they are given, kept (n, KEPT) and gradient (n, K).

    All but the spec's weights are multiplied by each row's factor.
    """
    CARRY: tl.constexpr = logits.entries.dtype.element_ty == tl.float32
    rows = rows_with(targets, spec, n, k, ROWS)
    if WHOLE:
        tile = tile_at(0, rows, BLOCK)
        part = part_at(logits, targets, rows, tile, spec)
        peak = tl.max(part.u, 1)
        d, e = exponentials(part.u, peak, spec.temperature, CARRY)
        top = d == 0.0
        ties, below = tl.sum(tl.where(top, 1.0, 0.0), 1), tl.sum(tl.where(top, 0.0, e), 1)
        u_y = logit_of(part.u, rows, tile)
        shares = share_sums(part, peak, rows, tile, targets, spec)
        sums = sums_of(ties, below, peak, u_y, shares, spec, CARRY)
    else:
        peak, sums = sums_of_parts(logits, targets, rows, spec, BLOCK, CARRY)

    own, factor = own_of(sums, rows, targets, spec), factor_of(weights, rows)
    terms = soft_terms(sums, own, spec) if targets.SOFT else row_terms(sums, own, spec)
    tl.store(values + rows.index, tl.where(rows.live, terms.value * factor, 0.0), mask=rows.inside)
    row = Kept(peak, terms.alpha * factor, terms.beta * factor, terms.at_target * factor, own.weight)
    if kept is not None:
        place = kept + rows.index * _KEPT
        tl.store(place, row.peak, mask=rows.inside)
        tl.store(place + 1, row.alpha, mask=rows.inside)
        tl.store(place + 2, row.beta, mask=rows.inside)
        tl.store(place + 3, row.at_target, mask=rows.inside)
        tl.store(place + 4, tl.where(rows.live, row.weight, 0.0), mask=rows.inside)
    if gradient is not None:
        if WHOLE:
            store(gradient, rows, tile, gradient_of(part, e, row, rows, tile, targets, spec))
        else:
            last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
            for start in range(0, k, BLOCK):
                tile = tile_at(last - start, rows, BLOCK)  # what was read last is still in the cache
                write_gradient(gradient, logits, targets, rows, tile, row, spec, CARRY)


@triton.jit
def gradient_kernel(
    gradient,
    logits,
    kept,
    upstream,
    per_row,
    targets,
    spec,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """gradient (n, K) from what ``loss_kernel`` kept, times the upstream gradient.

    It reads the logits once, and each entry is rounded once.
    """
    CARRY: tl.constexpr = logits.entries.dtype.element_ty == tl.float32
    rows = rows_with(targets, spec, n, k, ROWS)
    factor = tl.load(upstream + rows.index * per_row, mask=rows.inside, other=0.0).to(tl.float32)
    place = kept + rows.index * _KEPT
    row = Kept(
        tl.load(place, mask=rows.inside, other=0.0),
        tl.load(place + 1, mask=rows.inside, other=0.0) * factor,
        tl.load(place + 2, mask=rows.inside, other=0.0) * factor,
        tl.load(place + 3, mask=rows.inside, other=0.0) * factor,
        None,
    )
    for start in range(0, k, BLOCK):
        tile = tile_at(start, rows, BLOCK)
        write_gradient(gradient, logits, targets, rows, tile, row, spec, CARRY)


# ---- from the host ----


def _new_kept(p: Prepared) -> Tensor:
    return p.z.new_empty((len(p.z), KEPT), dtype=torch.float32)


def _run(
    p: Prepared,
    ignore_index: int,
    *,
    total: Tensor | None = None,
    kept: Tensor | None = None,
    gradient: Tensor | None = None,
) -> Tensor:
    """Return values (n,) float32; fill ``kept`` and ``gradient`` where they are given."""
    values = p.z.new_empty(len(p.z), dtype=torch.float32)
    launch(
        loss_kernel,
        p.z,
        values,
        kept,
        None if gradient is None else matrix(gradient),
        matrix(p.z),
        p.targets(ignore_index),
        Weights(p.sample_weight, total),
        spec_argument(p.spec),
    )
    return values


def total_weight(p: Prepared, options: Options) -> Tensor | None:
    """Return the divisor of a mean, a float64 scalar; None for other reductions.

    Where the rows' weights depend on the logits (a gate) or on whole distributions, a pass of its own over
    them finds it.
    """
    if options.reduction != "mean":
        return None
    if _weighed_by_the_kernel(p):
        kept = _new_kept(p)
        _run(p, options.ignore_index, kept=kept)
        weights = kept[:, -1]
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
    weight = p.spec.class_weight
    return bool(p.spec.gate or (p.soft and (isinstance(weight, Tensor) or weight != 1.0)))


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
    if _is_plain(p):
        return _plainly(p, logits, options, gradient=False)[0]
    total = total_weight(p, options)
    values = _run(p, options.ignore_index, total=total)
    return _reduced(values, total, logits, options)


def loss_and_gradient(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor]:
    """Return the reduced loss and its gradient; with "none", the gradient of each row's own value."""
    p = prepare(logits, target, spec, sample_weight, options)
    if _is_plain(p):
        value, found = _plainly(p, logits, options, gradient=True)
        assert found is not None
        return value, from_rows(found, logits, options.dim)
    total = total_weight(p, options)
    gradient = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device)
    values = _run(p, options.ignore_index, total=total, gradient=gradient)
    return _reduced(values, total, logits, options), from_rows(gradient, logits, options.dim)


def loss_and_kept(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor]:
    """Return the reduced loss, and what :func:`gradient` needs of the rows: (n, KEPT) float32.

    Where the kernel itself finds the rows' weights, their sum is known only after the last row: what was
    written is divided by it at the end, and nothing runs twice. Of a plain row nothing is kept: it is read
    once for its gradient too.
    """
    p = prepare(logits, target, spec, sample_weight, options)
    if _is_plain(p):
        return _plainly(p, logits, options, gradient=False)[0], _new_kept(p)
    late = options.reduction == "mean" and _weighed_by_the_kernel(p)
    total, kept = None if late else total_weight(p, options), _new_kept(p)
    values = _run(p, options.ignore_index, total=total, kept=kept)
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
    if _is_plain(p):
        given = options.reduction, options.ignore_index
        plain.loss_gradient(p.z, p.target.long(), upstream, *given, out=result, again=False)
        return from_rows(result, logits, options.dim) if out is None else out
    launch(
        gradient_kernel,
        p.z,
        matrix(result),
        matrix(p.z),
        kept,
        one_a_row(upstream),
        int(upstream.ndim > 0),
        p.targets(options.ignore_index),
        spec_argument(p.spec),
    )
    return from_rows(result, logits, options.dim) if out is None else out


def _is_plain(p: Prepared) -> bool:
    """Whether the rows are those of :mod:`.plain`."""
    ordinary = not p.soft and p.sample_weight is None and is_neutral(p.spec)
    return ordinary and plain.takes(p.z.shape[1], p.z.device)


def _plainly(
    p: Prepared, logits: Tensor, options: Options, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the loss of plain rows and, where asked for, its gradient (n, K)."""
    given = options.reduction, options.empty, options.ignore_index
    value, found = plain.loss(p.z, p.target.long(), *given, gradient=gradient)
    if options.reduction == "none":
        value = value.reshape(logits.movedim(options.dim, -1).shape[:-1])
    return value, found


def rows_in_place(z: Tensor, target: Tensor, spec: SpecTensors, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights (n,) of rows z (n, K).

    Where ``gradient`` is set, the gradient of each row's own value takes the place of z.
    """
    p = prepare(z, target, spec, None, Options(reduction="none"))
    if gradient and _is_plain(p):
        return plain.values_in_place(z, p.target.long()), p.target.ne(-100).float()
    kept = _new_kept(p)
    values = _run(p, -100, kept=kept, gradient=z if gradient else None)
    return values, kept[:, -1]
