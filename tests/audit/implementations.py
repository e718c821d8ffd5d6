"""Implementations under the audit's names that have nothing wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

import softmax_lab as sl
from softmax_lab import LossSpec
from softmax_lab.audit.values import exact_values

Array = np.ndarray


class Good:
    """The package under the audit's names: what the faults are planted in."""

    def softmax(self, z: Array, where: Array | None = None, axis: int = -1) -> Array:
        return sl.softmax(z, where=where, axis=axis)

    def log_softmax(self, z: Array, where: Array | None = None, axis: int = -1) -> Array:
        return sl.log_softmax(z, where=where, axis=axis)

    def cross_entropy(
        self,
        z: Array,
        y: Array,
        label_smoothing: float = 0.0,
        class_weight: Any = 1.0,
        where: Array | None = None,
    ) -> Array:
        spec = LossSpec(smoothing=label_smoothing, class_weight=class_weight)
        return np.asarray(sl.cross_entropy(z, y, spec, reduction="none", where=where))

    def cross_entropy_grad(
        self,
        z: Array,
        y: Array,
        label_smoothing: float = 0.0,
        class_weight: Any = 1.0,
        where: Array | None = None,
        upstream: Array | None = None,
    ) -> Array:
        spec = LossSpec(smoothing=label_smoothing, class_weight=class_weight)
        return sl.cross_entropy_grad(z, y, spec, reduction="none", sample_weight=upstream, where=where)[1]

    def log_cross_entropy(self, z: Array, y: Array) -> Array:
        return np.asarray(sl.log_cross_entropy(z, y, reduction="none"))

    def log_cross_entropy_grad(self, z: Array, y: Array) -> Array:
        return sl.log_cross_entropy_grad(z, y, reduction="none")[1]


class ExactlyRounded:
    """The oracle itself, rounded: what no implementation can beat must pass whole."""

    def _call(self, function: str, z: Array, y: Array | None = None) -> Array:
        if z.shape[1] > 10_000 or len(z) > 1000:
            raise NotImplementedError("the oracle would take minutes")
        if y is not None and y.ndim == 1 and ((y < 0) | (y >= z.shape[1])).any():
            raise IndexError("label out of range")
        exact = exact_values(function, z, y)
        return exact.high + exact.low

    def softmax(self, z: Array) -> Array:
        return self._call("softmax", z)

    def log_softmax(self, z: Array) -> Array:
        return self._call("log_softmax", z)

    def cross_entropy(self, z: Array, y: Array) -> Array:
        return self._call("cross_entropy", z, y)

    def cross_entropy_grad(self, z: Array, y: Array) -> Array:
        return self._call("cross_entropy_grad", z, y)

    def log_cross_entropy(self, z: Array, y: Array) -> Array:
        return self._call("log_cross_entropy", z, y)

    def log_cross_entropy_grad(self, z: Array, y: Array) -> Array:
        return self._call("log_cross_entropy_grad", z, y)
