"""The ledger of claims agrees with the chapters and with the tests that it names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from claims import VERDICTS, VERDICTS_ZH, Claim, count_verdicts, read_claims

from experiments import two_lines
from tools.build_book import read_toc

ROOT = Path(__file__).resolve().parents[2]
_VERDICT = re.compile(r"^ {0,3}[`:]{3,}\{verdict\} +(\S+)", re.MULTILINE)
CLAIMS, PROBLEMS = read_claims(ROOT / "book" / "claims.yml")


def test_ledger_is_valid() -> None:
    assert PROBLEMS == []
    assert CLAIMS


def shown_claims(document: str) -> list[str]:
    """Return the claims whose verdict a chapter shows."""
    notebook = nbformat.read(ROOT / f"{document}.ipynb", as_version=4)
    return [
        name
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for name in _VERDICT.findall(cell.source)
    ]


@pytest.mark.parametrize(
    "document", [document for document in read_toc(ROOT) if (ROOT / f"{document}.ipynb").is_file()]
)
def test_chapter_shows_each_of_its_claims_once(document: str) -> None:
    assert sorted(shown_claims(document)) == sorted(
        claim.id for claim in CLAIMS.values() if claim.chapter == document
    )


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_claim_names_a_chapter_and_tests_that_exist(claim: Claim) -> None:
    assert claim.chapter in read_toc(ROOT)
    for evidence in claim.evidence:
        assert has_test(evidence), f"{evidence} does not exist"


def has_test(node_id: str) -> bool:
    """Return whether the file defines the test that a pytest node id names.

    The values of a parametrised one are not looked at.
    """
    file, *names = node_id.partition("[")[0].split("::")
    path = ROOT / file
    if not names or not names[-1].startswith("test_") or not path.is_file():
        return False
    node: ast.AST | None = ast.parse(path.read_text(encoding="utf-8"))
    for name in names:
        node = next(
            (child for child in getattr(node, "body", []) if getattr(child, "name", None) == name), None
        )
    return isinstance(node, ast.FunctionDef)


def test_has_test_tells_names_apart() -> None:
    here = "tests/book/test_claims.py"
    assert has_test(f"{here}::test_has_test_tells_names_apart")
    assert has_test(f"{here}::test_row_problem_is_found[text]")
    assert not has_test(f"{here}::test_that_is_not_there")
    assert not has_test(f"{here}::shown_claims")
    assert not has_test(here)
    assert not has_test("tests/no_such_file.py::test_x")


ROW = (
    'id: "3.9"\n  article: a\n  verdict: holds\n  statement: s\n  chapter: book/a\n  evidence: '
    "tests/a.py::test_a\n"
)


def read(tmp_path: Path, text: str) -> tuple[dict[str, Claim], list[str]]:
    """Read a ledger with the given text."""
    path = tmp_path / "claims.yml"
    path.write_text(text, encoding="utf-8")
    return read_claims(path)


def test_claims_come_in_the_order_of_the_article(tmp_path: Path) -> None:
    text = f"- {ROW.replace('3.9', '3.10')}- {ROW}- {ROW.replace('3.9', '1.2').replace('holds', 'wrong')}"
    claims, found = read(tmp_path, text)
    assert (list(claims), found) == (["1.2", "3.9", "3.10"], [])
    assert count_verdicts(claims.values()) == {"holds": 2, "conditional": 0, "wrong": 1, "completed": 0}


def test_evidence_may_be_a_list(tmp_path: Path) -> None:
    claims, found = read(
        tmp_path, f"- {ROW.replace('tests/a.py::test_a', '[tests/a.py::test_a, tests/b.py::test_b]')}"
    )
    assert (claims["3.9"].evidence, found) == (("tests/a.py::test_a", "tests/b.py::test_b"), [])


def test_a_row_of_a_table_has_the_least_favourable_verdict_of_its_cells(tmp_path: Path) -> None:
    cells = "  cells:\n" + "".join(
        f"    - {{cell: {verdict}, verdict: {verdict}, statement: s}}\n"
        for verdict in ("conditional", "holds")
    )
    claims, found = read(tmp_path, f"- {ROW.replace('holds', 'conditional')}{cells}")
    assert found == []
    assert [cell.verdict for cell in claims["3.9"].cells] == ["conditional", "holds"]


def test_the_rows_of_the_articles_table_of_frameworks_are_judged_by_cells() -> None:
    assert {name: len(claim.cells) for name, claim in CLAIMS.items() if claim.cells} == dict.fromkeys(
        ("4.1", "4.2", "4.3"), 3
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"- {ROW}- {ROW}", "listed 2 times"),
        (f"- {ROW.replace('holds', 'true-ish')}", "unknown verdict 'true-ish'"),
        (f"- {ROW.replace('article: a', 'artikel: a')}", "lacks 'article'"),
        (f"- {ROW.replace('statement: s', 'statement:')}", "'statement' must be text"),
        (f"- {ROW.replace('tests/a.py::test_a', '[]')}", "'evidence' must be text"),
        (f"- {ROW}".replace('"3.9"', "3.9"), "'id' must be text"),
        (f"- {ROW.replace('3.9', '3.9b')}", "two numbers"),
        (f"- {ROW}  cells: text", "'cells' must be text"),
        (f"- {ROW}  cells: [{{cell: a, verdict: holds}}]", "each cell needs"),
        (f"- {ROW}  cells: [{{cell: a, verdict: true-ish, statement: s}}]", "one of the verdicts"),
        (f"- {ROW}  cells: [{{cell: a, verdict: wrong, statement: s}}]", "make it 'wrong', not 'holds'"),
        ("- text", "row 1 must be a mapping"),
        ("text", "must be a list"),
        ("- {", "not valid YAML"),
    ],
    ids=lambda value: value if " " in value and "\n" not in value else "text",
)
def test_row_problem_is_found(tmp_path: Path, text: str, words: str) -> None:
    _, found = read(tmp_path, text)
    assert words in "; ".join(found)


def test_missing_ledger_is_a_problem(tmp_path: Path) -> None:
    assert read_claims(tmp_path / "claims.yml") == ({}, ["claims.yml does not exist"])


# ---- in Chinese ----


_LINK = re.compile(r"\{\w+\}`([^`<]*) <([^`>]*)>`")


def links(text: str) -> Counter[str]:
    """Return where the links of a text lead."""
    return Counter(target for _, target in _LINK.findall(text))


def unlinked(text: str) -> str:
    """Return the text with the words of each link in the link's place."""
    return _LINK.sub(r"\1", text)


