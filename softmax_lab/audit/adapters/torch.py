"""PyTorch, eager and compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np

from ..._extras import bfloat16
from ..subject import first_line
from .adapter import Adapter, Rows
from .framework import Framework, MissingFramework

__all__ = ["TORCH", "Torch", "TorchCompiled"]

TORCH = Framework("torch")


class Torch(Adapter):
    """``torch.softmax``, ``torch.log_softmax`` and ``torch.nn.functional.cross_entropy``, eager."""

    name = "torch"
    framework = TORCH

    def __init__(self) -> None:
        self._torch = torch = TORCH.load()
        self._loss: Any = torch.nn.functional.cross_entropy
        self._softmax: Any = torch.softmax
        self._log_softmax: Any = torch.log_softmax

    def softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        return self._numpy(self._softmax(self._tensor(z), axis))

    def log_softmax(self, z: Rows, *, axis: int = 1) -> Rows:
        return self._numpy(self._log_softmax(self._tensor(z), axis))

    def cross_entropy(
        self, z: Rows, y: Rows, *, label_smoothing: float = 0.0, class_weight: Rows | None = None
    ) -> Rows:
        return self._numpy(self._losses(self._tensor(z), y, label_smoothing, class_weight).detach())

    def cross_entropy_grad(
        self,
        z: Rows,
        y: Rows,
        *,
        label_smoothing: float = 0.0,
        class_weight: Rows | None = None,
        upstream: Rows | None = None,
    ) -> Rows:
        logits = self._tensor(z)
        losses = self._losses(logits, y, label_smoothing, class_weight)
        factors = self._torch.ones_like(losses)
        if upstream is not None:
            factors = self._tensor(upstream).to(factors)
        return self._numpy(self._torch.autograd.grad(losses, logits, factors)[0])

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        keywords: dict[str, Any] = {"reduction": "none"}
        if label_smoothing:
            keywords["label_smoothing"] = label_smoothing
        if class_weight is not None:
            keywords["weight"] = self._torch.tensor(class_weight, dtype=logits.dtype)
        # the value too is taken with the graph of its gradient: training runs that, and it spares a
        # compilation
        return self._loss(logits.requires_grad_(), self._tensor(y), **keywords)

    def _tensor(self, array: Rows) -> Any:
        """Share memory where torch can.

        Torch takes no negative strides, and warns of read-only arrays.
        """
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.copy()
        if array.dtype.name == "bfloat16":
            return self._torch.from_numpy(array.view(np.int16)).view(self._torch.bfloat16)
        return self._torch.from_numpy(array)

    def _numpy(self, tensor: Any) -> Rows:
        if tensor.dtype == self._torch.bfloat16:
            return np.asarray(tensor.view(self._torch.int16).numpy()).view(bfloat16())
        return np.asarray(tensor.numpy())


class TorchCompiled(Torch):
    """The same under ``torch.compile(dynamic=True)``; needs a C++ compiler.

    A compilation takes seconds. Torch makes one for every type, memory layout, and size of 1. So soft
    targets, smoothing, weights, other axes and a single class are left to the eager adapter. Logits are made
    contiguous, and one row is computed beside a copy of itself.
    """

    name = "torch.compile"
    compiled_in = "processes"  # torch compiles one program at a time, however many threads ask
    sharing = MappingProxyType({"cross_entropy_grad": "cross_entropy"})

    def __init__(self) -> None:
        super().__init__()
        self._compiled_before = self._compilations()
        loss = self._loss
        self._softmax, self._log_softmax, self._loss = (
            _ByDtype(self._compiled(function))
            for function in (
                lambda z, axis: self._torch.softmax(z, dim=axis),
                lambda z, axis: self._torch.log_softmax(z, dim=axis),
                lambda z, y: loss(z, y, reduction="none"),
            )
        )
        try:
            self.softmax(np.zeros((2, 3), np.float32))
        except Exception as error:  # whatever a broken tool chain raises
            raise MissingFramework(
                f"torch.compile does not work here (it needs a C++ compiler): {first_line(error)}"
            ) from error

    def _compiled(self, function: Callable[..., Any]) -> Callable[[], Any]:
        """Return what compiles the function anew.

        Torch makes at most eight programs of a function's code, and runs further ones eagerly, or, of a full
        graph, raises an error. So each compiled function has code of its own.
        """

        def compiled() -> Any:
            return self._torch.compile(_with_own_code(function), dynamic=True, fullgraph=True)

        return compiled

    def program(self, z: Rows, y: Rows | None = None, **keywords: Any) -> Hashable:
        return z.shape, None if y is None else y.strides

    def compiles(self) -> bool:
        return self._compilations() > self._compiled_before

    def environment(self) -> dict[str, str]:
        # the number of threads stands in the programs; no pool of compilers is wanted in each process
        return {
            "OMP_NUM_THREADS": str(self._torch.get_num_threads()),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }

    def _compilations(self) -> int:
        """Return how many programs this process has looked for in torch's cache on disk, and not found."""
        counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
        return int(counters.get("inductor", {}).get("fxgraph_cache_miss", 0))

    def softmax(self, z: Rows) -> Rows:  # type: ignore[override]
        return super().softmax(_two_by_two(z))[: len(z)]

    def log_softmax(self, z: Rows) -> Rows:  # type: ignore[override]
        return super().log_softmax(_two_by_two(z))[: len(z)]

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:  # type: ignore[override]
        return super().cross_entropy(_two_by_two(z), _two_labels(y))[: len(z)]

    def cross_entropy_grad(  # type: ignore[override]
        self, z: Rows, y: Rows, *, upstream: Rows | None = None
    ) -> Rows:
        factors = None if upstream is None else _two_labels(upstream)
        return super().cross_entropy_grad(_two_by_two(z), _two_labels(y), upstream=factors)[: len(z)]

    def _losses(self, logits: Any, y: Rows, label_smoothing: float, class_weight: Rows | None) -> Any:
        return self._loss(logits.requires_grad_(), self._tensor(y))


class _ByDtype:
    """A function that is compiled apart for each type of its first argument."""

    def __init__(self, compiled: Callable[[], Any]) -> None:
        self._compiled = compiled
        self._functions: dict[Any, Any] = {}

    def __call__(self, z: Any, *rest: Any) -> Any:
        if z.dtype not in self._functions:
            self._functions[z.dtype] = self._compiled()
        return self._functions[z.dtype](z, *rest)


def _with_own_code(function: Any) -> Any:
    """Return the same function with a copy of its code."""
    code = function.__code__.replace()
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def _two_by_two(z: Rows) -> Rows:
    """Return contiguous rows, at least two, and refuse a single class."""
    if z.shape[1] == 1:
        raise NotImplementedError("a single class is audited with the eager adapter")
    return np.ascontiguousarray(np.repeat(z, 2, axis=0) if len(z) == 1 else z)


def _two_labels(y: Rows) -> Rows:
    """Return at least two labels, and refuse distributions."""
    if y.ndim == 2:
        raise NotImplementedError("soft targets are audited with the eager adapter")
    return np.repeat(y, 2) if len(y) == 1 else y
