"""What the tests of the JAX face share: problems, and 64-bit types for the length of a test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab import LossSpec
from tests.specs import K

N = 5
COUNTS = np.array([500, 120, 40, 12, 9, 1])


def with_64_bits() -> AbstractContextManager[Any]:
    """Switch 64-bit types on: newer releases have it at the top."""
    switch: Callable[[bool], AbstractContextManager[Any]] = (
        jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # type: ignore[attr-defined]
    )
    return switch(True)


class Problem(NamedTuple):
    """Logits (N, K), targets, and a weight a row."""

    logits: NDArray[Any]
    target: NDArray[Any]
    sample_weight: NDArray[Any]


def problem(dtype: Any = np.float64, *, soft: bool = False) -> Problem:
    """Return rows, of which one is ignored where targets are class indices."""
    rng = np.random.default_rng(0)
    logits = (3.0 * rng.standard_normal((N, K))).astype(dtype)
    labels = np.array([*rng.integers(0, K, N - 1), -100])
    target = rng.dirichlet(np.ones(K), N) if soft else labels
    return Problem(logits, target, rng.uniform(0.5, 2.0, N))


def registered(name: str) -> LossSpec:
    """Return the registered loss with counts or weights for K classes."""
    factory = sl.losses.REGISTRY[name]
    given = {"counts": COUNTS, "class_weight": np.linspace(0.5, 2.0, K)}
    return factory(
        **{key: value for key, value in given.items() if key in inspect.signature(factory).parameters}
    )
