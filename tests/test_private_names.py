"""A private name stays in its file: what another file needs has a public name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import softmax_lab as sl

PACKAGE = Path(sl.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
MODULES = {path.with_suffix("").relative_to(PACKAGE).parts for path in FILES} | {
    path.parent.relative_to(PACKAGE).parts for path in FILES if path.name == "__init__.py"
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def origin(node: ast.ImportFrom, folder: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the module that is imported from, as parts below the package; None for those of others."""
    parts = tuple(node.module.split(".")) if node.module else ()
    if node.level == 0:
        return parts[1:] if parts[:1] == ("softmax_lab",) else None
    return (*folder[: len(folder) - node.level + 1], *parts)


def reached(code: str, folder: tuple[str, ...]) -> list[str]:
    """Return the private names of other files that a file in a folder imports, or reads off a module."""
    tree, modules, found = ast.parse(code), set[str](), list[str]()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or (place := origin(node, folder)) is None:
            continue
        for alias in node.names:
            if (*place, alias.name) in MODULES:
                modules.add(alias.asname or alias.name)
            elif is_private(alias.name):
                found.append(f"from {'.'.join(place)} import {alias.name}")
    return found + [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in modules and is_private(node.attr)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_reaches_into_another(path: Path) -> None:
    assert reached(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).parts[:-1]) == []


def test_both_ways_of_reaching_in_are_seen() -> None:
    code = """
from .spec import FIELDS, _plain
from . import _checks, spec
from softmax_lab._rows import _hidden
spec._plain, _checks.number, spec.FIELDS._inner
"""
    assert reached(code, ()) == ["from spec import _plain", "from _rows import _hidden", "spec._plain"]
    assert reached("from ..spec import _plain", ("torch",)) == ["from spec import _plain"]
