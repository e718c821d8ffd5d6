"""What the torch functions check before any work.

Of tensors only what can be known without reading them is checked here, so that it traces.

Values (labels in range, weights not negative) are checked by the NumPy package on the CPU; elsewhere a look
at them would wait for the device, and is taken only where it is asked for.
"""

from __future__ import annotations

import operator

import numpy as np
import torch
from torch import Tensor

from ... import _checks
from ...spec import FIELDS, LossSpec, needing_labels, refuse_in_log
from .options import Options
from .tensors import FLOATS, as_array, at_hand

__all__ = [
    "class_dim",
    "floating",
    "given_sample_weight",
    "given_spec",
    "given_target",
    "labels",
    "log_loss",
    "loss",
    "values_at_hand",
]

_INTEGERS = (
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def floating(name: str, tensor: Tensor) -> None:
    """Refuse what is not a tensor of one of the four floating types."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64; got {tensor.dtype}")
    _dense(name, tensor)


def _dense(name: str, tensor: Tensor) -> None:
    """Refuse nested, sparse and opaque layouts, for which there are no loops."""
    if tensor.is_nested or tensor.layout != torch.strided:
        got = "a nested tensor" if tensor.is_nested else f"layout {tensor.layout}"
        raise TypeError(f"{name} must be a dense (strided) tensor; got {got}")


def class_dim(name: str, tensor: Tensor, dim: int) -> int:
    """Return the class dimension as a non-negative index, and refuse a tensor without classes."""
    if tensor.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension (the classes); got a scalar")
    if type(dim) is not int:
        try:
            dim = operator.index(dim)
        except TypeError:
            raise TypeError(f"dim must be one integer; got {dim!r}") from None
    if not -tensor.ndim <= dim < tensor.ndim:
        raise ValueError(
            f"dim must lie in [{-tensor.ndim}, {tensor.ndim}) for shape {tuple(tensor.shape)}; got {dim}"
        )
    if tensor.shape[dim] == 0:
        raise ValueError(
            f"{name} must have at least one class along dim {dim}; got shape {tuple(tensor.shape)}"
        )
    return dim % tensor.ndim


def loss(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Options:
    """Check a loss's arguments; return the options with a non-negative ``dim``."""
    floating("logits", logits)
    dim = class_dim("logits", logits, options.dim)
    _checks.choice("reduction", options.reduction, _checks.REDUCTIONS)
    _checks.choice("empty", options.empty, _checks.EMPTY_RULES)
    row_shape = logits.shape[:dim] + logits.shape[dim + 1 :]
    given_spec(spec, logits.shape[dim])
    given_target(target, spec, logits, row_shape)
    if sample_weight is not None:
        given_sample_weight(sample_weight, logits, row_shape)
    return options._replace(dim=dim, ignore_index=_checks.ignored_label(options.ignore_index))


def log_loss(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Options:
    """Check the arguments of the log of the mean loss; return the options with a non-negative ``dim``."""
    if isinstance(spec, LossSpec) and isinstance(target, Tensor):
        refuse_in_log(spec, target.is_floating_point(), traced=torch.compiler.is_compiling())
    return loss(logits, target, spec, sample_weight, options)


def given_spec(spec: LossSpec, num_classes: int) -> None:
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    # the compiler cannot look into a cached property, as spec.num_classes is
    for name in FIELDS:
        value = getattr(spec, name)
        if isinstance(value, np.ndarray) and value.shape[-1] != num_classes:
            raise ValueError(f"spec is made for {value.shape[-1]} classes; the logits have {num_classes}")


def given_target(target: Tensor, spec: LossSpec, logits: Tensor, row_shape: torch.Size) -> None:
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a torch.Tensor; got {type(target).__name__}")
    _dense("target", target)
    _same_device("target", target, logits)
    if target.dtype in _INTEGERS:
        if target.shape != row_shape:
            expected = f"{tuple(row_shape)} (the logits' without the class dimension)"
            raise ValueError(f"class-index target must have shape {expected}; got {tuple(target.shape)}")
        return
    if target.dtype not in FLOATS:
        raise TypeError(
            f"target must hold integers (class indices) or floats (distributions); got {target.dtype}"
        )
    if target.shape != logits.shape:
        expected = f"the logits' shape {tuple(logits.shape)}"
        raise ValueError(
            f"a floating-point target is a distribution per row and must have {expected}; got "
            f"{tuple(target.shape)}"
        )
    traced = torch.compiler.is_compiling()
    fields = {name: getattr(spec, name) for name in FIELDS}
    needs = needing_labels(fields, traced=True) if traced else spec.needs_class_index
    if needs:
        raise ValueError(f"{', '.join(needs)} needs class-index targets; got a distribution per row")


def given_sample_weight(value: Tensor, logits: Tensor, row_shape: torch.Size) -> None:
    if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"sample_weight must be a tensor of real numbers; got {got}")
    _dense("sample_weight", value)
    _same_device("sample_weight", value, logits)
    if value.shape != row_shape:
        raise ValueError(
            f"sample_weight must have shape {tuple(row_shape)} (one weight a row); got {tuple(value.shape)}"
        )


def _same_device(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.device != logits.device:
        raise ValueError(f"{name} must be on the logits' device {logits.device}; got {tensor.device}")


def labels(target: Tensor, num_classes: int, ignore_index: int) -> None:
    """Raise the ``IndexError`` of the NumPy package for a label out of range.

    Waits for the device, if that is not the CPU.
    """
    if not target.is_floating_point() and not target.is_meta:
        _checks.labels(as_array(target.cpu()), num_classes, ignore_index, tuple(target.shape))


def values_at_hand(logits: Tensor, target: Tensor, sample_weight: Tensor | None, options: Options) -> None:
    """Refuse what the NumPy package refuses of values, before plain torch indexes with them.

    Only values that can be looked at are looked at.
    """
    given, weights = at_hand(target), None if sample_weight is None else at_hand(sample_weight)
    if given is not None and target.is_floating_point():
        _checks.soft_target(given, given.shape, signed=options.signed)
    elif given is not None:
        _checks.labels(given, logits.shape[options.dim], options.ignore_index, given.shape)
    if weights is not None:
        _checks.sample_weights(weights, weights.shape)
