"""README.md: its code gives what its comments say, its links lead somewhere, its picture is computed."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_project import project

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def shown(value: Any) -> str:
    """Return a value as the comments write it: three digits, lists for arrays."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list) and not any(isinstance(each, str) for each in value):
        return "[" + ", ".join(shown(each) for each in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run(code: str) -> list[tuple[str, str]]:
    """Run a block; return what each bare expression with a comment gives, and the comment."""
    lines, names, found = code.splitlines(), dict[str, Any](), []
    for node in ast.parse(code).body:
        assert node.end_lineno is not None
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        comment = lines[node.end_lineno - 1].partition("  # ")[2]
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "README.md", "eval"), names)
            if comment and value is not None:
                found.append((shown(value), comment))
        else:
            exec(compile(ast.Module([node], []), source, "exec"), names)
    return found


@pytest.mark.parametrize("code", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_the_code_runs_and_gives_what_its_comments_say(code: str) -> None:
    for name in ("torch", "jax"):
        if f"import {name}" in code:
            pytest.importorskip(name)
    if "sl.audit" in code:
        for name in ("mpmath", "pandas", "ml_dtypes"):
            pytest.importorskip(name)
    for value, comment in run(code):
        assert re.match(re.escape(value) + r"($|[:,;])", comment), f"{value} is not {comment!r}"


def test_there_are_starts_for_everybody_and_none_is_longer_than_a_screen() -> None:
    imports = ["numpy", "torch", "jax", "numpy", "numpy"]
    assert [re.findall(r"^import (\w+)", block, re.MULTILINE)[0] for block in BLOCKS] == imports
    assert all(len(block.splitlines()) <= 12 for block in BLOCKS)


def test_a_comment_that_is_wrong_is_seen() -> None:
    ((value, comment),) = run("import math\nmath.exp(1.0)  # 2.71, and more\n")
    assert (value, comment) == ("2.72", "2.71, and more")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).is_file()


def test_the_extras_of_the_table_are_there() -> None:
    optional = project()["optional-dependencies"]
    table = TEXT.partition("| `pip install")[2].partition("\n\n")[0]
    named = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([\w-]+)`", row)
    ]
    assert set(named) <= set(optional)
    several = {name for name, wanted in optional.items() if len(wanted) > 1}
    assert several <= set(named)


def test_the_picture_is_what_the_program_draws_and_shows_what_the_text_says() -> None:
    pytest.importorskip("torch")
    from tools import readme_picture

    found = readme_picture.gradients()
    exact = 1.0 / (1.0 + np.exp(readme_picture.GAPS))
    np.testing.assert_allclose(found["softmax_lab"], exact, rtol=1e-6)
    lost = readme_picture.GAPS[np.asarray(found["torch"]) == 0.0]
    assert f"from a gap of about {lost[0]:.0f} on" in TEXT
    assert readme_picture.PICTURE.read_text(encoding="utf-8") == readme_picture.svg(found)
