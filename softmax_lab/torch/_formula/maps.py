"""Softmax and log-softmax in plain torch, differentiable to any order, and their products with a gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._base.tensors import loss_dtype
from .rows import over, shifted

__all__ = ["log_softmax", "log_softmax_vjp", "softmax", "softmax_vjp"]


def softmax(z: Tensor, dim: int, temperature: float) -> Tensor:
    """Return exp(z / T) over its sum."""
    return _map_rows(lambda rows: shifted(rows, temperature).q, z, dim)


def log_softmax(z: Tensor, dim: int, temperature: float) -> Tensor:
    """Return the logarithm of the softmax."""
    return _map_rows(lambda rows: shifted(rows, temperature).log_q(), z, dim)


def _map_rows(function: Callable[[Tensor], Tensor], z: Tensor, dim: int) -> Tensor:
    moved = z.movedim(dim, -1)
    rows = function(moved.reshape(-1, moved.shape[-1]).to(loss_dtype(z.dtype)))
    return rows.to(z.dtype).reshape(moved.shape).movedim(-1, dim).contiguous()


def softmax_vjp(probs: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    """Return p (g - p.g) / T.

    g is counted from its value at the likeliest class: a confident row keeps its 1 - p.
    """
    wide = loss_dtype(probs.dtype)
    p, g = probs.to(wide), upstream.to(wide)
    g = g - g.gather(dim, p.argmax(dim, keepdim=True))
    mean = (p * g).sum(dim, keepdim=True)
    return over(p * (g - mean), temperature).to(probs.dtype)


def log_softmax_vjp(
    log_probs: Tensor, upstream: Tensor, dim: int, temperature: float, top: Tensor | None = None
) -> Tensor:
    """Return g - p sum(g) over T.

    At the likeliest class that is g (1 - p) - p (sum(g) - g), where 1 - p is exact from log p.

    ``top`` is that class, where the caller knows it.
    """
    wide, dtype = loss_dtype(log_probs.dtype), log_probs.dtype
    if temperature != 1.0:  # rounded once, after the division
        log_probs, upstream = log_probs.to(wide), upstream.to(wide)
    result = torch._log_softmax_backward_data(upstream, log_probs, dim, log_probs.dtype)
    top = log_probs.argmax(dim, keepdim=True) if top is None else top
    g, log_p = upstream.gather(dim, top).to(wide), log_probs.gather(dim, top).to(wide)
    at_top = -g * torch.expm1(log_p) - torch.exp(log_p) * (upstream.sum(dim, keepdim=True, dtype=wide) - g)
    result = result.scatter_(dim, top, at_top.to(result.dtype))
    return over(result, temperature).to(dtype)
