"""The loops of other precisions: what each is good for, and that they do not see how long a row is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled loops need Numba")

import softmax_lab as sl
from experiments.benchmarks import _rounding_loops
from softmax_lab._ulp import ulp_distance

#: the largest error in ulp on normal rows, and what it must be beyond
BOUNDS = {"wide": (0.502, 0.0), "single": (2.5, 0.7), "shifted": (30.0, 2.5)}
LENGTHS = (1, 7, 8, 16, 33, 1000)


def _results(name: str, z: Any, y: Any) -> dict[str, Any]:
    loops, (n, k) = _rounding_loops.LOOPS[name], z.shape
    flat, found = z.reshape(-1), {}
    for task in ("softmax", "log_softmax"):
        out = np.full(z.shape, np.nan, np.float32)
        getattr(loops, task)(flat, out.reshape(-1), k, 0, n)
        found[task] = out
    values, losses, gradient = np.empty(n), np.empty(n), np.full(z.shape, np.nan, np.float32)
    loops.logsumexp(flat, values, k, 0, n)
    loops.loss(flat, gradient.reshape(-1), losses, y, 1.0, k, 0, n)
    return found | {"logsumexp": values, "loss": losses, "gradient": gradient}


def _wanted(z: Any, y: Any) -> dict[str, Any]:
    wide = z.astype(np.float64)
    value, gradient = sl.cross_entropy_grad(wide, y, reduction="none")
    found = {name: getattr(sl, name)(wide) for name in ("softmax", "log_softmax", "logsumexp")}
    return found | {"loss": value, "gradient": gradient}


def _rows(k: int, n: int = 40) -> tuple[Any, Any]:
    rng = np.random.default_rng(k)
    return 2 * rng.standard_normal((n, k), dtype=np.float32), rng.integers(0, k, n)


@pytest.mark.parametrize("name", _rounding_loops.LOOPS)
def test_each_computes_the_same_but_for_its_roundings(name: str) -> None:
    for k in LENGTHS:
        z, y = _rows(k)
        found, wanted = _results(name, z, y), _wanted(z, y)
        for task, exact in wanted.items():
            np.testing.assert_allclose(found[task], exact, rtol=3e-6, atol=3e-6, err_msg=f"{task}, {k}")


@pytest.mark.parametrize("name", _rounding_loops.LOOPS)
def test_errors_are_those_of_the_precision(name: str) -> None:
    z, y = _rows(1000)
    exact = _wanted(z, y)["softmax"]
    found = _results(name, z, y)["softmax"]
    most, least = BOUNDS[name]
    assert least < ulp_distance(found, exact, np.zeros_like(exact), found.dtype).max() <= most


def test_only_the_wide_loop_keeps_the_digits_of_confident_rows() -> None:
    z = np.zeros((1, 40), np.float32)
    z[0, 3] = 30.0
    y = np.array([3])
    exact = _wanted(z, y)
    for name in _rounding_loops.LOOPS:
        found = _results(name, z, y)
        for task in ("log_softmax", "gradient"):
            right = found[task][0, 3] == np.float32(exact[task][0, 3])
            assert right == (name == "wide"), f"{task} of {name}"
