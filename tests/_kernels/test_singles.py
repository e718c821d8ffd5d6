"""Float32 in sixteen lanes: long and short rows against the oracle, and alike wherever a row stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled loops need Numba")

import softmax_lab as sl
from softmax_lab._kernels import exponential, long_rows, short_rows, short_singles, transform
from softmax_lab._ulp import ulp_distance
from softmax_lab.audit.values import exact_values

# at the ends of vectors, of four vectors, of tiles, of the ways to hold a row, and of chunks
LENGTHS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 100, 128, 129, 383, 384, 385, 447, 500, 512, 2048, 2049, 5000)
ROWS = 5


def _normal(scale: float, shift: float = 0.0) -> Callable[[Any, int], np.ndarray]:
    return lambda rng, k: scale * rng.standard_normal((ROWS, k)) + shift


def _confident(rng: Any, k: int) -> np.ndarray:
    z = rng.standard_normal((ROWS, k))
    z[:, k // 2] += np.geomspace(3, 90, ROWS)
    return z


def _at_the_limit(rng: Any, k: int) -> np.ndarray:
    """The others add up to about a quarter of the maximum, where the way to its logarithm changes."""
    z = np.log(rng.uniform(0.5, 1.5, (ROWS, k)))
    others = np.exp(z[:, 1:]).sum(axis=1) + 1e-300  # one class has none
    z += np.log(np.geomspace(0.2499999, 0.2500001, ROWS) / others)[:, None]
    z[:, 0] = 0.0
    return z + rng.standard_normal((ROWS, 1))


def _with_nothing(rng: Any, k: int) -> np.ndarray:
    z = rng.standard_normal((ROWS, k))
    z[:, 1::3] = -np.inf
    return z


KINDS: dict[str, Callable[[Any, int], np.ndarray]] = {
    "normal": _normal(2),
    "wide": _normal(15),
    "tiny": _normal(1e-6),
    "far up": _normal(3, 4000),
    "far down": _normal(3, -300),
    "too large": _normal(1e6),
    "tied": lambda rng, k: np.round(rng.standard_normal((ROWS, k))),
    "alike": lambda rng, k: np.repeat(3 * rng.standard_normal((ROWS, 1)), k, axis=1),
    "confident": _confident,
    "at the limit": _at_the_limit,
    "some impossible": _with_nothing,
}


#: of smaller results the products that are added are no normal numbers, and lose digits
SMALLEST = 2.0**-120


def _largest_error(found: np.ndarray, exact: Any) -> float:
    errors = ulp_distance(found, exact.high, exact.low, found.dtype)
    assert errors.max() <= 1.5
    return float(errors[np.abs(exact.high) > SMALLEST].max(initial=0.0))


def _logits(kind: str, k: int) -> np.ndarray:
    z: np.ndarray = KINDS[kind](np.random.default_rng(k), k).astype(np.float32)
    return z


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_maps_are_within_an_ulp(name: str, kind: str) -> None:
    for k in LENGTHS:
        z = _logits(kind, k)
        exact = exact_values(name, z)
        assert _largest_error(getattr(sl, name)(z), exact) <= 1.0, f"{k} classes"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_within_an_ulp(kind: str) -> None:
    for k in LENGTHS:
        z = _logits(kind, k)
        y = np.where(np.arange(ROWS) % 2 == 0, z.argmax(axis=1), np.arange(ROWS) % k)
        exact = exact_values("cross_entropy_grad", z, y)
        found = sl.cross_entropy_grad(z, y, reduction="sum")[1]
        assert _largest_error(found, exact) <= 1.0, f"{k} classes"


def _results(z: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    value, gradient = sl.cross_entropy_grad(z, y, reduction="none")
    return [sl.softmax(z), sl.log_softmax(z), sl.logsumexp(z), value, gradient]


@pytest.mark.parametrize("k", [1, 3, 10, 16, 17, 70, 128, 384, 385, 3000])
def test_a_row_is_the_same_wherever_it_stands(k: int) -> None:
    rng = np.random.default_rng(k)
    z = (4 * rng.standard_normal((37, k))).astype(np.float32)
    # neighbours that go ways of their own
    z[3], z[7, 0], z[11] = z[3] * np.float32(1e5), np.nan, -np.inf
    z[20, k // 2], z[25] = np.inf, z[25] - np.float32(9000)
    y = rng.integers(0, k, 37)
    y[5] = -100
    with np.errstate(invalid="ignore"):
        together = _results(z, y)
        for first, last in ((0, 1), (5, 6), (8, 37), (16, 32), (19, 22)):
            for whole, part in zip(together, _results(z[first:last], y[first:last]), strict=True):
                np.testing.assert_array_equal(part, whole[first:last])


@pytest.mark.parametrize("k", [2, 3, 10, 17, 100, 384, 390, 3000, 70_000])
def test_results_may_take_the_place_of_the_logits(k: int) -> None:
    z = (3 * np.random.default_rng(k).standard_normal((5, k))).astype(np.float32)
    y = np.arange(5) % k
    for run in (
        lambda x, out: sl.softmax(x, out=out),
        lambda x, out: sl.log_softmax(x, out=out),
        lambda x, out: sl.cross_entropy_grad(x, y, out=out),
        lambda x, out: sl.cross_entropy_grad(x, y, sl.losses.label_smoothing(0.1), out=out),
    ):
        apart, same = np.empty_like(z), z.copy()
        run(z, apart)
        run(same, same)
        np.testing.assert_array_equal(same, apart)


@pytest.mark.parametrize("k", [10, 40, 1000])
@pytest.mark.parametrize("factor", [2.0**16, 1e6, 1e-25])
def test_nothing_is_lost_before_the_factor(k: int, factor: float) -> None:
    """An exponential of 2^-140 is hardly a float32, and with a factor of 2^16 it is a gradient."""
    z = np.zeros((3, k), np.float32)
    z[:, 1:] = [[-80.0], [-97.0], [-20.0]]
    y = np.zeros(3, np.int64)
    value, gradient = sl.cross_entropy_grad(z, y, reduction="sum", sample_weight=np.full(3, factor))
    wide = sl.cross_entropy_grad(z.astype(np.float64), y, reduction="sum", sample_weight=np.full(3, factor))
    assert float(value) == pytest.approx(float(wide[0]), rel=1e-6)
    np.testing.assert_allclose(gradient, wide[1], rtol=1e-6, atol=2.0**-148)
    assert gradient[2, 1] > 0
    assert factor < 1 or (gradient[:, 1] > 0).all()


def test_the_ways_to_hold_a_row_are_all_tried() -> None:
    assert short_singles.ACROSS in LENGTHS
    assert short_rows.MOST_IN_SINGLES in LENGTHS
    assert transform.CHUNK in LENGTHS
    assert max(LENGTHS) > long_rows.CHUNK


def test_the_coefficients_come_from_the_recipe() -> None:
    found = exponential.single_coefficients(4)
    np.testing.assert_allclose(found, exponential.P_SINGLE, rtol=3e-4)
    half = exponential.LOG_2 / 2
    r = np.linspace(-half, half, 10_001)
    errors = [
        np.abs((1 + r + r**2 * np.polyval(p, r)) / np.exp(r) - 1).max() for p in (found, exponential.P_SINGLE)
    ]
    assert max(errors) < 2.0**-27.9
