"""Losses as modules, and what stands beside them: a monitor of their gradients, and a sum of parts."""

from __future__ import annotations

from .accumulator import LogMeanAccumulator
from .balanced import GradientBalancedLoss
from .deferred import DeferredReweighting
from .log_loss import LogCrossEntropyLoss
from .monitor import GradientMonitor
from .seesaw import SeesawLoss
from .softmax_loss import SoftmaxLoss

__all__ = [
    "DeferredReweighting",
    "GradientBalancedLoss",
    "GradientMonitor",
    "LogCrossEntropyLoss",
    "LogMeanAccumulator",
    "SeesawLoss",
    "SoftmaxLoss",
]
