"""The log of the mean loss in eager mode on a GPU: the kernels of Triton as a node of the graph.

float64, fields at the ends of their domains, and whatever somebody else is to hear of is left to the formula
in plain torch, with the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...spec import LossSpec
from .._base.autograd import are_ordinary_on_gpu, is_batched, is_overheard, is_transformed
from .._base.options import Options
from .._formula import logs
from .._formula.fields import extreme, fields_of
from . import gpu

__all__ = ["loss_on_gpu"]

#: types of a target that the kernels know; others are widened
_TARGETS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def loss_on_gpu(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Tensor | None:
    """Return the loss of checked arguments by the kernels; None where they are not to be had."""
    tensors = (logits, target) if sample_weight is None else (logits, target, sample_weight)
    if torch.compiler.is_compiling() or is_overheard() or not are_ordinary_on_gpu(*tensors):
        return None
    enabled, kernels = torch.is_grad_enabled(), gpu.kernels_for(logits)
    if kernels is None or extreme(fields_of(spec, logits)):
        return None
    if enabled and sample_weight is not None and sample_weight.requires_grad:
        return None
    target = target if target.dtype in _TARGETS else target.long()
    if enabled and logits.requires_grad:
        found: Tensor = _OnGpu.apply(logits, target, spec, sample_weight, options)  # type: ignore[no-untyped-call]
        return found
    fields = fields_of(spec, logits)
    value: Tensor = kernels.log_loss(logits.detach(), target, fields, sample_weight, options)[0]
    return value


class _OnGpu(torch.autograd.Function):
    """The loss; its gradient is made in the backward pass, and rounded once, after all factors."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        spec: LossSpec,
        sample_weight: Tensor | None,
        options: Options,
    ) -> Tensor:
        kernels = gpu.kernels_for(logits)
        value: Tensor
        value, kept, rho = kernels.log_loss(logits, target, fields_of(spec, logits), sample_weight, options)
        ctx.save_for_backward(logits, kept, rho, target, sample_weight)
        ctx.given = spec, options
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        logits, kept, rho, target, sample_weight = ctx.saved_tensors
        spec, options = ctx.given
        fields = fields_of(spec, logits)
        if torch.is_grad_enabled():
            value = logs.loss(logits, target.long(), fields, sample_weight, options)
            (gradient,) = torch.autograd.grad(value, logits, upstream, create_graph=True)
        elif is_transformed() or is_batched(upstream):
            gradient = _by_the_formula(logits, upstream, target, fields, sample_weight, options)
        else:
            kernels = gpu.kernels_for(logits)
            gradient = kernels.log_gradient(logits, kept, rho, upstream, target, fields, options)
        return gradient, None, None, None, None


def _by_the_formula(
    logits: Tensor,
    upstream: Tensor,
    target: Tensor,
    fields: Any,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the gradient for an upstream gradient that stands for many."""
    with torch.enable_grad():
        leaf = logits.detach().float().requires_grad_()
        value = logs.loss(leaf, target.long(), fields, sample_weight, options)
        rows = torch.ones_like(value)
        (gradient,) = torch.autograd.grad(value, leaf, rows)
    factor = upstream.unsqueeze(options.dim) if options.reduction == "none" and upstream.ndim else upstream
    return (gradient * factor).to(logits.dtype)
