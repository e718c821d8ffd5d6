"""Tables come back, and the stored runs agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import large_vocabulary as lv


def test_table_comes_back(tmp_path: Path) -> None:
    rows = [lv.Record(2, "float32", 0, 10.8, 0.25, 100.0, 18, 12.5, 0.01)]
    lv.write(tmp_path / "table.csv", rows)
    assert lv.read(tmp_path / "table.csv", lv.Record) == rows


@pytest.mark.skipif(
    not lv.TRAINING.is_file(), reason="the results are not there: python -m experiments.large_vocabulary"
)
def test_stored_runs_agree() -> None:
    records = lv.read(lv.TRAINING, lv.Record)
    for dtype, steps, limit in (("float32", 300, 1e-5), ("float64", 30, 1e-13)):
        one, two = (
            [r for r in records if (r.processes, r.dtype) == (processes, dtype)] for processes in (1, 2)
        )
        assert len(one) == len(two) == steps
        assert 0 < lv.largest_difference(one, two) < limit
        assert two[-1].peak_mb < one[-1].peak_mb
    assert min(r.loss for r in records) > lv.floor(lv.Setting.vocabulary)
