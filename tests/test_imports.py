"""Imports run downward: no module of the package imports a face above it, or one that imports it in turn.

Imports inside functions count, and so do those for type checkers alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted names; a package is the module of its ``__init__``."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, known: dict[str, Path]) -> set[str]:
    """Return the known modules that a module imports, anywhere in its text."""
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    named: set[str] = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            names = (f"{base}.{alias.name}" for alias in node.names)
            named |= {each if each in known else base for each in names}
    return named & known.keys()


def _base(node: ast.ImportFrom, package: str) -> str:
    """Return the module that ``from ... import`` names, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Yield the modules that lead back to themselves."""
    for start in graph:
        reached: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            if (module := waiting.pop()) not in reached:
                reached.add(module)
                waiting += graph[module]
        if start in reached:
            yield start


KNOWN = modules(ROOT, "softmax_lab")
GRAPH = {name: imported(name, KNOWN) for name in KNOWN}


def test_no_module_imports_one_that_imports_it() -> None:
    assert list(circles(GRAPH)) == []


@pytest.mark.parametrize("name", KNOWN)
def test_no_module_imports_a_package_that_it_is_in(name: str) -> None:
    assert {package for package in GRAPH[name] if name.startswith(f"{package}.")} == set()


@pytest.mark.parametrize("face", ["torch", "jax"])
def test_only_the_audits_adapter_of_a_face_imports_it(face: str) -> None:
    """The base package works without torch and JAX."""
    inside = (f"softmax_lab.{face}",)
    users = {
        name
        for name, found in GRAPH.items()
        if any(each.startswith(inside) for each in found) and not name.startswith(inside)
    }
    assert users == {"softmax_lab.audit.adapters.softmax_lab"}


def test_a_circle_through_a_function_and_a_way_up_are_seen(tmp_path: Path) -> None:
    files = {
        "pack/__init__.py": "from .low import f\n",
        "pack/low.py": "def f():\n    from .inner import high\n",
        "pack/inner/__init__.py": "",
        "pack/inner/high.py": "from ..low import f\n",
        "pack/inner/up.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pack as p\n",
        "pack/inner/fine.py": "import numpy\nfrom . import up\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    known = modules(tmp_path, "pack")
    graph = {name: imported(name, known) for name in known}
    assert graph == {
        "pack": {"pack.low"},
        "pack.low": {"pack.inner.high"},
        "pack.inner": set(),
        "pack.inner.high": {"pack.low"},
        "pack.inner.up": {"pack"},
        "pack.inner.fine": {"pack.inner.up"},
    }
    assert set(circles(graph)) == {"pack.low", "pack.inner.high"}
