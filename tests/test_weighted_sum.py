"""log |sum b exp(z)| with factors of both signs: the oracle, infinities, and what SciPy says."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import softmax_lab as sl
from softmax_lab import exact
from softmax_lab.audit.cases import HARD_ROWS


def oracle(row: Any, factors: Any) -> tuple[Any, Any, float]:
    """Return log |S|, the largest number that is added on the way, and the sign of S."""
    with mpmath.workdps(exact.DIGITS):
        terms = [
            mpmath.mpf(float(f)) * mpmath.exp(mpmath.mpf(float(x))) for x, f in zip(row, factors, strict=True)
        ]
        total, largest = mpmath.fsum(terms), max(map(abs, terms))
        value = mpmath.log(abs(total)) if total else mpmath.ninf
        # a sum that cancels magnifies the rounding of its largest term
        magnified = largest / abs(total) if total else mpmath.mpf(1)
        peak = max(
            (abs(float(x)) for x, f in zip(row, factors, strict=True) if f and np.isfinite(x)), default=0.0
        )
        log_b = max((abs(float(np.log(abs(f)))) for f in factors if f), default=0.0)
        return (
            value,
            max(mpmath.mpf(peak), log_b, abs(value) if total else 0, magnified),
            float(mpmath.sign(total)),
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("signs", ["positive", "both"])
@pytest.mark.parametrize(
    "case", [c for c in HARD_ROWS if c.name != "many classes"], ids=lambda case: case.name
)
def test_ulps_of_the_largest_term(case: Any, signs: str, dtype: str) -> None:
    rows = case.make(np.dtype(dtype))
    factors = np.random.default_rng(0).uniform(0.1, 10.0, rows.shape)
    if signs == "both":
        factors *= np.random.default_rng(1).choice([-1.0, 1.0], rows.shape)
    found, sign = sl.logsumexp(rows, b=factors, return_sign=True)
    for row, b, value, side in zip(rows, factors, found, sign, strict=True):
        expected, largest, true_sign = oracle(row, b)
        assert exact.ulp_error(value, [expected], scale=[largest]) <= 2.0
        assert side == true_sign


def test_factors_of_one_are_no_factors() -> None:
    z = np.random.default_rng(2).normal(0, 30, (50, 7))
    np.testing.assert_allclose(sl.logsumexp(z, b=1.0), sl.logsumexp(z), rtol=1e-15)


def test_infinities_zeros_and_signs() -> None:
    inf, nan = np.inf, np.nan
    z = np.array([[inf, 0.0], [inf, inf], [-inf, -inf], [0.0, 0.0], [inf, 1.0], [nan, 0.0], [nan, 1.0]])
    b = np.array([[-1.0, 1], [1, -1], [1, 1], [1, -1], [0, -2], [1, 1], [0, 1]])
    value, sign = sl.logsumexp(z, b=b, return_sign=True)
    np.testing.assert_array_equal(value, [inf, nan, -inf, -inf, 1.0 + np.log(2.0), nan, 1.0])
    np.testing.assert_array_equal(sign, [-1.0, nan, 0.0, 0.0, -1.0, nan, 1.0])
    np.testing.assert_array_equal(
        np.isnan(sl.logsumexp(z, b=b)), [True, True, False, False, True, True, False]
    )
    np.testing.assert_array_equal(sl.logsumexp(z[:4], return_sign=True)[1], [1.0, 1.0, 0.0, 1.0])


def test_a_huge_factor_of_a_class_that_underflows() -> None:
    z, b = np.array([0.0, -1400.0]), np.array([1e-300, 1e308])
    expected = special.logsumexp(z + np.log(b))
    np.testing.assert_allclose(sl.logsumexp(z, b=b), expected, rtol=1e-14)
