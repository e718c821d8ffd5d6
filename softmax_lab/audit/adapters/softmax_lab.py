"""This package: its NumPy functions, its torch backend on a device, and its JAX functions."""

from __future__ import annotations

from typing import Any

from ...cross_entropy import cross_entropy, cross_entropy_grad
from ...log_cross_entropy import log_cross_entropy, log_cross_entropy_grad
from ...softmax import log_softmax, softmax
from ...spec import LossSpec
from .adapter import Adapter, Rows
from .framework import Framework, MissingFramework
from .jax import Jax
from .torch import Torch

__all__ = ["SOFTMAX_LAB", "JaxFunctions", "SoftmaxLab", "TorchKernels"]

SOFTMAX_LAB = Framework("softmax_lab")


class SoftmaxLab(Adapter):
    """This package on NumPy arrays."""

    name = "softmax_lab"
    framework = SOFTMAX_LAB

    def softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return softmax(z, axis=axis, where=where)

    def log_softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return log_softmax(z, axis=axis, where=where)

    def cross_entropy(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
    ) -> Rows:
        spec = _spec(label_smoothing, class_weight)
        value: Rows = cross_entropy(z, y, spec, reduction="none", where=where)
        return value

    def cross_entropy_grad(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
        upstream: Rows | None = None,
    ) -> Rows:
        spec = _spec(label_smoothing, class_weight)
        # what a row's loss is multiplied by afterwards is its weight
        return cross_entropy_grad(z, y, spec, reduction="none", sample_weight=upstream, where=where)[1]

    def log_cross_entropy(self, z: Rows, y: Rows) -> Rows:
        value: Rows = log_cross_entropy(z, y, reduction="none")
        return value

    def log_cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:
        return log_cross_entropy_grad(z, y, reduction="none")[1]


class TorchKernels(Torch):
    """This package's torch backend on a device, by default a GPU.

    Its kernels compute in float32, and take no float64. ``ADAPTERS`` does not have it, as it needs a device.
    """

    name = "softmax_lab.torch"
    dtypes = ("float16", "bfloat16", "float32")

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        if device == "cuda" and not self._torch.cuda.is_available():
            raise MissingFramework(
                "torch finds no GPU here; TorchKernels('cpu') runs the loops of the processor"
            )
        from ... import torch as slt

        self._device = device
        self._loss, self._softmax, self._log_softmax = slt.cross_entropy, slt.softmax, slt.log_softmax

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        spec = _spec(label_smoothing, class_weight)
        return self._loss(logits.requires_grad_(), self._tensor(y), spec, reduction="none")

    def _tensor(self, array: Rows) -> Any:
        return super()._tensor(array).to(self._device)

    def _numpy(self, tensor: Any) -> Rows:
        return super()._numpy(tensor.cpu())


class JaxFunctions(Jax):
    """This package on JAX arrays.

    Each call is compiled: as one program with ``jit``, else function by function. ``ADAPTERS`` has it not: it
    would come beside each audit of JAX.
    """

    name = "softmax_lab.jax"

    def __init__(self, *, jit: bool = False) -> None:
        super().__init__()
        from ... import jax as slj

        self._slj = slj
        self._softmax = lambda z, where=None, axis=-1: slj.softmax(z, where=where, axis=axis)
        self._log_softmax = lambda z, where=None, axis=-1: slj.log_softmax(z, where=where, axis=axis)
        self._losses, self._gradients = self._row_losses, self._row_gradients
        if jit:
            self._compile()

    def cross_entropy(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
    ) -> Rows:
        spec = _spec(label_smoothing, class_weight)
        return self._numpy(lambda *arrays: self._losses(*arrays, spec), z, y, where)

    def cross_entropy_grad(
        self,
        z: Rows,
        y: Rows,
        *,
        where: Rows | None = None,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
        upstream: Rows | None = None,
    ) -> Rows:
        spec = _spec(label_smoothing, class_weight)
        return self._numpy(lambda *arrays: self._gradients(*arrays, spec), z, y, upstream, where)

    def _row_losses(self, z: Any, y: Any, where: Any, spec: LossSpec) -> Any:
        return self._slj.cross_entropy(z, y, spec, reduction="none", where=where)

    def _row_gradients(self, z: Any, y: Any, upstream: Any, where: Any, spec: LossSpec) -> Any:
        return self._pulled_back(lambda logits: self._row_losses(logits, y, where, spec), z, upstream)


def _spec(label_smoothing: float, class_weight: Rows | None) -> LossSpec:
    return LossSpec(smoothing=label_smoothing, class_weight=1.0 if class_weight is None else class_weight)
