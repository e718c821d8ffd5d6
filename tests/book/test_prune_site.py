"""``tools/prune_site.py`` removes what no page loads, and nothing that one needs."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tools.prune_site import only_icons, parts, prune, uncoloured, without_blanks

KEPT = [
    "book/a.html",
    "_static/mathjax/tex-chtml.js",
    "_static/mathjax/sre/mathmaps/en.json",
    "_static/mathjax/output/chtml/fonts/woff-v2/font.woff",
    "_static/mathjax/input/tex/extensions/boldsymbol.js",
    "_static/mathjax/a11y/explorer.js",
    "_static/vendor/fontawesome/webfonts/fa-solid-900.woff2",
    "_static/scripts/a.js",
]
UNUSED = [
    "_static/mathjax/tex-svg.js",
    "_static/mathjax/core.js",
    "_static/mathjax/sre/mathmaps/de.json",
    "_static/mathjax/output/svg/font.js",
    "_static/mathjax/input/tex/extensions/all-packages.js",
    "_static/vendor/fontawesome/webfonts/fa-solid-900.ttf",
    "_static/scripts/a.js.map",
]
SCRIPT = (
    'var p={monero:[496,512,[],"f3d0","M352 384"],'
    '"circle-half-stroke":[512,512,[9680,"adjust"],"f042","M448"],'
    '0:[320,512,[],"30","M0 192"],sun:[512,512,[9728],"f185","M361"]};d("fas",p)'
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site of a page and of what is named above, all of it empty."""
    for name in (*KEPT, *UNUSED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    page = "<script src='../_static/mathjax/tex-chtml.js'></script><i class='fa-solid fa-adjust'></i>"
    (tmp_path / "book" / "a.html").write_text(page, encoding="utf-8")
    return tmp_path


def test_only_what_no_page_loads_is_removed(site: Path) -> None:
    prune(site)
    assert [name for name in (*KEPT, *UNUSED) if (site / name).exists()] == KEPT


def test_the_index_of_the_search_says_the_same_in_less(site: Path) -> None:
    index = {"docnames": ["a b", "c"], "terms": {"of, two": [0, 1], "\u4e2d": 1}}
    path = site / "searchindex.js"
    path.write_text(f"Search.setIndex({json.dumps(index)})", encoding="utf-8")
    prune(site)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text.removeprefix("Search.setIndex(").removesuffix(")")) == index
    assert text.count(" ") == 2  # those of the words


def test_blanks_go_where_a_browser_shows_one() -> None:
    page = (
        "<p>\n  a <b>c</b>\n\n  d</p>\n<pre>\n  kept\n\n  too</pre>\n  <script>\n  x\n</script>\n\n</body>\n"
    )
    assert without_blanks(page) == (
        "<p>\na <b>c</b>\nd</p>\n<pre>\n  kept\n\n  too</pre>\n<script>\n  x\n</script>\n</body>\n"
    )


STYLE = """\
pre { line-height: 125%; }
html[data-theme="light"] .highlight { background: #fefefe; color: #080808 }
html[data-theme="light"] .highlight .n { color: #080808 } /* Name */
html[data-theme="light"] .highlight .k { color: #6730C5 } /* Keyword */
html[data-theme="light"] .highlight .p { color: #080808; font-weight: bold } /* Punctuation */
html[data-theme="light"] .highlight .o { color: #080808 } /* Operator */
html[data-theme="dark"] .highlight { background: #2b2b2b; color: #F8F8F2 }
html[data-theme="dark"] .highlight .n { color: #F8F8F2 } /* Name */
html[data-theme="dark"] .highlight .k { color: #F8F8F2 } /* Keyword */
html[data-theme="dark"] .highlight .p { color: #F8F8F2 } /* Punctuation */
html[data-theme="dark"] .highlight .o { color: #080808 } /* Operator: the other theme's colour */
"""


def test_words_of_code_that_look_like_the_text_need_no_mark(site: Path) -> None:
    assert uncoloured(STYLE) == {"n"}
    code = '<span class="k">if</span> <span class="n">x</span><span class="o">&lt;</span>'
    page = (
        f'<em class="sig"><span class="n">x</span></em><div class="highlight"><pre>{code}\n</pre></div>{code}'
    )
    (site / "_static" / "pygments.css").write_text(STYLE, encoding="utf-8")
    (site / "book" / "a.html").write_text(page, encoding="utf-8")
    prune(site)
    assert (site / "book" / "a.html").read_text(encoding="utf-8") == page.replace(
        code, code.replace('<span class="n">x</span>', "x"), 1
    )


