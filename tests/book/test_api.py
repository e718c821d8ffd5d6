"""The pages of the API reference name every public name once; their inventories say what Sphinx will read."""

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
from tools.build_book import read_toc

ROOT = Path(__file__).resolve().parents[2]
#: modules whose names are on the pages; what is no function or class is described beside them
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
    """Return the names on the pages by module."""
    found: dict[str, list[str]] = {}
    for page in pages():
        module = ""
        for kind, name in re.findall(
            r"^\.\. (currentmodule|autofunction|autoclass):: (\S+)$", page.read_text(), re.MULTILINE
        ):
            if kind == "currentmodule":
                module = name
            else:
                found.setdefault(module, []).append(name)
    return found


def pages() -> list[Path]:
    """Return the pages of the reference."""
    return sorted((ROOT / "book").glob("api-*.md"))


def test_the_reference_names_each_of_its_pages_and_none_is_long() -> None:
    assert re.findall(r"^\| \{doc\}`(api-\w+)`", (ROOT / "book" / "api.md").read_text(), re.MULTILINE) == [
        document.removeprefix("book/") for document in read_toc(ROOT) if document.startswith("book/api-")
    ]
    counts = {page.stem: len(re.findall(r"auto(?:function|class)::", page.read_text())) for page in pages()}
    assert max(counts.values()) <= 26, counts


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_function_and_class_is_on_a_page(module: ModuleType) -> None:
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
