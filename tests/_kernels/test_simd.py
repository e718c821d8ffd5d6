"""The lanes: every operation against NumPy, and memory beyond the mask untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the compiled loops need Numba")

from softmax_lab._kernels import simd  # noqa: E402

X = np.array([1.5, -2.0, 0.0, 3.25, np.inf, -np.inf, 1e300, -7.0])
Y = np.array([2.0, -2.0, -1.0, 3.5, 1.0, 1.0, 1e10, 4.0])
Z = np.array([0.5, 1.0, 2.0, -3.0, 1.0, 2.0, 1e290, 0.25])


@numba.njit
def _arithmetic(x: Any, y: Any, z: Any, out: Any) -> Any:
    a, b, c = simd.load(x, 0), simd.load(y, 0), simd.load(z, 0)
    simd.store(out, 0, a + b)
    simd.store(out, 8, a - b)
    simd.store(out, 16, a * b)
    simd.store(out, 24, a / b)
    simd.store(out, 32, simd.fma(a, b, c))
    simd.store(out, 40, simd.maximum(a, b))
    simd.store(out, 48, simd.where_less(a, b, c, a))
    simd.store(out, 56, simd.where_equal(a, b, c, a))
    simd.store(out, 64, simd.iota())
    simd.store(out, 72, simd.splat(2.5))


def test_arithmetic() -> None:
    out = np.empty(80)
    _arithmetic(X, Y, Z, out)
    with np.errstate(all="ignore"):
        expected = [
            X + Y,
            X - Y,
            X * Y,
            X / Y,
            X * Y + Z,
            np.maximum(X, Y),
            np.where(X < Y, Z, X),
            np.where(X == Y, Z, X),
            np.arange(8.0),
            np.full(8, 2.5),
        ]
    np.testing.assert_array_equal(out.reshape(10, 8), expected)


@numba.njit
def _reductions(x: Any) -> Any:
    return simd.sum_lanes(simd.load(x, 0)), simd.max_lanes(simd.load(x, 0))


def test_reductions_have_one_order() -> None:
    x = np.random.default_rng(0).normal(size=8)
    tree = ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    assert _reductions(x) == (tree, x.max())


@numba.njit
def _each_reduced(x: Any, sums: Any, singles: Any, out: Any) -> None:
    simd.store(sums, 0, simd.sum_of_each(x, 8))
    simd.store_singles(out, 0, simd.max_of_each(singles, 16))
    first, second = simd.two_largest_of_each(singles, 16, 272)
    simd.store_singles(out, 16, first)
    simd.store_singles(out, 32, second)


def test_vectors_are_reduced_together_in_the_same_order() -> None:
    """Lane i has what ``sum_lanes`` and ``max_lanes`` make of the i-th vector, to the bit."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=72) * 10.0 ** rng.integers(-8, 8, 72)
    rows = np.sort(rng.normal(size=(16, 2, 16)).astype(np.float32), axis=1)
    rows[3, 1, 5] = rows[3, 1, 9] = 7.0  # two lanes tie
    rows[6, :, 2] = 8.0  # within a lane
    rows[9] = -np.inf
    # nearer than any other of its lane: the second of the row is in the lane of the first
    rows[12, 1, 4], rows[12, 0, 4] = 9.0, 8.5
    singles = np.concatenate([np.zeros(16, np.float32), rows[:, 1].ravel(), rows[:, 0].ravel()])
    sums, out = np.empty(8), np.empty(48, np.float32)
    _each_reduced(x, sums, singles, out)
    assert sums.tolist() == [_reductions(x[8 + 8 * i : 16 + 8 * i])[0] for i in range(8)]
    ordered = np.sort(rows.reshape(16, 32), axis=1)
    assert out.reshape(3, 16).tolist() == [
        ordered[:, -1].tolist(),
        ordered[:, -1].tolist(),
        ordered[:, -2].tolist(),
    ]
    assert [ordered[row, -2] for row in (3, 6, 12)] == [7.0, 8.0, 8.5]


@numba.njit
def _maximum_of_nan(x: Any, y: Any, out: Any) -> None:
    simd.store(out, 0, simd.maximum(simd.load(x, 0), simd.load(y, 0)))


def test_maximum_passes_nan_over() -> None:
    out = np.empty(8)
    _maximum_of_nan(np.full(8, np.nan), Y, out)
    np.testing.assert_array_equal(out, Y)


@numba.njit
def _fused(out: Any) -> None:
    a = simd.splat(1.0 + 2.0**-30)
    simd.store(out, 0, simd.fma(a, a, simd.splat(-1.0 - 2.0**-29)))


def test_multiply_add_rounds_once() -> None:
    out = np.empty(8)
    _fused(out)
    assert (out == 2.0**-60).all()


@numba.njit
def _first(x: Any, out: Any, count: int) -> None:
    simd.store_first(out, 0, count, simd.load_first(x, 0, count, -1.0))
    simd.store(out, 8, simd.load_first(x, 0, count, -1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", range(1, 9))
def test_masked_memory(dtype: str, count: int) -> None:
    x = np.arange(1, 9).astype(dtype)
    out = np.full(16, 99).astype(dtype)
    _first(x[:count], out, count)  # nothing beyond the slice belongs to it
    np.testing.assert_array_equal(out[:8], [*range(1, count + 1), *[99] * (8 - count)])
    np.testing.assert_array_equal(out[8:], [*range(1, count + 1), *[-1] * (8 - count)])


@numba.njit
def _strided(x: Any, out: Any, stride: int, count: int) -> None:
    simd.store_strided(out, 1, stride, count, simd.load_strided(x, 1, stride, count))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_strided_memory_repeats_the_last_lane(count: int) -> None:
    x = np.arange(40, dtype=np.float32)
    out = np.full(40, -1, np.float32)
    _strided(x[: 2 + 5 * (count - 1)].copy(), out, 5, count)
    expected = np.full(40, -1, np.float32)
    expected[1 : 2 + 5 * (count - 1) : 5] = x[1 : 2 + 5 * (count - 1) : 5]
    np.testing.assert_array_equal(out, expected)
