"""The benchmark of linear layers: providers give the same loss and gradients, each in its process."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from experiments.benchmarks import linear_cpu


@pytest.mark.parametrize("provider", ["torch materialised", "torch chunked"])
def test_a_peer_computes_what_the_package_computes(provider: str) -> None:
    found = []
    for name in ("softmax_lab", provider):
        layer = linear_cpu.make_layer(6, 4, 50, "float64")
        loss = linear_cpu.PROVIDERS[name](layer)
        found.append((loss, layer.hidden.grad, layer.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_measurement_has_time_memory_and_loss() -> None:
    row = linear_cpu.measure("softmax_lab", linear_cpu.make_layer(64, 16, 3000))
    assert set(row) == {"seconds", "products", "ratio", "peak_mb", "loss"}
    expected = linear_cpu.torch_materialised(linear_cpu.make_layer(64, 16, 3000))
    assert row["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_process_of_its_own_is_given_the_options(tmp_path: Path) -> None:
    path = tmp_path / "linear_cpu.csv"
    sizes = ["--rows", "64", "--width", "8", "--classes", "500", "--dtype", "float64", "--threads", "1"]
    arguments = [*sizes, "--provider", "products", "--rounds", "1", "--out", str(path)]
    assert linear_cpu.main(arguments) == 0
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == linear_cpu.COLUMNS
    assert [row[name] for name in ("n", "d", "v", "dtype", "threads", "provider")] == [
        *("64", "8", "500", "float64", "1", "products")
    ]
