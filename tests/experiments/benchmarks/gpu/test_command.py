"""The GPU's command as far as it goes without one: its store and its resumption."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import tables
from experiments.benchmarks.gpu import command

ABOUT = {"card": "a card", "versions": "v"}


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "gpu.csv"
    assert command.done(path, ABOUT) == set()
    tables.append(
        path,
        command.COLUMNS,
        [ABOUT | {"kernel": "softmax", "dtype": "float32", "k": 64, "provider": "torch", "ms": 1.0}],
    )
    tables.append(
        path,
        command.COLUMNS,
        [ABOUT | {"kernel": "check rows", "note": "passed"}, ABOUT | {"kernel": "linear, d = 8", "k": 100}],
    )
    assert command.done(path, ABOUT) == {"softmax float32 64", "check", "linear"}
    assert command.done(path, ABOUT | {"card": "another"}) == set()
    assert tuple(pd.read_csv(path).columns) == command.COLUMNS
    assert not [file for file in tmp_path.iterdir() if file != path]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "no GPU" in capsys.readouterr().err
