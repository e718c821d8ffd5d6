"""The kernels for a GPU, loaded with the first tensor that they can take."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

__all__ = ["kernels_for"]


@cache
def _triton() -> Any:
    """Return the kernels for a GPU, or None where Triton is not installed."""
    return import_module("softmax_lab.torch.triton") if find_spec("triton") else None


def kernels_for(tensor: Tensor) -> Any:
    """Return the kernels of :mod:`.triton` where they take the tensor, else None."""
    return _triton() if tensor.is_cuda and tensor.dtype != torch.float64 else None
