"""The ways in for the log of the mean loss."""

from __future__ import annotations

from torch import Tensor

from ...spec import LossSpec
from .._base.checks import values_at_hand
from .._base.labels import checked
from .._base.options import Options
from .._formula import logs
from .._formula.fields import SpecTensors, fields_of

__all__ = ["loss"]


def loss(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec | SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the log of the mean loss, of checked arguments."""
    values_at_hand(logits, target, sample_weight, options)
    labels = checked(target, logits.shape[options.dim], options.ignore_index)
    return logs.loss(logits, labels, fields_of(spec, logits), sample_weight, options)
