"""Rows are carried as values: no loop and no helper takes a long list of arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import softmax_lab

FOLDER = Path(softmax_lab.__file__).parent / "_kernels"
OF_A_LOOP, OF_A_HELPER = 14, 8


def _functions(file: Path) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _is_loop(function: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "compiled" for d in function.decorator_list)


def test_every_file_with_loops_is_read() -> None:
    files = {file.name for file in FOLDER.glob("*.py") if any(map(_is_loop, _functions(file)))}
    assert files == {
        "log_products.py",
        "log_rows.py",
        "long_rows.py",
        "products.py",
        "shards.py",
        "short_log_products.py",
        "short_logs.py",
        "short_products.py",
        "short_rows.py",
    }


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_no_function_takes_a_long_list_of_arguments(file: Path) -> None:
    for function in _functions(file):
        most = OF_A_LOOP if _is_loop(function) else OF_A_HELPER
        assert len(function.args.args) <= most, f"{function.name} takes {len(function.args.args)} arguments"
