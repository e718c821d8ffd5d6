"""Cut the font of the Chinese page down to the characters that the book has.

python tools/subset_font.py NotoSansCJK-Regular.ttc    writes book/_static/noto-sans-sc.woff

Many machines have no Chinese font, and show boxes. Noto Sans CJK stands under the SIL Open Font License,
version 1.1, whose text lies beside the cut font. A test holds the font to the book's characters: whoever
writes a new one runs this again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

ROOT = Path(__file__).resolve().parents[1]
FONT = Path("book", "_static", "noto-sans-sc.woff")
SOURCES = ("_toc.yml", "book/*.ipynb", "book/*.md", "book/*.yml", "experiments/*.ipynb")
#: Chinese characters and punctuation, and the wide forms of Latin ones: ``pages.css`` names the same
RANGES = ((0x2E80, 0x303F), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF))


def characters(root: Path) -> set[str]:
    """Return the characters of these ranges that the book's sources hold."""
    text = "".join(
        path.read_text(encoding="utf-8") for pattern in SOURCES for path in sorted(root.glob(pattern))
    )
    return {c for c in set(text) if any(low <= ord(c) <= high for low, high in RANGES)}


def cut(font: Path, number: int, wanted: set[str], out: Path) -> None:
    """Write the font with these characters alone to ``out``."""
    options = subset.Options(
        flavor="woff", hinting=False, layout_features=["kern", "locl"], notdef_outline=True
    )
    whole = TTFont(font, fontNumber=number)
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(sorted(wanted)))
    cutter.subset(whole)
    partial = out.with_suffix(".partial")
    subset.save_font(whole, partial, options)
    partial.replace(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Cut the font."""
    parser = argparse.ArgumentParser(
        prog="python tools/subset_font.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("font", type=Path, help="Noto Sans CJK, or another font that has the characters")
    parser.add_argument(
        "--number", type=int, default=2, help="of the font in a collection (2: simplified Chinese)"
    )
    options = parser.parse_args(argv)
    wanted = characters(ROOT)
    cut(options.font, options.number, wanted, ROOT / FONT)
    print(f"{FONT}: {len(wanted)} characters, {(ROOT / FONT).stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
