"""The command line says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import long_tail as lt


def test_the_command_line_says_what_is_missing(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lt.main(["final", "--loss", "focal", "--rho", "10", "--out", str(table)]) == 2
    assert "run the part tune first" in capsys.readouterr().err
    toy = [
        "final",
        "--loss",
        "plain",
        "--rho",
        "10",
        "--epochs",
        "1",
        "--jobs",
        "1",
        "--seed",
        "3",
        "--out",
        str(table),
    ]
    assert lt.main(toy) == 0
    assert "1/1" in capsys.readouterr().err  # progress
    broken = [
        "final",
        "--loss",
        "plain",
        "--rho",
        "10",
        "--dataset",
        "cifar10",
        "--protocol",
        "convnet",
        "--seed",
        "0",
    ]
    with pytest.raises(ValueError, match="say where, with --data PATH"):
        lt.main([*broken, "--jobs", "1", "--out", str(table)])
    assert len(lt.read(table)) == 1
