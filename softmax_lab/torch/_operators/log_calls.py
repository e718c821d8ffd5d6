"""The ways in for the log of the mean loss: loops on the CPU, kernels on a GPU, or the plain formula."""

from __future__ import annotations

from torch import Tensor

from ...spec import LossSpec
from .._base.checks import values_at_hand
from .._base.labels import checked
from .._base.options import Options
from .._formula import logs
from .._formula.fields import SpecTensors, fields_of
from .log_eager import loss_on_cpu
from .log_on_gpu import loss_on_gpu

__all__ = ["loss"]


def loss(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec | SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the log of the mean loss, of checked arguments."""
    if isinstance(spec, LossSpec):
        for at_once in (loss_on_cpu, loss_on_gpu):
            value = at_once(logits, target, spec, sample_weight, options)
            if value is not None:
                return value
    values_at_hand(logits, target, sample_weight, options)
    labels = checked(target, logits.shape[options.dim], options.ignore_index)
    return logs.loss(logits, labels, fields_of(spec, logits), sample_weight, options)
