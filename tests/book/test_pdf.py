"""The printed book: pages with numbers, contents that lead to them, and nothing wider than the paper.

Prints the chapters in ``_build/stage`` (the stage ``pdf`` of ``make long``, after ``book``), with the
Chromium of the system.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.build_pdf import Link, build, contents, find_browser, internal_links

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "_build" / "stage"
#: points: the margins of print.css at the sides, in which nothing stands and the width of A4
MARGIN, PAPER = 18 / 25.4 * 72, 210 / 25.4 * 72
#: where the number of a page stands
FOOT = {"left": PAPER / 2 - 30, "right": PAPER / 2 + 30, "bottom": 20.0, "top": 50.0}

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(not STAGE.is_dir(), reason="the book is not built: make book"),
]


@pytest.fixture(scope="module")
def book() -> Iterator[Any]:
    pypdfium2 = pytest.importorskip("pypdfium2")
    document = pypdfium2.PdfDocument(build(ROOT))
    yield document
    document.close()


@pytest.fixture(scope="module")
def links(book: Any) -> list[Link]:
    return [link for number in range(len(book)) for link in internal_links(book, number)]


def words(book: Any, number: int, **box: float) -> str:
    """Return the text of a page, or of a box on it, in one line."""
    text = book[number].get_textpage()
    return re.sub(r"\s+", " ", text.get_text_bounded(**box)).strip()


def letters(text: str) -> str:
    """Return the letters and digits alone: a formula's signs have other places in another size."""
    return re.sub(r"[^A-Za-z0-9\u4e00-\u9fff]", "", text)


def test_every_page_but_the_first_has_its_number(book: Any) -> None:
    assert len(book) > 200
    assert words(book, 0, **FOOT) == ""
    # pdfium gives some characters of the Chinese font a place down there; they are not drawn there
    at_the_foot = [words(book, number, **FOOT).split(" ")[0] for number in range(1, len(book))]
    assert at_the_foot == [str(number + 1) for number in range(1, len(book))]


def test_every_chapter_is_in_the_outline_in_order(book: Any) -> None:
    outline = list(book.get_toc())
    places = [entry.get_dest().get_index() for entry in outline]
    assert places == sorted(places)
    titles = [letters(entry.get_title()) for entry in outline if entry.level == 0]
    assert titles[:3] == ["Thesoftmaxverified", "Contents", "Thesoftmaxverified"]  # first page, and chapter
    assert [title[:1] for title in titles if title[:1].isdigit()] == [*"123456789", "1", "1"]
    for entry, number in zip(outline, places, strict=True):
        assert letters(entry.get_title()) in letters(words(book, number)), entry.get_title()


def test_the_contents_name_the_page_that_each_line_leads_to(book: Any) -> None:
    lines = list(contents(book))
    assert len(lines) > 150
    places = [link.to for link in lines if link.to is not None]
    assert places == sorted(places)
    assert len(places) == len(lines)
    for link, place in zip(lines, places, strict=True):
        beside = {"left": PAPER - 2 * MARGIN, "bottom": link.bottom - 1, "top": link.top + 1}
        assert words(book, link.page, **beside) == str(place + 1)
        title = words(book, link.page, right=PAPER - 2 * MARGIN, bottom=link.bottom, top=link.top)
        named = re.split(r"[|=≤]", title)[0]  # up to a formula, whose parts come in another order
        assert letters(named) in letters(words(book, place)), title


def test_every_link_inside_the_book_leads_to_a_page(links: list[Link]) -> None:
    assert len(links) > 600
    assert [link for link in links if link.to is None] == []


def test_a_link_to_a_claim_leads_to_its_verdict(book: Any, links: list[Link]) -> None:
    found = set()
    for link in links:
        box = {"left": link.left, "bottom": link.bottom, "right": link.right, "top": link.top}
        if link.to is not None and re.fullmatch(r"\d\.\d", claim := words(book, link.page, **box)):
            found.add(claim)
            assert f"Claim {claim}:" in words(book, link.to)
    assert len(found) > 30


def test_nothing_stands_in_the_margins(book: Any) -> None:
    """What is wider than the page would reach into them, and so would a page that Chromium made smaller."""
    for number in range(len(book)):
        page = book[number]
        assert page.get_size() == pytest.approx((PAPER, 297 / 25.4 * 72), abs=1)
        grey: Any = page.render(scale=0.5, grayscale=True).to_numpy()
        beside = int(0.5 * (MARGIN - 2))
        assert grey[:, :beside].min() == 255, number + 1
        assert grey[:, -beside:].min() == 255, number + 1


def test_stills_stand_for_what_moves(book: Any) -> None:
    texts = (words(book, number) for number in range(len(book)))
    pictures = [
        number for number, text in enumerate(texts) if "Three logits, and what follows from them" in text
    ]
    assert len(pictures) == 2  # the chapter and the page of pictures
    import pypdfium2.raw as pdfium

    for number in pictures:
        assert pdfium.FPDF_PAGEOBJ_IMAGE in [item.type for item in book[number].get_objects()]
