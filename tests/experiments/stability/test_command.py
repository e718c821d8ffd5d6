"""The program writes the file that it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import stability
from experiments.stability import command


def test_the_program_writes_the_file_that_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "SHAPES", ((6, 4),))
    command.main(["--out", str(tmp_path / "t.csv"), "--rounds", "1"])
    assert set(stability.read_timings(tmp_path / "t.csv")["dtype"]) == {"float32", "float64"}
