"""Environments: pinned, made once, and where one cannot be had it is said why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.engines.environments import NotToBeHadError, command, make
from experiments.engines.recipes import PROGRAMS, Engine

Run = Callable[..., list[list[str]]]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what records commands in place of running them; those with a word fail."""

    def record(failing: str = "") -> list[list[str]]:
        called: list[list[str]] = []

        def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            called.append(arguments)
            failed = bool(failing) and failing in arguments
            said = "ERROR: No matching distribution found for x==1\n\nnotice: a new release" if failed else ""
            return subprocess.CompletedProcess(arguments, int(failed), "", said)

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "absent" else name)
        return called

    return record


def test_an_environment_is_made_once(commands: Run, tmp_path: Path) -> None:
    called = commands()
    engine = Engine("with_x.py", ("x==1.0", "y==2"))
    own = make("x", engine, tmp_path)
    assert own == tmp_path / "x"
    assert called[0] == [sys.executable, "-m", "venv", "--without-pip", str(own)]
    assert called[1][:5] == [sys.executable, "-m", "pip", "--python", str(own / "bin" / "python")]
    assert called[1][-2:] == ["x==1.0", "y==2"]
    assert "--no-deps" not in called[1]
    make("x", engine, tmp_path)
    assert len(called) == 2
    make("x", Engine("with_x.py", ("x==1.1", "y==2")), tmp_path)
    assert len(called) == 4


def test_one_that_is_alone_takes_no_dependencies(commands: Run, tmp_path: Path) -> None:
    called = commands()
    make("x", Engine("with_x.py", ("x==1.0",), alone=True), tmp_path)
    assert "--no-deps" in called[1]


def test_npm_runs_no_scripts(commands: Run, tmp_path: Path) -> None:
    called = commands()
    own = make("x", Engine("with_x.js", ("@scope/x@1.0",)), tmp_path)
    assert called == [
        [
            *("npm", "install", "--prefix", str(own), "--ignore-scripts", "--no-audit", "--no-fund"),
            *("--loglevel=error", "@scope/x@1.0"),
        ]
    ]


def test_what_cannot_be_had_says_why_and_leaves_nothing(commands: Run, tmp_path: Path) -> None:
    commands(failing="pip")
    with pytest.raises(NotToBeHadError, match="says: ERROR: No matching distribution found for x==1"):
        make("x", Engine("with_x.py", ("x==1",)), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotToBeHadError, match="it needs absent, which this machine has not"):
        make("x", Engine("with_x.py", ("x==1",), needs=("absent",)), tmp_path)


def test_a_command_runs_in_the_environment_with_its_variables(tmp_path: Path) -> None:
    engine = Engine("with_x.py", ("x==1",), variables={"DEV": "CPU"})
    assert command(engine, tmp_path, ["--axis=0"]) == [
        *("env", "DEV=CPU", f"ENGINE_FOLDER={tmp_path}"),
        *(str(tmp_path / "bin" / "python"), str(PROGRAMS / "with_x.py"), "--axis=0"),
    ]
    assert command(Engine("with_x.mjs", ("x@1",)), tmp_path, [])[2:] == ["node", str(PROGRAMS / "with_x.mjs")]
