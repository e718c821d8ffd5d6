"""Derivatives of the loss's operators, for the compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._base.options import Options
from .._base.tensors import loss_dtype
from .schema import OPS, TENSORS, Arguments, register_derivative

__all__ = ["backward_derivative", "factor_beside", "save_backward", "scaled"]


def _save_loss(ctx: Any, inputs: Arguments, output: tuple[Tensor, Tensor]) -> None:
    logits, *arguments = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, output[1], *arguments[:TENSORS])
    ctx.options = Options(*arguments[TENSORS:-1])


def _loss_derivative(ctx: Any, upstream: Tensor | None, tangent: Tensor | None) -> tuple[Tensor | None, ...]:
    logits, gradient, *arguments = ctx.saved_tensors
    result = None if upstream is None else scaled(gradient, upstream, ctx.options)
    if tangent is not None:
        product = OPS.cross_entropy_hvp(logits, tangent, *arguments, *ctx.options)
        result = product if result is None else result + product
    return result, *[None] * (TENSORS + len(ctx.options) + 1)


def _save_forward(ctx: Any, inputs: Arguments, output: tuple[Tensor, Tensor]) -> None:
    logits, *arguments = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, output[1], *arguments[:TENSORS])
    ctx.options = Options(*arguments[TENSORS:])


def _forward_derivative(ctx: Any, upstream: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    logits, kept, *arguments = ctx.saved_tensors
    gradient = None
    if upstream is not None:
        gradient = OPS.cross_entropy_backward(logits, kept, upstream, *arguments, *ctx.options)
    return gradient, *[None] * (TENSORS + len(ctx.options))


def save_backward(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    logits, _, upstream, *arguments = inputs
    ctx.save_for_backward(logits, upstream, *arguments[:TENSORS])
    ctx.options = Options(*arguments[TENSORS:])


def backward_derivative(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    """Return what flows back through a gradient.

    To the logits flows a Hessian-vector product, to the upstream gradient a dot product a row.
    """
    logits, upstream, *arguments = ctx.saved_tensors
    to_logits = to_upstream = None
    if ctx.needs_input_grad[0]:
        # a wide product: a loss scale must not overflow
        product = tangent.to(_widest(tangent)) * factor_beside(tangent, upstream, ctx.options)
        to_logits = OPS.cross_entropy_hvp(logits, product, *arguments, *ctx.options)
    if ctx.needs_input_grad[2]:
        _, gradient = OPS.cross_entropy(logits.to(loss_dtype(logits.dtype)), *arguments, *ctx.options, True)
        to_upstream = _dotted(gradient, tangent, ctx.options).to(upstream.dtype)
    return to_logits, None, to_upstream, *[None] * (TENSORS + len(ctx.options))


def _widest(tensor: Tensor) -> torch.dtype:
    """Return the type in which a product with a half-precision number loses nothing.

    Some devices do not have it: they get the widest they have.
    """
    return torch.float64 if tensor.device.type == "cpu" else loss_dtype(tensor.dtype)


def _dotted(gradient: Tensor, tangent: Tensor, options: Options) -> Tensor:
    """Return the sum of products over all entries, or with "none" over each row's."""
    product = gradient * tangent
    return product.sum(options.dim) if options.reduction == "none" else product.sum()


def _save_hvp(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    logits, _, *arguments = inputs
    ctx.save_for_backward(logits, *arguments[:TENSORS])
    ctx.options = arguments[TENSORS:]


def _hvp_derivative(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the Hessian times the upstream gradient: it is symmetric.

    Along the logits this would be a third derivative, which the compiled operator has not.
    """
    if ctx.needs_input_grad[0]:
        raise NotImplementedError(
            "the third derivative of a compiled loss is not implemented; compute it in eager mode"
        )
    logits, *arguments = ctx.saved_tensors
    return (
        None,
        OPS.cross_entropy_hvp(logits, upstream, *arguments, *ctx.options),
        *[None] * (TENSORS + len(ctx.options)),
    )


def scaled(gradient: Tensor, upstream: Tensor, options: Options) -> Tensor:
    """Return the gradient times the upstream gradient: one number, or one a row."""
    return (gradient * factor_beside(gradient, upstream, options)).to(gradient.dtype)


def factor_beside(gradient: Tensor, upstream: Tensor, options: Options) -> Tensor:
    return upstream.unsqueeze(options.dim) if options.reduction == "none" and gradient.ndim > 1 else upstream


register_derivative("cross_entropy", _loss_derivative, _save_loss)
register_derivative("cross_entropy_forward", _forward_derivative, _save_forward)
register_derivative("cross_entropy_backward", backward_derivative, save_backward)
register_derivative("cross_entropy_hvp", _hvp_derivative, _save_hvp)
