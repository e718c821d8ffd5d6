"""The benchmark of precisions: what it runs is right, and every task has its rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled loops need Numba")
pytest.importorskip("mpmath")

from experiments import machine
from experiments.benchmarks import rounding


@pytest.mark.parametrize("task", rounding.TASKS)
def test_all_precisions_compute_the_same(task: str) -> None:
    rows = rounding.normal_rows(64, 40)
    ours = np.array(rounding.calls(rounding.OURS, rows)[task]())
    for name in rounding.PRECISIONS:
        found = rounding.calls(name, rows)[task]()
        np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-7)
        assert found.dtype == np.float32


@pytest.mark.parametrize("task", rounding.TASKS)
def test_errors_are_counted_in_ulp(task: str) -> None:
    for confident in (False, True):
        assert rounding.worst_ulp(rounding.OURS, task, 33, confident=confident) <= 1
    if task in ("log_softmax", "loss"):
        assert rounding.worst_ulp("shifted", task, 33, confident=True) > 1000


def test_confident_rows_have_their_target_on_top() -> None:
    rows = rounding.confident_rows(8, 20)
    assert (rows.logits.argmax(axis=1) == rows.labels).all()
    gaps = np.diff(np.sort(rows.logits, axis=1)[:, -2:]).ravel()
    np.testing.assert_allclose(gaps, np.linspace(3, 30, 8), rtol=1e-6)


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = rounding.in_rounds({name: lambda name=name: order.append(name) for name in "ab"}, budget=0)  # type: ignore[misc]
    assert order == ["a", "b"] * 9
    assert [len(own) for own in times.values()] == [7, 7]


def test_a_row_for_every_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    path = tmp_path / "rounding.csv"
    arguments = ["--shape", "64", "33", "--task", "logsumexp", "softmax", "--budget", "0", "--out", str(path)]
    assert rounding.main(arguments) == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == rounding.COLUMNS
    wanted = [rounding.FLOOR, *rounding.PRECISIONS]
    assert [(row["task"], row["precision"]) for row in rows] == [
        (task, name) for task in ("logsumexp", "softmax") for name in wanted
    ]
    assert all(float(row["ms"]) > 0 for row in rows)
    assert [row["copies"] for row in rows if row["precision"] == rounding.FLOOR] == ["1.0", "1.0"]
