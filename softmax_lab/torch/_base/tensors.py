"""Tensors and arrays over the same memory, and the types that are computed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import _disable_current_modes

from ..._extras import bfloat16

__all__ = [
    "FLOATS",
    "HALF",
    "PLAIN_TYPES",
    "as_array",
    "as_tensor",
    "at_hand",
    "autocast_dtype",
    "exact_dtype",
    "is_dense",
    "loss_dtype",
    "outside_of_modes",
]

HALF = (torch.float16, torch.bfloat16)
FLOATS = (*HALF, torch.float32, torch.float64)

PLAIN_TYPES = (Tensor, torch.nn.Parameter)
#: and what torch puts in their place while it traces: tensors without memory, to the same operators
_KNOWN_TYPES = (*PLAIN_TYPES, FakeTensor, FunctionalTensor)


def loss_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of a loss's value: float64 for float64 logits, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return the CPU tensor's memory as an array of the same dtype; bfloat16 is the one of ``ml_dtypes``."""
    tensor = tensor.detach()
    if tensor.dtype is not torch.bfloat16:
        array: NDArray[Any] = tensor.numpy()
        return array
    bits: NDArray[Any] = tensor.view(torch.uint16).numpy()
    return bits.view(bfloat16())


def at_hand(tensor: Tensor) -> NDArray[Any] | None:
    """Return the values where they can be read without waiting, else None.

    They can of CPU tensors that have memory, in functorch's wrappers too.
    """
    if torch.compiler.is_compiling():
        return None
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.device.type != "cpu" or type(tensor) not in PLAIN_TYPES:
        return None
    with outside_of_modes():
        return as_array(tensor)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return the array's memory as a tensor: the inverse of :func:`as_array`."""
    array = np.asarray(array)
    if array.dtype.kind == "V":  # no kind of NumPy's own: bfloat16
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is one of torch's own, with one entry after the other.

    A subclass, a nested, a sparse or an opaque tensor is not.

    The tensor is asked, and never ``has_torch_function``: that is also true of every plain tensor inside a
    function mode.
    """
    return type(tensor) in _KNOWN_TYPES and tensor.layout == torch.strided and not tensor.is_nested


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return the type that autocast asks for on this kind of device.

    None where it is off, or is not known (meta).
    """
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that do not know it."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def outside_of_modes() -> Iterator[None]:
    """Make ordinary tensors, which may be kept.

    They are none of inference mode, of a functorch level, or without memory (fake).
    """
    with torch.inference_mode(False), torch._C._DisableFuncTorch(), _disable_current_modes():
        yield
