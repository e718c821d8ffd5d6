"""The loss of a linear layer on one process: chunks of logits, and the loops of the NumPy package
over each.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .._checks import Empty, Reduction
from ..cross_entropy import cross_entropy, cross_entropy_grad
from ..spec import LossSpec
from . import _checks, _chunks, _family, ops
from ._composite import Options
from ._shared import as_array, as_tensor, packed

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    bias: Tensor | None = None,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    empty: Empty = "nan",
    chunk_bytes: int | None = None,
) -> Tensor:
    """Return ``slt.cross_entropy(hidden @ weight.T + bias, target, spec)`` without ever holding all the
    logits.

    "mean" and "sum" compute the gradients during the forward pass, with three matrix products in all; "none"
    cannot know the upstream gradients by then, and computes each chunk's logits a second time in the backward
    pass. Memory beside the arguments: the gradients, and ``chunk_bytes``. In float16 and bfloat16 the
    products are in that type, the weight's gradient is summed in a float32 buffer (V, D) and rounded once.
    Under ``torch.autocast`` all of it is in autocast's type; ``torch.compile`` leaves it out of its graph.
    Inside transforms of ``torch.func``, in forward mode and for tensors without values (meta, fake) all the
    logits exist: there it is :func:`softmax_lab.torch.cross_entropy` of them, with all its derivatives.

    Parameters
    ----------
    hidden : Tensor, shape ``(..., D)``
        float16, bfloat16, float32 or float64.
    weight : Tensor, shape ``(V, D)``
        One row a class; dtype and device of ``hidden``.
    target : Tensor
        Class indices of shape ``(...)``, or a distribution a row, ``(..., V)``.
    spec : LossSpec
        The member of the family.
    bias : Tensor, shape ``(V,)``, optional
    reduction, sample_weight, ignore_index, empty
        As in :func:`softmax_lab.cross_entropy`. Rows with ``ignore_index`` are left out before the product.
    chunk_bytes : int, optional
        Budget of the chunk of logits in bytes; at least one row is taken. By default 48 MiB on the CPU and 1
        GiB on other devices.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value a row; float64 for float64, else float32. ``backward`` can be
        called on it, but not on its gradient.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> weight = torch.eye(3, requires_grad=True)
    >>> loss = slt.linear_cross_entropy(torch.tensor([[40.0, 0.0, 0.0]]), weight, torch.tensor([0]))
    >>> loss.backward()
    >>> f"{loss.item():.3g}", f"{weight.grad[1, 0].item():.3g}"
    ('8.5e-18', '1.7e-16')

    See Also
    --------
    softmax_lab.torch.cross_entropy : the same from logits that exist.
    softmax_lab.torch.parallel.linear_cross_entropy : the classes spread over processes.
    """
    options = Options(reduction, empty, ignore_index)
    return _chunks.outside_of_graphs(_linear)(
        hidden, weight, bias, target, spec, sample_weight, options, chunk_bytes
    )


def _linear(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    spec: LossSpec,
    sample_weight: Tensor | None,
    options: Options,
    chunk_bytes: int | None,
) -> Tensor:
    hidden, weight, bias = _chunks.autocast(hidden, weight, bias)
    _chunks.check_layer(hidden, weight, bias)
    _checks.class_dim("weight", weight, 0)
    if ops.needs_whole_logits(hidden, weight, target):
        whole = torch.nn.functional.linear(hidden, weight, bias)
        return ops.loss(
            whole, target, spec, sample_weight, _checks.loss(whole, target, spec, sample_weight, options)
        )
    logits = hidden.new_empty(()).expand(*hidden.shape[:-1], len(weight))  # their shape, without their memory
    rows = _chunks.prepare(logits, target, spec, sample_weight, options)
    _chunks.check_classes(rows, target, spec, len(weight))
    narrow = ops.gpu_kernels(hidden) is not None
    step = _chunks.chunk_rows(
        len(weight), hidden.dtype, _chunks.chunk_budget(chunk_bytes, hidden.device), narrow=narrow
    )
    return _chunks.evaluate(
        _chunks.Task(rows, partial(local_kernel, spec), step, narrow=narrow), hidden, weight, bias
    )


# ---- kernels of rows that are whole on one process ----


def local_kernel(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return values and weights of rows ``z`` (n, V), and where ``gradient`` is set leave in ``z`` that of
    each row's own value.
    """
    kernels = ops.gpu_kernels(z)
    if kernels is not None:
        values, weights = kernels.rows_in_place(
            z, target, _family.spec_tensors(spec, z.device, torch.float32), gradient
        )
        return values.double(), weights.double()
    if spec.gate:  # the weights depend on the logits
        return plain_kernel(spec, z, target, gradient)
    values = (
        numpy_values(spec, z, target, gradient)
        if z.device.type == "cpu"
        else operator_values(spec, z, target, gradient)
    )
    fields = _family.spec_tensors(spec, z.device, torch.float64)
    weights = (
        _family.soft_weights(target, fields)
        if target.is_floating_point()
        else _family.class_weights(fields, target, None)
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
    for block in _chunks.blocks(z):
        values[block], found = torch.ops.softmax_lab.cross_entropy(
            z[block], target[block], *fields, None, *options, gradient
        )
        if gradient:
            z[block] = found
    return values


def plain_kernel(spec: LossSpec, z: Tensor, target: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Do all of it in plain torch, some rows at a time."""
    dtype = torch.float64 if z.device.type == "cpu" else z.dtype
    fields = _family.spec_tensors(spec, z.device, dtype)
    values, weights = z.new_empty((2, len(z)), dtype=torch.float64)
    for block in _chunks.blocks(z):
        rows, given = z[block].to(dtype), target[block]
        if gradient:
            values[block], z[block], weights[block] = _family.value_and_gradient(rows, given, fields)
        else:
            values[block], weights[block] = _family.value(rows, given, fields)
    return values, weights
