"""exp, log1p, log and powers of the lanes against the oracle, and their coefficients against the recipe."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the compiled loops need Numba")

from softmax_lab import exact  # noqa: E402
from softmax_lab._kernels import exponential, relative, simd, transform  # noqa: E402


@numba.njit
def _shifted(z: Any, peak: float, out: Any) -> None:
    source = transform.Source(None, z, None, None, None, None)
    for k in range(0, len(z), 8):
        classes = transform.Classes(0, 0, k, 8, k)
        simd.store(out, k, relative.relative(source, classes, simd.splat(peak))[1])


@numba.njit
def _log1p(x: Any, out: Any) -> None:
    for k in range(0, len(x), 8):
        simd.store(out, k, exponential.log1p(simd.load(x, k)))


def _exp(z: np.ndarray, peak: float) -> np.ndarray:
    out = np.empty(len(z))
    _shifted(z, peak, out)
    return out


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 33), ("float64", 52.5)])
def test_relative_error(dtype: str, bits: float) -> None:
    z = -np.abs(np.random.default_rng(0).normal(0, 25, 8000)).astype(dtype)
    z = z[z > -87]
    z = z[: len(z) // 8 * 8]
    peak = float(np.array(3.7, dtype))
    computed = _exp(z, peak)
    with mpmath.workdps(60):
        errors = [
            abs(mpmath.mpf(c) / mpmath.exp(mpmath.mpf(float(x)) - peak) - 1)
            for c, x in zip(computed, z, strict=True)
            if c > 1e-37
        ]
        assert max(errors) < mpmath.mpf(2) ** -bits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_arguments(dtype: str) -> None:
    z = np.array([0.0, -np.inf, np.nan, -1e30, -0.0, -100000.0, -1.0, 0.0], dtype)
    result = _exp(z, 0.0)
    np.testing.assert_array_equal(result[[0, 1, 2, 3, 4, 5, 7]], [1.0, 0.0, np.nan, 0.0, 1.0, 0.0, 1.0])


def test_a_nan_with_any_payload_is_a_nan() -> None:
    z = np.full(8, 0x7FF8000000000FFF, np.uint64).view(np.float64)
    assert np.isnan(_exp(z, 0.0)).all()
    z32 = np.full(8, 0x7FC00FFF, np.uint32).view(np.float32)
    assert np.isnan(_exp(z32, 0.0)).all()


def test_the_smallest_normal_is_the_end() -> None:
    z = np.full(8, exponential.LOWEST_DOUBLE)
    assert _exp(z, 0.0)[0] == pytest.approx(np.finfo(float).tiny, rel=1e-12)
    assert _exp(np.nextafter(z, -np.inf), 0.0)[0] == 0


def test_log1p_within_an_ulp() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            10.0 ** rng.uniform(-300, 8, 4000),
            rng.uniform(0, 3, 3992),
            [0.0, 5e-324, 1.0, 2.0, 3.0, np.nan, 1e7, 1e-16],
        ]
    )
    out = np.empty_like(x)
    _log1p(x, out)
    with mpmath.workdps(exact.DIGITS):
        expected = [mpmath.log1p(mpmath.mpf(float(v))) for v in x]
    assert exact.ulp_error(out, expected).max() <= 1.0


@numba.njit
def _log(x: Any, high: Any, low: Any) -> None:
    for k in range(0, len(x), 8):
        a, b = exponential.log(simd.load(x, k))
        simd.store(high, k, a)
        simd.store(low, k, b)


@numba.njit
def _power(x: Any, p: float, p_low: float, out: Any) -> None:
    for k in range(0, len(x), 8):
        simd.store(out, k, exponential.power(simd.load(x, k), simd.splat(p), simd.splat(p_low)))


def _between_0_and_1() -> np.ndarray:
    """Of every size, near 1, and where the mantissa changes its exponent."""
    rng = np.random.default_rng(3)
    half = np.sqrt(0.5) * (1 + rng.uniform(-1e-9, 1e-9, 200))
    ends = [2.0**-1022, 0.5, 1.0, 1e-60]
    return np.concatenate(
        [10.0 ** rng.uniform(-307, 0, 400), 1 - 10.0 ** rng.uniform(-16, 0, 396), half, ends]
    )


def test_log_is_a_two_float() -> None:
    x = _between_0_and_1()
    high, low = np.empty_like(x), np.empty_like(x)
    _log(x, high, low)
    with mpmath.workdps(60):
        for v, a, b in zip(x, high, low, strict=True):
            exact_log = mpmath.log(mpmath.mpf(float(v)))
            assert abs(mpmath.mpf(float(a)) + float(b) - exact_log) <= abs(exact_log) * mpmath.mpf(2) ** -56
            assert abs(b) <= np.spacing(abs(a)) / 2
    _log(np.full(8, np.nan), high, low)
    assert np.isnan(high[:8]).all()


@numba.njit
def _log_single(x: Any, out: Any) -> None:
    for k in range(0, len(x), 8):
        simd.store(out, k, exponential.log_single(simd.load(x, k)))


def test_the_logarithm_for_narrower_types_is_within_its_bound() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [10.0 ** rng.uniform(-300, 300, 400), 1 + rng.normal(0, 0.2, 400), 1 + 2.0 ** -np.arange(40)]
    )
    x, out = np.abs(x), np.empty(len(x))
    _log_single(x, out)
    with mpmath.workdps(40):
        for v, found in zip(x, out, strict=True):
            exact_log = mpmath.log(mpmath.mpf(float(v)))
            assert abs(mpmath.mpf(float(found)) - exact_log) <= abs(exact_log) * mpmath.mpf(2) ** -35
    _log_single(np.ones(8), out)
    assert not out[:8].any()


@pytest.mark.parametrize("gamma", [5e-324, 0.1, 0.5, 1.0, 1.5, 2.0, 5.0, 20.0])
def test_power_within_two_ulp(gamma: float) -> None:
    """Also for a power below 0, and one of whose digits a float loses some."""
    x, out = _between_0_and_1(), np.empty(1000)
    p = gamma - 1.0
    p_low = float(Fraction(gamma) - 1 - Fraction(p))
    _power(x, p, p_low, out)
    with mpmath.workdps(exact.DIGITS):
        expected = [mpmath.mpf(float(v)) ** (mpmath.mpf(gamma) - 1) for v in x]
    normal = np.array([float(e) for e in expected]) >= np.finfo(float).tiny
    errors = exact.ulp_error(out[normal], [e for e, some in zip(expected, normal, strict=True) if some])
    assert errors.max() <= 2.0
    assert (out[~normal] <= np.finfo(float).tiny).all()


def test_the_power_of_nan_is_nan() -> None:
    out = np.empty(8)
    _power(np.full(8, np.nan), 0.5, 0.0, out)
    assert np.isnan(out).all()


@numba.njit
def _tanh(x: Any, high: Any, low: Any, slope: Any) -> None:
    for k in range(0, len(x), 8):
        a, b, c = exponential.tanh(simd.load(x, k))
        simd.store(high, k, a)
        simd.store(low, k, b)
        simd.store(slope, k, c)


def test_tanh_is_a_two_float() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [10.0 ** rng.uniform(-20, 1.2, 500) * rng.choice([-1, 1], 500), [0.0, -0.0, 300.0, -300.0]]
    )
    high, low, slope = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _tanh(x, high, low, slope)
    with mpmath.workdps(60):
        for v, a, b, c in zip(x, high, low, slope, strict=True):
            t = mpmath.tanh(mpmath.mpf(float(v)))
            assert abs(mpmath.mpf(float(a)) + float(b) - t) <= abs(t) * mpmath.mpf(2) ** -52.5 * (
                0.5 if abs(v) > 1 else 1
            )
            assert (
                abs(float(c) - mpmath.sech(float(v)) ** 2)
                <= mpmath.sech(float(v)) ** 2 * mpmath.mpf(2) ** -50
            )
    assert np.isnan(_of_nan()).all()


def _of_nan() -> np.ndarray:
    results = [np.empty(8), np.empty(8), np.empty(8)]
    _tanh(np.full(8, np.nan), *results)
    return np.concatenate([results[0], results[2]])


def test_coefficients_are_the_recipes() -> None:
    assert exponential.coefficients(6, 1) == list(exponential.Q)
    assert exponential.coefficients(10, 2) == list(exponential.P)
    assert exponential.log_coefficients(7) == list(exponential.A)
    assert exponential.log_coefficients(3) == list(exponential.A_SINGLE)