def formulas(text: str) -> Counter[str]:
    return Counter(re.findall(r"\$[^$]+\$", text))


def numbers(text: str) -> Counter[str]:
    """Return the numbers outside of formulas and of names."""
    return Counter(re.findall(r"\d+(?:[.,/]\d+)*", re.sub(r"\$[^$]+\$|`[^`]+`", "", unlinked(text))))


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_the_statement_in_chinese_has_the_same_formulas_and_numbers(claim: Claim) -> None:
    assert re.search(r"[\u4e00-\u9fff]", claim.statement_zh)
    assert formulas(claim.statement_zh) == formulas(claim.statement)
    cells = " ".join(f"{cell.cell}: {cell.statement}" for cell in claim.cells)
    assert numbers(claim.statement_zh) == numbers(f"{claim.statement} {cells}")
    named = set(re.findall(r"`[^`]+`", unlinked(claim.statement + cells)))
    assert set(re.findall(r"`[^`]+`", unlinked(claim.statement_zh))) == named
    assert links(claim.statement_zh) == links(claim.statement)


CHINESE = (ROOT / "book" / "errata-zh.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [CHINESE, *(claim.statement_zh for claim in CLAIMS.values())])
def test_chinese_is_not_set_in_italics(text: str) -> None:
    """Its letters have none: a browser would slant them."""
    prose = re.sub(
        r"\$[^$]+\$|`[^`]+`", "", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    )
    assert not re.search(r"(?<!\*)\*(?!\*)", prose)


def test_the_two_lines_and_their_gaps_are_those_of_the_first_page() -> None:
    (shown,) = re.findall(r"^```\{code-block\} python\n(.*?)^```$", CHINESE, re.DOTALL | re.MULTILINE)
    (computed,) = re.findall(r"```python\n(.*?)```", two_lines.markdown(), re.DOTALL)
    assert re.sub(r" *#.*", "", shown) == re.sub(r" *#.*", "", computed)
    notebook = nbformat.read(ROOT / "book" / "intro.ipynb", as_version=4)
    glued = {
        output.metadata.scrapbook.name: ast.literal_eval(next(iter(output.data.values())))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.metadata
    }
    gaps = [glued[f"intro-lost-{dtype}"] for dtype in ("float32", "float64")]
    assert f"从 logit 之差 {gaps[0]} 和 {gaps[1]} 起" in CHINESE


def test_every_verdict_has_a_word_in_chinese() -> None:
    assert VERDICTS_ZH.keys() == VERDICTS.keys()
