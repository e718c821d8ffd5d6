"""Make the rendered site small: remove what no page loads, and store smaller what is left.

`build_book.py` calls it last. Nothing looks or works otherwise than before. `parts` says what the site is
made of.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from shutil import rmtree

import nbformat
from PIL import Image

#: of MathJax: the fonts, what a formula may ask for by its commands, and the speech for those who have it
#: read to them (in English). The bundle that the pages name holds the rest; other bundles are other choices
MATHJAX = (
    "output/chtml/fonts/**/*",
    "input/tex/extensions/*.js",
    "a11y/*.js",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
)
MATHJAX_TWICE = ("input/tex/extensions/all-packages.js",)  # all the others in one file

#: an entry of a table in Font Awesome's script: name, width and height, other names, character, outline
_ICON = re.compile(r'(?:"([\w-]+)"|([\w$]+)):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+","[^"]*"\],?')
#: the parts of a page in which each blank counts
_AS_IT_IS = re.compile(r"<(pre|script|style|textarea)\b.*?</\1>", re.DOTALL)
#: code that Pygments has coloured
_CODE = re.compile(r'<div class="highlight"><pre>.*?</pre>', re.DOTALL)
_INDENT = re.compile(r"\n[ \t\n]+")
_ICON_NAME = re.compile(r"\bfa-([a-z0-9-]+)")
#: a second source of a font in a style sheet, for browsers of before 2016
_OLD_FONT = re.compile(r',\s*url\([^)]*\.ttf\)\s*format\("truetype"\)')

#: what the site is made of, by patterns: the first that matches counts
PARTS = {
    "MathJax": "_static/mathjax/**/*",
    "Font Awesome": "_static/**/*fontawesome*/**/*",
    "Font Awesome's script": "_static/**/fontawesome.js",
    "the Chinese font": "_static/noto-sans-sc*",
    "styles, scripts and fonts": "_static/**/*",
    "pictures": "_images/*",
    "sources to download": "_sources/**/*",
    "search": "searchindex.js",
    "pages": "**/*.html",
    "other files": "**/*",
}


def prune(site: Path) -> None:
    """Make the site at ``site`` small."""
    for step in (
        prune_sources,
        prune_maps,
        prune_mathjax,
        prune_icons,
        prune_search,
        prune_blanks,
        prune_colours,
        shrink_pictures,
    ):
        step(site)


def parts(site: Path) -> dict[str, int]:
    """Return how many bytes each part of the site has, the largest first."""
    seen: set[Path] = set()
    sizes = {}
    for name, pattern in PARTS.items():
        files = {path for path in site.glob(pattern) if path.is_file()} - seen
        sizes[name] = sum(path.stat().st_size for path in files)
        seen |= files
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def prune_sources(site: Path) -> None:
    """Take the outputs out of the notebooks to download: the page has them."""
    for path in site.glob("_sources/**/*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def prune_maps(site: Path) -> None:
    """Remove the maps that lead from minified scripts and styles to their sources."""
    remove(site.glob("_static/**/*.map"))


def prune_mathjax(site: Path) -> None:
    """Keep the bundle that the pages load, and what it may load in turn."""
    mathjax = site / "_static" / "mathjax"
    loaded = set(re.findall(r"mathjax/([\w-]+\.js)", all_pages(site)))
    kept = {mathjax / name for name in loaded}
    kept |= {path for pattern in MATHJAX for path in mathjax.glob(pattern)}
    kept -= {mathjax / name for name in MATHJAX_TWICE}
    remove(path for path in mathjax.rglob("*") if path.is_file() and path not in kept)


def prune_icons(site: Path) -> None:
    """Keep the outlines that pages and scripts name, and of the fonts the compressed ones."""
    scripts = [*site.glob("_static/**/fontawesome.js")]
    others = (
        path for path in site.glob("_static/**/*.js") if path not in scripts and "mathjax" not in path.parts
    )
    named = all_pages(site) + "".join(path.read_text(encoding="utf-8") for path in others)
    used = set(_ICON_NAME.findall(named))
    for path in scripts:
        path.write_text(only_icons(path.read_text(encoding="utf-8"), used), encoding="utf-8")
    for path in site.glob("_static/**/*.css"):
        style = path.read_text(encoding="utf-8")
        if _OLD_FONT.search(style):
            path.write_text(_OLD_FONT.sub("", style), encoding="utf-8")
    remove(site.glob("_static/**/webfonts/*.ttf"))


def only_icons(script: str, names: set[str]) -> str:
    """Return Font Awesome's script with those icons alone that have one of the names."""

    def entry(match: re.Match[str]) -> str:
        others = re.findall(r'"([^"]+)"', match[3])
        return match[0] if names & {match[1] or match[2], *others} else ""

    return _ICON.sub(entry, script)


