"""The benchmark measures the same thing for every provider, and says what memory it took."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from experiments.benchmarks import torch_cpu


def measured(path: Path, task: str, *shape: int) -> dict[str, dict[str, str]]:
    arguments = [
        "--task",
        task,
        "--shape",
        *map(str, shape),
        "--dtype",
        "float32",
        "--budget",
        "0",
        "--out",
        str(path),
    ]
    assert torch_cpu.main([*arguments, "--provider", "softmax_lab", "torch"]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        return {row["provider"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("task", "shape"), [("loss", (64, 50)), ("step", (32, 10)), ("step", (16, 100))])
def test_providers_compute_the_same_loss(tmp_path: Path, task: str, shape: tuple[int, int]) -> None:
    rows = measured(tmp_path / "new" / "torch_cpu.csv", task, *shape)
    assert list(rows) == ["copy", "softmax_lab", "torch"]
    assert float(rows["softmax_lab"]["value"]) == pytest.approx(float(rows["torch"]["value"]), rel=1e-5)
    assert all(float(row["ms"]) > 0 and int(row["repeats"]) >= 7 for row in rows.values())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process its peak")
def test_the_gradient_is_all_the_memory_that_the_loss_takes(tmp_path: Path) -> None:
    # 64 MiB: what the allocator keeps back is small beside it
    rows = measured(tmp_path / "torch_cpu.csv", "loss", 16384, 1000)
    ours, theirs = (float(rows[name]["buffers"]) for name in ("softmax_lab", "torch"))
    assert 0.9 < ours < 1.2 < theirs
    assert math.isnan(float(rows["copy"]["buffers"]))


def test_the_two_lines_are_measured_where_they_are_asked_for(tmp_path: Path) -> None:
    assert torch_cpu.TWO_LINES not in torch_cpu.BENCHMARK.parse([]).provider
    path = tmp_path / "two_lines.csv"
    arguments = ["--task", "loss", "--shape", "32", "10", "--dtype", "float32", "--budget", "0"]
    providers = ["--provider", "torch", torch_cpu.TWO_LINES]
    assert torch_cpu.main([*arguments, *providers, "--out", str(path)]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        values = {row["provider"]: float(row["value"]) for row in csv.DictReader(file)}
    assert values[torch_cpu.TWO_LINES] == pytest.approx(values["torch"], rel=1e-5)
