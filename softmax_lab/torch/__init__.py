"""The loss family for torch: ``import softmax_lab.torch as slt``."""

from __future__ import annotations

from . import _installed as _installed  # before anything imports torch
from . import _onnx as _onnx  # torch's ONNX exporter looks them up
from . import _team as _team  # before the first loop runs
from . import functional, parallel
from .balanced import GradientBalancedLoss
from .cross_entropy import cross_entropy
from .linear import linear_cross_entropy
from .modules import DeferredReweighting, SeesawLoss, SoftmaxLoss
from .monitor import GradientMonitor
from .softmax import log_softmax, softmax

__all__ = [
    "DeferredReweighting",
    "GradientBalancedLoss",
    "GradientMonitor",
    "SeesawLoss",
    "SoftmaxLoss",
    "cross_entropy",
    "functional",
    "linear_cross_entropy",
    "log_softmax",
    "parallel",
    "softmax",
]
