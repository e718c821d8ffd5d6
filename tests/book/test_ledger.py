"""The directives of ``book/_ext/ledger.py``, each in a small book of its own."""

from __future__ import annotations

import io
import os
import re
import textwrap
from pathlib import Path

import pytest
from claims import VERDICTS
from ledger import SYMBOLS
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

CLAIMS = """
- id: "1.1"
  article: "It is $a$."
  verdict: holds
  statement: "It **is** $a$."
  chapter: one
  evidence: tests/a.py::test_a
- id: "1.2"
  article: "It is $b$."
  original: "是 $b_1$"
  verdict: wrong
  statement: "It is $c$."
  chapter: one
  evidence: [tests/a.py::test_b, tests/a.py::test_c]
"""
PAGES = {
    "index.md": """\
        # Book
        ```{toctree}
        one
        ```
        ```{ledger-counts}
        ```
        ```{ledger}
        ```
        """,
    "one.md": """\
        # One
        ```{verdict} 1.1
        ```
        ```{verdict} 1.2
        ```
        """,
}


def build(folder: Path, claims: str = CLAIMS, **pages: str) -> tuple[dict[str, str], str]:
    """Write a book with these claims and pages and build it; return its pages and the warnings."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    for name, text in (PAGES | {f"{name}.md": text for name, text in pages.items()}).items():
        (source / name).write_text(textwrap.dedent(text), encoding="utf-8")
    (source / "claims.yml").write_text(claims, encoding="utf-8")
    return run_sphinx(folder)


def run_sphinx(folder: Path) -> tuple[dict[str, str], str]:
    """Build the book that is written in ``folder``, again or for the first time."""
    warnings = io.StringIO()
    options = {"extensions": ["myst_parser", "ledger"], "myst_enable_extensions": ["dollarmath"]}
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            folder / "source",
            None,
            folder / "html",
            folder / "trees",
            "html",
            options,
            status=None,
            warning=warnings,
        )
        app.build()
    return {
        path.stem: path.read_text(encoding="utf-8") for path in (folder / "html").glob("*.html")
    }, warnings.getvalue()


def test_every_verdict_has_a_symbol() -> None:
    assert SYMBOLS.keys() == VERDICTS.keys()
    assert len(set(SYMBOLS.values())) == len(VERDICTS)


def test_verdict_shows_word_statement_and_evidence(tmp_path: Path) -> None:
    pages, warnings = build(tmp_path)
    assert warnings == ""
    first = pages["one"].partition('id="claim-1-1"')[2].partition('id="claim-1-2"')[0]
    for part in (
        "Claim 1.1",
        "ledger-holds",
        "holds",
        "<strong>is</strong>",
        r"\(a\)",
        "tests/<wbr>a.py::<wbr>test_<wbr>a",
    ):
        assert part in first
    assert "tests/a.py::test_c" in pages["one"].replace("<wbr>", "")


def test_table_links_each_claim_to_its_verdict(tmp_path: Path) -> None:
    pages, _ = build(tmp_path)
    for part in (
        'href="one.html#claim-1-1"',
        'href="one.html#claim-1-2"',
        r"\(b\)",
        r"\(c\)",
        "ledger-wrong",
    ):
        assert part in pages["index"]


def test_original_is_marked_as_chinese_and_its_formulas_are_typeset(tmp_path: Path) -> None:
    pages, _ = build(tmp_path)
    original = pages["index"].partition('<div class="ledger-original" lang="zh">')[2].partition("</div>")[0]
    assert "是" in original
    assert r"\(b_1\)" in original
    assert pages["index"].count('class="ledger-original"') == 1  # the first claim has none


def test_cells_have_badges_of_their_own(tmp_path: Path) -> None:
    cells = """  cells:
  - {cell: "First, $d$", verdict: holds, statement: "so."}
  - {cell: "Second", verdict: wrong, statement: "not *so*."}
