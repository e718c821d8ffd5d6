"""The ways in: each call takes the one that knows the derivatives that may be asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ...spec import LossSpec
from .._base.autograd import below_autograd, has_forward_mode, is_transformed
from .._base.checks import values_at_hand
from .._base.options import Options
from .._base.tensors import FLOATS, HALF
from .._formula import losses, maps
from .._formula.fields import SpecTensors, fields_of, packed
from . import eager, eager_on_gpu
from . import maps as _map_operators  # noqa: F401 it defines them
from .eager import CrossEntropy, Later, may_overwrite
from .schema import OPS

__all__ = ["at_once", "log_softmax", "loss", "needs_whole_logits", "softmax"]

#: types of a target that every kernel knows; others are widened
_TARGETS = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def at_once(logits: Tensor, target: Tensor, spec: LossSpec, options: Options) -> Tensor | None:
    """Return the loss of a plain call, straight from the loop or the kernel; None where the call is another.

    Nothing has been checked yet, and what is wrong is not plain.
    """
    on_gpu = isinstance(logits, Tensor) and logits.is_cuda
    make = eager_on_gpu.at_once if on_gpu else eager.at_once
    return make(logits, target, spec, options)


def loss(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec | SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
    *,
    inplace: bool = False,
) -> Tensor:
    """Return the loss of checked arguments, by whichever way knows the derivatives that may be asked for."""
    if _plain_only(target, sample_weight):
        values_at_hand(logits, target, sample_weight, options)
        return losses.loss(logits, target, fields_of(spec, logits), sample_weight, options)
    target = target if target.dtype in _TARGETS else target.long()
    arguments = (target, *packed(spec, logits), sample_weight, *options)
    # a trace knows no autograd.Function, and may be run with a gradient or without
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    wanted = tracing or (torch.is_grad_enabled() and logits.requires_grad)
    later = wanted and logits.dtype in HALF
    value: Tensor
    if torch.compiler.is_compiling() or tracing:
        value, _ = (
            OPS.cross_entropy_forward(logits, *arguments)
            if later
            else OPS.cross_entropy(logits, *arguments, wanted)
        )
    elif wanted:
        over = inplace and may_overwrite(logits, options.dim)
        if over or later:
            value = Later.apply(logits, arguments, over)  # type: ignore[no-untyped-call]
        else:
            value, _ = CrossEntropy.apply(logits, arguments)  # type: ignore[no-untyped-call]
    else:
        with below_autograd():
            value, _ = OPS.cross_entropy(logits, *arguments, False)
    return value


def softmax(z: Tensor, temperature: float, dim: int) -> Tensor:
    """Return the softmax of checked arguments."""
    if z.is_cuda:
        found = eager_on_gpu.map_at_once("softmax", z, temperature, dim)
        if found is not None:
            return found
    if _plain_only():
        return maps.softmax(z, dim, temperature)
    result: Tensor = OPS.softmax(z, _number(temperature), dim)
    return result


def log_softmax(z: Tensor, temperature: float, dim: int) -> Tensor:
    """Return the log-softmax of checked arguments."""
    if z.is_cuda:
        found = eager_on_gpu.map_at_once("log_softmax", z, temperature, dim)
        if found is not None:
            return found
    if _plain_only():
        return maps.log_softmax(z, dim, temperature)
    result: Tensor = OPS.log_softmax(z, _number(temperature), dim)
    return result


def _number(value: float) -> Tensor:
    """Return a number as an input of the compiled graph, as the fields of a spec are packed."""
    one = torch.ones((), dtype=torch.float64, device="cpu")
    return one * value


def _plain_only(*others: Tensor | None) -> bool:
    """Whether only plain torch knows the derivatives.

    It is so in functorch and forward mode, and where gradients are asked for more than the logits.
    """
    more = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in others)
    return more or is_transformed() or has_forward_mode()


def needs_whole_logits(*tensors: Tensor) -> bool:
    """Whether a loss that goes through its rows chunk by chunk cannot.

    It cannot inside transforms, and of tensors without values.
    """
    return _plain_only() or any(tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in tensors)