def test_icons_stay_that_a_page_or_a_script_names_by_any_of_their_names(site: Path) -> None:
    script = site / "_static" / "scripts" / "fontawesome.js"
    script.write_text(SCRIPT, encoding="utf-8")
    (site / "_static" / "scripts" / "a.js").write_text('icon("fa-sun")', encoding="utf-8")
    prune(site)
    left = script.read_text(encoding="utf-8")
    assert left == (
        'var p={"circle-half-stroke":[512,512,[9680,"adjust"],"f042","M448"],'
        'sun:[512,512,[9728],"f185","M361"]};d("fas",p)'
    )


def test_the_icons_of_the_theme_are_understood() -> None:
    import pydata_sphinx_theme

    theme = Path(pydata_sphinx_theme.__file__).parent
    (path,) = theme.glob("theme/*/static/scripts/fontawesome.js")
    script = path.read_text(encoding="utf-8")
    few = only_icons(script, {"sun", "circle-half-stroke", "no-such-icon"})
    assert len(few) < len(script) / 5
    assert '"circle-half-stroke":[' in few
    assert "sun:[" in few
    assert "monero" not in few


def test_a_style_sheet_names_no_font_that_is_gone(site: Path) -> None:
    style = site / "_static" / "a.css"
    style.write_text(
        'src:url(b/fa-solid-900.woff2) format("woff2"),url(b/fa-solid-900.ttf) format("truetype")}',
        encoding="utf-8",
    )
    prune(site)
    assert style.read_text(encoding="utf-8") == 'src:url(b/fa-solid-900.woff2) format("woff2")}'


def test_notebooks_to_download_have_no_outputs(tmp_path: Path) -> None:
    output = nbformat.v4.new_output("stream", text="x" * 1000)
    cell = nbformat.v4.new_code_cell("print()", outputs=[output], execution_count=1)
    (tmp_path / "_sources").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "_sources" / "a.ipynb")
    prune(tmp_path)
    (left,) = nbformat.read(tmp_path / "_sources" / "a.ipynb", as_version=4).cells
    assert (left.source, left.outputs, left.execution_count) == ("print()", [], None)


@pytest.mark.parametrize("opacity", [255, 100])
def test_a_picture_is_smaller_with_the_same_pixels_and_what_shines_through_is_left_alone(
    opacity: int, tmp_path: Path
) -> None:
    colours = np.random.default_rng(0).integers(200, 256, (50, 50, 4), dtype=np.uint8)
    colours[..., 3] = opacity
    path = tmp_path / "_images" / "a.png"
    path.parent.mkdir()
    Image.fromarray(colours).save(path, format="png", compress_level=1)
    before = path.read_bytes()
    prune(tmp_path)
    assert (path.stat().st_size < len(before)) == (opacity == 255)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), colours)
    after = path.read_bytes()
    prune(tmp_path)
    assert path.read_bytes() == after


def letters() -> NDArray[np.uint8]:
    """Return a drawing (120, 160, 3) in which one small pattern recurs, as letters do."""
    pattern = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    drawing = np.full((120, 160, 3), 255, np.uint8)
    for place in range(40):
        down, across = (7 * place) % 108, (37 * place) % 150
        drawing[down : down + 12, across : across + 10] = pattern
    return drawing


def shades() -> NDArray[np.uint8]:
    """Return a drawing (120, 160, 3) whose colours change evenly."""
    down, across = np.mgrid[:120, :160]
    return np.stack([down + across, 2 * down, across], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("drawing", "rows_as_they_are"), [(letters(), True), (shades(), False)])
def test_rows_of_a_picture_are_filtered_where_that_is_smaller(
    drawing: NDArray[np.uint8], rows_as_they_are: bool, tmp_path: Path
) -> None:
    path = tmp_path / "_images" / "a.png"
    path.parent.mkdir()
    picture = Image.fromarray(drawing)
    picture.save(path, format="png", compress_level=0)
    by_pillow = BytesIO()
    picture.save(by_pillow, format="png", compress_level=9, compress_type=Image.DEFAULT_STRATEGY)
    prune(tmp_path)
    assert (path.read_bytes() != by_pillow.getvalue()) == rows_as_they_are
    assert path.stat().st_size <= by_pillow.tell()
    with Image.open(path) as image:
        image.verify()  # the checksums
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), drawing)


def test_parts_count_every_byte_once(site: Path) -> None:
    (site / "index.html").write_text("x" * 10, encoding="utf-8")
    (site / "_static" / "mathjax" / "tex-chtml.js").write_text("y" * 100, encoding="utf-8")
    sizes = parts(site)
    assert sum(sizes.values()) == sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert (next(iter(sizes)), sizes["MathJax"]) in (("MathJax", 100), ("pages", 100))
