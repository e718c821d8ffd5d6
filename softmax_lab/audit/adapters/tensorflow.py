"""TensorFlow 2, eager and as graphs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .adapter import Adapter, Rows
from .framework import Framework, variable_set

__all__ = ["TENSORFLOW", "TensorFlow", "TensorFlowFunction"]

TENSORFLOW = Framework(
    "tensorflow",
    distributions=("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos"),
)


class TensorFlow(Adapter):
    """``tf.nn.softmax``, ``tf.nn.log_softmax`` and the two fused losses of ``tf.nn``, eager."""

    name = "tensorflow"
    framework = TENSORFLOW

    def __init__(self) -> None:
        with _quiet():
            self._tf = tf = TENSORFLOW.load()
            with tf.device("/CPU:0"):
                tf.constant(0.0)  # the first tensor looks for devices, and prints what it misses
        self._softmax: Any = lambda z, axis=-1: tf.nn.softmax(z, axis)
        self._log_softmax: Any = lambda z, axis=-1: tf.nn.log_softmax(z, axis)
        self._losses: Any = {1: self._indexed, 2: self._distributed}
        self._gradients: Any = {
            1: lambda z, y, upstream: self._gradient(self._indexed, z, y, upstream),
            2: lambda z, y, upstream: self._gradient(self._distributed, z, y, upstream),
        }

    def softmax(self, z: Rows, *, axis: int = -1) -> Rows:
        return self._numpy(lambda rows: self._softmax(rows, axis), z)

    def log_softmax(self, z: Rows, *, axis: int = -1) -> Rows:
        return self._numpy(lambda rows: self._log_softmax(rows, axis), z)

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._losses[y.ndim], z, y)

    def cross_entropy_grad(self, z: Rows, y: Rows, *, upstream: Rows | None = None) -> Rows:
        factors = np.ones(len(z), z.dtype) if upstream is None else upstream
        return self._numpy(self._gradients[y.ndim], z, y, factors)

    def _indexed(self, z: Any, y: Any) -> Any:
        return self._tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)

    def _distributed(self, z: Any, y: Any) -> Any:
        return self._tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z)

    def _gradient(self, loss: Callable[[Any, Any], Any], z: Any, y: Any, upstream: Any) -> Any:
        with self._tf.GradientTape() as tape:
            tape.watch(z)
            losses = loss(z, y)
        # tape.gradient sums over the rows; no row acts on another, so each keeps its own gradient
        return tape.gradient(losses, z, output_gradients=upstream)

    def _numpy(self, function: Callable[..., Any], *arrays: Rows) -> Rows:
        with self._tf.device("/CPU:0"):
            return np.asarray(function(*(self._tf.constant(array) for array in arrays)).numpy())


class TensorFlowFunction(TensorFlow):
    """The same as graphs, ``tf.function``, traced once a type for any shape; other axes are left out."""

    name = "tf.function"

    def __init__(self) -> None:
        super().__init__()
        self._softmax, self._log_softmax = (
            _ByDtype(self._traced(_of_rows(f), None)) for f in (self._softmax, self._log_softmax)
        )
        self._losses, self._gradients = (
            {
                ndim: _ByDtype(self._traced(function, ndim, with_upstream))
                for ndim, function in functions.items()
            }
            for functions, with_upstream in ((self._losses, False), (self._gradients, True))
        )

    def softmax(self, z: Rows) -> Rows:  # type: ignore[override]
        return self._numpy(self._softmax, z)

    def log_softmax(self, z: Rows) -> Rows:  # type: ignore[override]
        return self._numpy(self._log_softmax, z)

    def _traced(
        self, function: Callable[..., Any], target_ndim: int | None, with_upstream: bool = False
    ) -> Callable[[Any], Any]:
        """Return what makes the graph for one type of logits."""
        spec = self._tf.TensorSpec

        def trace(dtype: Any) -> Any:
            rows = spec([None, None], dtype)
            signature = [rows]
            if target_ndim is not None:
                signature.append(rows if target_ndim == 2 else spec([None], self._tf.int64))
            if with_upstream:
                signature.append(spec([None], dtype))
            return self._tf.function(function, input_signature=signature, autograph=False)

        return trace


def _of_rows(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda z: function(z)


class _ByDtype:
    """A function made anew for each type of its first argument."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build
        self._built: dict[Any, Any] = {}

    def __call__(self, z: Any, *rest: Any) -> Any:
        if z.dtype not in self._built:
            self._built[z.dtype] = self._build(z.dtype)
        return self._built[z.dtype](z, *rest)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what C++ writes to the error stream.

    TensorFlow's start prints a page about CUDA that no setting stops. It is shown after all where the import
    fails. Later warnings repeat errors that Python gets anyway: they follow a variable that TensorFlow reads
    once, at its start.
    """
    sys.stderr.flush()
    with variable_set("TF_CPP_MIN_LOG_LEVEL", "3"), _held_stream():
        yield


@contextlib.contextmanager
def _held_stream() -> Iterator[None]:
    """Keep the error stream back, and show it only with an exception."""
    with tempfile.TemporaryFile() as held:
        stream = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stream, held.read())
            raise
        finally:
            os.dup2(stream, 2)
            os.close(stream)
