"""The curve of error against time is read, and drawn with every point named."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from experiments import speed
from experiments.benchmarks import rounding

TIMES = {"copy": 1.0, "wide": 4.0, "softmax_lab": 2.0, "single": 1.5, "shifted": 1.2}
ERRORS = {"wide": 0.5, "softmax_lab": 0.7, "single": 1.5, "shifted": 12.0}


def _row(precision: str, **changes: Any) -> dict[str, Any]:
    ms = TIMES[precision]
    numbers = {"ms": ms, "ms_20": ms, "ms_80": ms, "repeats": 7, "copies": ms}
    errors = {"max_ulp": ERRORS.get(precision), "max_ulp_confident": 1e6}
    about = {"when": "2026-01-02", "processor": "one", "threads": 1, "versions": "python 3"}
    return (
        about | {"task": "softmax", "precision": precision, "n": 256, "k": 1000} | numbers | errors | changes
    )


def _stored(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rounding.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rounding.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_newest_rows_of_the_last_processor_count(tmp_path: Path) -> None:
    wrong = {"ms": 99.0, "max_ulp": 99.0}
    rows = [_row(name, when="2026-01-01", processor="another", **wrong) for name in TIMES]
    rows += [_row(name, when="2026-01-01", **wrong) for name in TIMES]
    rows += [_row(name) for name in reversed(TIMES)]
    rows += [_row(name, when="2026-01-03", threads=2, **wrong) for name in TIMES]
    table = speed.rounding_curve(_stored(tmp_path, rows))
    assert list(table.index) == [("softmax", "256 x 1,000", name) for name in rounding.PRECISIONS]
    assert table["ms"].tolist() == [4.0, 2.0, 1.5, 1.2]
    assert table["of ours"].tolist() == [2.0, 1.0, 0.75, 0.6]
    assert table["max_ulp"].tolist() == list(ERRORS.values())
    assert speed.rounding_curve(_stored(tmp_path, rows), threads=2)["ms"].tolist() == [99.0] * 4


def test_a_number_of_threads_without_rows_says_what_to_run(tmp_path: Path) -> None:
    path = _stored(tmp_path, [_row("wide")])
    with pytest.raises(ValueError, match=r"rounding --threads 3"):
        speed.rounding_curve(path, threads=3)


def test_the_picture_names_every_point(tmp_path: Path) -> None:
    shapes = [(256, 1000), (16384, 1000)]
    rows = [
        _row(name, task=task, n=n, k=k) for n, k in shapes for task in ("softmax", "loss") for name in TIMES
    ]
    figure = speed.rounding_picture(speed.rounding_curve(_stored(tmp_path, rows)))
    assert len(figure.axes) == 4
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == ["float64", "softmax_lab", "one float", "shifted"]
    assert figure.axes[0].get_title() == "softmax,\n256 x 1,000"
    assert all(axis.get_xlabel() for axis in figure.axes[2:])
    assert figure.axes[0].get_ylabel()


def test_the_stored_curve_has_every_task_and_precision() -> None:
    table = speed.rounding_curve()
    assert len(table) == len(rounding.TASKS) * len(rounding.SHAPES) * len(rounding.PRECISIONS)
    ours = table.xs(rounding.OURS, level="precision")
    assert (ours[["max_ulp", "max_ulp_confident"]] <= 1).all(axis=None)
