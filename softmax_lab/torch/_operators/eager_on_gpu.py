"""Plain calls on a GPU, straight to the kernels of rows that are read once: what torch's dispatcher adds to a
call takes longer than a small batch does.

A call that is not plain in every respect is left to the operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import EMPTY_RULES, REDUCTIONS
from ...spec import PLAIN, LossSpec
from .._base.autograd import are_ordinary_on_gpu, graph_is_kept, is_batched, is_overheard, is_transformed
from .._base.options import Options
from .._base.tensors import HALF
from .._formula import losses, maps
from .._formula.fields import fields_of
from . import gpu
from .derivatives import scaled
from .eager import with_graph

__all__ = ["at_once", "map_at_once"]

#: entries up to which a product costs less than the launch of a kernel that may do without
_SMALL = 1 << 20


def at_once(logits: Tensor, target: Tensor, spec: LossSpec, options: Options) -> Tensor | None:
    """Return the loss of a plain call; None where it is not plain, or where it is wrong.

    Nothing has been checked yet.
    """
    if torch.compiler.is_compiling() or is_overheard() or not are_ordinary_on_gpu(logits, target):
        return None
    kernels = gpu.kernels_for(logits)
    reduction, empty, ignore_index, dim, _ = options
    if (
        kernels is None
        or not (spec is PLAIN or spec == PLAIN)
        or target.dtype is not torch.int64
        or logits.dtype is torch.float64
        or logits.ndim == 0
        or target.shape != logits.shape[:-1]
        or not (logits.is_contiguous() and target.is_contiguous())
        or target.device != logits.device
        or type(dim) is not int
        or dim not in (-1, logits.ndim - 1)
        or type(ignore_index) is not int
        or not -(2**63) <= ignore_index < 2**63
        or reduction not in REDUCTIONS
        or empty not in EMPTY_RULES
        or logits.shape[-1] == 0
        or not kernels.takes(logits.shape[-1], logits.device)
    ):
        return None
    if logits.requires_grad and torch.is_grad_enabled():
        value: Tensor = _apply(logits, target, options)  # type: ignore[no-untyped-call]
        return value
    return _value(kernels, logits, target, options, gradient=False)[0]


def _value(
    kernels: Any, logits: Tensor, target: Tensor, options: Options, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    rows = logits.detach().view(-1, logits.shape[-1])
    value, found = kernels.plain_loss(
        rows, target.view(-1), options.reduction, options.empty, options.ignore_index, gradient=gradient
    )
    value = value.view(target.shape) if options.reduction == "none" else value
    return value, None if found is None else found.view(logits.shape)


class AtOnce(torch.autograd.Function):
    """A plain call's loss on a GPU as a node of the graph.

    In float32 and bfloat16 the gradient is made with the value, for an upstream gradient of 1, as that of
    ``loss.backward()`` is. For another one it is multiplied in float32; in bfloat16 it is made again, since
    each entry is rounded once. float16 is there for loss scales: its gradient is made in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, options: Options) -> Tensor:
        ctx.options = options
        value, gradient = _value(
            gpu.kernels_for(logits), logits, target, options, gradient=logits.dtype is not torch.float16
        )
        ctx.save_for_backward(logits, target, gradient)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        logits, target, gradient = ctx.saved_tensors
        options: Options = ctx.options
        if torch.is_grad_enabled():
            result = with_graph(logits, upstream, target, target._version, PLAIN, options)
        elif is_transformed() or is_batched(upstream):
            if gradient is None or gradient.dtype in HALF:
                result = losses.gradient(logits, upstream, target, fields_of(PLAIN, logits), None, options)
            else:
                result = scaled(gradient, upstream, options)
        elif logits.dtype in HALF:
            again = gradient is not None and not graph_is_kept()
            out = gradient if again else torch.empty_like(logits)
            result = _written(logits, target, upstream, options, out, again)
        elif graph_is_kept():
            result = scaled(gradient, upstream, options)
        elif gradient.numel() <= _SMALL:
            result = gradient.mul_(upstream.unsqueeze(-1) if upstream.ndim else upstream)
        else:
            result = gpu.kernels_for(gradient).rescale_(gradient, upstream)
        return result, None, None


def _written(
    logits: Tensor, target: Tensor, upstream: Tensor, options: Options, out: Tensor, again: bool
) -> Tensor:
    k = logits.shape[-1]
    factors = upstream if upstream.ndim == 0 else upstream.reshape(-1)
    gpu.kernels_for(logits).plain_gradient(
        logits.detach().view(-1, k),
        target.view(-1),
        factors,
        options.reduction,
        options.ignore_index,
        out=out.view(-1, k),
        again=again,
    )
    return out


# torch's own ``apply`` first asks for transforms, and unwraps what they have left behind: there are none
_apply = super(torch.autograd.Function, AtOnce).apply


def map_at_once(name: str, z: Tensor, temperature: float, dim: int) -> Tensor | None:
    """Return the softmax or log-softmax of a plain call of checked arguments; None where it is not plain."""
    if torch.compiler.is_compiling() or is_overheard() or not are_ordinary_on_gpu(z):
        return None
    kernels = gpu.kernels_for(z)
    if kernels is None or z.numel() == 0:
        return None
    if z.requires_grad and torch.is_grad_enabled():
        result: Tensor = _apply_map(z, name, temperature, dim)  # type: ignore[no-untyped-call]
        return result
    found: Tensor = getattr(kernels, name)(z, dim, temperature)
    return found


class MapAtOnce(torch.autograd.Function):
    """A plain call's softmax or log-softmax on a GPU as a node of the graph."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, name: str, temperature: float, dim: int) -> Tensor:
        ctx.given = name, temperature, dim
        result: Tensor = getattr(gpu.kernels_for(z), name)(z.detach(), dim, temperature)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (result,), (name, temperature, dim) = ctx.saved_tensors, ctx.given
        # a second derivative goes through plain torch
        plain = torch.is_grad_enabled() or is_transformed() or is_batched(upstream)
        pull_back = getattr(maps if plain else gpu.kernels_for(result), f"{name}_vjp")
        return pull_back(result, upstream, dim, temperature), None, None, None


_apply_map = super(torch.autograd.Function, MapAtOnce).apply
