"""The loss of a linear layer on one process, without all its logits."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .._checks import AnyReduction, Empty
from ..spec import LossSpec
from ._base import checks
from ._base.options import Options
from ._machinery import arguments, chunks, layer, log_rows
from ._machinery.kernels import local_kernel, local_log_kernel
from ._operators import calls, gpu, log_calls

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    bias: Tensor | None = None,
    reduction: AnyReduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    empty: Empty = "nan",
    chunk_bytes: int | None = None,
) -> Tensor:
    """Return ``slt.cross_entropy(hidden @ weight.T + bias, target, spec)`` without holding all the logits.

    "mean" and "sum" compute the gradients during the forward pass, with three matrix products in all; "none"
    cannot know the upstream gradients by then, and computes each chunk's logits a second time in the backward
    pass. "log_mean" is :func:`softmax_lab.torch.log_cross_entropy` of these logits, with three products too:
    where a chunk holds a harder row than all before, what was summed of the weight's gradient is multiplied
    by a power of two. Memory beside the arguments: the gradients, and ``chunk_bytes``. In float16 and
    bfloat16 the products are in that type, the weight's gradient is summed in a float32 buffer (V, D) and
    rounded once. Under ``torch.autocast`` all of it is in autocast's type; ``torch.compile`` leaves it out of
    its graph. Inside transforms of ``torch.func``, in forward mode and for tensors without values (meta,
    fake) all the logits exist: there it is :func:`softmax_lab.torch.cross_entropy` of them, with all its
    derivatives.

    Parameters
    ----------
    hidden : Tensor, shape ``(..., D)``
        float16, bfloat16, float32 or float64.
    weight : Tensor, shape ``(V, D)``
        One row a class; dtype and device of ``hidden``.
    target : Tensor
        Class indices of shape ``(...)``, or a distribution per row, ``(..., V)``.
    spec : LossSpec
        The member of the family; with "log_mean" one that :func:`softmax_lab.torch.log_cross_entropy` takes.
    bias : Tensor, shape ``(V,)``, optional
    reduction : {"mean", "sum", "none", "log_mean"}
    sample_weight, ignore_index, empty
        As in :func:`softmax_lab.cross_entropy`. Rows with ``ignore_index`` are left out before the product.
    chunk_bytes : int, optional
        Budget of the chunk of logits in bytes; at least one row is taken. By default 48 MiB on the CPU and 1
        GiB on other devices.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value per row; float64 for float64, else float32. ``backward`` can be
        called on it, but not on its gradient.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> weight = torch.eye(3, requires_grad=True)
    >>> loss = slt.linear_cross_entropy(torch.tensor([[40.0, 0.0, 0.0]]), weight, torch.tensor([0]))
    >>> loss.backward()
    >>> f"{loss.item():.3g}", f"{weight.grad[1, 0].item():.3g}"
    ('8.5e-18', '1.7e-16')
    >>> slt.linear_cross_entropy(
    ...     torch.tensor([[1000.0, 0.0, 0.0]]), weight, torch.tensor([0]), reduction="log_mean"
    ... ).item()
    -999.3068237304688

    See Also
    --------
    softmax_lab.torch.cross_entropy : the same from logits that exist.
    softmax_lab.torch.parallel.linear_cross_entropy : the classes spread over processes.
    """
    options = Options(reduction, empty, ignore_index)
    return arguments.outside_of_graphs(_linear)(
        hidden, weight, bias, target, spec, sample_weight, options, chunk_bytes
    )


def _linear(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    spec: LossSpec,
    sample_weight: Tensor | None,
    options: Options,
    chunk_bytes: int | None,
) -> Tensor:
    hidden, weight, bias = arguments.autocast(hidden, weight, bias)
    arguments.check_layer(hidden, weight, bias)
    checks.class_dim("weight", weight, 0)
    if calls.needs_whole_logits(hidden, weight, target):
        whole = torch.nn.functional.linear(hidden, weight, bias)
        if options.reduction == "log_mean":
            options = options._replace(reduction="mean")
            options = checks.log_loss(whole, target, spec, sample_weight, options)
            return log_calls.loss(whole, target, spec, sample_weight, options)
        return calls.loss(
            whole, target, spec, sample_weight, checks.loss(whole, target, spec, sample_weight, options)
        )
    # these logits have the shape, and no memory
    logits = hidden.new_empty(()).expand(*hidden.shape[:-1], len(weight))
    rows = arguments.prepare(logits, target, spec, sample_weight, options)
    arguments.check_classes(rows, target, spec, len(weight))
    log = options.reduction == "log_mean"
    narrow = gpu.kernels_for(hidden) is not None
    step = chunks.chunk_rows(
        len(weight), hidden.dtype, chunks.chunk_budget(chunk_bytes, hidden.device), narrow=narrow
    )
    kernel = partial(local_log_kernel if log else local_kernel, spec)
    rows, log_omega = log_rows.weigh(rows, spec) if log else (rows, None)
    task = chunks.Task(rows, kernel, step, narrow=narrow, log_omega=log_omega)
    return layer.evaluate(task, hidden, weight, bias)
