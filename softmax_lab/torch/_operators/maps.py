"""What the operators of softmax and log-softmax do, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import calculus
from ...softmax import log_softmax as numpy_log_softmax
from ...softmax import softmax as numpy_softmax
from .._base.autograd import is_transformed
from .._base.tensors import as_array, as_tensor
from .._formula import maps
from . import gpu
from .schema import OPS, Arguments, register, register_derivative

__all__ = ["map_derivative", "map_on_gpu", "save_map"]


def _map_on_cpu(function: Callable[..., Any]) -> Callable[[Tensor, Tensor, int], Tensor]:
    return lambda z, temperature, dim: as_tensor(
        function(as_array(z), axis=dim, temperature=float(temperature))
    )


def _map_elsewhere(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors_and_dim: function(
        *tensors_and_dim[:-2], tensors_and_dim[-1], float(tensors_and_dim[-2])
    )


def map_on_gpu(name: str) -> Callable[..., Tensor]:
    def call(first: Tensor, *rest: Any) -> Tensor:
        kernels = gpu.kernels_for(first)
        result: Tensor = _map_elsewhere(getattr(maps if kernels is None else kernels, name))(first, *rest)
        return result

    return call


def _softmax_vjp_on_cpu(probs: Tensor, upstream: Tensor, temperature: Tensor, dim: int) -> Tensor:
    p, g = as_array(probs.movedim(dim, -1)), as_array(upstream.movedim(dim, -1))
    return as_tensor(calculus.softmax_vjp(p, g, temperature=float(temperature))).movedim(-1, dim).contiguous()


def _log_softmax_vjp_on_cpu(log_probs: Tensor, upstream: Tensor, temperature: Tensor, dim: int) -> Tensor:
    # NumPy looks for the largest entry with whole registers, torch one by one
    top = (
        as_tensor(as_array(log_probs).argmax(dim, keepdims=True))
        if log_probs.dtype in (torch.float32, torch.float64)
        else None
    )
    return maps.log_softmax_vjp(log_probs, upstream, dim, float(temperature), top)


for _name, _cpu in (
    ("softmax", _map_on_cpu(numpy_softmax)),
    ("log_softmax", _map_on_cpu(numpy_log_softmax)),
    ("softmax_vjp", _softmax_vjp_on_cpu),
    ("log_softmax_vjp", _log_softmax_vjp_on_cpu),
):
    register(_name, cpu=_cpu, gpu=map_on_gpu(_name), elsewhere=_map_elsewhere(getattr(maps, _name)))


# ---- derivatives ----


def save_map(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])
    ctx.dim = inputs[2]


def map_derivative(
    vjp: Callable[..., Tensor], plain: Callable[..., Tensor]
) -> Callable[..., tuple[Tensor | None, ...]]:
    def derivative(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        result, temperature = ctx.saved_tensors
        if torch.is_grad_enabled() or is_transformed():  # a second derivative goes through plain torch
            return plain(result, upstream, ctx.dim, float(temperature)), None, None
        return vjp(result, upstream, temperature, ctx.dim), None, None

    return derivative


for _name, _plain in (("softmax", maps.softmax_vjp), ("log_softmax", maps.log_softmax_vjp)):
    _derivative = map_derivative(getattr(OPS, f"{_name}_vjp"), _plain)
    register_derivative(_name, _derivative, save_map)
