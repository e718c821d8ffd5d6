"""What losses without whole logits check, and their arguments as rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ... import _checks
from ...spec import LossSpec, refuse_in_log
from .._base import checks as torch_checks
from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import autocast_dtype

__all__ = ["Rows", "autocast", "check_classes", "check_layer", "outside_of_graphs", "prepare"]

Function = TypeVar("Function", bound=Callable[..., Any])


def outside_of_graphs(function: Function) -> Function:
    """Return the function, or where the compiler traces, one that it will not look into.

    NumPy and the network are no part of a graph.

    (``torch.compiler.disable`` as a decorator would load the compiler with the package.)
    """
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


class Rows(NamedTuple):
    """Checked arguments, as rows."""

    target: Tensor  # (N,) labels or (N, V) distributions
    live: Tensor | None  # (M,) the rows that count, where some do not
    factor: Tensor | None  # (N,) sample weights
    shape: torch.Size  # of one value a row
    options: Options


def autocast(*tensors: Tensor | None) -> list[Any]:
    """Return the tensors in the type that autocast asks of a linear layer, or as they are where it is off."""
    device = next(tensor for tensor in tensors if tensor is not None).device.type
    dtype = autocast_dtype(device)
    if dtype is None:
        return list(tensors)
    return [
        tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors
    ]


def check_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check what a linear layer needs of its three tensors."""
    for name, tensor in (
        ("hidden", hidden),
        ("weight", weight),
        *(() if bias is None else (("bias", bias),)),
    ):
        torch_checks.floating(name, tensor)
    if weight.ndim != 2 or hidden.ndim == 0 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden (..., D) and weight (V, D) must agree; got shapes {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape ({len(weight)},), one entry a class; got {tuple(bias.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (tensor.dtype, tensor.device) != (hidden.dtype, hidden.device):
            raise TypeError(
                f"{name} must be {hidden.dtype} on {hidden.device}, as hidden is; got {tensor.dtype} on "
                f"{tensor.device}"
            )


def prepare(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Rows:
    """Check what comes with logits (..., K), and find the rows that count.

    The number of classes is left to :func:`check_classes`.

    ``logits`` is looked at for shape, type and device only, and may stand for logits that never exist.
    """
    torch_checks.floating("logits", logits)
    if logits.ndim == 0:
        raise ValueError("logits must have at least one dimension (the classes); got a scalar")
    shape = logits.shape[:-1]
    _checks.choice("reduction", options.reduction, _checks.ANY_REDUCTIONS)
    _checks.choice("empty", options.empty, _checks.EMPTY_RULES)
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    if options.reduction == "log_mean" and isinstance(target, Tensor):
        refuse_in_log(spec, target.is_floating_point())
    torch_checks.given_target(target, spec, logits, shape)
    if sample_weight is not None:
        torch_checks.given_sample_weight(sample_weight, logits, shape)
        if not bool((torch.isfinite(sample_weight) & (sample_weight >= 0)).all()):
            raise ValueError("sample_weight must be finite and >= 0")
    if any(tensor is not None and tensor.requires_grad for tensor in (target, sample_weight)):
        raise ValueError(
            "target and sample_weight get no gradient from a loss without whole logits; detach them, or use "
            "slt.cross_entropy"
        )
    factor = None if sample_weight is None else sample_weight.reshape(-1)
    if target.is_floating_point():
        return Rows(target.reshape(shape.numel(), logits.shape[-1]), None, factor, shape, options)
    _, live = labels_of(target.reshape(-1), _checks.ignored_label(options.ignore_index))
    label = target.reshape(-1).long()  # as they were given, for who reports one that is out of range
    return Rows(label, None if bool(live.all()) else live.nonzero()[:, 0], factor, shape, options)


def check_classes(rows: Rows, target: Tensor, spec: LossSpec, num_classes: int) -> None:
    """Check the spec's arrays and the labels that count against the number of classes.

    The classes are those of all processes together.
    """
    torch_checks.given_spec(spec, num_classes)
    torch_checks.labels(target, num_classes, rows.options.ignore_index)
