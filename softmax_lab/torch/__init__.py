"""The loss family for torch: ``import softmax_lab.torch as slt``."""

from __future__ import annotations

from . import _setup as _setup  # before anything imports torch
from . import functional, parallel
from .cross_entropy import cross_entropy
from .linear import linear_cross_entropy
from .log_cross_entropy import log_cross_entropy
from .log_prob import LinearLogProb, linear_log_prob
from .lost_gradient import LostGradient, lost_gradient
from .modules import (
    DeferredReweighting,
    GradientBalancedLoss,
    GradientMonitor,
    LogCrossEntropyLoss,
    LogMeanAccumulator,
    SeesawLoss,
    SoftmaxLoss,
)
from .patching import Patch, patch, patched
from .softmax import log_softmax, softmax

__all__ = [
    "DeferredReweighting",
    "GradientBalancedLoss",
    "GradientMonitor",
    "LinearLogProb",
    "LogCrossEntropyLoss",
    "LogMeanAccumulator",
    "LostGradient",
    "Patch",
    "SeesawLoss",
    "SoftmaxLoss",
    "cross_entropy",
    "functional",
    "linear_cross_entropy",
    "linear_log_prob",
    "log_cross_entropy",
    "log_softmax",
    "lost_gradient",
    "parallel",
    "patch",
    "patched",
    "softmax",
]
