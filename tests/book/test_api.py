"""The API reference names every public name once, and its inventories say what Sphinx will read in them."""

from __future__ import annotations

import io
import posixpath
import re
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.util.inventory import InventoryFile

import softmax_lab as sl
import softmax_lab.jax as slj
import softmax_lab.torch as slt
from tools import inventories

ROOT = Path(__file__).resolve().parents[2]
#: modules whose names are on the page; what is no function or class is described beside them
MODULES = (
    sl,
    sl.losses,
    sl.balance,
    sl.audit,
    sl.exact,
    sl.data,
    sl.plotting,
    slt,
    slt.functional,
    slt.parallel,
    slj,
)


def listed() -> dict[str, list[str]]:
    """Return the names on the page by module."""
    found: dict[str, list[str]] = {}
    module = ""
    for kind, name in re.findall(
        r"^\.\. (currentmodule|autofunction|autoclass):: (\S+)$",
        (ROOT / "book" / "api.md").read_text(),
        re.MULTILINE,
    ):
        if kind == "currentmodule":
            module = name
        else:
            found.setdefault(module, []).append(name)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_function_and_class_is_on_the_page(module: ModuleType) -> None:
    public = [
        name
        for name in module.__all__
        if callable(getattr(module, name)) and not isinstance(getattr(module, name), ModuleType)
    ]
    assert sorted(listed()[module.__name__]) == sorted(public)


@pytest.mark.parametrize("project", inventories.PROJECTS)
def test_stored_inventories_are_what_the_tool_writes(project: str) -> None:
    stored = (inventories.FOLDER / f"{project}.inv").read_bytes()
    version, names = inventories.PROJECTS[project]
    loaded = InventoryFile.load(io.BytesIO(stored), "", posixpath.join)
    assert stored.startswith(
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: {version}\n".encode()
    )
    assert {name: role for role, of in loaded.items() for name in of} == {
        name: role for name, (role, _) in names.items()
    }
