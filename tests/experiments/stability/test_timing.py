"""Every variant is timed on the same array, and the table comes back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import stability
from experiments.stability import timing


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
    timing._in_blocks(stability.SOFTMAX["exp(z - max) / sum"], z, out)
    np.testing.assert_array_equal(out, stability.SOFTMAX["exp(z - max) / sum"](z))


def test_timings_are_written_and_read_back(timings: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "new" / "timing.csv"
    timing.write_timings(timings, path)
    back = stability.read_timings(path)
    pd.testing.assert_frame_equal(back, timings, check_dtype=False, rtol=1e-5)
    assert [entry.name for entry in path.parent.iterdir()] == ["timing.csv"]  # nothing temporary is left


def test_a_failed_write_leaves_the_old_file(
    timings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timing.csv"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)  # what was written does not reach the disk
    with pytest.raises(OSError, match="disk full"):
        timing.write_timings(timings, path)
    assert path.read_text() == "old"


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
