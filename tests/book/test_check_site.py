"""``tools/check_site.py`` finds what it is there to find.

The book's own site is checked by a stage of ``make test``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_site import check_site, main


def site(folder: Path, body: str, style: str = "") -> Path:
    """Write a site of two pages, a style sheet and a picture."""
    (folder / "sub").mkdir()
    (folder / "index.html").write_text(
        f"<html><head><link rel='stylesheet' href='a.css'></head><body id='top'>{body}</body></html>",
        encoding="utf-8",
    )
    (folder / "sub" / "page two.html").write_text(
        "<p id='here'><a href='../index.html#top'>up</a></p>", encoding="utf-8"
    )
    (folder / "a.css").write_text(style, encoding="utf-8")
    (folder / "a.png").write_bytes(b"")
    return folder


def test_sound_site_has_no_problem(tmp_path: Path) -> None:
    body = """
        <a href='sub/page%20two.html#here'>x</a> <a href='#top'>x</a> <a href='a.png'>x</a>
        <a href='https://example.org/x'>a reference</a> <a href='mailto:a@example.org'>x</a>
        <img src='a.png'> <img src='data:image/png;base64,aGk='> <script>let a = 1 // 2</script>
    """
    style = (
        "@import 'a.css'; p { background: url(\"a.png?v=1\") } q { background: "
        "url(data:image/png;base64,aGk=) }"
    )
    assert check_site(site(tmp_path, body, style)) == []
    assert main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<a href='sub/no.html'>x</a>", "broken link sub/no.html: no such file"),
        ("<a href='sub/'>x</a>", "broken link sub/: no such file"),
        ("<a href='sub/page%20two.html#there'>x</a>", "#there: no such anchor"),
        ("<a href='#bottom'>x</a>", "#bottom: no such anchor"),
        ("<img src='b.png'>", "broken link b.png: no such file"),
        ("<script src='https://example.org/x.js'></script>", "loads https://example.org/x.js"),
        ("<script src='//example.org/x.js'></script>", "loads //example.org/x.js"),
        ("<img src='http://example.org/x.png'>", "loads http://example.org/x.png"),
        ("<link rel='stylesheet' href='https://example.org/x.css'>", "loads https://example.org/x.css"),
        ("<script>import('https://example.org/x.js')</script>", "an inline script names https://example.org"),
    ],
)
def test_problem_in_a_page_is_found(tmp_path: Path, body: str, words: str) -> None:
    (problem,) = check_site(site(tmp_path, body))
    assert problem.startswith("index.html: ")
    assert words in problem
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "style",
    [
        "@import url(https://example.org/x.css);",
        "@font-face { src: url('//example.org/x.woff') }",
        "p { background: url(b.png) }",
    ],
)
def test_problem_in_a_style_sheet_is_found(tmp_path: Path, style: str) -> None:
    (problem,) = check_site(site(tmp_path, "", style))
    assert problem.startswith("a.css: ")


def test_missing_site_is_a_problem(tmp_path: Path) -> None:
    (problem,) = check_site(tmp_path / "html")
    assert "make book" in problem
