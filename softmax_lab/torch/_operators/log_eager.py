"""The log of the mean loss in eager mode on the CPU: the NumPy package's loops as a node of the graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...log_cross_entropy import log_cross_entropy, log_cross_entropy_grad
from ...spec import LossSpec
from .._base.autograd import are_ordinary, graph_is_kept, is_batched, is_overheard, is_transformed
from .._base.options import Options
from .._base.tensors import as_array, as_tensor, loss_dtype
from .._formula import logs
from .._formula.fields import fields_of
from .derivatives import factor_beside, scaled
from .eager import is_one

__all__ = ["loss_on_cpu"]


def loss_on_cpu(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Tensor | None:
    """Return the loss of checked arguments by the loops; None where they are not to be had.

    That is so of other tensors than those with memory on the CPU, and where somebody else is to hear of the
    call: a transform, forward mode, a trace, a hook, or a weight that requires a gradient.
    """
    if torch.compiler.is_compiling() or is_overheard() or not are_ordinary(logits, target):
        return None
    enabled = torch.is_grad_enabled()
    if sample_weight is not None and (
        not are_ordinary(sample_weight, target) or (enabled and sample_weight.requires_grad)
    ):
        return None
    if not (enabled and logits.requires_grad):
        return as_tensor(log_cross_entropy(as_array(logits), **_named(target, spec, sample_weight, options)))
    # half precision is rounded behind this node: after the upstream gradient
    wide = logits.to(loss_dtype(logits.dtype))
    value: Tensor = _AtOnce.apply(wide, target, spec, sample_weight, options)  # type: ignore[no-untyped-call]
    return value


def _named(target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options) -> dict[str, Any]:
    """Return the arguments beside the logits as the NumPy package takes them."""
    return {
        "target": as_array(target),
        "spec": spec,
        "sample_weight": None if sample_weight is None else as_array(sample_weight),
        "reduction": options.reduction,
        "ignore_index": options.ignore_index,
        "axis": options.dim,
        "empty": options.empty,
    }


class _AtOnce(torch.autograd.Function):
    """The loss, whose gradient has been made with it; a graph of that is made of the plain formula."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        spec: LossSpec,
        sample_weight: Tensor | None,
        options: Options,
    ) -> Tensor:
        value, gradient = log_cross_entropy_grad(
            as_array(logits), **_named(target, spec, sample_weight, options)
        )
        ctx.save_for_backward(logits, as_tensor(gradient), target, sample_weight)
        ctx.given = spec, options
        return as_tensor(value)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        logits, gradient, target, sample_weight = ctx.saved_tensors
        spec, options = ctx.given
        if torch.is_grad_enabled():
            value = logs.loss(logits, target, fields_of(spec, logits), sample_weight, options)
            (gradient,) = torch.autograd.grad(value, logits, upstream, create_graph=True)
        elif graph_is_kept() or is_transformed() or is_batched(upstream):
            gradient = scaled(gradient, upstream, options)
        elif not is_one(upstream):
            gradient.mul_(factor_beside(gradient, upstream, options))
        return gradient, None, None, None, None
