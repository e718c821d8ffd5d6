"""Sphinx directives that show the ledger of claims (``claims.py``) in the book.

- ``{verdict} 3.1``: the verdict on one claim, the right statement and its evidence, in the claim's chapter
- ``{ledger}``: every claim in a table, each linked to its verdict
- ``{ledger-chinese}``: the same table in Chinese: the article's words, the verdict and the right statement
- ``{ledger-summary}``: the same counts in one sentence
- ``{ledger-summary-chinese}``: that sentence in Chinese
- ``{ledger-counts}``: how many claims have each verdict, and the rule for verdicts
- ``{ledger-tests}``: the tests that are evidence, in their files, each with the claim that names it

Whatever is wrong with the ledger or with a directive is a warning, so that a build with ``-W`` fails.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import evidence as tests
from claims import RULE, VERDICTS, VERDICTS_ZH, Claim, count_verdicts, read_claims
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

SYMBOLS = {"holds": "✓", "conditional": "◐", "wrong": "✗", "completed": "+"}
SUMMARY = {
    "holds": "hold",
    "conditional": "need a condition",
    "wrong": "wrong",
    "completed": "cut off",
}
SUMMARY_ZH = {verdict: f"条{word}" for verdict, word in VERDICTS_ZH.items()}
COLUMNS = {"Claim": 8, "The article says": 36, "Verdict": 16, "The right statement": 40}
COLUMNS_ZH = {"编号": 8, "原文": 36, "判定": 16, "正确的说法": 40}


@cache
def _read(path: Path, mtime_ns: int) -> tuple[dict[str, Claim], list[str]]:
    """Read the file once for each of its versions: every directive asks for it."""
    return read_claims(path)


def load(path: Path) -> tuple[dict[str, Claim], list[str]]:
    """Return the claims by id and the problems of the file."""
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


def ledger_path(app: Sphinx) -> Path:
    """Return where the ledger is: `ledger_file` is given from the folder of the sources."""
    return Path(app.srcdir) / str(app.config.ledger_file)


def report_problems(app: Sphinx) -> None:
    """Warn once of each problem of the file, before any page is read."""
    for problem in load(ledger_path(app))[1]:
        logger.warning("ledger: %s", problem, type="ledger")


class LedgerDirective(SphinxDirective):
    """What the directives share: the claims, and Markdown inside a node."""

    def claims(self) -> dict[str, Claim]:
        """Return the claims; the page is read again when the file changes."""
        path = ledger_path(self.env.app)
        self.env.note_dependency(str(path))
        return load(path)[0]

    def markdown(self, text: str) -> list[nodes.Node]:
        """Parse ``text`` in the syntax of the page."""
        container = nodes.Element()
        self.state.nested_parse(
            StringList(text.splitlines(), source=str(ledger_path(self.env.app))), 0, container
        )
        return list(container.children)

    def cell_list(self, claim: Claim, *, statements: bool) -> list[nodes.Node]:
        """Return a list with the verdict on each cell of the claim; nothing for a claim without cells."""
        items = []
        for cell in claim.cells:
            text = f"{cell.cell}: {cell.statement}" if statements else cell.cell
            first, *rest = self.markdown(text)
            items.append(
                nodes.list_item(
                    "", nodes.paragraph("", "", badge(cell.verdict), nodes.Text(" "), *first.children)
                )
            )
            items[-1] += rest
        return [nodes.bullet_list("", *items, classes=["ledger-cells"])] if items else []

    def link(self, claim: Claim) -> pending_xref:
        """Return the claim's id, linked to the verdict in the chapter."""
        return pending_xref(
            "",
            nodes.inline("", claim.id),
            refdomain="std",
            reftype="ref",
            reftarget=claim.label,
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )

    def evidence(self, claim: Claim) -> nodes.paragraph:
        """Return the line that names the tests, ready to be given to pytest, each linked to its source.

        In a book that does not show the sources the names stand by themselves.
        """
        paragraph = nodes.paragraph("", "Evidence: ", classes=["ledger-evidence"])
        for number, test in enumerate(claim.evidence):
            paragraph += [nodes.Text(", ")] if number else []
            name = nodes.raw("", f"<code>{breakable(test)}</code>", format="html")
            paragraph += pending_xref(
                "",
                nodes.inline("", "", name),
                refdomain="std",
                reftype="keyword",  # the one kind of label whose text may be more than words
                reftarget=tests.place(test),
                refwarn=False,
                refdoc=self.env.docname,
            )
        return paragraph

    def warn(self, message: str) -> None:
        """Report a problem at the place of the directive."""
        logger.warning("ledger: %s", message, location=self.get_location(), type="ledger")


