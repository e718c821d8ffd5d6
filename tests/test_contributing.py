"""CONTRIBUTING.md names files that exist, and its recipe for a field every file that must know one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from softmax_lab.spec import FIELDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.+?)\n(.+?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))
#: the field that came last by the recipe, and so shows what a new one touches
NEWEST = list(FIELDS)[-1]


def _files(text: str) -> set[str]:
    """Return the paths of files and folders that a text names."""
    return {
        name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name or name.endswith((".py", ".md"))
    }


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield the identifiers and the whole strings of a source."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                yield name
            case ast.Constant(value=str(name)):
                yield name


def _knowing(name: str) -> set[str]:
    """Return the files of the package and of the tests' tables that hold a field's name."""
    sources = [*(ROOT / "softmax_lab").rglob("*.py"), ROOT / "tests" / "specs.py", ROOT / "tests" / "fuzz.py"]
    return {
        path.relative_to(ROOT).as_posix()
        for path in sources
        if name in _names(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_there_are_recipes_for_a_field_a_loss_an_adapter_an_engine_a_chapter_and_a_kernel() -> None:
    assert list(RECIPES) == [
        "A field",
        "A named loss",
        "An audit adapter",
        "An engine of the audit",
        "A chapter",
        "A kernel",
    ]


@pytest.mark.parametrize("name", sorted(_files(TEXT)))
def test_every_file_that_is_named_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_steps_for_a_field_are_the_files_that_know_one() -> None:
    steps = _files("".join(re.findall(r"^\d+\. .*$", RECIPES["A field"], re.MULTILINE)))
    assert (
        _knowing(NEWEST) - {"softmax_lab/losses.py"} == steps
    )  # where a loss has it, that is another recipe
