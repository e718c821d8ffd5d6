"""Read the ledger of claims, ``book/claims.yml``: the one list that the book's pages and the tests share.

The file is a YAML list with one mapping a claim:

- ``id``: chapter and number in the article, as in ``"3.1"``
- ``original``: the article's own sentence (optional)
- ``article``: its translation
- ``verdict``: one of `VERDICTS`
- ``statement``: the right statement, in MyST Markdown; shown on two pages, so without labels of its own
- ``statement_zh``: the statement in Chinese, with the same formulas (optional)
- ``chapter``: the page that treats it, without extension, as in ``book/03-propagation``
- ``evidence``: the pytest node id of the test that proves it, or a list of several
- ``cells``: where the claim is a row of a table, a list with one mapping a cell, each with ``cell`` (what it
  says), ``verdict`` and ``statement`` (optional); the row's verdict is the least favourable of theirs
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VERDICTS: Mapping[str, str] = {
    "holds": "true as the article states it",
    "conditional": "true only under a condition that the article leaves out",
    "wrong": "false: the chapter shows a counterexample",
    "completed": "cut off in the article, and completed here",
}
#: the verdicts as the Chinese page has them
VERDICTS_ZH: Mapping[str, str] = {
    "holds": "成立",
    "conditional": "有条件",
    "wrong": "错误",
    "completed": "补全",
}
#: what a verdict looks at; the page of the ledger says so
RULE = (
    "Each claim is judged where the article stands: the logits are finite, the arithmetic is exact, and "
    "labels are distributions, one-hot or soft. A claim on computation is judged in floating point. If a "
    "claim is true in that setting, it holds. If it needs a condition that the article omits, it is "
    "conditional. Some claims change for masked classes, underflow or unusual labels. The right statement "
    "says so. The verdict stays the same. A row of the article's table is judged cell by cell, and has the "
    "least favourable verdict of its cells."
)
REQUIRED = frozenset({"id", "article", "verdict", "statement", "chapter", "evidence"})
OPTIONAL = frozenset({"original", "statement_zh", "cells"})
CELL = frozenset({"cell", "verdict", "statement"})
_ID = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Cell:
    """One cell of a claim that is a row of a table; the fields are those of the file."""

    cell: str
    verdict: str
    statement: str


@dataclass(frozen=True)
class Claim:
    """One claim of the article with its verdict; the fields are those of the file."""

    id: str
    article: str
    verdict: str
    statement: str
    chapter: str
    evidence: tuple[str, ...]
    original: str = ""
    statement_zh: str = ""
    cells: tuple[Cell, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """Sort key: 3.10 comes after 3.9."""
        return tuple(int(part) for part in self.id.split("."))

    @property
    def label(self) -> str:
        """Name of the cross-reference target at the claim's verdict."""
        return f"claim-{self.id}"


def read_claims(path: Path) -> tuple[dict[str, Claim], list[str]]:
    """Return the claims by id, in the article's order, and what is wrong with the file, in words."""
    if not path.is_file():
        return {}, [f"{path.name} does not exist"]
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        return {}, [f"{path.name} is not valid YAML: {error}"]
    if not isinstance(rows, list):
        return {}, [f"{path.name} must be a list of claims, not {type(rows).__name__}"]
    problems = [problem for number, row in enumerate(rows, 1) for problem in row_problems(number, row)]
    claims = sorted(
        (_claim(row) for number, row in enumerate(rows, 1) if not row_problems(number, row)),
        key=lambda claim: claim.order,
    )
    problems += [
        f"claim {name} is listed {count} times"
        for name, count in Counter(c.id for c in claims).items()
        if count > 1
    ]
    return {claim.id: claim for claim in claims}, problems


def row_problems(number: int, row: Any) -> list[str]:
    """Say what keeps row ``number`` of the file from being a claim; an empty list if nothing does."""
    if not isinstance(row, dict):
        return [f"row {number} must be a mapping, not {type(row).__name__}"]
    name = f"row {number} (id {row.get('id')!r})"
    problems = [f"{name} lacks {key!r}" for key in sorted(REQUIRED - row.keys())]
    problems += [
        f"{name} has an unknown key {key!r}" for key in sorted(row.keys() - REQUIRED - OPTIONAL, key=str)
    ]
    problems += [
        f"{name}: {key!r} must be text"
        for key in row.keys() & (REQUIRED | OPTIONAL)
        if not _is_text(key, row[key])
    ]
    if problems:
        return problems
    if not _ID.fullmatch(row["id"]):
        problems.append(f"{name}: an id is two numbers with a dot between them")
    if row["verdict"] not in VERDICTS:
        problems.append(f"{name}: unknown verdict {row['verdict']!r}, expected one of {', '.join(VERDICTS)}")
    return problems + _cell_problems(name, row)


def _cell_problems(name: str, row: dict[str, Any]) -> list[str]:
    """Say what is wrong with a row's cells: their form, or the row's verdict beside theirs."""
    cells = row.get("cells", [])
    if not all(cell.keys() == CELL and cell["verdict"] in VERDICTS for cell in cells):
        return [f"{name}: each cell needs {', '.join(sorted(CELL))}, and one of the verdicts"]
    least = max((cell["verdict"] for cell in cells), key=list(VERDICTS).index, default=row["verdict"])
    if least != row["verdict"]:
        return [f"{name}: its cells make it {least!r}, not {row['verdict']!r}"]
    return []


def count_verdicts(claims: Iterable[Claim]) -> dict[str, int]:
    """Return the number of claims with each verdict, in the order of `VERDICTS`."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def _is_text(key: str, value: Any) -> bool:
    if key == "evidence" and isinstance(value, list):
        return bool(value) and all(_is_text("", item) for item in value)
    if key == "cells":
        return isinstance(value, list) and all(
            isinstance(cell, dict) and all(_is_text("", text) for text in cell.values()) for cell in value
        )
    return isinstance(value, str) and (bool(value.strip()) or key in OPTIONAL)


def _claim(row: dict[str, Any]) -> Claim:
    evidence = row["evidence"]
    cells = tuple(Cell(**cell) for cell in row.get("cells", ()))
    tests = (evidence,) if isinstance(evidence, str) else tuple(evidence)
    return Claim(**{**row, "evidence": tests, "cells": cells})
