"""Rows whose columns are spread over ranks: the sums over all classes, and the gradient of a rank's own.

The method stands in :mod:`softmax_lab.torch.parallel`, the formula of a row in
:mod:`softmax_lab.torch._formula.terms`. What is done to single logits is plain torch here, and that of
:mod:`.columns` where the compiled loops know how. Maxima are those of u T: the shift comes before the
division by the temperature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._twofloat import two_sum
from ...spec import LossSpec, active
from .._base.tensors import loss_dtype
from .._formula import logs, terms
from .._formula.fields import SpecTensors, shard, spec_tensors
from .._formula.rows import Transformed, before_temperature, over
from . import columns
from .agreement import Shard
from .chunks import blocks
from .layer import once_differentiable
from .log_rows import shares_of, weighted_logs

__all__ = ["ShardedLogOfMean", "ShardedRows", "Spread", "kernel", "log_kernel"]


class Spread(NamedTuple):
    """What a rank needs to know of a row beside its own logits, all (n,) float64.

    dL/du_k = alpha q_k - beta r_k, or with a distribution alpha q_k - beta s_k.
    """

    peak: Tensor  # M T
    total: Tensor  # S
    alpha: Tensor
    beta: Tensor
    at_target: Tensor  # dL/du_y; unused with distributions


class _Found(NamedTuple):
    values: Tensor  # (n,) float64, as are the weights
    weights: Tensor
    spread: Spread


class ShardedRows(torch.autograd.Function):
    """Values and weights of rows; the gradient is computed, without the other ranks, when it is asked for."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, live: Tensor, spec: LossSpec, own: Shard
    ) -> tuple[Tensor, Tensor]:
        values, weights, spread = _found(own, spec, z, target, live)
        ctx.own, ctx.spec = own, spec
        ctx.save_for_backward(z, target, live, *spread)
        weights = torch.where(live, weights, 0.0)
        ctx.mark_non_differentiable(weights)
        return torch.where(live, values, 0.0), weights

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, live, *saved = ctx.saved_tensors
        gradient = _scaled_gradient(ctx.own, ctx.spec, z, target, live, Spread(*saved), upstream)
        return (*once_differentiable([gradient], upstream, z), None, None, None, None)


class ShardedLogOfMean(torch.autograd.Function):
    """The log of the mean loss; its gradient is computed as that of :class:`ShardedRows`."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, label: Tensor, log_omega: Tensor, spec: LossSpec, own: Shard, empty: str
    ) -> Tensor:
        found, spread = _log_found(own, spec, z, label)
        shares = shares_of(weighted_logs(found.high, found.low, log_omega), log_omega, empty)
        ctx.own, ctx.spec = own, spec
        ctx.save_for_backward(z, label, shares.rho, *spread)
        return shares.value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        z, label, rho, *saved = ctx.saved_tensors
        # a row without a share may hold anything
        gradient = _scaled_gradient(
            ctx.own, ctx.spec, z, label, rho != 0, Spread(*saved), rho * upstream.detach()
        )
        return (*once_differentiable([gradient], upstream, z), None, None, None, None, None)


def _scaled_gradient(
    own: Shard, spec: LossSpec, z: Tensor, target: Tensor, live: Tensor, spread: Spread, upstream: Tensor
) -> Tensor:
    """Return the gradient of each row's own value times ``upstream`` (n,), 0 where a row is not ``live``."""
    with torch.no_grad():
        gradient = torch.empty_like(z)
        if not _by_loops(own, spec, z, target, live, spread, upstream, gradient):
            for block in blocks(z):
                of_block = Spread(*(each[block] for each in spread))
                rows = _gradient(own, spec, z[block], target[block], of_block)
                gradient[block] = torch.where(live[block, None], rows * upstream[block, None], 0.0)
    return gradient


