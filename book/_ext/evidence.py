"""The sources of the tests that stand behind the verdicts, as the book shows them.

- ``cut(source, names)``: a file in pieces: the tests that are named, and what stands between them
- ``place(test)``: the name of a test's place on the page
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from docutils import nodes

__all__ = ["Piece", "cut", "file_of", "name_of", "place"]


@dataclass(frozen=True)
class Piece:
    """Lines of a file: a test by its name, or what stands between two of them, without one."""

    name: str
    text: str


def file_of(test: str) -> str:
    """Return the file that a pytest node id names."""
    return test.partition("::")[0]


def name_of(test: str) -> str:
    """Return the function that a pytest node id names, without the values of a parametrised one."""
    return test.partition("[")[0].rpartition("::")[2]


def place(test: str) -> str:
    """Return the name of a test's place: its file's with its own, since two files may share a name."""
    return str(nodes.make_id(f"{PurePosixPath(file_of(test)).stem}-{name_of(test)}"))


def cut(source: str, names: Collection[str]) -> Iterator[Piece]:
    """Yield the whole of ``source`` in pieces, in order; blank lines at their ends are left out.

    Raises
    ------
    ValueError
        Where the file defines no function of one of the names, outside of classes.
    """
    lines = source.splitlines()
    functions = [
        node
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name in names
    ]
    if missing := set(names) - {node.name for node in functions}:
        raise ValueError(f"no function {', '.join(sorted(missing))}")
    end = 0
    for node in functions:
        start = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
        assert node.end_lineno is not None  # of what was parsed it is known
        for name, piece in (("", lines[end:start]), (node.name, lines[start : node.end_lineno])):
            if text := "\n".join(piece).strip("\n"):
                yield Piece(name, text)
        end = node.end_lineno
    if text := "\n".join(lines[end:]).strip("\n"):
        yield Piece("", text)
