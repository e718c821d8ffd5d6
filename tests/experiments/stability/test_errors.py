"""The bounds hold, and the errors are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import stability
from softmax_lab._ulp import float_format
from softmax_lab.audit.values import exact_values


@pytest.mark.parametrize("offset", [-1e3, 0.0, 7.5, 1e3])
@pytest.mark.parametrize("gap", [1.0, 40.0])
def test_rows_have_the_offset_and_the_gap(offset: float, gap: float) -> None:
    z = stability.rows("float64", offset=offset, gap=gap, shape=(5, 6))
    assert z.shape == (5, 6)
    np.testing.assert_allclose(z.max(axis=1), offset, atol=1e-5)
    np.testing.assert_allclose(np.ptp(z, axis=1), gap, atol=1e-5)
    assert (z == stability.rows("float64", offset=offset, gap=gap, shape=(5, 6))).all()
    assert (z != stability.rows("float64", offset=offset, gap=gap, shape=(5, 6), seed=1)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_shift_of_wide_rows_is_rounded(dtype: str) -> None:
    """Rows on a grid where z - max(z) is exact would hide what chapter 2 measures."""
    z = stability.rows(dtype, offset=20.0, gap=40.0)
    d = z - z.max(axis=1, keepdims=True)
    assert (d.astype(np.longdouble) != z.astype(np.longdouble) - z.max(axis=1, keepdims=True)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("offset", "gap", "classes"),
    [(0.0, 1.0, 2), (3.0, 6.0, 16), (30.0, 60.0, 16), (-40.0, 20.0, 50), (1e3, 20.0, 16)],
)
def test_bounds_hold(dtype: str, seed: int, offset: float, gap: float, classes: int) -> None:
    z = stability.rows(dtype, offset=offset, gap=gap, shape=(8, classes), seed=seed)
    exact, bound = exact_values("softmax", z), stability.bounds(z)
    formulas = {
        "exp(z - max) / sum": bound.division,
        "exp((z - max) - log sum)": bound.shifted_log,
        "exp(z - lse)": bound.lse,
    }
    if offset < stability.exp_range(dtype)[0]:
        formulas["exp(z) / sum"] = bound.naive
    for name, limit in formulas.items():
        error = stability.relative_error(stability.SOFTMAX[name](z), exact, dtype)
        assert np.isfinite(error).all(), name
        assert (error <= limit / (1 - limit)).all(), name


def test_bounds_are_the_formulas_of_the_docstring() -> None:
    z = np.array([[5.0, 5.0]])  # d = 0, <d> = 0, log s = log 2, l = 5 + log 2, log p = -log 2
    u, c, log2 = 2.0**-53, 2.0, np.log(2)
    naive, division, shifted_log, lse = (
        float(bound[0, 0]) / u for bound in stability.bounds(z, library_error=c)
    )
    assert naive == pytest.approx(6)
    assert division == pytest.approx(6)
    assert shifted_log == pytest.approx(5 + 3 * log2)
    assert lse == pytest.approx(10 + 4 * log2)


def test_the_weighted_average_gap_stays_below_log_k() -> None:
    """Why the error of the sum does not grow with the range of the row."""
    for gap in (1.0, 10.0, 100.0, 500.0):
        z = stability.rows("float64", gap=gap)
        bound, d = stability.bounds(z), z.max(axis=1, keepdims=True) - z
        average = bound.division / 2.0**-53 - d - 2 * stability.LIBRARY_ERROR - z.shape[1]
        assert (average <= np.log(z.shape[1]) + 1e-9).all()


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_exp_range_is_where_exp_ends(dtype: str) -> None:
    over, normal, zero = stability.exp_range(dtype)
    for x, finite in ((over * 0.98, True), (over * 1.02, False)):
        with np.errstate(over="ignore"):
            assert bool(np.isfinite(np.exp(np.array(x, dtype)))) == finite
    for x, positive in ((zero * 0.98, True), (zero * 1.02, False)):
        assert bool(np.exp(np.array(x, dtype)) > 0) == positive
    assert float(np.exp(normal)) == pytest.approx(float_format(dtype).smallest)


def test_relative_error_leaves_out_what_underflows() -> None:
    z = np.array([[0.0, -80.0, -100.0]], dtype=np.float32)
    error = stability.relative_error(np.array([[1.0, 0.0, 0.0]]), exact_values("softmax", z), "float32")[0]
    assert error[0] < 1e-30
    assert error[1] == 1
    assert np.isnan(error[2])


def test_error_table_marks_nan_as_infinite() -> None:
    table = stability.error_table(
        stability.SOFTMAX, "softmax", {"far": stability.rows("float32", offset=200.0)}
    )
    assert table.loc["far", "exp(z) / sum"] == np.inf
    assert table.loc["far", "softmax_lab"] < 1
