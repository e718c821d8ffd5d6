"""SciPy: ``scipy.special`` has the softmax and its logarithm, and no loss."""

from __future__ import annotations

import numpy as np

from .adapter import Adapter, Rows
from .framework import Framework

__all__ = ["SCIPY", "SciPy"]

SCIPY = Framework("scipy", part="scipy.special")


class SciPy(Adapter):
    """``scipy.special``: the loss is minus its log_softmax; there is no gradient."""

    name = "scipy"
    framework = SCIPY

    def __init__(self) -> None:
        self._special = SCIPY.load()

    def softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        return np.asarray(self._special.softmax(z, axis=axis))

    def log_softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        return np.asarray(self._special.log_softmax(z, axis=axis))

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        log_p = self.log_softmax(z)
        return np.asarray(-(y * log_p).sum(axis=1) if y.ndim == 2 else -log_p[np.arange(len(y)), y])
