"""Engines are run one after another: what is stored is not run again, what cannot be had is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

from experiments.engines import environments, stored
from experiments.engines.recipes import Engine
from experiments.engines.running import run_engines

PROGRAM = Path(__file__).resolve().parents[3] / "book" / "protocol" / "softmax.py"
ENGINES = {
    "one": Engine("with_one.py", ("one==1.0",), {"": (), "again": ("again",)}),
    "absent": Engine("with_absent.py", ("absent==1.0",)),
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the names that are installed, in order; a program of the book stands for each engine."""
    made: list[str] = []

    def make(name: str, engine: Engine, folder: Path) -> Path:
        if name == "absent":
            raise environments.NotToBeHadError("pip says: no")
        made.append(name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        return folder / name

    def command(engine: Engine, own: Path, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, str(PROGRAM), *arguments]

    monkeypatch.setattr(environments, "make", make)
    monkeypatch.setattr(environments, "command", command)
    return made


def test_what_is_stored_is_not_run_again(installed: list[str], tmp_path: Path) -> None:
    path, said = tmp_path / "engines.csv", list[str]()
    missing = run_engines(["one", "absent"], path, folder=tmp_path, engines=ENGINES, say=said.append)
    assert missing == ["absent"]
    assert "[2/2] absent 1.0: cannot be had: pip says: no" in said
    assert any(line.startswith("    one, again: ") and " ok, " in line for line in said)
    assert stored.stored(path) == {("one", "", "1.0"), ("one", "again", "1.0")}
    table = stored.read(path)
    assert set(table["dtype"]) == {"float64"}
    again = list[str]()
    assert run_engines(["one"], path, folder=tmp_path, engines=ENGINES, say=again.append) == []
    assert again == ["[1/1] one 1.0: stored"]
    assert installed == ["one"]


def test_what_was_interrupted_goes_on_where_it_was(installed: list[str], tmp_path: Path) -> None:
    path = tmp_path / "engines.csv"
    first = {"one": Engine("with_one.py", ("one==1.0",))}
    run_engines(["one"], path, folder=tmp_path, engines=first, keep=False, say=lambda line: None)
    assert not (tmp_path / "one").exists()
    before = path.read_text()
    run_engines(["one"], path, folder=tmp_path, engines=ENGINES, say=lambda line: None)
    assert path.read_text().startswith(before)
    assert stored.stored(path) == {("one", "", "1.0"), ("one", "again", "1.0")}


def test_what_answers_nothing_is_told_and_not_stored(
    installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = tmp_path / "engines.csv", list[str]()
    silent = [sys.executable, "-c", "raise ImportError('no such engine')"]
    monkeypatch.setattr(environments, "command", lambda *arguments: silent)
    first = {"one": Engine("with_one.py", ("one==1.0",))}
    missing = run_engines(["one"], path, folder=tmp_path, engines=first, keep=False, say=said.append)
    assert missing == ["one"]
    assert said[-1].startswith("    one: answers nothing: the program ended with status 1 before it answered")
    assert said[-1].endswith("ImportError: no such engine")
    assert not path.exists()
