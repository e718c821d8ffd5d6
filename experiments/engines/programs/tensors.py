"""Rows to torch and back, and losses that take one row at a time, for the engines that are made of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["array", "row_by_row", "tensor"]

Loss = Callable[[Any, Any], Any]


def tensor(array: Any) -> Any:
    """Return an array as a tensor of its own type."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(tensor: Any) -> Any:
    """Return a tensor as an array, bfloat16 as float32: its numbers are the same."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def row_by_row(loss: Loss) -> dict[str, Callable[[Any, Any], Any]]:
    """Return the loss and its gradient of rows, from a mean over the rows that is given one row each time."""

    def cross_entropy(z: Any, y: Any) -> Any:
        logits, target = tensor(z), tensor(y)
        return np.array([array(loss(logits[i : i + 1], target[i : i + 1])).item() for i in range(len(z))])

    def cross_entropy_grad(z: Any, y: Any) -> Any:
        target, gradient = tensor(y), np.empty(z.shape)
        for i in range(len(z)):
            logits = tensor(z[i : i + 1].copy()).requires_grad_()
            loss(logits, target[i : i + 1]).backward()
            gradient[i] = array(logits.grad)
        return gradient

    return {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad}