"""
    pages, warnings = build(tmp_path, CLAIMS + cells)
    assert warnings == ""
    verdict = pages["one"].partition('id="claim-1-2"')[2].partition("Evidence")[0]
    assert verdict.count("<li>") == 2
    assert verdict.count("ledger-badge") == 3
    assert "not <em>so</em>." in verdict
    table = pages["index"].partition("<table")[2]
    assert table.count("ledger-cells") == 1
    assert "Second" in table
    assert "not <em>so</em>." not in table


def test_the_chinese_table_has_the_original_the_verdict_and_the_statement(tmp_path: Path) -> None:
    stated = 'statement: "It is $c$."'
    claims = CLAIMS.replace(stated, f'{stated}\n  statement_zh: "其实是 $c$。"')
    pages, warnings = build(tmp_path, claims, zh="# 勘误\n```{ledger-chinese}\n```\n")
    (table,) = re.findall(r"<table[^>]*>", pages["zh"])
    assert 'lang="zh"' in table
    assert "ledger-chinese" in table
    for shown in ("原文", "✗ 错误", "✓ 成立", "其实是", 'href="one.html#claim-1-2"'):
        assert shown in pages["zh"]
    assert "claim 1.1 has no statement in Chinese" in warnings
    assert "claim 1.2 has no" not in warnings


def test_the_summary_is_one_sentence_with_every_verdict(tmp_path: Path) -> None:
    pages, warnings = build(tmp_path, short="# Short\n```{ledger-summary}\n```\n")
    (sentence,) = re.findall(r'<p class="ledger-summary">.*?</p>', pages["short"], re.DOTALL)
    text = " ".join(re.sub("<[^>]*>", "", sentence).split())
    assert text == "2 claims: ✓ 1 hold ◐ 0 need a condition ✗ 1 wrong + 0 cut off"
    assert "ledger" not in warnings


def test_the_summary_in_chinese_has_the_same_counts(tmp_path: Path) -> None:
    pages, warnings = build(tmp_path, short="# Short\n```{ledger-summary-chinese}\n```\n")
    (sentence,) = re.findall(r'<p class="ledger-summary">.*?</p>', pages["short"], re.DOTALL)
    text = " ".join(re.sub("<[^>]*>", "", sentence).split())
    assert text == "2 条论断： ✓ 1 条成立 ◐ 0 条有条件 ✗ 1 条错误 + 0 条补全"
    assert "ledger" not in warnings


def test_counts_are_by_verdict(tmp_path: Path) -> None:
    pages, _ = build(tmp_path)
    assert "Claims checked: 2." in pages["index"]
    counts = [
        item.partition("<p>")[2].split()[0]
        for item in pages["index"].split("<li>")[1:]
        if "ledger-badge" in item
    ]
    assert counts == ["1", "0", "1", "0"]


@pytest.mark.parametrize(
    ("pages", "claims", "words"),
    [
        ({"one": "# One\n\n```{verdict} 9.9\n```\n"}, CLAIMS, "no claim '9.9'"),
        ({"one": "# One\n\n```{verdict} 1.1\n```\n"}, CLAIMS, "undefined label: 'claim-1.2'"),
        (
            {"one": "# One\n\n```{verdict} 1.1\n```\n\n```{verdict} 1.1\n```\n"},
            CLAIMS,
            "claim 1.1 has a second verdict",
        ),
        ({}, CLAIMS.replace("chapter: one", "chapter: two"), "claim 1.1 belongs to two, not to one"),
        ({}, CLAIMS.replace("wrong", "doubtful"), "unknown verdict 'doubtful'"),
        ({}, CLAIMS + CLAIMS, "claim 1.1 is listed 2 times"),
    ],
    ids=["unknown", "not shown", "shown twice", "other chapter", "unknown verdict", "listed twice"],
)
def test_mistake_is_a_warning(tmp_path: Path, pages: dict[str, str], claims: str, words: str) -> None:
    assert words in build(tmp_path, claims, **pages)[1]


def test_pages_are_read_again_when_only_the_ledger_changes(tmp_path: Path) -> None:
    build(tmp_path)
    ledger = tmp_path / "source" / "claims.yml"
    ledger.write_text(CLAIMS.replace("It is $c$", "It is $d$"), encoding="utf-8")
    later = ledger.stat().st_mtime + 10
    os.utime(ledger, (later, later))
    pages, _ = run_sphinx(tmp_path)
    assert r"\(d\)" in pages["index"]
    assert r"\(d\)" in pages["one"]


TESTS = """\
    # Tests
    ```{ledger-tests}
    ```
    """


def with_tests(folder: Path, *files: str) -> tuple[dict[str, str], str]:
    """Build the book with the page of the tests and with these files of tests."""
    (folder / "source" / "tests").mkdir(parents=True)
    for file in files:
        (folder / "source" / "tests" / file).write_text(
            f"import {file[0]}\n\n\n"
            + "\n\n\n".join(f"def test_{name}():\n    assert {name} == {file[0]}.x" for name in "abc"),
            encoding="utf-8",
        )
    return build(folder, tests=TESTS, index=PAGES["index.md"].replace("one\n", "one\n        tests\n"))


def test_the_evidence_leads_to_the_source_and_back(tmp_path: Path) -> None:
    pages, warnings = with_tests(tmp_path, "a.py")
    assert warnings == ""
    for name in "abc":
        assert f'href="tests.html#a-test-{name}"' in pages["one"]
        after = pages["tests"].partition(f'id="a-test-{name}"')[2]
        claim = "claim-1-1" if name == "a" else "claim-1-2"
        assert re.findall(r'href="one.html#(claim-1-\d)"', after)[0] == claim
        assert (
            re.sub("<[^>]+>", "", after)
            .partition("def ")[2]
            .startswith(f"test_{name}():\n    assert {name} == a.x")
        )
    assert pages["tests"].count("<h2>") == 1
    assert re.sub("<[^>]+>", "", pages["tests"]).count("import a\n") == 1


def test_a_test_of_two_claims_names_both(tmp_path: Path) -> None:
    (tmp_path / "source" / "tests").mkdir(parents=True)
    (tmp_path / "source" / "tests" / "a.py").write_text("def test_a(): pass\n")
    pages, warnings = build(
        tmp_path,
        re.sub("evidence: .*", "evidence: tests/a.py::test_a", CLAIMS),
        tests=TESTS,
        index=PAGES["index.md"].replace("one\n", "one\n        tests\n"),
    )
    assert warnings == ""
    line = re.sub("<[^>]+>", "", pages["tests"].partition('id="a-test-a">')[2].partition("</p>")[0])
    assert line == "Claim 1.1 ✓ holds, claim 1.2 ✗ wrong"


def test_a_file_of_evidence_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    _, warnings = with_tests(tmp_path)
    assert "ledger: tests/a.py: [Errno 2]" in warnings


def test_a_test_that_its_file_lacks_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "source" / "tests").mkdir(parents=True)
    (tmp_path / "source" / "tests" / "a.py").write_text("def test_a(): pass\n")
    _, warnings = build(
        tmp_path, tests=TESTS, index=PAGES["index.md"].replace("one\n", "one\n        tests\n")
    )
    assert "ledger: tests/a.py: no function test_b, test_c" in warnings


def test_without_the_page_of_the_tests_their_names_stand_by_themselves(tmp_path: Path) -> None:
    pages, warnings = build(tmp_path)
    assert warnings == ""
    assert 'href="tests' not in pages["one"]
