"""The command trains the seeds that are asked for, and finds them stored the next time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments import class_norms as cn


def test_a_short_run_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "rows.csv"
    ask = ["--dataset", "digits", "--rho", "10", "--seed", "0", "1", "--epochs", "1", "--out", str(out)]
    assert cn.main(ask) == 0
    assert capsys.readouterr().out.splitlines() == ["stored: digits mlp 10 0 1", "stored: digits mlp 10 1 1"]
    assert cn.main(ask) == 0
    assert capsys.readouterr().out == ""
    assert torch.get_num_threads() == threads
    found = cn.frame(out)
    assert sorted(found["step"].unique()) == [0, 10, 13]  # 409 rows in batches of 32
    assert len(found) == 2 * 3 * 10


def test_cifar_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data PATH"):
        cn.main(["--dataset", "cifar100", "--out", str(tmp_path / "rows.csv")])
