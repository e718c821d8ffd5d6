"""One pass and two give the same gradient, but for what the rounding loses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from experiments.benchmarks import half_cpu


def test_a_gradient_rounded_early_loses_what_the_scale_would_keep(tmp_path: Path) -> None:
    path = tmp_path / "half_cpu.csv"
    assert (
        half_cpu.main(["--dtype", "float16", "--shape", "256", "6000", "--budget", "0", "--out", str(path)])
        == 0
    )
    with path.open(newline="", encoding="utf-8") as file:
        rows = {(row["provider"], float(row["scale"])): row for row in csv.DictReader(file)}
    assert list(rows) == [(name, scale) for scale in half_cpu.SCALES for name in half_cpu.PROVIDERS]
    assert all(float(row["ms"]) > 0 and int(row["repeats"]) >= 7 for row in rows.values())
    zeros = {name: float(rows[name, 65536.0]["zeros"]) for name in half_cpu.PROVIDERS}
    assert zeros["softmax_lab"] == zeros["torch"] == 0.0
    assert zeros["one pass"] > 0.1


def test_one_pass_is_the_same_gradient_where_nothing_is_lost() -> None:
    logits = torch.randn(8, 20).bfloat16().requires_grad_()
    target = torch.arange(8)
    found = {name: gradient(logits, target, 1.0) for name, gradient in half_cpu.PROVIDERS.items()}
    assert torch.equal(found["softmax_lab"], found["one pass"])
    torch.testing.assert_close(found["softmax_lab"], found["torch"], rtol=0.02, atol=1e-4)
