"""Jobs run in order, are taken up again, and stop at a limit; rates are chosen on the tuning rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from experiments import modular_addition as ma
from experiments.modular_addition import running
from tests.experiments.modular_addition.toy import CPU, TOY


def row(rate: str, accuracy: float, area: float) -> dict[str, str]:
    return {"lr": rate, "test_accuracy": str(accuracy), "area": str(area)}


def test_the_best_mean_wins_and_the_area_breaks_ties() -> None:
    rows = [row("0.001", 0.9, 0.1), row("0.001", 0.7, 0.1), row("0.01", 0.85, 0.5), row("0.01", 0.85, 0.1)]
    assert running.chosen_rate(rows) == 0.01
    rows = [row("0.001", 1.0, 0.7), row("0.01", 1.0, 0.9), row("0.1", 1.0, 0.8)]
    assert running.chosen_rate(rows) == 0.01


def test_jobs_go_on_where_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    todo = ma.jobs([TOY], ["torch", "exact"])
    assert [(job.loss, job.part) for job in todo] == [
        ("torch", "tune"),
        ("torch", "final"),
        ("exact", "tune"),
        ("exact", "final"),
    ]
    assert ma.run_all(todo[:2], path, device=CPU, progress=False) == ([], [])
    first = path.read_text(encoding="utf-8")
    assert ma.run_all(todo, path, device=CPU, progress=False) == ([], [])
    assert path.read_text(encoding="utf-8").startswith(first)
    rows = ma.read(path)
    assert {row["loss"] for row in rows} == {"torch", "exact"}
    final = [row for row in rows if row["part"] == "final"]
    assert {row["lr"] for row in final} <= {"0.001", "0.01"}
    assert len(final) == 2 * 2 * len(TOY.evaluations)
    assert capsys.readouterr().out.count("s of steps, eager") == 4


def test_a_job_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(ma.LOSSES, "exact", ma.LOSSES["exact"]._replace(loss=broken))
    left = ma.run_all(ma.jobs([TOY], ["exact", "torch"]), tmp_path / "rows.csv", device=CPU, progress=False)
    assert left.undone == []
    assert [(job.loss, job.part) for job, _ in left.failed] == [("exact", "tune"), ("exact", "final")]
    assert "no such kernel" in left.failed[0][1]
    assert "no tuning rows" in left.failed[1][1]
    assert {row["loss"] for row in ma.read(tmp_path / "rows.csv")} == {"torch"}


def test_a_single_rate_is_not_tried(tmp_path: Path) -> None:
    todo = ma.jobs([replace(TOY, rates=(0.5,))], ["torch"])
    assert [job.part for job in todo] == ["final"]
    ma.run_all(todo, tmp_path / "rows.csv", device=CPU, progress=False)
    assert {row["lr"] for row in ma.read(tmp_path / "rows.csv")} == {"0.5"}


def test_a_limit_leaves_jobs_undone(tmp_path: Path) -> None:
    todo = ma.jobs([TOY], ["torch"])
    assert ma.run_all(todo, tmp_path / "rows.csv", device=CPU, limit=0.0, progress=False) == (todo, [])
    assert ma.read(tmp_path / "rows.csv") == []
