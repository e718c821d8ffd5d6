"""A trial tries a few pieces, writes nothing and says how long all would take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

from experiments.exhaustive import command


def test_a_trial_says_how_long_all_would_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "exhaustive.csv"
    arguments = ["--part", "exponential", "--trial", "1", "--threads", "1", "--out", str(path)]
    assert command.main(arguments) == 0
    told = capsys.readouterr().out
    assert "every float32 in [-104, 0]" in told
    assert re.search(r"all of it would take about \d+ s of processor time", told)
    assert not path.exists()
