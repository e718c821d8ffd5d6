"""Print the chapters that the site was rendered from: ``_build/pdf/softmax-lab.pdf``, by Chromium.

    python tools/build_pdf.py       after `make book`

Sphinx joins the chapters into one page (``book/_ext/single.py``). A browser opens it in the medium of print,
``print/print.js`` adds contents and makes everything as narrow as the paper, and ``print/print.css`` numbers
the pages. Chromium cannot say on which page a place is. So the contents get their numbers afterwards, from
where their links lead in the finished file.

The site has no part of it: what is made here lies beside it.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # run as a program, Python looks beside this file alone

from softmax_lab._version import __version__  # noqa: E402
from tools.build_book import BuildError, run_sphinx  # noqa: E402

PRINT = Path(__file__).parent / "print"
#: between the margins of `print.css` on A4, in the pixels of a browser: what the page is measured at
WIDTH = round((210 - 2 * 18) / 25.4 * 96)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: points from the right margin to where a number in the contents ends, and its size
RIGHT, SIZE = (210 - 18) / 25.4 * 72, 8.5
#: points: two lines of the contents are further apart
LINE = 6.0


def find_browser() -> str | None:
    """Return where Chromium is, or None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def join(stage: Path, output: Path) -> Path:
    """Render the stage as one page into ``output``, with every warning an error; return the page."""
    run_sphinx(stage, output, "--builder", "singlehtml")
    page = output / "_build" / "singlehtml" / "book.html"
    if not page.is_file():
        raise BuildError(f"jupyter-book reported success but wrote no {page.name}.")
    return page


def print_page(page: Path, title: str, pdf: Path, browser: str) -> None:
    """Print the single page at ``page`` to ``pdf``.

    Raise `BuildError` where something does not fit the paper, or where a formula is not set.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        context = started.new_context(
            viewport={"width": WIDTH, "height": 1000}, color_scheme="light", offline=True
        )
        context.route("**/charts.js", lambda route: route.abort())  # the stills are what is printed
        view = context.new_page()
        view.set_default_timeout(1_800_000)  # others may use the machine
        view.emulate_media(media="print")
        view.goto(page.as_uri())
        view.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
        view.wait_for_function("() => document.documentElement.dataset.settled")
        view.add_style_tag(path=PRINT / "print.css")
        view.add_script_tag(path=PRINT / "print.js")
        view.evaluate(
            "([title, version]) => Print.prepare(title, version)", [title, f"softmax-lab {__version__}"]
        )
        view.evaluate("() => Print.fit()")
        if problems := view.evaluate("() => Print.problems()"):
            raise BuildError("\n".join(["The printed book is not whole:", *problems]))
        view.pdf(path=pdf, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        started.close()


@dataclass(frozen=True)
class Link:
    """A link inside a printed book: its page, its box, and the page to which it leads (None: to none)."""

    page: int
    left: float
    bottom: float
    right: float
    top: float
    to: int | None


def internal_links(document: Any, number: int) -> Iterator[Link]:
    """Yield the links of a page of a `pypdfium2.PdfDocument` that lead inside it; pages count from 0."""
    import pypdfium2.raw as pdfium

    page = pdfium.FPDF_LoadPage(document, number)
    place, link = ctypes.c_int(0), pdfium.FPDF_LINK()
    while pdfium.FPDFLink_Enumerate(page, place, link):
        action = pdfium.FPDFLink_GetAction(link)
        if action and pdfium.FPDFAction_GetType(action) == pdfium.PDFACTION_URI:
            continue
        to = pdfium.FPDFLink_GetDest(document, link) or pdfium.FPDFAction_GetDest(document, action)
        found = pdfium.FPDFDest_GetDestPageIndex(document, to) if to else -1
        box = pdfium.FS_RECTF()
        pdfium.FPDFLink_GetAnnotRect(link, box)
        yield Link(number, box.left, box.bottom, box.right, box.top, found if found >= 0 else None)
    pdfium.FPDF_ClosePage(page)


def contents(document: Any) -> Iterator[Link]:
    """Yield the lines of the contents, which begin on the second page and end before the first chapter's."""
    number, end = 1, 2
    while number < end:
        lines: dict[int, Link] = {}
        for link in internal_links(document, number):
            lines.setdefault(
                round(link.bottom / LINE), link
            )  # a title with a formula in it has several boxes
        places = [link.to for link in lines.values() if link.to is not None]
        end = min(places) if number == 1 and places else end
        yield from lines.values()
        number += 1


def number_contents(pdf: Path) -> None:
    """Write beside each line of the contents on which page it is to be found."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    document = pypdfium2.PdfDocument(pdf)
    for number, lines in groupby(list(contents(document)), key=lambda link: link.page):
        page = document[number]
        for link in lines:
            if link.to is None:
                raise BuildError(f"A line of the contents, on page {number + 1}, leads nowhere.")
            words = str(link.to + 1)
            text = pdfium.FPDFPageObj_NewTextObj(document, b"Helvetica", ctypes.c_float(SIZE))
            letters = (ctypes.c_ushort * (len(words) + 1))(*map(ord, words), 0)
            pdfium.FPDFText_SetText(text, letters)
            left = RIGHT - 0.556 * SIZE * len(words)  # every digit of Helvetica is as wide
            pdfium.FPDFPageObj_Transform(text, 1, 0, 0, 1, left, link.bottom + 0.58 * SIZE)
            pdfium.FPDFPage_InsertObject(page, text)
        page.gen_content()
    draft = pdf.with_suffix(".numbered")
    document.save(draft)
    document.close()
    draft.replace(pdf)


def build(root: Path) -> Path:
    """Print the book at ``root``, whose chapters lie in ``_build/stage``; return the file."""
    stage = root / "_build" / "stage"
    if not stage.is_dir():
        raise BuildError(f"There are no chapters at {stage}: run `make book` first.")
    browser = find_browser()
    if browser is None:
        raise BuildError(f"There is no Chromium on this machine (looked for {', '.join(BROWSERS)}).")
    title = yaml.safe_load((stage / "_config.yml").read_text(encoding="utf-8"))["title"]
    folder = root / "_build" / "pdf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pdf = folder / "softmax-lab.pdf"
    with tempfile.TemporaryDirectory(dir=root / "_build") as output:
        draft = Path(output) / "draft.pdf"
        print_page(join(stage, Path(output)), title, draft, browser)
        number_contents(draft)
        draft.replace(pdf)
    return pdf


def main(root: Path = ROOT) -> int:
    """Print the book and say where it is; return the exit status."""
    try:
        pdf = build(root)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\nThe printed book is at {pdf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
