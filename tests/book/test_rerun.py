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


#: for each chapter two sets of values, unlike the stored ones in as much as can be, and small where it trains
OTHER = {
    "01-derivation": [
        {
            **{"example_logits": [3.0, -1.0, 0.25], "example_target": [0.2, 0.5, 0.3], "num_rows": 300},
            **{"largest_gap": 12, "seed": 5},
        },
        {
            **{"example_logits": [0.0, 300.0, -500.0, 40.0], "example_target": [0.5, 1.0, 0.0, 0.5]},
            **{"num_rows": 50, "largest_gap": 130, "seed": 9},
        },
    ],
    "02-stability": [
        {
            **{"OFFSETS": [-50.0, 0.0, 25.0], "GAPS": [2.0, 60.0], "GAP": 4.0, "SHAPE": [4, 5], "SEED": 3},
            **{"TEMPERATURE": 0.5},
        },
        {
            **{"OFFSETS": [-2e4, 100.0, 1e4, 3e4], "GAPS": [0.5], "GAP": 150.0, "SHAPE": [2, 40], "SEED": 8},
            **{"TEMPERATURE": 1.0},
        },
    ],
    "03-propagation": [
        {"SEED": 7, "SPECTRUM_CLASSES": 12, "GAPS": [1.0, 3.0], "CLASSES": [3, 7, 50]},
        {"SEED": 21, "SPECTRUM_CLASSES": 3, "GAPS": [60.0, 120.0, 750.0], "CLASSES": [2, 300]},
    ],
    "04-frameworks": [
        {"EPSILONS": [0.0, 0.3], "SEEDS": [5], "STEPS": 100, "NOISE": 0.1, "SIZE": 300, "Z_LOSS": 0.5},
        {
            **{"EPSILONS": [0.1, 0.4], "SEEDS": [7, 9], "STEPS": 50, "NOISE": 0.6, "SIZE": 1_000_000},
            **{"Z_LOSS": 1e-6},
        },
    ],
    "05-sigmoid": [
        {"seed": 4, "digit_seeds": [7], "example": [0.5, -2.0, 1.5], "label": 0, "merged": [9, 4]},
        {
            **{"seed": 5, "digit_seeds": [11, 3], "example": [3.0, 3.0, -1.0, 0.0, -4.0, 30.0], "label": 5},
            **{"merged": [2, 6], "fixed_penalty": 1e-2, "logit_range": 12.0},
        },
    ],
    "06-temperature": [
        {
            **{"temperatures": [0.5, 1.0, 3.0], "spreads": [2.0], "class_counts": [3, 50], "gap": 1.0},
            **{"seeds": [8], "steps": 60, "smoothing": 0.3, "calibration_steps": 300},
        },
        {
            **{"temperatures": [0.02, 7.0, 1000.0], "spreads": [0.5, 1.0, 9.0], "gap": 12.0, "steps": 40},
            **{"class_counts": [2, 5, 20, 200], "seeds": [12, 30], "calibration_steps": 50},
            **{"calibration_rows": 400, "calibration_hidden": 8},
        },
    ],
    "07-balance": [
        {"RHOS": [20.0], "SEEDS": [9], "STEPS": 200, "MIDDLE": 50, "REFERENCE_ROWS": 10},
        {
            **{"RHOS": [5.0, 25.0, 50.0], "SEEDS": [31, 4], "STEPS": 100, "MIDDLE": 20},
            **{"LOSSES": ["plain", "balanced_softmax", "ldam"]},
        },
    ],
    "08-two-classes": [
        {
            "seed": 6,
            "digit_pair": [0, 9],
            "penalty": 1e-3,
            "example_gaps": [-3.0, 1.0, 5.0],
            "gap_range": 3.0,
        },
        {"seed": 16, "digit_pair": [1, 7], "penalty": 1.0, "largest_gap": 30.0, "example_gaps": [0.5, 720.0]},
    ],
    "09-balancing": [
        {"SEED": 3, "RHO": 10.0, "FILMS": ["plain", "gradient_balanced"]},
        {"SEED": 17, "RHO": 50.0, "FILMS": ["balanced_softmax", "plain"]},
    ],
}


def test_other_values_are_parameters_and_differ_from_the_stored_ones() -> None:
    for chapter, sets in OTHER.items():
        known = papermill.inspect_notebook(str(ROOT / "book" / f"{chapter}.ipynb"))
        stored = {name: ast.literal_eval(what["default"]) for name, what in known.items()}
        assert len(sets) == 2
        seeds = [name for name in known if "seed" in name.lower()]
        for values in sets:
            assert values.keys() <= known.keys()
            assert seeds
            assert set(seeds) <= values.keys()
            assert all(
                values[name] != (list(old) if isinstance(old, tuple) else old)
                for name, old in stored.items()
                if name in values
            )


@pytest.mark.long
@pytest.mark.parametrize(("chapter", "number"), [(chapter, i) for chapter in OTHER for i in (0, 1)])
def test_a_chapter_runs_with_other_values_and_says_what_holds(
    chapter: str, number: int, tmp_path: Path
) -> None:
    """No cell fails; what no longer holds is said beside it."""
    papermill.execute_notebook(
        str(ROOT / "book" / f"{chapter}.ipynb"), str(tmp_path / "out.ipynb"), OTHER[chapter][number],
        cwd=str(ROOT / "book"), progress_bar=False, kernel_name="python3",
    )  # fmt: skip
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code" and cell.source.strip())
    assert any("for-these-values" in str(cell.get("outputs")) for cell in cells)


@pytest.mark.long
def test_the_grids_notebook_runs_with_other_parameters(tmp_path: Path) -> None:
    given = {"RHO": 25.0, "LOSSES": ["plain", "balanced_softmax"], "SEEDS": [3], "EPOCHS": 30}
    papermill.execute_notebook(
        str(ROOT / "experiments" / "long_tail.ipynb"), str(tmp_path / "out.ipynb"), given,
        cwd=str(ROOT / "experiments"), progress_bar=False, kernel_name="python3",
    )  # fmt: skip