class VerdictDirective(LedgerDirective):
    """``{verdict} ID``: an admonition with the verdict in colour and word."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the admonition, registered as the target of the ledger's link."""
        claim = self.claims().get(self.arguments[0])
        if claim is None:
            self.warn(f"no claim {self.arguments[0]!r}")
            return []
        if claim.chapter != self.env.docname:
            self.warn(f"claim {claim.id} belongs to {claim.chapter}, not to {self.env.docname}")
        title = nodes.title("", "", nodes.Text(f"Claim {claim.id}: "), badge(claim.verdict))
        box = nodes.admonition("", title, classes=["ledger-verdict", f"ledger-{claim.verdict}"])
        box += self.markdown(claim.statement)
        box += self.cell_list(claim, statements=True)
        box += self.evidence(claim)
        self.register(claim, box)
        return [box]

    def register(self, claim: Claim, box: nodes.Element) -> None:
        """Make ``box`` the target of the claim's label, once in the whole book."""
        anchor = nodes.make_id(claim.label)
        if anchor in self.state.document.ids:
            self.warn(f"claim {claim.id} has a second verdict on this page")
            return
        box["ids"].append(anchor)
        self.state.document.note_explicit_target(box)
        self.env.get_domain("std").note_hyperlink_target(claim.label, self.env.docname, anchor)  # type: ignore[attr-defined]


class LedgerTable(LedgerDirective):
    """``{ledger}``: the table of all claims, in the article's order."""

    columns: ClassVar[dict[str, int]] = COLUMNS
    classes: ClassVar[list[str]] = ["ledger-table"]

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        group = nodes.tgroup(
            "",
            *(nodes.colspec(colwidth=width) for width in self.columns.values()),
            cols=len(self.columns),
        )
        group += nodes.thead("", row(*([nodes.paragraph("", name)] for name in self.columns)))
        group += nodes.tbody("", *(self.claim_row(claim) for claim in self.claims().values()))
        return [nodes.table("", group, classes=self.classes)]

    def claim_row(self, claim: Claim) -> nodes.row:
        """Return the row of ``claim``."""
        return row(
            [nodes.paragraph("", "", self.link(claim))],
            [*self.markdown(claim.article), *self.original(claim)],
            [nodes.paragraph("", "", badge(claim.verdict)), *self.cell_list(claim, statements=False)],
            self.markdown(claim.statement),
        )

    def original(self, claim: Claim) -> list[nodes.Node]:
        """Return the article's own words, marked as Chinese for those who have the page read to them.

        Docutils has no node for that.
        """
        if not claim.original:
            return []
        opening, closing = (
            nodes.raw("", text, format="html")
            for text in ('<div class="ledger-original" lang="zh">', "</div>")
        )
        return [opening, *self.markdown(claim.original), closing]


class LedgerChinese(LedgerTable):
    """``{ledger-chinese}``: the table in the article's language."""

    columns: ClassVar[dict[str, int]] = COLUMNS_ZH
    # docutils makes an attribute of a class that begins with "language-"
    classes: ClassVar[list[str]] = ["ledger-table", "ledger-chinese", "language-zh"]

    def claim_row(self, claim: Claim) -> nodes.row:
        """Return the row of ``claim``."""
        if not claim.statement_zh:
            self.warn(f"claim {claim.id} has no statement in Chinese")
        return row(
            [nodes.paragraph("", "", self.link(claim))],
            self.markdown(claim.original),
            [nodes.paragraph("", "", badge(claim.verdict, VERDICTS_ZH[claim.verdict]))],
            self.markdown(claim.statement_zh),
        )


class LedgerCounts(LedgerDirective):
    """``{ledger-counts}``: how many claims there are, and how many have each verdict."""

    def run(self) -> list[nodes.Node]:
        """Return a sentence, a list, and the rule."""
        claims = self.claims().values()
        items = (
            nodes.list_item(
                "",
                nodes.paragraph(
                    "", "", nodes.Text(f"{count} "), badge(verdict), nodes.Text(f" {VERDICTS[verdict]}")
                ),
            )
            for verdict, count in count_verdicts(claims).items()
        )
        return [
            nodes.paragraph("", f"Claims checked: {len(claims)}."),
            nodes.bullet_list("", *items),
            nodes.paragraph("", RULE, classes=["ledger-rule"]),
        ]