def kernel(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights of rows ``z`` (n, K_r).

    With ``gradient`` leave in ``z`` the gradient of each row's own value.
    """
    values, weights, spread = _found(own, spec, z, target, None)
    if gradient:
        _write_gradient(own, spec, z, target, spread)
    return values, weights


def log_kernel(own: Shard, spec: LossSpec, z: Tensor, label: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return log l of rows ``z`` (n, K_r), as two float64 whose sum is the number.

    With ``gradient`` leave in ``z`` the gradient of each row's own logarithm.
    """
    found, spread = _log_found(own, spec, z, label)
    if gradient:
        _write_gradient(own, spec, z, label, spread)
    return found.high, found.low


def _write_gradient(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, spread: Spread) -> None:
    """Leave in ``z`` the gradient of each row's own value."""
    if not _by_loops(own, spec, z, target, None, spread, None, z):
        for block in blocks(z):
            of_block = Spread(*(each[block] for each in spread))
            z[block] = _gradient(own, spec, z[block], target[block], of_block)


def _by_loops(
    own: Shard,
    spec: LossSpec,
    z: Tensor,
    target: Tensor,
    live: Tensor | None,
    spread: Spread,
    upstream: Tensor | None,
    out: Tensor,
) -> bool:
    """Write the gradient times ``upstream`` to ``out``, and return True, where the loops can."""
    alpha = spread.alpha / spread.total
    factors = columns.Factors(spread.peak, alpha, spread.beta, spread.at_target)
    return columns.gradient(own, spec, z, target, live, factors, upstream, out)


def _found(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, live: Tensor | None) -> _Found:
    """Return what is known of rows after the two all-reduces, which are here."""
    part = columns.part_of(own, spec, z, target, live)
    # a NaN may get lost here; the sums bring it to every rank
    peak = own.max(_peaks(own, spec, z, target) if part is None else part.peak.clone())
    if part is not None:
        return _finish(own, spec, target, peak, own.sum(columns.relative_to(own, spec, part, target, peak)))
    soft = target.is_floating_point()
    sums = peak.new_zeros((6 if soft else 3 if active(spec.smoothing) else 2, len(z)))
    for block in _blocks(z):
        add = _soft_sums if soft else _sums
        sums[:, block] = add(own, spec, z[block], target[block], peak[block])
    sums = own.sum(sums)
    return _soft_finish(spec, peak, sums) if soft else _finish(own, spec, target, peak, sums)


def _blocks(z: Tensor) -> Iterator[slice]:
    """Yield the blocks of rows; none on a rank without classes, which has nothing to add."""
    yield from blocks(z) if z.shape[1] else ()


def _peaks(own: Shard, spec: LossSpec, z: Tensor, target: Tensor) -> Tensor:
    """Return the largest u T of this rank's columns, (n,)."""
    peak = torch.full((len(z),), -torch.inf, dtype=torch.float64, device=z.device)
    for block in _blocks(z):
        u = _transformed(own, spec, z[block], target[block]).u if spec.acts_on_logits else z[block]
        peak[block] = u.amax(1)
    return peak


def _fields(own: Shard, spec: LossSpec, z: Tensor) -> tuple[torch.dtype, SpecTensors]:
    """Return the type to compute single logits in, and the spec's fields for this rank's classes."""
    dtype = torch.float64 if z.device.type == "cpu" else loss_dtype(z.dtype)
    return dtype, shard(spec_tensors(spec, z.device, dtype), own.first, own.last)


def _transformed(own: Shard, spec: LossSpec, z: Tensor, target: Tensor) -> Transformed:
    """Return u T of this rank's columns (n, K_r), and its derivative in z."""
    dtype, fields = _fields(own, spec, z)
    label = None if target.is_floating_point() else target
    return before_temperature(z.to(dtype), fields, label, first=own.first)


def _below(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, peak: Tensor) -> Transformed:
    """Return u - M of this rank's columns (n, K_r), and du/dz."""
    u, slope = _transformed(own, spec, z, target)
    temperature = _fields(own, spec, z)[1].temperature
    return Transformed(over(u - peak.to(u.dtype)[:, None], temperature), slope / temperature)


def _gradient(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, spread: Spread) -> Tensor:
    """Return dL/dz of this rank's columns (n, K_r)."""
    if not z.shape[1]:
        return z
    d, slope = _below(own, spec, z, target, spread.peak)
    of_e = spread.alpha / spread.total
    of_e, beta, at_target = (each.to(d.dtype)[:, None] for each in (of_e, spread.beta, spread.at_target))
    gradient = of_e * torch.exp(d)
    if target.is_floating_point():
        return (gradient - beta * _smoothed(own, spec, target)) * slope
    if active(spec.smoothing):
        gradient = gradient - beta * terms.prior(_fields(own, spec, z)[1], own.num_classes)
    column, here = _column(own, target)
    return gradient.scatter(1, column, torch.where(here, at_target, gradient.gather(1, column))) * slope


# ---- a class index ----


def _sums(own: Shard, spec: LossSpec, z: Tensor, label: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of E, d_y and, with smoothing, R: (2 or 3, n)."""
    d = _below(own, spec, z, label, peak).u
    column, here = _column(own, label)
    at_label = d.gather(1, column)
    e = torch.exp(d)
    others = e.scatter(1, column, torch.where(here, 0.0, e.gather(1, column))).sum(1)
    parts = [others, torch.where(here, at_label, 0.0)[:, 0]]
    if active(spec.smoothing):
        parts.append(terms.expected_log_q(_fields(own, spec, z)[1], d, own.num_classes))
    return torch.stack(parts)


def _finish(own: Shard, spec: LossSpec, label: Tensor, peak: Tensor, sums: Tensor) -> _Found:
    others, d_y = sums[0], sums[1]
    e_y = torch.exp(d_y)
    total = others + e_y
    log_total = torch.log1p(torch.where(d_y == 0, others, (others - 1.0) + e_y))
    fields = spec_tensors(spec, label.device, torch.float64)
    log_q_y, lse = d_y - log_total, over(peak, fields.temperature) + log_total
    weight = torch.zeros_like(peak) + terms.class_weights(fields, label, torch.exp(log_q_y))
    prior_log_q = sums[2] - log_total if len(sums) > 2 else None
    known = terms.Sums(log_q_y, others / total, lse, prior_log_q, own.num_classes)
    row = terms.row_terms(fields, label, known, weight)
    return _Found(row.value, weight, Spread(peak, total, row.alpha, row.beta, row.at_target))


def _column(own: Shard, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label's column on this rank, and whether it is here: both (n, 1).

    The column is some other where the label is another rank's.
    """
    column = label[:, None] - own.first
    here = (column >= 0) & (column < own.last - own.first)
    return torch.where(here, column, 0), here


# ---- a given distribution ----


def _soft_sums(own: Shard, spec: LossSpec, z: Tensor, target: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of the sums for distributions, (6, n).

    First the number of ranks whose largest logit is M, and the sum of the other exponentials: their 1 stays
    out of the logarithm. Then sum s_k d_k, sum s_k, sum t_k W_k, sum t_k.
    """
    d = _below(own, spec, z, target, peak).u
    top = d.argmax(1, keepdim=True)
    at_top, e = d.gather(1, top) == 0, torch.exp(d)
    rest = e.scatter(1, top, torch.where(at_top, 0.0, e.gather(1, top))).sum(1)
    t, s = target.to(d.dtype), _smoothed(own, spec, target)
    class_weight = spec_tensors(spec, z.device, d.dtype).class_weight
    weighted = t * (class_weight[own.first : own.last] if isinstance(class_weight, Tensor) else class_weight)
    expected = torch.where(s == 0, 0.0, s * d)
    return torch.stack([at_top[:, 0].to(d.dtype), rest, expected.sum(1), s.sum(1), weighted.sum(1), t.sum(1)])


def _soft_finish(spec: LossSpec, peak: Tensor, sums: Tensor) -> _Found:
    tops, rest, expected, mass, weighted, whole = sums
    log_total = torch.log1p((tops - 1.0) + rest)
    weight = terms.mean_weight(weighted, whole)
    fields = spec_tensors(spec, peak.device, torch.float64)
    lse = over(peak, fields.temperature) + log_total
    row = terms.soft_terms(fields, terms.SoftSums(mass * log_total - expected, mass, lse), weight)
    return _Found(row.value, weight, Spread(peak, tops + rest, row.alpha, row.beta, torch.zeros_like(weight)))


def _smoothed(own: Shard, spec: LossSpec, target: Tensor) -> Tensor:
    """Return this rank's columns of s = (1 - eps) t + eps r.

    A uniform r is spread over the classes of all ranks.
    """
    dtype, fields = _fields(own, spec, target)
    return terms.smoothed(fields, target.to(dtype), own.num_classes)


# ---- the log of the mean loss ----


def _log_found(own: Shard, spec: LossSpec, z: Tensor, label: Tensor) -> tuple[logs.LogTerms, Spread]:
    """Return log l of rows after the two all-reduces, which are here, and what their gradient is made of.

    The gradient is h' e_k / E over the other classes, and -h' at the target.
    """
    highest = own.max(_peaks_of_others(own, spec, z, label))
    peak = torch.where(highest == -torch.inf, 0.0, highest)
    sums = peak.new_zeros((2, len(z)))
    for block in _blocks(z):
        sums[:, block] = _log_sums(own, spec, z[block], label[block], peak[block])
    others, at_label = own.sum(sums)
    found = _log_terms(spec, peak, others, at_label)
    total = torch.where(others == 0, 1.0, others)
    return found, Spread(peak, total, found.slope, torch.zeros_like(peak), -found.slope)


def _peaks_of_others(own: Shard, spec: LossSpec, z: Tensor, label: Tensor) -> Tensor:
    """Return the largest u T of this rank's columns but the target's, (n,)."""
    peak = torch.full((len(z),), -torch.inf, dtype=torch.float64, device=z.device)
    for block in _blocks(z):
        u = _transformed(own, spec, z[block], label[block]).u
        peak[block] = _put(u, *_column(own, label[block]), -torch.inf).amax(1)
    return peak


def _log_sums(own: Shard, spec: LossSpec, z: Tensor, label: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of E, relative to the largest other logit, and of u_y T: (2, n)."""
    u = _transformed(own, spec, z, label).u
    column, here = _column(own, label)
    d = over(u - peak.to(u.dtype)[:, None], _fields(own, spec, z)[1].temperature)
    others = _put(torch.exp(d), column, here, 0.0).sum(1)
    return torch.stack([others, torch.where(here, u.gather(1, column), 0.0)[:, 0]])


def _log_terms(spec: LossSpec, peak: Tensor, others: Tensor, at_label: Tensor) -> logs.LogTerms:
    """Return log l and its derivative in s = (M - u_y T) / T + log E."""
    temperature = spec_tensors(spec, peak.device, torch.float64).temperature
    gap, gap_low = two_sum(peak, -at_label)
    s, s_low = two_sum(over(gap, temperature), others.log())
    alone = others == 0
    # +inf at the target is no number, as everywhere, and nor is a row without anything above -inf
    wrong = (at_label == torch.inf) | (alone & ~at_label.isfinite())
    s = torch.where(wrong, torch.nan, torch.where(alone, -torch.inf, s))
    low = s_low + over(gap_low, temperature)
    found = logs.log_terms(s, torch.where(low.isfinite(), low, 0.0))
    return found._replace(slope=torch.where(alone & ~wrong, 0.0, found.slope))


def _put(entries: Tensor, column: Tensor, here: Tensor, value: float) -> Tensor:
    """Return entries (n, K_r) with ``value`` at each row's column, where that is on this rank."""
    return entries.scatter(1, column, torch.where(here, value, entries.gather(1, column)))