def prune_search(site: Path) -> None:
    """Store the index of the search without blanks between its entries."""
    for path in site.glob("searchindex.js"):
        before, call, rest = path.read_text(encoding="utf-8").partition("Search.setIndex(")
        if call:
            index, end = json.JSONDecoder().raw_decode(rest)
            compact = json.dumps(index, separators=(",", ":"))
            path.write_text(f"{before}{call}{compact}{rest[end:]}", encoding="utf-8")


def prune_blanks(site: Path) -> None:
    """Remove indentation and empty lines from the pages: a browser shows either as one blank."""
    for path in site.glob("**/*.html"):
        path.write_text(without_blanks(path.read_text(encoding="utf-8")), encoding="utf-8")


def without_blanks(page: str) -> str:
    """Return a page whose lines begin with a word or a tag, but where each blank counts."""
    pieces, end = [], 0
    for kept in _AS_IT_IS.finditer(page):
        pieces += [_INDENT.sub("\n", page[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join([*pieces, _INDENT.sub("\n", page[end:])])


def prune_colours(site: Path) -> None:
    """Remove the marks of words in code that the style shows like the text around them.

    The words of most languages are such names and brackets, each in a mark of its own.
    """
    style = site / "_static" / "pygments.css"
    plain = uncoloured(style.read_text(encoding="utf-8")) if style.is_file() else set()
    if not plain:
        return
    mark = re.compile(rf'<span class="(?:{"|".join(sorted(plain))})">([^<]*)</span>')
    for path in site.glob("**/*.html"):
        page = path.read_text(encoding="utf-8")
        path.write_text(_CODE.sub(lambda found: mark.sub(r"\1", found[0]), page), encoding="utf-8")


def uncoloured(style: str) -> set[str]:
    """Return the classes that a style sheet of Pygments gives the colour of its text alone, in each theme."""
    text = dict(re.findall(r"^(.*)\.highlight \{.*\bcolor: (#\w+)", style, re.MULTILINE))
    rules = re.findall(r"^(.*)\.highlight \.(\w+) \{ *([^}]*?);? *\}", style, re.MULTILINE)
    coloured = {name for theme, name, rule in rules if rule != f"color: {text.get(theme)}"}
    return {name for _, name, _ in rules} - coloured


def shrink_pictures(site: Path) -> None:
    """Store each opaque picture without its opacity, and compressed as far as it goes: the same pixels."""
    for path in site.glob("_images/*.png"):
        with Image.open(path) as image:
            opaque = image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
            colours = image.convert("RGB")
        if opaque:
            path.write_bytes(min(path.read_bytes(), _filtered(colours), _unfiltered(colours), key=len))


def _filtered(picture: Image.Image) -> bytes:
    """Return an RGB picture as PNG, each row less what its neighbours predict: good for shades."""
    stored = BytesIO()
    # zlib's usual strategy is better for the flat areas of a drawing than that for filtered rows
    picture.save(stored, format="png", compress_level=9, compress_type=Image.DEFAULT_STRATEGY)
    return stored.getvalue()


def _unfiltered(picture: Image.Image) -> bytes:
    """Return an RGB picture as PNG, each row as it is, which Pillow cannot: good for letters, which recur."""
    flat, width = picture.tobytes(), 3 * picture.width
    rows = b"".join(b"\0" + flat[start : start + width] for start in range(0, len(flat), width))
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 0)  # eight bits a colour, three colours
    packer = zlib.compressobj(9, memLevel=9)
    packed = packer.compress(rows) + packer.flush()
    chunks = {b"IHDR": header, b"IDAT": packed, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def all_pages(site: Path) -> str:
    """Return the text of all pages."""
    return "".join(page.read_text(encoding="utf-8") for page in site.glob("**/*.html"))


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders."""
    for path in [*paths]:
        rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