class LedgerSummary(LedgerDirective):
    """``{ledger-summary}``: one sentence, for the book's first screen."""

    opening: ClassVar[str] = "claims:"
    words: ClassVar[dict[str, str]] = SUMMARY

    def run(self) -> list[nodes.Node]:
        """Return the sentence, with a badge for each verdict."""
        claims = self.claims().values()
        sentence = nodes.paragraph("", f"{len(claims)} {self.opening}", classes=["ledger-summary"])
        for verdict, count in count_verdicts(claims).items():
            sentence += [nodes.Text(" "), badge(verdict, f"{count} {self.words[verdict]}")]
        return [sentence]


class LedgerSummaryChinese(LedgerSummary):
    """``{ledger-summary-chinese}``: the sentence in the article's language."""

    opening: ClassVar[str] = "条论断："
    words: ClassVar[dict[str, str]] = SUMMARY_ZH


class LedgerTests(LedgerDirective):
    """``{ledger-tests}``: a section a file of tests, whole, in the order of the last claim that names it."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        named: dict[str, dict[str, list[Claim]]] = {}
        for claim in self.claims().values():
            for test in claim.evidence:
                file = tests.file_of(test)
                named[file] = named.pop(file, {})  # it becomes the last
                named[file].setdefault(test, []).append(claim)
        return [self.section(file, claims) for file, claims in named.items()]

    def section(self, file: str, claims: dict[str, list[Claim]]) -> nodes.section:
        """Return a file: its tests one by one, each below the claims that it is evidence for."""
        path = Path(self.env.srcdir) / str(self.config.ledger_tests) / file
        self.env.note_dependency(str(path))
        title = nodes.title("", "", nodes.raw("", breakable(file), format="html"))
        title.rawsource = file
        section = nodes.section("", title, ids=[nodes.make_id(file)], names=[file])
        by_name = {tests.name_of(test): (test, of) for test, of in claims.items()}
        try:
            pieces = [*tests.cut(path.read_text(encoding="utf-8"), by_name)]
        except (OSError, ValueError) as error:
            self.warn(f"{file}: {error}")
            return section
        for piece in pieces:
            code = nodes.literal_block(piece.text, piece.text, language="python")
            section += [self.heading(*by_name[piece.name]), code] if piece.name else [code]
        return section

    def heading(self, test: str, claims: list[Claim]) -> nodes.paragraph:
        """Return the line above a test, the target of the links that lead to the test."""
        anchor = tests.place(test)
        line = nodes.paragraph("", "", classes=["ledger-test"], ids=[anchor])
        for word, claim in zip(("Claim ", *[", claim "] * len(claims)), claims, strict=False):
            line += [nodes.Text(word), self.link(claim), nodes.Text(" "), badge(claim.verdict)]
        self.env.get_domain("std").note_hyperlink_target(anchor, self.env.docname, anchor, test)  # type: ignore[attr-defined]
        return line


def badge(verdict: str, word: str = "") -> nodes.inline:
    """Return the verdict as a word, its own or another, with a symbol: colour is never the only sign."""
    text = f"{SYMBOLS[verdict]} {word or verdict}"
    return nodes.inline("", text, classes=["ledger-badge", f"ledger-{verdict}"])


def breakable(name: str) -> str:
    """Return a name as HTML that may be broken after its folders and underscores.

    It is broken nowhere else while there is room.
    """
    return re.sub(r"(::|[/_])", r"\1<wbr>", escape(name))


def row(*cells: list[nodes.Node]) -> nodes.row:
    """Return a table row with the given content in its cells."""
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the name of the ledger's file."""
    app.add_config_value("ledger_file", "claims.yml", "env")
    app.add_config_value("ledger_tests", ".", "env")  # the folder that the tests' names start from
    app.add_directive("verdict", VerdictDirective)
    app.add_directive("ledger", LedgerTable)
    app.add_directive("ledger-chinese", LedgerChinese)
    app.add_directive("ledger-counts", LedgerCounts)
    app.add_directive("ledger-tests", LedgerTests)
    app.add_directive("ledger-summary", LedgerSummary)
    app.add_directive("ledger-summary-chinese", LedgerSummaryChinese)
    app.connect("builder-inited", report_problems)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
