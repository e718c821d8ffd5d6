"""The GPU's benchmark as far as it goes without one: its rows, its store, its resumption, and what the book
makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments import gpu_speed
from experiments.benchmarks import gpu

CLOCK = gpu.Clock("cpu", 0.0)
ABOUT = {"card": "a card", "versions": "v"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the package and eager torch, and a peer that is missing."""
    tables: list[dict[str, Any]] = [*gpu.MAPS.values(), gpu.LOSSES, gpu.LINEARS]
    for table in tables:
        for name in list(table):
            if name not in ("softmax_lab", "torch", "quack"):
                monkeypatch.delitem(table, name)


@pytest.mark.parametrize("dtype", gpu.DTYPES)
def test_rows_hold_times_and_errors(few: None, dtype: str) -> None:
    rows = [*gpu.map_rows("softmax", 8, 50, dtype, CLOCK), *gpu.loss_rows(8, 50, dtype, CLOCK)]
    found = {(row["kernel"], row["provider"]): row for row in rows}
    for kernel in ("softmax", "cross_entropy"):
        assert found[kernel, "quack"]["note"].startswith("not installed")
        for provider in ("softmax_lab", "torch"):
            row = found[kernel, provider]
            assert row["ms"] > 0
            assert row["repeats"] >= 7
            assert row["max_error"] < (1e-6 if dtype == "float32" else 1e-2)
            assert "ms" in gpu.shown(row) or row["note"]


def test_a_linear_layer_is_measured(few: None) -> None:
    (row,) = gpu.linear_rows(16, 8, 100, CLOCK)
    assert row["max_error"] < 0.02
    assert row["provider"] == "softmax_lab"


def test_the_checks_say_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_nothing(device: str) -> str:
        raise AssertionError("it is wrong")

    monkeypatch.setattr(gpu, "CHECKS", (gpu.check_rows, gpu.check_empty, gpu.check_family, check_nothing))
    notes = [row["note"] for row in gpu.run_checks("cpu")]
    assert [note.split(":")[0] for note in notes] == ["passed", "passed", "passed", "FAILED"]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "gpu.csv"
    assert gpu.done(path, ABOUT) == set()
    gpu.store(
        path, [ABOUT | {"kernel": "softmax", "dtype": "float32", "k": 64, "provider": "torch", "ms": 1.0}]
    )
    gpu.store(
        path,
        [ABOUT | {"kernel": "check rows", "note": "passed"}, ABOUT | {"kernel": "linear, d = 8", "k": 100}],
    )
    assert gpu.done(path, ABOUT) == {("softmax", "float32", "64"), ("check",), ("linear",)}
    assert gpu.done(path, ABOUT | {"card": "another"}) == set()
    assert tuple(pd.read_csv(path).columns) == gpu.COLUMNS
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_what_the_book_shows(tmp_path: Path) -> None:
    nothing = gpu_speed.read(tmp_path / "none.csv")
    assert "No GPU" in gpu_speed.standing(nothing)
    assert gpu_speed.picture(nothing) is None
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
        for kernel in gpu_speed.KERNELS
        for dtype in gpu.DTYPES
        for k in (64, 128)
        for provider, share in (("softmax_lab", 0.9), ("torch", 0.5))
    ]
    gpu.store(tmp_path / "gpu.csv", [*rows, ABOUT | {"kernel": "check rows", "note": "FAILED: x"}])
    table = gpu_speed.read(tmp_path / "gpu.csv")
    assert gpu_speed.standing(table) == "a card: 0 of 1 checks passed, 24 times stored."
    assert gpu_speed.shares(table, "softmax", "float32").loc[64].to_dict() == {
        "softmax_lab": 0.9,
        "torch": 0.5,
    }
    assert gpu_speed.against(table.assign(k=8 * table["k"]), 512, 1024).loc[
        ("softmax", "float32")
    ].to_dict() == {
        "share of a copy": "0.90 to 0.90",
        "torch / softmax_lab": "1.80 to 1.80",
    }
    gpu.draw(tmp_path / "gpu.csv")
    assert (tmp_path / "gpu.svg").stat().st_size > 1000


def test_plans_name_every_read() -> None:
    pytest.importorskip("triton")
    plans = gpu_speed.plans()
    assert plans.loc[4096, "reads of a logit"] == 1
    assert plans.loc[131072, "reads of a logit"] == 2
    assert plans.loc[131072, "bytes, float32"] == 12
    # two reads in any case
    assert plans.loc[4096, "bytes, bfloat16"] == plans.loc[131072, "bytes, bfloat16"] == 6


def test_small_batches_and_the_linear_layer_are_told_apart() -> None:
    table = gpu_speed.read()
    small = gpu_speed.batches(table)
    assert [tuple(shape) for shape in small.index] == [
        (dtype, n, k) for dtype in ("bfloat16", "float32") for n, k in gpu.SMALL
    ]
    assert {"softmax_lab", "torch"} <= set(small.columns)
    assert (gpu_speed.linear(table)["peak_mb"] > 1000).all()
