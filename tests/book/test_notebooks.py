"""Every notebook is stored executed, in order and without errors, and defines no algorithm."""

from __future__ import annotations

import ast
import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from experiments.sentences import Sentences
from tools.build_book import failed_sentences, read_toc

ROOT = Path(__file__).resolve().parents[2]


def notebooks() -> list[Path]:
    """Return the chapters and the notebooks of the experiments."""
    chapters = [ROOT / f"{document}.ipynb" for document in read_toc(ROOT)]
    return sorted({path for path in chapters if path.is_file()} | set((ROOT / "experiments").glob("*.ipynb")))


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what is wrong with a stored notebook, in words."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    found = [problem for cell in cells for problem in cell_problems(cell)]
    found += [
        f"a paragraph of {len(words)} words, at most {MOST_WORDS}: {' '.join(words[:8])} ..."
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for words in paragraphs(cell.source)
        if len(words) > MOST_WORDS
    ]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("cells are not executed once, in order, in a fresh kernel")
    if not any("parameters" in cell.metadata.get("tags", []) for cell in cells):
        found.append("no cell is tagged parameters")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")
    return found


MOST_WORDS = 120


def paragraphs(source: str) -> list[list[str]]:
    """Return the words of each paragraph and each item of a list; tables and blocks of code are neither."""
    blocks = re.sub(r"^```.*?^```$", "", source, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.)\s)", blocks)
    return [part.split() for part in parts if not part.lstrip().startswith("|")]


def cell_problems(cell: nbformat.NotebookNode) -> list[str]:
    """Return what is wrong with one code cell."""
    name = f"cell {cell.get('id')}"
    found = [f"{name} defines {node.name}: put it into the package" for node in definitions(cell.source)]
    if any(output.output_type == "error" for output in cell.outputs):
        found.append(f"{name} stores an error")
    if any("image/png" in output.get("data", {}) for output in cell.outputs) and not alternative_text(cell):
        found.append(f"{name} has a figure without alternative text")
    found += [f"{name} stores: {sentence}" for sentence in failed_sentences(cell)]
    if "execution" in cell.metadata:
        found.append(f"{name} stores its timing")
    return found


def definitions(source: str) -> list[Any]:
    """Return the functions and classes that a cell defines (lambdas and magics are allowed)."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return [
        node
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]


def alternative_text(cell: nbformat.NotebookNode) -> str:
    """Return the alternative text of a cell's figure."""
    text: str = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    return text.strip()


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_stored_notebook_is_sound(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook) == []


def test_every_notebook_of_the_book_is_in_its_table_of_contents() -> None:
    in_toc = {ROOT / f"{document}.ipynb" for document in read_toc(ROOT)}
    assert set((ROOT / "book").glob("*.ipynb")) <= in_toc
    assert notebooks()


def sound() -> nbformat.NotebookNode:
    """Return a small notebook without problems."""
    figure = nbformat.v4.new_output("display_data", {"image/png": "aGk=", "text/plain": "<Figure>"})
    cells = [
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}, execution_count=1),
        nbformat.v4.new_code_cell(
            "show = lambda: None",
            metadata={"mystnb": {"image": {"alt": "a line"}}},
            outputs=[figure],
            execution_count=2,
        ),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return notebook


def test_sound_notebook_has_no_problem() -> None:
    assert problems(sound()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"execution_count": None}, "not executed"),
        ({"execution_count": 7}, "not executed"),
        ({"source": "def softmax(z):\n    return z"}, "defines softmax"),
        ({"metadata": {}}, "alternative text"),
        (
            {"outputs": [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]},
            "stores an error",
        ),
        ({"metadata": {"mystnb": {"image": {"alt": "a line"}}, "execution": {}}}, "timing"),
        (
            {
                "outputs": [
                    nbformat.v4.new_output(
                        "execute_result",
                        {"text/plain": repr(Sentences({"Two is one.": False, "One is one.": True}))},
                    )
                ]
            },
            "does not hold: Two is one.",
        ),
    ],
)
def test_problem_is_found(change: dict[str, Any], words: str) -> None:
    notebook = sound()
    for key, value in change.items():
        notebook.cells[1][key] = nbformat.from_dict(value) if isinstance(value, dict) else value
    (problem,) = problems(notebook)
    assert words in problem


def test_a_long_paragraph_is_found_and_a_long_list_is_none() -> None:
    notebook = sound()
    item = "- " + "word " * 60
    notebook.cells.append(nbformat.v4.new_markdown_cell(f"{item}\n{item}\n{item}\n\n```\n{item * 3}\n```"))
    assert problems(notebook) == []
    notebook.cells.append(nbformat.v4.new_markdown_cell("word " * 121))
    (problem,) = problems(notebook)
    assert problem.startswith("a paragraph of 121 words, at most 120: word word")


def test_missing_parameters_are_found() -> None:
    notebook = sound()
    notebook.cells[0].metadata = nbformat.from_dict({})
    assert problems(notebook) == ["no cell is tagged parameters"]


#: on a telephone a figure is so wide, in pixels
PHONE = 350
#: the height of ten points in a figure of 144 dots an inch
TEN_POINTS = 20
LEGIBLE = 8.5  #: the least that ten points have, in pixels


def words_on_a_telephone(path: Path) -> dict[str, float]:
    """Return how many pixels ten points of each figure have on a telephone."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                header = base64.b64decode(output["data"]["image/png"])[:24]
                name = cell.metadata["mystnb"]["figure"]["name"]
                found[name] = TEN_POINTS * min(1.0, PHONE / int.from_bytes(header[16:20], "big"))
    return found


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_the_words_of_figures_are_legible_on_a_telephone(path: Path) -> None:
    sizes = words_on_a_telephone(path)
    assert {name: size for name, size in sizes.items() if size < LEGIBLE} == {}
