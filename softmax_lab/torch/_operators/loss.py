"""What the loss's operators do: on the CPU, on a GPU, elsewhere, and without memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._checks import AnySign
from ..._rows import KEPT
from ...cross_entropy import (
    cross_entropy,
    cross_entropy_backward,
    cross_entropy_forward,
    cross_entropy_grad,
    cross_entropy_hvp,
)
from .._base.tensors import as_array, as_tensor, loss_dtype
from .._formula import losses
from .._formula.fields import numpy_spec
from . import gpu
from .schema import TENSORS, Arguments, parsed, register

__all__ = [
    "backward_elsewhere",
    "backward_on_cpu",
    "backward_on_gpu",
    "forward_on_gpu",
    "hvp_elsewhere",
    "hvp_on_gpu",
    "loss_on_gpu",
]


# ---- value and gradient ----


def loss_on_cpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    target, named = _numpy_arguments(arguments[:-1])
    if not arguments[-1]:
        return as_tensor(cross_entropy(as_array(logits), target, **named)), logits.new_empty(0)
    value, gradient = cross_entropy_grad(as_array(logits), target, **named)
    return as_tensor(value), as_tensor(gradient)


def loss_elsewhere(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    given = parsed(arguments[:-1])
    if arguments[-1]:
        return losses.loss_and_gradient(logits, *given)
    return losses.loss(logits, *given), logits.new_empty(0)


def loss_on_gpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    kernels = gpu.kernels_for(logits)
    if kernels is None:
        return loss_elsewhere(logits, *arguments)
    given = parsed(arguments[:-1])
    if arguments[-1]:
        value, gradient = kernels.loss_and_gradient(logits, *given)
        return value, gradient
    return kernels.loss(logits, *given), logits.new_empty(0)


def _loss_shapes(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    reduction, dim, with_gradient = arguments[TENSORS], arguments[TENSORS + 3], arguments[-1]
    rows = logits.movedim(dim, -1).shape[:-1] if reduction == "none" else ()
    gradient = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty(rows, dtype=loss_dtype(logits.dtype)), gradient


# ---- the loss whose gradient is made in the backward pass ----


def _forward_on_cpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    target, named = _numpy_arguments(arguments)
    value, kept = cross_entropy_forward(as_array(logits), target, **named)
    return as_tensor(value), as_tensor(kept)


def _forward_elsewhere(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Plain torch keeps nothing: it computes a row again."""
    return losses.loss(logits, *parsed(arguments)), _nothing_kept(logits)


def forward_on_gpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    kernels = gpu.kernels_for(logits)
    if kernels is None:
        return _forward_elsewhere(logits, *arguments)
    value, kept = kernels.loss_and_kept(logits, *parsed(arguments))
    return value, kept


def _forward_shapes(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    value, _ = _loss_shapes(logits, *arguments, False)
    num_rows = logits.numel() // logits.shape[arguments[TENSORS + 3]]
    if logits.device.type == "cpu":
        return value, logits.new_empty((num_rows, KEPT), dtype=torch.float64)
    if gpu.kernels_for(logits) is not None:
        return value, logits.new_empty((num_rows, KEPT), dtype=torch.float32)
    return value, _nothing_kept(logits)


def _nothing_kept(logits: Tensor) -> Tensor:
    return logits.new_empty((0, KEPT), dtype=torch.float32)


def backward_on_cpu(
    logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any, out: Tensor | None = None
) -> Tensor:
    target, named = _numpy_arguments(arguments)
    factors = as_array(upstream.detach().to(torch.float64).reshape(-1))
    written = None if out is None else as_array(out)
    return as_tensor(
        cross_entropy_backward(as_array(logits), target, as_array(kept), factors, out=written, **named)
    )


def backward_elsewhere(logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any) -> Tensor:
    return losses.gradient(logits, upstream, *parsed(arguments))


def backward_on_gpu(
    logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any, out: Tensor | None = None
) -> Tensor:
    kernels = gpu.kernels_for(logits)
    if kernels is None:
        return backward_elsewhere(logits, kept, upstream, *arguments)
    gradient: Tensor = kernels.gradient(logits, kept, upstream, *parsed(arguments), out=out)
    return gradient


def _hvp_on_cpu(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    target, named = _numpy_arguments(arguments)
    return as_tensor(cross_entropy_hvp(as_array(logits), target, as_array(tangent), **named))


def hvp_elsewhere(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    target, fields, sample_weight, options = parsed(arguments)
    return losses.hvp(logits, target, tangent, fields, sample_weight, options)


def hvp_on_gpu(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    kernels = gpu.kernels_for(logits)
    if kernels is None:
        return hvp_elsewhere(logits, tangent, *arguments)
    target, fields, sample_weight, options = parsed(arguments)
    product: Tensor = kernels.hvp(logits, target, tangent, fields, sample_weight, options)
    return product


def _numpy_arguments(arguments: Arguments) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the target and the other arguments as the NumPy package takes them."""
    target, fields, sample_weight, options = parsed(arguments)
    weights = None if sample_weight is None else as_array(sample_weight)
    named = {
        "reduction": options.reduction,
        "empty": options.empty,
        "ignore_index": options.ignore_index,
        "axis": options.dim,
    }
    given = as_array(target)
    return given.view(AnySign) if options.signed else given, {
        "spec": numpy_spec(fields),
        "sample_weight": weights,
        **named,
    }


register("cross_entropy", cpu=loss_on_cpu, gpu=loss_on_gpu, elsewhere=loss_elsewhere, shapes=_loss_shapes)
register(
    "cross_entropy_forward",
    cpu=_forward_on_cpu,
    gpu=forward_on_gpu,
    elsewhere=_forward_elsewhere,
    shapes=_forward_shapes,
)
register("cross_entropy_backward", cpu=backward_on_cpu, gpu=backward_on_gpu, elsewhere=backward_elsewhere)
register("cross_entropy_hvp", cpu=_hvp_on_cpu, gpu=hvp_on_gpu, elsewhere=hvp_elsewhere)
