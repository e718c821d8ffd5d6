"""The program writes the file that it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import frameworks
from experiments.frameworks import command


def test_the_program_writes_the_file_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # the program sets it where it is not set
    command.main(["softmax_lab", "--out", str(tmp_path / "a.csv")])
    table = frameworks.read_audit(tmp_path / "a.csv")
    assert table["ok"].all()
    assert set(table["dtype"]) == {"float16", "bfloat16", "float32", "float64"}
