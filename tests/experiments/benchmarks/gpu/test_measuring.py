"""Rows hold times and errors, and a peer that is missing is a note."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.benchmarks.gpu import command, measuring, providers
from experiments.benchmarks.gpu.clock import Clock

CLOCK = Clock("cpu", 0.0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the package and eager torch, and a peer that is missing."""
    tables: list[dict[str, Any]] = [*providers.MAPS.values(), providers.LOSSES, providers.LINEARS]
    for table in tables:
        for name in list(table):
            if name not in ("softmax_lab", "torch", "quack"):
                monkeypatch.delitem(table, name)


@pytest.mark.parametrize("dtype", command.DTYPES)
def test_rows_hold_times_and_errors(few: None, dtype: str) -> None:
    rows = [*measuring.map_rows("softmax", 8, 50, dtype, CLOCK), *measuring.loss_rows(8, 50, dtype, CLOCK)]
    found = {(row["kernel"], row["provider"]): row for row in rows}
    for kernel in ("softmax", "cross_entropy"):
        assert found[kernel, "quack"]["note"].startswith("not installed")
        for provider in ("softmax_lab", "torch"):
            row = found[kernel, provider]
            assert row["ms"] > 0
            assert row["repeats"] >= 7
            assert row["max_error"] < (1e-6 if dtype == "float32" else 1e-2)
            assert "ms" in command.line(row) or row["note"]


def test_a_linear_layer_is_measured(few: None) -> None:
    (row,) = measuring.linear_rows(16, 8, 100, CLOCK)
    assert row["max_error"] < 0.02
    assert row["provider"] == "softmax_lab"
