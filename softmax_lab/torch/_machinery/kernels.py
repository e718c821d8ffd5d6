"""What is done to a chunk of rows that are whole on one process."""

from __future__ import annotations

import torch
from torch import Tensor

from ...cross_entropy import cross_entropy, cross_entropy_grad
from ...log_cross_entropy import log_losses
from ...spec import LossSpec
from .._base.options import Options
from .._base.tensors import as_array, as_tensor, loss_dtype
from .._formula import family, logs, terms
from .._formula.fields import extreme, packed, spec_tensors
from .._operators import gpu
from .chunks import blocks

__all__ = [
    "local_kernel",
    "local_log_kernel",
    "numpy_logs",
    "numpy_values",
    "operator_values",
    "plain_kernel",
    "plain_logs",
]


def local_kernel(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights of rows ``z`` (n, V).

    With ``gradient`` leave in ``z`` the gradient of each row's own value.
    """
    kernels = gpu.kernels_for(z)
    if kernels is not None:
        values, weights = kernels.rows_in_place(
            z, target, spec_tensors(spec, z.device, torch.float32), gradient
        )
        return values.double(), weights.double()
    if spec.gate:  # the weights depend on the logits
        return plain_kernel(spec, z, target, gradient)
    values = (
        numpy_values(spec, z, target, gradient)
        if z.device.type == "cpu"
        else operator_values(spec, z, target, gradient)
    )
    fields = spec_tensors(spec, z.device, torch.float64)
    weights = (
        family.soft_weights(target, fields)
        if target.is_floating_point()
        else terms.class_weights(fields, target, None)
    )
    return values.double(), torch.as_tensor(weights, dtype=torch.float64, device=z.device)


def numpy_values(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> Tensor:
    """Do that on the CPU: the loops of the NumPy package write over the chunk."""
    logits, given = as_array(z), as_array(target)
    if gradient:
        return as_tensor(cross_entropy_grad(logits, given, spec, reduction="none", out=logits)[0])
    return as_tensor(cross_entropy(logits, given, spec, reduction="none"))


def operator_values(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> Tensor:
    """Do that on any device: the operator that is registered for it, some rows at a time."""
    values = z.new_empty(len(z))
    fields, options = packed(spec, z), Options(reduction="none")
    for block in blocks(z):
        values[block], found = torch.ops.softmax_lab.cross_entropy(
            z[block], target[block], *fields, None, *options, gradient
        )
        if gradient:
            z[block] = found
    return values


def plain_kernel(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Do all of it in plain torch, some rows at a time."""
    dtype = torch.float64 if z.device.type == "cpu" else z.dtype
    fields = spec_tensors(spec, z.device, dtype)
    values, weights = z.new_empty((2, len(z)), dtype=torch.float64)
    for block in blocks(z):
        rows, given = z[block].to(dtype), target[block]
        if gradient:
            values[block], z[block], weights[block] = family.value_and_gradient(rows, given, fields)
        else:
            values[block], weights[block] = family.value(rows, given, fields)
    return values, weights


# ---- the log of the mean loss ----


def local_log_kernel(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return log l of rows ``z`` (n, V), as two float64 whose sum is the number.

    With ``gradient`` leave in ``z`` the gradient of each row's own logarithm.
    """
    kernels, fields = gpu.kernels_for(z), spec_tensors(spec, z.device, loss_dtype(z.dtype))
    if kernels is not None and not extreme(fields):
        high, low = kernels.log_rows_in_place(z, target, fields, gradient)
        return high, low
    found = numpy_logs if z.device.type == "cpu" else plain_logs
    return found(spec, z, target, gradient)


def numpy_logs(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Do that on the CPU: the loops of the NumPy package write over the chunk."""
    logits = as_array(z)
    high, low = log_losses(logits, as_array(target), spec, out=logits if gradient else None)
    return as_tensor(high), as_tensor(low)


def plain_logs(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Do that in plain torch on any device, some rows at a time; the second number is 0."""
    dtype = torch.float64 if z.device.type == "cpu" else loss_dtype(z.dtype)
    fields = spec_tensors(spec, z.device, dtype)
    high, low = z.new_zeros((2, len(z)), dtype=torch.float64)
    for block in blocks(z):
        high[block], found = logs.value_and_gradient(z[block].to(dtype), target[block], fields)
        if gradient:
            z[block] = found
    return high, low
