"""The formulas of chapter 2 agree where nothing is hard, their bounds hold, and the timings are written whole
or not at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import stability
from softmax_lab._ulp import float_format
from softmax_lab.audit.values import exact_values

TEXTBOOK = [name for name in stability.SOFTMAX if name != "softmax_lab"]


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_formulas_agree_on_easy_rows_and_keep_the_type(dtype: str) -> None:
    z = stability.rows(dtype, gap=2.0)
    for variants, function in ((stability.SOFTMAX, "softmax"), (stability.LOG_SOFTMAX, "log_softmax")):
        for name, variant in variants.items():
            result = variant(z)
            assert (result.dtype, result.shape) == (z.dtype, z.shape), name
            assert stability.ulps(function, result, z).max() < 25, name
    assert stability.ulps("softmax", stability.tempered(z, 1.0), z).max() < 25


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_gradients_agree_on_easy_rows(dtype: str) -> None:
    z = stability.rows(dtype, gap=2.0, shape=(8, 4))
    y = np.arange(8) % 4
    exact = exact_values("cross_entropy_grad", z, y).high
    for name, gradient in stability.GRADIENT.items():
        result = gradient(z, y)
        assert result.dtype == z.dtype, name
        assert np.abs(result.astype(float) - exact).max() < 8 * stability.unit_roundoff(dtype), name


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


@pytest.fixture(scope="module")
def timings() -> pd.DataFrame:
    return stability.measure([(20, 5), (4, 300)], ["float32", "float64"], rounds=3, progress=False)


def test_every_variant_is_timed_against_a_copy(timings: pd.DataFrame) -> None:
    assert len(timings) == 4 * (1 + sum(map(len, stability.TIMED.values())))
    assert (timings["min_s"] > 0).all()
    assert (timings["min_s"] <= timings["median_s"]).all()
    assert (timings["median_s"] <= timings["max_s"]).all()
    assert (timings.query("function == 'copy'")["to_copy"] == 1).all()
    assert set(timings["rounds"]) == {3}
    assert set(timings["numpy"]) == {np.__version__}
    assert set(timings["softmax_lab"]) == {sl.__version__}
    assert (timings["processor"].str.len() > 0).all()
    one = timings.query("rows == 4 and dtype == 'float32'").set_index(["function", "variant"])["median_s"]
    ratio = timings.query("rows == 4 and dtype == 'float32'").set_index(["function", "variant"])["to_copy"]
    assert ratio["softmax", "softmax_lab"] == pytest.approx(
        one["softmax", "softmax_lab"] / one["copy", "copy"]
    )


def test_timing_leaves_the_number_of_threads_alone() -> None:
    before = sl.get_num_threads()
    sl.set_num_threads(3)
    try:
        stability.measure([(3, 4)], rounds=1, progress=False)
        assert sl.get_num_threads() == 3
    finally:
        sl.set_num_threads(before)


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_what_is_timed_agrees(dtype: str) -> None:
    z = stability.rows(dtype, gap=5.0)
    for function, variants in stability.TIMED.items():
        assert stability.ulps(function, variants["softmax_lab, NumPy"](z), z).max() < 4


def test_timing_in_blocks_computes_every_row() -> None:
    z = stability.rows("float64", shape=(3000, 50))
    out = np.full_like(z, np.nan)
    stability._in_blocks(stability.SOFTMAX["exp(z - max) / sum"], z, out)
    np.testing.assert_array_equal(out, stability.SOFTMAX["exp(z - max) / sum"](z))


def test_timings_are_written_and_read_back(timings: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "new" / "timing.csv"
    stability.write_timings(timings, path)
    back = stability.read_timings(path)
    pd.testing.assert_frame_equal(back, timings, check_dtype=False, rtol=1e-5)
    assert [entry.name for entry in path.parent.iterdir()] == ["timing.csv"]  # nothing temporary is left


def test_a_failed_write_leaves_the_old_file(
    timings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timing.csv"
    path.write_text("old")

    def fail(self: pd.DataFrame, target: Path, **_: object) -> None:
        Path(target).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        stability.write_timings(timings, path)
    assert path.read_text() == "old"


def test_the_program_writes_the_file_that_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stability, "SHAPES", ((6, 4),))
    stability.main(["--out", str(tmp_path / "t.csv"), "--rounds", "1"])
    assert set(stability.read_timings(tmp_path / "t.csv")["dtype"]) == {"float32", "float64"}


def test_the_stored_timings_are_complete() -> None:
    table = stability.read_timings()
    arrays = set(zip(table["rows"], table["classes"], table["dtype"], strict=True))
    expected = {(*shape, "float32") for shape in stability.SHAPES} | {
        (*shape, "float64") for shape in stability.SHAPES[:2]
    }
    assert arrays == expected
    assert (table["rounds"] >= 7).all()
    for _, one in table.groupby(["rows", "classes", "dtype"]):
        for function, variants in stability.TIMED.items():
            assert set(one[one["function"] == function]["variant"]) == set(variants)
