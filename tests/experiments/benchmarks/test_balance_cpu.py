"""The benchmark of balance: what a loss and a monitor cost, over the same without."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from experiments.benchmarks import balance_cpu


def test_a_ratio_is_ours_over_the_plain_one() -> None:
    found = balance_cpu.ratio(lambda: time.sleep(0.004), lambda: time.sleep(0.001), budget=0.0)
    assert found["repeats"] == 15
    assert found["ms"] >= 4
    assert found["ms_plain"] >= 1
    assert found["ratio"] > 1


def test_the_loss_and_the_monitor_have_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_cpu, "SHAPES", ((8, 5),))
    monkeypatch.setattr(balance_cpu, "NETWORKS", (("mlp", (4, 12), 5),))
    path = tmp_path / "balance_cpu.csv"
    assert balance_cpu.main(["--budget", "0", "--out", str(path)]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == balance_cpu.COLUMNS
    assert [(row["task"], row["case"]) for row in rows] == [
        *(("loss", case) for case in ("counts given", "summed", "smoothed", "counts gathered")),
        ("monitor", "mlp"),
    ]
    assert all(float(row["ms"]) > 0 and int(row["repeats"]) >= 15 for row in rows)
