r"""The loss with its classes spread over the processes of a ``torch.distributed`` group: no process ever sees
all logits.

Rank r holds the columns C_r of the logits (or the rows C_r of the weight): whole blocks of classes in rank
order, of any sizes. Rows (hidden, target, sample weights) are the same on every rank, and so are the value
and the hidden gradient that come back. With u as in :mod:`softmax_lab.spec` and K the number of classes of
*all* ranks:

.. math::

    M &= \max_r \max_{k \in C_r} u_k & &\text{one MAX all-reduce} \\
    (E, d_y, R) &= \sum_r \sum_{k \in C_r}
        \bigl( [k \ne y] e^{u_k - M},\; [k = y] (u_k - M),\; r_k (u_k - M) \bigr)
        & &\text{one SUM all-reduce} \\
    S &= E + e^{d_y}, \quad -\log q_y = \log S - d_y, \quad 1 - q_y = E / S,
        \quad \textstyle\sum_k r_k \log q_k = R - \log S

R is summed only where there is smoothing; a uniform prior is 1/K. The rest of the family needs no other sum
over classes (:func:`._family.row_terms`), so every rank goes on alone: weights, gate, focal factor, z-loss
and the gradient of its own columns. E is summed without the target, which keeps the true 1 - q_y of a
confident row whichever rank holds the target.

========================  ===============================================  ==============================
call                      forward, N rows that count                       backward
========================  ===============================================  ==============================
``cross_entropy``         MAX of N, SUM of 2 N (3 N with smoothing, 6 N    none
                          with distributions), float64
``linear_cross_entropy``  the same two a chunk of rows, and SUM of the     none ("none": SUM of the hidden
                          hidden gradient (N, D) where one is wanted       gradient, here instead)
both, without ``sizes``   first one SUM of 6 integers a rank, by which     none
                          every rank checks what all the others got
========================  ===============================================  ==============================

What goes wrong on one rank must not leave the others waiting for ever. Without ``sizes``, labels outside
every shard, and rows, targets or options that differ between ranks, are errors on every rank alike. A rank
that dies, or never calls, is an error of the group (``RuntimeError``) on the others, at the latest after the
group's timeout.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor

from .._checks import Empty, Reduction
from ..spec import LossSpec, active
from . import _chunks, _family
from ._chunks import Rows
from ._composite import Options, loss_dtype

__all__ = ["cross_entropy", "linear_cross_entropy"]


def cross_entropy(
    local_logits: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    group: dist.ProcessGroup | None = None,
    sizes: Sequence[int] | None = None,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    empty: Empty = "nan",
) -> Tensor:
    """Return the loss of logits whose classes are spread over ``group``; every rank gets the same value.

    Two all-reduces of a few numbers a row in the forward pass, none in the backward pass, and no logits are
    gathered.

    Parameters
    ----------
    local_logits : Tensor, shape ``(..., K_r)``
        This rank's classes, of all rows; K_r may differ from rank to rank, and be 0. float16 to float64.
    target : Tensor
        Class indices among all K classes, ``(...)``, the same on every rank; or this rank's columns of a
        distribution a row, ``(..., K_r)``.
    spec : LossSpec
        The member of the family. Its arrays are those of all K classes, the same on every rank.
    group : ProcessGroup, optional
        The default group where none is given. The shards are in the order of its ranks.
    sizes : sequence of int, optional
        K_r of every rank. Where it is given nothing is asked of the other ranks: one all-reduce less, and
        what differs between the ranks is not noticed.
    reduction, sample_weight, ignore_index, empty
        As in :func:`softmax_lab.cross_entropy`; the same on every rank.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value a row; float64 for float64 logits, else float32. Its gradient flows
        to the local logits. It can be differentiated once.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any logit is read.
    RuntimeError
        From the group, when another rank has died or does not call in time.

    Examples
    --------
    On one process, which holds all classes:

    >>> import torch
    >>> import torch.distributed as dist
    >>> import softmax_lab.torch as slt
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> slt.parallel.cross_entropy(torch.zeros(1, 2), torch.tensor([1])).item()
    0.6931471824645996
    >>> dist.destroy_process_group()

    See Also
    --------
    linear_cross_entropy : from hidden rows and this rank's rows of the weight; the local logits do not exist
    either.
    """
    options = Options(reduction, empty, ignore_index)
    return _chunks.outside_of_graphs(_of_logits)(
        local_logits, target, spec, group, sizes, sample_weight, options
    )


def _of_logits(
    local_logits: Tensor,
    target: Tensor,
    spec: LossSpec,
    group: dist.ProcessGroup | None,
    sizes: Sequence[int] | None,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    rows = _chunks.prepare(local_logits, target, spec, sample_weight, options)
    shard = _agree(
        rows,
        target,
        spec,
        local_logits.shape[-1],
        sizes,
        group,
        ("cross_entropy", local_logits.dtype, options),
    )
    z = local_logits.reshape(rows.shape.numel(), local_logits.shape[-1])
    live = torch.ones(len(z), dtype=torch.bool, device=z.device)
    if rows.live is not None:
        live = torch.zeros_like(live).index_fill(0, rows.live, True)
    target = rows.target if rows.target.is_floating_point() else torch.where(live, rows.target, 0)
    values, weights = cast(tuple[Tensor, Tensor], _Rows.apply(z, target, live, spec, shard))  # type: ignore[no-untyped-call]
    if options.reduction == "none":
        return _chunks.weighted(values, rows.factor).to(loss_dtype(z.dtype)).reshape(rows.shape)
    return _chunks.reduced(values, weights, rows)[0].to(loss_dtype(z.dtype))


def linear_cross_entropy(
    hidden: Tensor,
    local_weight: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    group: dist.ProcessGroup | None = None,
    sizes: Sequence[int] | None = None,
    local_bias: Tensor | None = None,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    empty: Empty = "nan",
    chunk_bytes: int | None = None,
) -> Tensor:
    """Return ``slt.linear_cross_entropy`` of a weight whose rows are spread over ``group``.

    Every rank gets the same value.

    Each rank holds ``chunk_bytes`` of its own logits at a time. A chunk costs two all-reduces of a few
    numbers a row; the hidden gradient, to which every rank's classes contribute, is summed over the group
    once and comes back whole.

    Parameters
    ----------
    hidden : Tensor, shape ``(..., D)``
        The same on every rank.
    local_weight : Tensor, shape ``(K_r, D)``
        This rank's classes.
    target, spec, group, sizes
        As in :func:`cross_entropy`.
    local_bias : Tensor, shape ``(K_r,)``, optional
    reduction, sample_weight, ignore_index, empty, chunk_bytes
        As in :func:`softmax_lab.torch.linear_cross_entropy`; the same on every rank, and so is whether
        ``hidden`` requires a gradient.

    Returns
    -------
    Tensor
        As in :func:`cross_entropy`. Gradients flow to ``hidden`` (whole), ``local_weight`` and
        ``local_bias``.

    Raises
    ------
    TypeError, ValueError, IndexError, RuntimeError
        As in :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : from local logits that exist.
    softmax_lab.torch.linear_cross_entropy : on one process.
    """
    options = Options(reduction, empty, ignore_index)
    return _chunks.outside_of_graphs(_linear)(
        hidden, local_weight, local_bias, target, spec, group, sizes, sample_weight, options, chunk_bytes
    )


def _linear(
    hidden: Tensor,
    local_weight: Tensor,
    local_bias: Tensor | None,
    target: Tensor,
    spec: LossSpec,
    group: dist.ProcessGroup | None,
    sizes: Sequence[int] | None,
    sample_weight: Tensor | None,
    options: Options,
    chunk_bytes: int | None,
) -> Tensor:
    hidden, local_weight, local_bias = _chunks.autocast(hidden, local_weight, local_bias)
    _chunks.check_layer(hidden, local_weight, local_bias)
    # their shape, without their memory
    logits = hidden.new_empty(()).expand(*hidden.shape[:-1], len(local_weight))
    rows = _chunks.prepare(logits, target, spec, sample_weight, options)
    alike = ("linear_cross_entropy", hidden.dtype, options, chunk_bytes, _chunks.wants_gradient(hidden))
    shard = _agree(rows, target, spec, len(local_weight), sizes, group, alike)
    budget = _chunks.chunk_budget(chunk_bytes, hidden.device)
    # the largest shard's, for the same chunks on every rank
    step = _chunks.chunk_rows(max(shard.sizes), hidden.dtype, budget)
    task = _chunks.Task(rows, partial(_kernel, shard, spec), step, shard.sum)
    return _chunks.evaluate(task, hidden, local_weight, local_bias)


# ---- what the ranks have to agree on ----


class Shard(NamedTuple):
    """This rank's classes ``first`` to ``last - 1`` among all, and the group that they are spread over."""

    group: dist.ProcessGroup | None
    sizes: tuple[int, ...]  # classes of each rank
    first: int
    last: int

    @property
    def num_classes(self) -> int:
        return sum(self.sizes)

    def max(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def sum(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def _reduce(self, tensor: Tensor, op: Any) -> Tensor:
        """Combine the ranks' tensors in place.

        Where there is nothing to combine, on every rank alike, there is no call.
        """
        if tensor.numel():
            dist.all_reduce(tensor, op=op, group=self.group)
        return tensor


class _Report(NamedTuple):
    """What a rank was given, in integers."""

    columns: int
    rows: int
    low: int  # smallest label that counts
    high: int  # largest
    labels: int  # checksum
    options: int  # checksum


def _agree(
    rows: Rows,
    target: Tensor,
    spec: LossSpec,
    columns: int,
    sizes: Sequence[int] | None,
    group: dist.ProcessGroup | None,
    options: tuple[Any, ...],
) -> Shard:
    """Return this rank's place among the classes.

    An error on every rank alike where the ranks were not given the same.
    """
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    if sizes is None:
        own = _report(rows, columns, options)
        table = torch.zeros(world, len(own), dtype=torch.int64, device=rows.target.device)
        table[rank] = torch.tensor(own, device=table.device)
        dist.all_reduce(table, group=group)
        reports = [_Report(*row) for row in table.tolist()]
        _check_reports(reports)
        sizes = [report.columns for report in reports]
    if len(sizes) != world or sizes[rank] != columns:
        raise ValueError(
            f"sizes must hold the classes of each of {world} ranks, {columns} on rank {rank}; got "
            f"{list(sizes)}"
        )
    _chunks.check_classes(rows, target, spec, sum(sizes))
    first = sum(sizes[:rank])
    return Shard(group, tuple(sizes), first, first + columns)


def _report(rows: Rows, columns: int, options: tuple[Any, ...]) -> _Report:
    low, high, labels = 0, -1, 0
    counting = rows.target if rows.live is None else rows.target[rows.live]
    if not rows.target.is_floating_point():
        # both factors small: the sum cannot overflow
        place = torch.arange(len(rows.target), device=rows.target.device) % 4093 + 1
        labels = int(((rows.target & 0xFFFFF) * place).sum())
        if len(counting):
            low, high = int(counting.min()), int(counting.max())
    return _Report(columns, len(rows.target), low, high, labels, zlib.crc32(repr(options).encode()))


def _check_reports(reports: Sequence[_Report]) -> None:
    num_classes = sum(report.columns for report in reports)
    for rank, report in enumerate(reports):
        if report.low < 0 or report.high >= num_classes:
            bad = report.low if report.low < 0 else report.high
            raise IndexError(
                f"label {bad} on rank {rank} is outside [0, {num_classes}), the classes of all ranks, and "
                f"is not ignore_index"
            )
    for name in ("rows", "options", "labels"):
        values = [getattr(report, name) for report in reports]
        if len(set(values)) > 1:
            raise ValueError(
                f"{_MEANING[name]} must be the same on every rank of the group; got {values} (by rank)"
            )


_MEANING = {
    "rows": "the number of rows",
    "options": "dtype, reduction, empty, chunk_bytes and whether hidden requires a gradient",
    "labels": "the target (here its checksum)",
}


# ---- rows whose columns are spread ----


class Terms(NamedTuple):
    """What a rank needs to know of a row beside its own logits, all (n,) float64: dL/du_k = alpha q_k - beta
    s_k.
    """

    peak: Tensor  # M
    total: Tensor  # S
    alpha: Tensor
    beta: Tensor  # times the prior, or times the target distribution
    at_target: Tensor  # dL/du_y; unused with distributions


class _Rows(torch.autograd.Function):
    """Values and weights of rows; the gradient is computed, without the other ranks, when it is asked for."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor, live: Tensor, spec: LossSpec, shard: Shard
    ) -> tuple[Tensor, Tensor]:
        values, weights, terms = _terms(shard, spec, z, target)
        ctx.shard, ctx.spec = shard, spec
        ctx.save_for_backward(z, target, live, *terms)
        weights = torch.where(live, weights, 0.0)
        ctx.mark_non_differentiable(weights)
        return torch.where(live, values, 0.0), weights

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, live, *terms = ctx.saved_tensors
        with torch.no_grad():
            gradient = torch.empty_like(z)
            for block in _chunks.blocks(z):
                of_block = Terms(*(term[block] for term in terms))
                rows = (
                    _gradient(ctx.shard, ctx.spec, z[block], target[block], of_block) * upstream[block, None]
                )
                gradient[block] = torch.where(live[block, None], rows, 0.0)
        return (*_chunks.once_differentiable([gradient], upstream, z), None, None, None, None)


def _kernel(shard: Shard, spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights of rows ``z`` (n, K_r), and leave in ``z`` the gradient of each row's own
    value.
    """
    values, weights, terms = _terms(shard, spec, z, target)
    if gradient:
        for block in _chunks.blocks(z):
            z[block] = _gradient(
                shard, spec, z[block], target[block], Terms(*(term[block] for term in terms))
            )
    return values, weights


def _fields(shard: Shard, spec: LossSpec, z: Tensor) -> tuple[torch.dtype, _family.SpecTensors]:
    """Return the type to compute single logits in, and the spec's fields for this rank's classes."""
    dtype = torch.float64 if z.device.type == "cpu" else loss_dtype(z.dtype)
    return dtype, _family.shard(_family.spec_tensors(spec, z.device, dtype), shard.first, shard.last)


def _affine(shard: Shard, spec: LossSpec, z: Tensor, target: Tensor) -> _family.Affine:
    """Return u and du/dz of this rank's columns (n, K_r)."""
    dtype, fields = _fields(shard, spec, z)
    label = None if target.is_floating_point() else target
    return _family.affine(z.to(dtype), fields, label, first=shard.first)


def _terms(shard: Shard, spec: LossSpec, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Terms]:
    """Return values, weights and terms of rows: the two all-reduces are here."""
    peak, soft = (
        torch.full((len(z),), -torch.inf, dtype=torch.float64, device=z.device),
        target.is_floating_point(),
    )
    sums = peak.new_zeros((6 if soft else 3 if active(spec.smoothing) else 2, len(z)))
    on = list(_chunks.blocks(z)) if z.shape[1] else []  # a rank without classes has nothing to add
    for block in on:
        peak[block] = (
            _affine(shard, spec, z[block], target[block]).u if spec.acts_on_logits else z[block]
        ).amax(1)
    peak = shard.max(peak)  # a NaN may get lost here; the sums bring it to every rank
    for block in on:
        add = _soft_sums if soft else _sums
        sums[:, block] = add(shard, spec, z[block], target[block], peak[block])
    sums = shard.sum(sums)
    return (_soft_finish if soft else _finish)(shard, spec, target, peak, sums)


def _sums(shard: Shard, spec: LossSpec, z: Tensor, label: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of E, d_y and, with smoothing, R: (2 or 3, n)."""
    d = _affine(shard, spec, z, label).u
    d = d - peak.to(d.dtype)[:, None]
    column, here = _column(shard, label)
    at_label = d.gather(1, column)
    e = torch.exp(d)
    others = e.scatter(1, column, torch.where(here, 0.0, e.gather(1, column))).sum(1)
    parts = [others, torch.where(here, at_label, 0.0)[:, 0]]
    if active(spec.smoothing):
        parts.append(_family.expected_log_q(_fields(shard, spec, z)[1], d, shard.num_classes))
    return torch.stack(parts)


def _finish(
    shard: Shard, spec: LossSpec, label: Tensor, peak: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Terms]:
    others, d_y = sums[0], sums[1]
    e_y = torch.exp(d_y)
    total = others + e_y
    log_total = torch.log1p(torch.where(d_y == 0, others, (others - 1.0) + e_y))
    fields = _family.spec_tensors(spec, label.device, torch.float64)
    weight = torch.zeros_like(peak) + _family.class_weights(fields, label, torch.exp(d_y - log_total))
    row = _family.row_terms(
        fields,
        label,
        shard.num_classes,
        log_q_y=d_y - log_total,
        others=others / total,
        lse=peak + log_total,
        prior_log_q=sums[2] - log_total if len(sums) > 2 else None,
        weight=weight,
    )
    return row.value, weight, Terms(peak, total, row.alpha, row.beta, row.at_target)


def _soft_sums(shard: Shard, spec: LossSpec, z: Tensor, target: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of the sums for distributions, (6, n).

    The number of ranks whose largest logit is M, and the sum of the other exponentials: their 1 stays out of
    the logarithm. Then sum s_k d_k, sum s_k, sum t_k W_k, sum t_k.
    """
    d = _affine(shard, spec, z, target).u
    d = d - peak.to(d.dtype)[:, None]
    top = d.argmax(1, keepdim=True)
    at_top, e = d.gather(1, top) == 0, torch.exp(d)
    rest = e.scatter(1, top, torch.where(at_top, 0.0, e.gather(1, top))).sum(1)
    t, s = target.to(d.dtype), _smoothed(shard, spec, target)
    class_weight = _family.spec_tensors(spec, z.device, d.dtype).class_weight
    weighted = t * (
        class_weight[shard.first : shard.last] if isinstance(class_weight, Tensor) else class_weight
    )
    expected = torch.where(s == 0, 0.0, s * d)
    return torch.stack([at_top[:, 0].to(d.dtype), rest, expected.sum(1), s.sum(1), weighted.sum(1), t.sum(1)])


def _soft_finish(
    shard: Shard, spec: LossSpec, target: Tensor, peak: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Terms]:
    tops, rest, expected, mass, weighted, whole = sums
    log_total = torch.log1p((tops - 1.0) + rest)
    weight = torch.where(whole > 0, weighted / torch.where(whole > 0, whole, 1.0), 1.0)
    value, alpha, lse = weight * (mass * log_total - expected), weight * mass, peak + log_total
    if spec.z_loss:
        value, alpha = value + spec.z_loss * lse**2, alpha + 2.0 * spec.z_loss * lse
    return value, weight, Terms(peak, tops + rest, alpha, weight, torch.zeros_like(weight))


def _gradient(shard: Shard, spec: LossSpec, z: Tensor, target: Tensor, terms: Terms) -> Tensor:
    """Return dL/dz of this rank's columns (n, K_r)."""
    if not z.shape[1]:
        return z
    u, slope = _affine(shard, spec, z, target)
    of_e = terms.alpha / terms.total
    peak, of_e, beta, at_target = (
        term.to(u.dtype)[:, None] for term in (terms.peak, of_e, terms.beta, terms.at_target)
    )
    gradient = of_e * torch.exp(u - peak)
    if target.is_floating_point():
        return (gradient - beta * _smoothed(shard, spec, target)) * slope
    if active(spec.smoothing):
        gradient = gradient - beta * _family.prior(_fields(shard, spec, z)[1], shard.num_classes)
    column, here = _column(shard, target)
    return gradient.scatter(1, column, torch.where(here, at_target, gradient.gather(1, column))) * slope


def _smoothed(shard: Shard, spec: LossSpec, target: Tensor) -> Tensor:
    """Return this rank's columns of s = (1 - eps) t + eps r.

    A uniform r is spread over the classes of all ranks.
    """
    dtype, fields = _fields(shard, spec, target)
    eps = fields.smoothing
    return (1.0 - eps) * target.to(dtype) + eps * _family.prior(fields, shard.num_classes)


def _column(shard: Shard, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label's column on this rank (some column where it is another's), and whether it is here:
    both (n, 1).
    """
    column = label[:, None] - shard.first
    here = (column >= 0) & (column < shard.last - shard.first)
    return torch.where(here, column, 0), here
