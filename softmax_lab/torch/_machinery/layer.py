r"""The loss of a linear layer, without its logits.

``hidden @ weight.T + bias`` exists for some rows at a time.

Rows of the loss are independent, so a chunk of rows is all that ever has to be in memory. For a chunk H (n,
D) with row factors f (sample weight, upstream gradient) and G (n, V), the gradient of each row's own value:

.. math::

    Z &= H W^\top + b, \qquad (L, G) = \text{kernel}(Z) \quad\text{(G overwrites Z)} \\
    \bar H &= \operatorname{diag}(f)\, (G W), \qquad
    \bar W \mathrel{+}= G^\top (\operatorname{diag}(f) H), \qquad \bar b \mathrel{+}= G^\top f

The factors multiply the small side (n, D), never the chunk. Some factors are shared by all rows: the divisor
of a mean, and the upstream gradient of the reduced loss. They are applied once at the end, to sums in
float32, which are rounded then. So half precision does not lose small gradients to them. Only G is rounded
before, for its products, and on the CPU each product.

The log of the mean loss knows a row's factor after the last row only (:mod:`.log_rows`). The weight's
gradient is summed relative to the largest row so far, and the hidden gradient multiplied at the end.

The weight's gradient is read and written once a chunk, beside 2 n V D operations: larger chunks cost memory
and save time. Cut cross-entropy (Wijmans et al. 2025) and Liger-Kernel (Hsu et al. 2024) rest on the same
idea.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._base.autograd import graph_is_kept
from .._base.tensors import loss_dtype
from .arguments import Rows
from .chunks import Task, run, run_log

__all__ = ["evaluate", "once_differentiable", "reduced", "scaled", "wants_gradient", "weighted"]


def wants_gradient(tensor: Tensor | None) -> bool:
    """Whether a gradient may be asked of the tensor: nothing is made for one that cannot."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()


def evaluate(task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the reduced loss as a node of the graph.

    Gradients are made only for tensors that require one.
    """
    tensors = (hidden.reshape(task.rows.shape.numel(), hidden.shape[-1]), weight, bias)
    task = task._replace(wanted=(wants_gradient(hidden), wants_gradient(weight), wants_gradient(bias)))
    function = _FUNCTIONS[task.rows.options.reduction]
    with torch.autocast(hidden.device.type, enabled=False):
        value: Tensor = function.apply(*tensors, task)
    return value.reshape(task.rows.shape if task.rows.options.reduction == "none" else ())


class _Reduced(torch.autograd.Function):
    """A sum or mean.

    Its upstream gradient is one number. So the gradients are made with the value, and scaled at the end.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        values, weights, gradients = run(task, hidden, weight, bias, task.wanted, task.rows.factor)
        value, ctx.scale = reduced(values, weights, task.rows)
        ctx.save_for_backward(hidden, weight, bias, *gradients)
        return value.to(loss_dtype(hidden.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, _, _, _ = ctx.saved_tensors
        scale = ctx.scale * upstream.detach()
        found = [scaled(gradient, scale, inputs[0].dtype) for gradient in ctx.saved_tensors[3:]]
        return (*once_differentiable(found, upstream, *inputs), None)


class _PerRow(torch.autograd.Function):
    """One value a row.

    The gradients wait for the upstream gradient of each row. The logits are computed again for them.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        values, _, _ = run(task, hidden, weight, bias, (False, False, False), None)
        ctx.task = task
        ctx.save_for_backward(hidden, weight, bias)
        return weighted(values, task.rows.factor).to(loss_dtype(hidden.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            factor = weighted(upstream, ctx.task.rows.factor)
            # a loss scale of 65536 would overflow float16 in the product: the largest factor is applied
            # afterwards
            peak = (
                factor.abs().amax().clamp_min(torch.finfo(factor.dtype).tiny) if len(factor) else factor.sum()
            )
            _, _, gradients = run(ctx.task, hidden, weight, bias, ctx.task.wanted, factor / peak)
        found = [scaled(gradient, peak, hidden.dtype) for gradient in gradients]
        return (*once_differentiable(found, upstream, hidden, weight, bias), None)


class _LogOfMean(torch.autograd.Function):
    """The log of the mean loss.

    Its gradients are made with the value: sums relative to a number that no row so far is above.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        shares, gradients, ctx.scale = run_log(task, hidden, weight, bias)
        ctx.save_for_backward(hidden, weight, bias, *gradients)
        return shares.value.to(loss_dtype(hidden.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, _, _, _ = ctx.saved_tensors
        factor, dtype = upstream.detach(), inputs[0].dtype
        hidden, *others = ctx.saved_tensors[3:]
        scale = ctx.scale * factor
        found = [scaled(hidden, factor, dtype), *(scaled(other, scale, dtype) for other in others)]
        return (*once_differentiable(found, upstream, *inputs), None)


_FUNCTIONS: dict[str, type[torch.autograd.Function]] = {
    "none": _PerRow,
    "mean": _Reduced,
    "sum": _Reduced,
    "log_mean": _LogOfMean,
}


class _Once(torch.autograd.Function):
    """A gradient with no derivative of its own.

    To ask for one is an error, where a constant would be silently wrong.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            "losses without whole logits can be differentiated once only; use slt.cross_entropy(hidden @ "
            "weight.T, ...)"
        )


def once_differentiable(gradients: Sequence[Tensor | None], *sources: Tensor | None) -> list[Tensor | None]:
    """Return the gradients, and let nobody differentiate them.

    Where autograd records the backward pass they are nodes that refuse a second one.
    """
    if not torch.is_grad_enabled():
        return list(gradients)
    return [None if g is None else _Once.apply(g, *sources) for g in gradients]  # type: ignore[no-untyped-call]


def weighted(values: Tensor, factor: Tensor | None) -> Tensor:
    return values if factor is None else values * factor


def reduced(values: Tensor, weights: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the reduced value, and the number that multiplies every gradient; both float64 scalars."""
    total = weighted(values, rows.factor).sum()
    if rows.options.reduction == "sum":
        return total, torch.ones_like(total)
    divisor = weighted(weights, rows.factor).nansum()  # a NaN row's weight does not count
    none = divisor == 0
    scale = torch.where(none, 0.0, 1.0 / torch.where(none, 1.0, divisor))
    return torch.where(none, torch.nan if rows.options.empty == "nan" else 0.0, total * scale), scale


def scaled(gradient: Tensor | None, scale: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return the gradient times ``scale``.

    The product is in the gradient's own memory where no later backward pass will ask for it again.
    """
    if gradient is None:
        return None
    with torch.no_grad():
        return (gradient * scale if graph_is_kept() else gradient.mul_(scale)).to(dtype)
