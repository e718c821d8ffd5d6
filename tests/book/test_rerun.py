"""The page on rerunning: what it says works, with other parameters than the stored ones."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "rerun.md").read_text(encoding="utf-8")


def commands(program: str) -> list[list[str]]:
    """Return the command lines of the page that call a program, without the path that is set before it."""
    return [shlex.split(found) for found in re.findall(rf"`(?:PYTHONPATH=\$PWD )?({program} [^`]*)`", PAGE)]


def test_the_page_has_five_lines() -> None:
    assert re.findall(r"^(\d)\. ", PAGE, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert len(commands("papermill")) == PAGE.count("papermill") == 2


@pytest.mark.parametrize("command", commands("papermill"), ids=lambda command: command[1])
def test_every_parameter_that_the_page_names_is_one(command: list[str]) -> None:
    notebook = ROOT / command[1]
    known = papermill.inspect_notebook(str(notebook))
    assert {command[i + 1] for i, word in enumerate(command) if word == "-p"} <= set(known)


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("experiments/*.ipynb")]),
    ids=lambda path: path.stem,
)
def test_every_notebook_has_parameters_that_can_be_set(path: Path) -> None:
    """One name a line: papermill does not see through ``a, b = 1, 2``."""
    cells = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(cells) == 1
    assigned = {
        node.id
        for node in ast.walk(ast.parse(cells[0].source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert assigned == set(papermill.inspect_notebook(str(path)))


@pytest.fixture(autouse=True)
def project_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.long
def test_a_chapter_runs_with_other_parameters(tmp_path: Path) -> None:
    command = commands("papermill")[0]
    given = {command[i + 1]: int(command[i + 2]) for i, word in enumerate(command) if word == "-p"}
    papermill.execute_notebook(
        str(ROOT / command[1]),
        str(tmp_path / "out.ipynb"),
        given,
        cwd=str(ROOT / "book"),
        progress_bar=False,
        kernel_name="python3",
    )
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    injected = next(cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert all(f"{name} = {value}" in injected.source for name, value in given.items())
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")


@pytest.mark.long
def test_the_grids_notebook_runs_with_other_parameters(tmp_path: Path) -> None:
    given = {"RHO": 30.0, "LOSSES": ["plain", "balanced_softmax"], "SEEDS": [3], "EPOCHS": 30}
    papermill.execute_notebook(
        str(ROOT / "experiments" / "long_tail.ipynb"), str(tmp_path / "out.ipynb"), given,
        cwd=str(ROOT / "experiments"), progress_bar=False, kernel_name="python3",
    )  # fmt: skip
