"""What the book makes of the GPU's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import tables
from experiments.benchmarks.gpu import command
from experiments.speed import gpu as report

ABOUT = {"card": "a card", "versions": "v"}


def test_what_the_book_shows(tmp_path: Path) -> None:
    nothing = report.read(tmp_path / "none.csv")
    assert "No GPU" in report.standing(nothing)
    assert report.picture(nothing) is None
    rows: list[dict[str, Any]] = [
        ABOUT
        | {
            "kernel": kernel,
            "dtype": dtype,
            "n": 8,
            "k": k,
            "provider": provider,
            "ms": 1.0,
            "share_of_copy": share,
            "note": "",
        }
        for kernel in report.KERNELS
        for dtype in command.DTYPES
        for k in (64, 128)
        for provider, share in (("softmax_lab", 0.9), ("torch", 0.5))
    ]
    tables.append(
        tmp_path / "gpu.csv", command.COLUMNS, [*rows, ABOUT | {"kernel": "check rows", "note": "FAILED: x"}]
    )
    table = report.read(tmp_path / "gpu.csv")
    assert report.standing(table) == "a card: 0 of 1 checks passed, 24 times stored."
    assert report.shares(table, "softmax", "float32").loc[64].to_dict() == {
        "softmax_lab": 0.9,
        "torch": 0.5,
    }
    assert report.against(table.assign(k=8 * table["k"]), 512, 1024).loc[
        ("softmax", "float32")
    ].to_dict() == {
        "share of a copy": "0.90 to 0.90",
        "torch / softmax_lab": "1.80 to 1.80",
    }
    command.draw(tmp_path / "gpu.csv")
    assert (tmp_path / "gpu.svg").stat().st_size > 1000


def test_plans_name_every_read() -> None:
    pytest.importorskip("triton")
    plans = report.plans()
    assert plans.loc[4096, "reads of a logit"] == 1
    assert plans.loc[131072, "reads of a logit"] == 2
    assert plans.loc[131072, "bytes, float32"] == 12
    # two reads in any case
    assert plans.loc[4096, "bytes, bfloat16"] == plans.loc[131072, "bytes, bfloat16"] == 6


def test_small_batches_and_the_linear_layer_are_told_apart() -> None:
    table = report.read()
    small = report.batches(table)
    assert [tuple(shape) for shape in small.index] == [
        (dtype, n, k) for dtype in ("bfloat16", "float32") for n, k in command.SMALL
    ]
    assert {"softmax_lab", "torch"} <= set(small.columns)
    assert (report.linear(table)["peak_mb"] > 1000).all()
