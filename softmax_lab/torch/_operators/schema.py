"""The operators' schemas, their arguments, and how an implementation is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._base.options import Options
from .._formula.fields import ARRAYS, SpecTensors, unpack

__all__ = [
    "LIBRARY",
    "OPS",
    "TENSORS",
    "Arguments",
    "parsed",
    "register",
    "register_derivative",
]

LIBRARY = torch.library.Library("softmax_lab", "DEF")
_FIELDS = ", ".join(["Tensor numbers", *(f"Tensor? {name}" for name in ARRAYS)])
_OPTIONS = "Tensor? sample_weight, str reduction, str empty, int ignore_index, int dim, bool signed"
LIBRARY.define(
    f"cross_entropy(Tensor logits, Tensor target, {_FIELDS}, {_OPTIONS}, bool with_gradient) -> (Tensor, "
    f"Tensor)"
)
LIBRARY.define(
    f"cross_entropy_forward(Tensor logits, Tensor target, {_FIELDS}, {_OPTIONS}) -> (Tensor, Tensor)"
)
_BACKWARD = f"Tensor kept, Tensor upstream, Tensor target, {_FIELDS}, {_OPTIONS}"
LIBRARY.define(f"cross_entropy_backward(Tensor logits, {_BACKWARD}) -> Tensor")
LIBRARY.define(
    f"cross_entropy_hvp(Tensor logits, Tensor tangent, Tensor target, {_FIELDS}, {_OPTIONS}) -> Tensor"
)
for _name in ("softmax", "log_softmax"):
    # the temperature is a tensor for the same reason as the numbers of a spec: a float would be compiled in
    LIBRARY.define(f"{_name}(Tensor input, Tensor temperature, int dim) -> Tensor")
    LIBRARY.define(f"{_name}_vjp(Tensor result, Tensor upstream, Tensor temperature, int dim) -> Tensor")
OPS = torch.ops.softmax_lab

#: an operator's arguments after the logits: target, those of a spec, sample weight, and the options
Arguments = tuple[Any, ...]
_WEIGHT = 2 + len(ARRAYS)  # of them, the place of the sample weight
TENSORS = _WEIGHT + 1  # and how many are tensors or None: the first


def parsed(arguments: Arguments) -> tuple[Tensor, SpecTensors, Tensor | None, Options]:
    """Return target, fields, sample weight and options."""
    return arguments[0], unpack(*arguments[1:_WEIGHT]), arguments[_WEIGHT], Options(*arguments[TENSORS:])


def _like_first(first: Tensor, *_: Any) -> Tensor:
    return first.new_empty(first.shape)


def register(
    name: str,
    *,
    cpu: Callable[..., Any],
    gpu: Callable[..., Any],
    elsewhere: Callable[..., Any],
    shapes: Callable[..., Any] = _like_first,
) -> None:
    """Register what an operator does on the CPU, on a GPU, on other devices, and without memory."""
    LIBRARY.impl(name, cpu, "CPU")
    LIBRARY.impl(name, gpu, "CUDA")
    LIBRARY.impl(name, elsewhere, "CompositeExplicitAutograd")
    torch.library.register_fake(f"softmax_lab::{name}", shapes, lib=LIBRARY)


def register_derivative(
    name: str, derivative: Callable[..., Any], setup_context: Callable[..., None]
) -> None:
    """Register the derivative of an operator, for the compiler."""
    torch.library.register_autograd(
        f"softmax_lab::{name}", derivative, setup_context=setup_context, lib=LIBRARY
    )
