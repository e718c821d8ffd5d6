"""The logarithm of a row's loss in lanes: against mpmath, and at the edges against the formula of one row."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the compiled loops need Numba")

from softmax_lab._kernels import log_terms, simd  # noqa: E402

INF, NAN = np.inf, np.nan


@numba.njit
def _in_lanes(z: Any, others: Any, d_y: Any, out: Any) -> None:
    for k in range(0, len(others), 8):
        found = log_terms.lane_log_terms(z, simd.load(others, k), simd.load(d_y, k), simd.splat(0.0))
        simd.store(out, 3 * k, found.high)
        simd.store(out, 3 * k + 8, found.low)
        simd.store(out, 3 * k + 16, found.slope)


@numba.njit
def _alone(others: float, d_y: float, out: Any) -> None:
    found = log_terms.log_terms(others, d_y, 0.0)
    out[0], out[1] = found.high, found.slope


def lanes(dtype: str, others: Any, d_y: Any) -> np.ndarray:
    """log l, its rounding error and h', one row each."""
    others, d_y = (
        np.ascontiguousarray(np.broadcast_to(x, np.broadcast_shapes(np.shape(others), np.shape(d_y))))
        for x in (others, d_y)
    )
    out = np.empty(3 * len(others))
    _in_lanes(np.empty(0, dtype), others.astype(float), d_y.astype(float), out)
    return out.reshape(-1, 3, 8).transpose(1, 0, 2).reshape(3, -1)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 33), ("float64", 50)])
def test_the_logarithm_and_its_derivative(dtype: str, bits: int) -> None:
    rng = np.random.default_rng(0)
    others = np.exp(rng.uniform(0, 12, 400))
    d_y = np.concatenate([rng.normal(0, 30, 200), rng.normal(0, 2, 100), 10.0 ** rng.uniform(-5, 30, 100)])
    high, low, slope = lanes(dtype, others, d_y)
    with mpmath.workdps(60):
        for total, d, a, b, derivative in zip(others, d_y, high, low, slope, strict=True):
            s = mpmath.log(mpmath.mpf(float(total))) - mpmath.mpf(float(d))
            loss = mpmath.log1p(mpmath.exp(s))
            # log softplus(s) = s - e^s / 2 + ...; of a smaller power no digit is left
            expected = s if s < -100 else mpmath.log(loss)
            bar = mpmath.mpf(2) ** -bits
            assert abs(mpmath.mpf(float(a)) + float(b) - expected) <= bar * max(1, min(abs(expected), 100))
            exact_slope = 1 if s < -100 else 1 / ((1 + mpmath.exp(-s)) * loss)
            assert abs(float(derivative) - exact_slope) <= 4 * bar * exact_slope


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("others", "d_y", "high", "slope"),
    [
        (0.0, 3.0, -INF, 0.0),  # no other class
        (5.0, -INF, INF, NAN),  # an impossible target
        (5.0, INF, NAN, NAN),
        (0.0, INF, NAN, NAN),
        (0.0, -INF, NAN, NAN),
        (NAN, 3.0, NAN, NAN),
        (5.0, NAN, NAN, NAN),
        (1.0, 1e38, -1e38, 1.0),
    ],
)
def test_at_the_edges_it_is_that_of_one_row(
    dtype: str, others: float, d_y: float, high: float, slope: float
) -> None:
    found = lanes(dtype, np.full(8, others), np.full(8, d_y))
    np.testing.assert_array_equal(found[0], np.full(8, high))
    np.testing.assert_array_equal(found[2], np.full(8, slope))
    alone = np.empty(2)
    _alone(others, d_y, alone)
    np.testing.assert_array_equal(alone, [high, slope])


def test_the_series_for_narrower_types_is_the_recipes() -> None:
    assert log_terms.single_coefficients(5) == list(log_terms.A_SINGLE)
