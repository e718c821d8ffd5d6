"""What torch's autograd and its transforms say of themselves, by private names.

Where a torch does not have a name, the answer is the careful one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .tensors import PLAIN_TYPES, outside_of_modes

__all__ = [
    "are_ordinary",
    "are_ordinary_on_gpu",
    "below_autograd",
    "graph_is_kept",
    "has_forward_mode",
    "is_batched",
    "is_concrete",
    "is_overheard",
    "is_recomputation",
    "is_transformed",
    "saved_tensors_are_watched",
]

below_autograd = torch._C._AutoDispatchBelowAutograd
_keep_graph: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True
)
_legacy_batch: Callable[[Tensor], bool] = getattr(
    torch._C._functorch, "is_legacy_batchedtensor", lambda _: True
)
_top_hooks: Callable[[bool], Any] = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: True
)
_dispatch_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_function_modes: Callable[[], int] = getattr(torch._C, "_len_torch_function_stack", lambda: 1)
_keys: Callable[[Tensor], Any] = getattr(torch._C, "_dispatch_keys", lambda _: None)
with outside_of_modes():
    #: what torch's dispatcher does with a tensor that has memory on the CPU, and with no other
    _ORDINARY = _keys(torch.empty(0, device="cpu"))


def are_ordinary(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have memory on the CPU, and torch has nothing to do but to look there.

    That is not so of meta, sparse, wrapped, batched, inference, negated and zero tensors, and of subclasses.
    """
    return (
        type(one) in PLAIN_TYPES
        and type(other) in PLAIN_TYPES
        and _ORDINARY is not None
        and _keys(one) == _ORDINARY
        and _keys(other) == _ORDINARY
    )


@cache
def _ordinary_on_gpu() -> Any:
    with outside_of_modes():
        return _keys(torch.empty(0, device="cuda"))


def are_ordinary_on_gpu(*tensors: Tensor) -> bool:
    """Whether tensors have memory on a GPU, and torch has nothing to do but to look there."""
    return all(
        type(tensor) in PLAIN_TYPES and tensor.is_cuda and _keys(tensor) == _ordinary_on_gpu()
        for tensor in tensors
    )


def is_overheard() -> bool:
    """Whether anything but autograd's backward pass is to hear of a call.

    A mode is, a trace, a transform, a level of forward mode, and a hook on what is saved.
    """
    return bool(
        _function_modes()
        or _dispatch_modes()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._is_tracing()
        or _top_hooks(False) is not None
    )


def graph_is_kept() -> bool:
    """Whether another backward pass may follow the one that runs, over the same graph."""
    return bool(_keep_graph())


def saved_tensors_are_watched() -> bool:
    """Whether hooks on saved tensors are set, which may hold on to what is saved."""
    return _top_hooks(False) is not None


def is_recomputation() -> bool:
    """Whether this runs inside a backward pass."""
    return torch._C._current_graph_task_id() != -1


def is_batched(upstream: Tensor) -> bool:
    """Whether a gradient stands for many, as in ``torch.autograd.grad(..., is_grads_batched=True)``.

    Torch says so nowhere else.
    """
    return bool(_legacy_batch(upstream))


def is_transformed() -> bool:
    """Whether a functorch transform is at work."""
    return bool(torch._C._are_functorch_transforms_active())


def has_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open."""
    return torch.autograd.forward_ad._current_level >= 0


def is_concrete(tensor: Tensor) -> bool:
    """Whether the tensor's values are at hand: on the CPU, and neither traced nor mapped."""
    return (
        tensor.device.type == "cpu"
        and type(tensor) in PLAIN_TYPES
        and not is_transformed()
        and not torch.compiler.is_compiling()
    )
