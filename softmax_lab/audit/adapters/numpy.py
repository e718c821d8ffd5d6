"""NumPy: it has no softmax of its own, so this is what textbooks write with it."""

from __future__ import annotations

import numpy as np

from .adapter import Adapter, Rows
from .framework import Framework

__all__ = ["NUMPY", "Textbook"]

NUMPY = Framework("numpy")


class Textbook(Adapter):
    """The softmax with the maximum subtracted, then its logarithm, all in the type of the logits."""

    name = "numpy"
    framework = NUMPY

    def softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        with np.errstate(all="ignore"):
            e = np.exp(z - z.max(axis=axis, keepdims=True))
            return np.asarray(e / e.sum(axis=axis, keepdims=True))

    def log_softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        with np.errstate(all="ignore"):
            return np.log(self.softmax(z, axis=axis))

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        with np.errstate(all="ignore"):
            if y.ndim == 2:
                return np.asarray(-(y * np.log(self.softmax(z))).sum(axis=1))
            return -np.log(self.softmax(z)[np.arange(len(y)), y])

    def cross_entropy_grad(self, z: Rows, y: Rows, *, upstream: Rows | None = None) -> Rows:
        gradient = self.softmax(z)
        if y.ndim == 2:
            gradient = gradient - y
        else:
            gradient[np.arange(len(y)), y] -= 1
        return gradient if upstream is None else gradient * upstream[:, None]
