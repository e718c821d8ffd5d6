"""The command's options."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import command
from tests.experiments.long_tail_resnet.toy import packed


def test_the_command_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = packed(tmp_path / "packed"), tmp_path / "rows.csv"
    monkeypatch.setattr(command, "Config", partial(lr.Config, batch=16))
    given = ["--data", str(folder), "--rho", "10", "--device", "cpu", "--quiet", "--out", str(out)]
    assert lr.main([*given, "--only", "plain", "--seed", "0", "--epochs", "1"]) == 0
    assert [(row["loss"], row["epochs"], row["rho"]) for row in lr.read(out)] == [("plain", "1", "10")]


def test_folders_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lr.main([]) == 2
    assert lr.main(["--pack", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--data FOLDER" in said
    assert "--source FOLDER" in said
