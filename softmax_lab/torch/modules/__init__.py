"""Losses as modules, and a monitor of their gradients."""

from __future__ import annotations

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
    "SeesawLoss",
    "SoftmaxLoss",
]
