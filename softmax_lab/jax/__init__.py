"""The loss family for JAX, Flax and Keras on JAX: ``import softmax_lab.jax as slj``."""

from __future__ import annotations

from . import _installed as _installed  # before anything imports jax
from .cross_entropy import cross_entropy
from .linear import linear_cross_entropy
from .log_cross_entropy import log_cross_entropy
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "cross_entropy",
    "linear_cross_entropy",
    "log_cross_entropy",
    "log_softmax",
    "logsumexp",
    "softmax",
]
