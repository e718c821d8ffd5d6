"""The font of the Chinese page has every character of the book, and its licence beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.subset_font import FONT, RANGES, ROOT, characters

fonts = pytest.importorskip("fontTools.ttLib")


def test_the_font_has_every_character_of_the_book() -> None:
    cmap = fonts.TTFont(ROOT / FONT).getBestCmap()
    missing = sorted(c for c in characters(ROOT) if ord(c) not in cmap)
    assert not missing, f"run tools/subset_font.py: the font lacks {''.join(missing)}"


def test_characters_are_those_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "page.md").write_text("the softmax 的导数，$p_i$", encoding="utf-8")
    assert characters(tmp_path) == set("的导数，")


def test_the_style_sheet_names_the_same_ranges() -> None:
    style = (ROOT / "book" / "_static" / "pages.css").read_text(encoding="utf-8")
    ranges = ", ".join(f"U+{low:04X}-{high:04X}" for low, high in RANGES)
    assert f"unicode-range: {ranges};" in style
    assert f"url({FONT.name})" in style


def test_the_licence_lies_beside_it() -> None:
    licence = (ROOT / FONT).with_suffix(".LICENSE.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    assert "Adobe" in licence.partition("\n")[0]
