"""JAX, eager and compiled."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .adapter import Adapter, Rows
from .framework import Framework, variable_set

__all__ = ["JAX", "Jax", "JaxJit"]

JAX = Framework("jax")


class Jax(Adapter):
    """``jax.nn.softmax``, ``jax.nn.log_softmax``, and the losses that Optax writes with them, eager.

    JAX has no cross-entropy of its own. 64-bit types are switched on for the length of a call with float64
    logits.
    """

    name = "jax"
    framework = JAX
    compiled_in = "threads"

    def __init__(self) -> None:
        # JAX would set this for good, and TensorFlow, made after it, would print its warnings
        with variable_set("TF_CPP_MIN_LOG_LEVEL", "1"):
            self._jax = jax = JAX.load()
        self._softmax: Any = lambda z, where=None, axis=-1: jax.nn.softmax(z, axis=axis, where=where)
        self._log_softmax: Any = lambda z, where=None, axis=-1: jax.nn.log_softmax(z, axis=axis, where=where)
        self._losses: Any = self._loss
        self._gradients: Any = self._gradient

    def softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return self._along(self._softmax, z, where, axis)

    def log_softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return self._along(self._log_softmax, z, where, axis)

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return self._numpy(self._losses, z, y)

    def cross_entropy_grad(self, z: Rows, y: Rows, *, upstream: Rows | None = None) -> Rows:
        return self._numpy(self._gradients, z, y, upstream)

    def program(self, z: Rows, y: Rows | None = None, **keywords: Any) -> Hashable:
        if keywords.get("axis", -1) == -1:
            rows = _batch(z)
            z, y = _filled(z, rows), None if y is None else _filled(y, rows)
        return super().program(z, y, **keywords)

    def _loss(self, z: Any, y: Any) -> Any:
        log_p = self._jax.nn.log_softmax(z, axis=-1)
        if y.ndim == 2:
            return -self._jax.numpy.sum(y * log_p, axis=-1)
        column = self._jax.numpy.expand_dims(y, -1)
        return -self._jax.numpy.squeeze(self._jax.numpy.take_along_axis(log_p, column, axis=-1), -1)

    def _gradient(self, z: Any, y: Any, upstream: Any) -> Any:
        return self._pulled_back(lambda logits: self._loss(logits, y), z, upstream)

    def _pulled_back(self, losses_of: Callable[[Any], Any], z: Any, upstream: Any) -> Any:
        losses, pull_back = self._jax.vjp(losses_of, z)
        jnp = self._jax.numpy
        return pull_back(jnp.ones_like(losses) if upstream is None else upstream.astype(losses.dtype))[0]

    def _along(self, function: Callable[..., Any], z: Rows, where: Rows | None, axis: int) -> Rows:
        return self._numpy(lambda *arrays: function(*arrays, axis=axis), z, where, fill=axis == -1)

    def _numpy(self, function: Callable[..., Any], z: Rows, *others: Rows | None, fill: bool = True) -> Rows:
        jax = self._jax
        with jax.default_device(jax.devices("cpu")[0]), _enable_x64(jax)(z.dtype == np.float64):
            rows = _batch(z) if fill else 0
            filled = (
                None if array is None else jax.numpy.asarray(_filled(array, rows)) for array in (z, *others)
            )
            return np.asarray(function(*filled))[: len(z)]

    def _compile(self) -> None:
        """Compile the four functions, once a shape and type."""
        self._softmax, self._log_softmax = (
            self._jax.jit(function, static_argnames="axis") for function in (self._softmax, self._log_softmax)
        )
        self._losses, self._gradients = map(self._jax.jit, (self._losses, self._gradients))


def _batch(z: Rows) -> int:
    """Return how many rows a short batch is filled up to.

    XLA compiles each shape afresh, eager or not, in 0.1 s to 1 s. A single row stays alone: a row in a batch
    and the same row by itself are still two programs. XLA unrolls the loops of a few dozen rows, which takes
    it longer than the loop over 256. Few batches have long rows: those cost more filled than compiled.
    """
    return 256 if len(z) > 1 and z.shape[1] <= 1000 else 0


def _filled(array: Rows, rows: int) -> Rows:
    """Fill an array up to a number of rows with copies of its last one."""
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


class JaxJit(Jax):
    """The same under ``jax.jit``, compiled once a shape and type."""

    name = "jax.jit"

    def __init__(self) -> None:
        super().__init__()
        self._compile()


def _enable_x64(jax: Any) -> Any:
    """Return the context manager that switches 64-bit types on and off: older releases keep it elsewhere."""
    return (
        jax.enable_x64
        if hasattr(jax, "enable_x64")
        else importlib.import_module("jax.experimental").enable_x64
    )
