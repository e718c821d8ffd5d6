r"""The loss with its classes spread over the processes of a ``torch.distributed`` group.

No process ever sees all logits.

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
over classes (:func:`.terms.row_terms`), so every rank goes on alone: weights, gate, focal factor, z-loss
and the gradient of its own columns. E is summed without the target, which keeps the true 1 - q_y of a
confident row whichever rank holds the target. On a CPU the compiled loops do what is done to single logits:
one walk over them for the sums (of float64 the maximum is found first), and one for the gradient.

For the log of the mean loss (``reduction="log_mean"``) M is the largest of the *other* logits, so that no
gap to the target makes E underflow, and the sums are E and u_y, in plain torch. The two all-reduces are the
same. The sum over rows is every rank's own: each knows all rows' numbers.

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

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from .._checks import AnyReduction, Empty
from ..spec import LossSpec
from ._base.options import Options
from ._base.tensors import loss_dtype
from ._machinery import arguments, chunks, layer, log_rows, shards
from ._machinery.agreement import agree

__all__ = ["cross_entropy", "linear_cross_entropy"]


def cross_entropy(
    local_logits: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    group: dist.ProcessGroup | None = None,
    sizes: Sequence[int] | None = None,
    reduction: AnyReduction = "mean",
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
    reduction : {"mean", "sum", "none", "log_mean"}
        "log_mean" is :func:`softmax_lab.torch.log_cross_entropy` of all classes' logits.
    sample_weight, ignore_index, empty
        As in :func:`softmax_lab.cross_entropy`; the same on every rank, as the reduction is.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value per row; float64 for float64 logits, else float32. Its gradient
        flows to the local logits. It can be differentiated once.

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
    return arguments.outside_of_graphs(_of_logits)(
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
    rows = arguments.prepare(local_logits, target, spec, sample_weight, options)
    shard = agree(
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
    if options.reduction == "log_mean":
        log_omega = log_rows.weigh(rows, spec)[1]
        given = (z, target, log_omega, spec, shard, options.empty)
        value = cast(Tensor, shards.ShardedLogOfMean.apply(*given))  # type: ignore[no-untyped-call]
        return value.to(loss_dtype(z.dtype))
    values, weights = cast(tuple[Tensor, Tensor], shards.ShardedRows.apply(z, target, live, spec, shard))  # type: ignore[no-untyped-call]
    if options.reduction == "none":
        return layer.weighted(values, rows.factor).to(loss_dtype(z.dtype)).reshape(rows.shape)
    return layer.reduced(values, weights, rows)[0].to(loss_dtype(z.dtype))


def linear_cross_entropy(
    hidden: Tensor,
    local_weight: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    group: dist.ProcessGroup | None = None,
    sizes: Sequence[int] | None = None,
    local_bias: Tensor | None = None,
    reduction: AnyReduction = "mean",
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
    return arguments.outside_of_graphs(_linear)(
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
    hidden, local_weight, local_bias = arguments.autocast(hidden, local_weight, local_bias)
    arguments.check_layer(hidden, local_weight, local_bias)
    # these logits have the shape, and no memory
    logits = hidden.new_empty(()).expand(*hidden.shape[:-1], len(local_weight))
    rows = arguments.prepare(logits, target, spec, sample_weight, options)
    alike = ("linear_cross_entropy", hidden.dtype, options, chunk_bytes, layer.wants_gradient(hidden))
    shard = agree(rows, target, spec, len(local_weight), sizes, group, alike)
    budget = chunks.chunk_budget(chunk_bytes, hidden.device)
    # the largest shard decides, so that every rank has the same chunks
    step = chunks.chunk_rows(max(shard.sizes), hidden.dtype, budget)
    log = options.reduction == "log_mean"
    kernel = partial(shards.log_kernel if log else shards.kernel, shard, spec)
    rows, log_omega = log_rows.weigh(rows, spec) if log else (rows, None)
    task = chunks.Task(rows, kernel, step, shard.sum, log_omega=log_omega)
    return layer.evaluate(task, hidden, local_weight, local_bias)
