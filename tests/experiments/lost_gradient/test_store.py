"""Jobs are stored as they are done, and found again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.lost_gradient import Table, run_all
from experiments.lost_gradient.store import frame

TABLE = Table("toy", ("loss", "rate"), ("seed",), ("value",))
JOBS = [{"loss": loss, "rate": rate} for loss in ("a", "b") for rate in (0.1, 1.0)]


def test_a_stored_job_is_not_run_again(tmp_path: Path) -> None:
    ran: list[tuple[str, float]] = []

    def work(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        ran.append((job["loss"], job["rate"]))
        for seed in (0, 1):
            yield {"seed": seed, "value": job["rate"] * seed}

    said: list[str] = []
    assert run_all(TABLE, JOBS[:3], work, tmp_path, say=said.append) == []
    first = TABLE.path(tmp_path).read_text(encoding="utf-8")
    assert run_all(TABLE, JOBS, work, tmp_path, say=said.append) == []
    assert TABLE.path(tmp_path).read_text(encoding="utf-8").startswith(first)
    assert ran == [("a", 0.1), ("a", 1.0), ("b", 0.1), ("b", 1.0)]
    assert [line.split(":")[0] for line in said] == ["toy a 0.1", "toy a 1", "toy b 0.1", "toy b 1"]
    table = frame(TABLE, tmp_path)
    assert table["value"].tolist() == [0, 0.1, 0, 1] * 2
    assert table["rate"].tolist() == [0.1, 0.1, 1, 1] * 2
    assert table["loss"].tolist() == 4 * ["a"] + 4 * ["b"]
    assert table["processor"].ne("").all()
    assert table["versions"].str.contains("torch").all()


def test_a_job_that_fails_stores_nothing(tmp_path: Path) -> None:
    def work(_: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"seed": 0, "value": 1.0}
        raise RuntimeError("half a job")

    with pytest.raises(RuntimeError, match="half a job"):
        run_all(TABLE, JOBS, work, tmp_path)
    assert len(frame(TABLE, tmp_path)) == 0


def test_a_limit_leaves_jobs(tmp_path: Path) -> None:
    assert run_all(TABLE, JOBS, lambda job: [], tmp_path, limit=-1.0) == JOBS
