"""The rendered pages in a real browser, with the network cut: at two widths, light and dark.

Runs against ``_build/html`` after it is built (the stage ``pages`` of ``make long``), with the Chromium of
the system.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.prune_site import PARTS, parts

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
PAGES = [
    path
    for path in sorted(SITE.glob("**/*.html"))
    if "_static" not in path.parts and path.name not in ("index.html", "search.html")
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(not PAGES, reason="the book is not built: make book"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in ("light", "dark")], ids="-".join)
def open_page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """Return what opens a page and gathers its complaints.

    Complaints are errors on the console, and requests that fail or leave the disk.
    """
    width, scheme = request.param
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    page, complaints = context.new_page(), []
    page.set_default_timeout(120_000)  # others may use the machine
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda sent: complaints.append(f"failed: {sent.url}"))
    page.on(
        "request",
        lambda sent: (
            None
            if sent.url.startswith(("file:", "data:", "blob:"))
            else complaints.append(f"left: {sent.url}")
        ),
    )

    def go(path: Path) -> tuple[Any, list[str]]:
        page.goto(path.as_uri())
        page.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
        page.wait_for_function("() => document.documentElement.dataset.settled")
        return page, complaints

    yield go
    context.close()


#: what is wrong with the formulas, pictures and headings of a page
PROBLEMS = """() => {
    const found = [];
    for (const e of document.querySelectorAll('.math'))
        if (!e.querySelector('mjx-container')) found.push('raw formula: ' + e.textContent.slice(0, 60));
    for (const e of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
        found.push('formula in error: ' + e.textContent.slice(0, 60));
    for (const e of document.querySelectorAll('article img')) {
        const name = e.src.split('/').pop();
        if (!(e.getAttribute('alt') || '').trim()) found.push('no alternative text: ' + name);
        if (e.complete && !e.naturalWidth) found.push('no picture: ' + name);
    }
    let level = 0;
    for (const e of document.querySelectorAll('article :is(h1, h2, h3, h4, h5, h6)')) {
        const own = Number(e.tagName[1]);
        if (own > level + 1) found.push('heading skips a level: ' + e.textContent.slice(0, 60));
        level = own;
    }
    return found;
}"""
#: marks that stand in another line than the formula they belong to, and Chinese in italics, which it has not
SET_WRONG = r"""() => {
    const found = [], range = document.createRange();
    const at = (text, i) => {
        range.setStart(text, i);
        range.setEnd(text, i + 1);
        return range.getBoundingClientRect();
    };
    for (const e of document.querySelectorAll('article span.math:not(.is-wide)')) {
        const formula = e.querySelector('mjx-container')?.getBoundingClientRect();
        if (!formula?.width) continue;
        const said = e.querySelector('mjx-assistive-mml')?.textContent.slice(0, 40);
        const text = node => (node?.nodeType === 3 ? node.data : '');
        const [before, after] = [e.previousSibling, e.nextSibling], last = text(before).length - 1;
        if (/^[.,;:!?)\]，。；：！？、）」』”’]/.test(text(after)))
            if (at(after, 0).left < formula.right - 3) found.push(`${after.data[0]} begins a line: ${said}`);
        if (/[(\[（「『“‘]$/.test(text(before)))
            if (at(before, last).right > formula.left + 3) found.push(`a bracket ends a line: ${said}`);
    }
    for (const e of document.querySelectorAll('article *')) {
        const own = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('');
        if (/\p{Script=Han}/u.test(own) && getComputedStyle(e).fontStyle === 'italic')
            found.push('Chinese in italics: ' + own.trim().slice(0, 40));
    }
    return found;
}"""
#: formulas that are cut: displayed ones that need to be scrolled, and those in a line that reach out of it
CUT = """() => {
    const cut = [], said = e => e.querySelector('mjx-assistive-mml')?.textContent.slice(0, 60);
    for (const e of document.querySelectorAll('div.math mjx-container'))
        if (e.scrollWidth > e.clientWidth + 1) cut.push('displayed: ' + said(e));
    for (const e of document.querySelectorAll('article span.math:not(.is-wide) mjx-container')) {
        const block = e.closest('p, li, td, dd, figcaption, h1, h2, h3, h4');
        const right = element => element.getBoundingClientRect().right;
        const beyond = block && e.offsetParent ? right(e) - right(block) : 0;
        if (beyond > 2) cut.push('in a line: ' + said(e));
    }
    return cut;
}"""
#: boxes that fade and have nothing more to the right, and those that have and do not fade: any element of the
#: page, by its geometry
MARKED_WRONG = """() => {
    const wrong = [];
    for (const e of document.querySelectorAll('article *')) {
        const style = getComputedStyle(e), fades = style.maskImage !== 'none';
        const shown = style.display !== 'inline' && e.getClientRects().length > 0;
        const scrolls = shown && /auto|scroll/.test(style.overflowX);
        const more = scrolls && e.scrollLeft + e.clientWidth < e.scrollWidth - 1;
        const what = `${e.tagName} ${e.textContent.slice(0, 40)}`;
        if (fades !== more) wrong.push(`${fades ? 'fades' : 'does not fade'}: ${what}`);
    }
    return wrong;
}"""
#: words and numbers in tables that begin in one line and end in another; a name may break at its hyphen
BROKEN = r"""() => {
    const broken = [], range = document.createRange();
    const one = /((?<!\p{L})[-+])?\d[\d.,]*(e[-+]?\d+)?|[\p{Script=Latin}\p{N}]+/giu;
    for (const cell of document.querySelectorAll('article :is(td, th)')) {
        const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        for (let text; (text = texts.nextNode());) {
            if (text.parentElement.closest('mjx-container')) continue;
            for (const word of text.data.matchAll(one)) {
                range.setStart(text, word.index);
                range.setEnd(text, word.index + word[0].length);
                const parts = [...range.getClientRects()].filter(r => r.width > 0);
                const lines = new Set(parts.map(r => Math.round(r.top)));
                const where = cell.textContent.trim().slice(0, 40);
                if (lines.size > 1) broken.push(`${word[0]} in ${lines.size} lines of: ${where}`);
            }
        }
    }
    return broken;
}"""
#: boxes that fade in the medium of the moment
FADING = """() => {
    const all = [...document.querySelectorAll('article *')];
    return all.filter(e => getComputedStyle(e).maskImage !== 'none').length;
}"""
FRAMES = """() => new Promise(done => {
    const after = frames => frames ? requestAnimationFrame(() => after(frames - 1)) : done();
    after(3);
})"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_page_is_whole(path: Path, open_page: Any) -> None:
    page, complaints = open_page(path)
    assert page.evaluate(PROBLEMS) == []
    assert page.evaluate(SIDEWAYS) <= 0
    assert comes_right(page, MARKED_WRONG) == []
    assert page.evaluate(BROKEN) == []
    assert page.evaluate(SET_WRONG) == []
    cut = page.evaluate(CUT)
    if page.viewport_size["width"] > 1000:
        assert cut == []
    else:  # what does not fit a telephone can be scrolled, and fades to say so
        assert [formula for formula in cut if formula.startswith("in a line")] == []
        assert page.evaluate(
            "() => document.querySelectorAll('div.math mjx-container.scrolls-sideways').length"
        ) == len(cut)
    assert complaints == []


#: for a test that visits every width by itself
ONCE = pytest.mark.parametrize("open_page", [("desktop", "light")], indirect=True, ids="-".join)


def comes_right(page: Any, problems: str) -> list[str]:
    """Return what is still wrong when the page has had time to come to rest.

    Its sidebars move in a transition of their own.
    """
    page.evaluate(FRAMES)
    for _ in range(20):
        if not (found := page.evaluate(problems)):
            break
        page.wait_for_timeout(250)
    return list(found)


@ONCE
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_what_fades_goes_on_and_words_stay_whole_whatever_came_before(path: Path, open_page: Any) -> None:
    page, complaints = open_page(path)
    page.evaluate("() => document.querySelectorAll('article details').forEach(part => { part.open = true; })")
    assert comes_right(page, MARKED_WRONG) == []
    for width in (390, 1280, 390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert comes_right(page, MARKED_WRONG) == [], width
        assert page.evaluate(BROKEN) == [], width
    page.pdf()
    assert comes_right(page, MARKED_WRONG) == []
    assert complaints == []


@ONCE
@pytest.mark.parametrize("name", ["intro", "04-frameworks", "10-speed", "10a-loops"])
def test_print_fades_nowhere_and_leaves_the_marks_right(name: str, open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / f"{name}.html")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="print")
        page.evaluate(FRAMES)
        assert page.evaluate(FADING) == 0
        page.emulate_media(media="screen")
        assert comes_right(page, MARKED_WRONG) == []
    assert complaints == []


@ONCE
def test_another_font_is_measured_anew(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "04-frameworks.html")
    before = page.evaluate(FADING)
    page.add_style_tag(content="article :is(pre, table, mjx-container) { font-size: 300% !important; }")
    assert comes_right(page, MARKED_WRONG) == []
    assert page.evaluate(FADING) > before
    page.evaluate("() => document.head.lastElementChild.remove()")
    assert comes_right(page, MARKED_WRONG) == []
    assert page.evaluate(FADING) == before
    assert complaints == []


#: displayed formulas that a telephone would have to scroll; they are broken at a sign instead
SCROLLED = """() => {
    const wide = e => e.scrollWidth > e.clientWidth + 1;
    const formulas = [...document.querySelectorAll('div.math mjx-container')].filter(wide);
    return formulas.map(e => e.closest('div.math').id || e.querySelector('mjx-assistive-mml').textContent);
}"""


@ONCE
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_displayed_formulas_fit_a_telephone(path: Path, open_page: Any) -> None:
    page, complaints = open_page(path)
    page.evaluate("() => document.querySelectorAll('article details').forEach(part => { part.open = true; })")
    page.set_viewport_size(dict(zip(("width", "height"), WIDTHS["phone"], strict=True)))
    assert comes_right(page, SCROLLED) == []
    assert complaints == []


def test_formulas_fit_again_when_the_window_grows(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "07-balance.html")
    page.set_viewport_size({"width": 240, "height": 844})  # narrower than any telephone
    page.wait_for_function(f"() => ({CUT})().length > 0")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(f"() => ({CUT})().length === 0")
    assert complaints == []


def test_what_is_scrolled_to_its_end_fades_no_more(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "09-balancing.html")
    code = page.locator("pre.scrolls-sideways").first
    assert "gradient" in code.evaluate("e => getComputedStyle(e).maskImage")
    handle = code.element_handle()
    handle.evaluate("e => e.scrollLeft = e.scrollWidth")
    page.wait_for_function("e => getComputedStyle(e).maskImage === 'none'", arg=handle)
    assert complaints == []


def test_a_figure_opens_by_itself(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "intro.html")
    link = page.locator("a.whole-picture").first
    assert link.locator("img").get_attribute("alt")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/_images/*.png")
    assert complaints == []


def test_evidence_leads_to_the_source_of_the_test_and_back_to_the_claim(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "03-propagation.html")
    link = page.locator("#claim-3-2 .ledger-evidence a").first
    test = (link.text_content() or "").partition("::")[2]
    link.click()
    page.wait_for_url("**/evidence.html#*")
    line = page.locator(":target")
    assert line.text_content().startswith("Claim 3.2 ")
    assert f"def {test}(" in page.locator(":target + div").text_content()
    line.locator("a").first.click()
    page.wait_for_url("**/03-propagation.html#claim-3-2")
    assert complaints == []


#: bytes of each part of the site, a tenth or two more than it has; together below the bound of all
BOUNDS = {
    "pictures": 6.9e6,
    "pages": 4.2e6,
    "MathJax": 2.9e6,
    "styles, scripts and fonts": 1.05e6,
    "the Chinese font": 0.2e6,
    "sources to download": 0.85e6,
    "Font Awesome": 0.33e6,
    "search": 0.2e6,
    "Font Awesome's script": 0.1e6,
    "other files": 0.05e6,
}


def test_every_part_has_a_bound_and_together_they_are_below_that_of_all() -> None:
    assert BOUNDS.keys() == PARTS.keys()
    assert sum(BOUNDS.values()) <= 18e6


def test_the_site_is_small() -> None:
    sizes = parts(SITE)
    total = sum(sizes.values())
    assert total == sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    grown = [
        f"{name}: {sizes[name] / 1e6:.2f} MB, at most {bound / 1e6:.2f}"
        for name, bound in BOUNDS.items()
        if sizes[name] > bound
    ]
    assert grown == []
    assert total < 18e6, f"{total / 1e6:.1f} MB: {sizes}"


def test_the_opening_page_leads_to_the_first(open_page: Any) -> None:
    page, complaints = open_page(SITE / "search.html")
    page.goto((SITE / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")
    assert complaints == []


def test_the_font_of_the_chinese_page_comes_with_the_site(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "errata-zh.html")
    loaded = page.evaluate("""async () => {
        const faces = await document.fonts.load('16px "Noto Sans SC"', '勘误');
        return faces.map(face => face.status);
    }""")
    assert loaded == ["loaded"]
    used = page.evaluate("() => getComputedStyle(document.querySelector('article p')).fontFamily")
    assert "Noto Sans SC" in used
    assert not complaints


@ONCE
def test_the_table_of_choices_fits_one_screen(open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / "choice.html")
    page.set_viewport_size({"width": 1280, "height": 800})
    bottom = page.locator(".choice-table table").evaluate("e => e.getBoundingClientRect().bottom")
    assert bottom <= 800


@ONCE
def test_the_chinese_page_is_chinese_and_what_is_around_it_english(open_page: Any) -> None:
    language = "e => e.closest('[lang]').lang"
    page, complaints = open_page(SITE / "book" / "errata-zh.html")
    assert page.locator("article h1").evaluate(language) == "zh"
    assert page.locator("nav.bd-links").first.evaluate(language) == "en"
    assert page.locator("article .ledger-summary").evaluate(language) == "zh"
    page, _ = open_page(SITE / "book" / "intro.html")
    assert page.locator("article h1").evaluate(language) == "en"
    assert complaints == []


@ONCE
@pytest.mark.parametrize("name", ["intro", "errata-zh"])
def test_no_formula_of_a_table_of_claims_has_to_be_scrolled(name: str, open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / f"{name}.html")
    wide = """() => [...document.querySelectorAll('table.ledger-table span.math.is-wide')].map(
        e => e.querySelector('mjx-assistive-mml').textContent)"""
    assert page.evaluate(wide) == []


def test_the_scheme_is_followed(open_page: Any, request: pytest.FixtureRequest) -> None:
    page, _ = open_page(SITE / "book" / "intro.html")
    wanted = "dark" if "dark" in request.node.name else "light"
    assert page.evaluate("() => document.documentElement.dataset.theme") == wanted


def test_the_ledger_is_filtered_and_printed_whole(open_page: Any) -> None:
    page, complaints = open_page(SITE / "book" / "intro.html")
    rows = page.locator("table.ledger-table tbody tr")
    total = rows.count()
    assert page.locator("table.ledger-table .ledger-original[lang=zh]").count() > total / 2
    visible = page.locator("table.ledger-table tbody tr:visible")
    page.locator("form.ledger-filter input[value*=holds]").focus()
    page.keyboard.press("Space")  # by the keyboard alone
    without = visible.count()
    assert 0 < without < total
    assert page.locator("form.ledger-filter [role=status]").inner_text() == f"{without} of {total} claims"
    assert page.locator("table.ledger-table tbody tr:visible td > p > .ledger-holds").count() == 0
    page.locator("form.ledger-filter input[type=search]").fill("temperature")
    assert 0 < visible.count() < without
    page.emulate_media(media="print")
    assert visible.count() == total
    assert complaints == []


#: pictures: the page and the place on it, the control that is moved, and on which panel numbers must move
TOUCHED = {
    "three classes": ("pictures", 0, "logit of class 1", 1),
    "all three": ("pictures", 0, "add to all three", 0),
    "temperature": ("pictures", 1, "temperature T", 1),
    "film": ("pictures", 2, "training step", 1),
    "precision": ("pictures", 3, "gap between the logits", 0),
    "chapter 1": ("01-derivation", 0, "logit of class 1", 3),
    "chapter 2": ("02-stability", 0, "gap between the logits", 1),
    "chapter 3": ("03-propagation", 0, "logits times", 1),
    "chapter 6": ("06-temperature", 0, "temperature T", 1),
    "chapter 8": ("08-two-classes", 0, "gap d", 1),
    "chapter 9": ("09-balancing", 0, "training step", 1),
    "chapter 11": ("11-lost-gradient", 0, "gap", 1),
}
SHOWN = "e => JSON.stringify(e.data.map(trace => [trace.x, trace.y, trace.z]))"


@pytest.mark.parametrize("name", TOUCHED)
def test_a_picture_answers_to_the_keyboard(name: str, open_page: Any) -> None:
    stem, number, label, moved = TOUCHED[name]
    page, complaints = open_page(SITE / "book" / f"{stem}.html")
    picture = page.locator(".interactive").nth(number)
    picture.scroll_into_view_if_needed()
    panel = picture.locator(".interactive-panel").nth(moved)
    panel.locator("svg.chart").first.wait_for()
    slider = picture.get_by_label(label, exact=True)
    before, words = panel.evaluate(SHOWN), picture.locator(".interactive-said").inner_text()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert panel.evaluate(SHOWN) != before
    after = picture.locator(".interactive-said").inner_text()
    assert (after == words) == (label == "add to all three")
    assert slider.get_attribute("aria-valuetext")
    assert not picture.locator(".interactive-still").is_visible()
    page.emulate_media(media="print")
    assert picture.locator(".interactive-still").is_visible()
    assert not panel.is_visible()
    assert page.evaluate(SIDEWAYS) <= 0
    assert complaints == []


def test_a_number_added_to_all_three_logits_moves_no_probability(open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / "01-derivation.html")
    picture = page.locator(".interactive").first
    panels = picture.locator(".interactive-panel")
    panels.first.locator("svg.chart").wait_for()
    before = [panels.nth(i).evaluate(SHOWN) for i in range(4)]
    picture.get_by_label("add to all three").fill("0")
    after = [panels.nth(i).evaluate(SHOWN) for i in range(4)]
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, True, True, True]


#: words of a picture that answers: a zero with a sign, those smaller than 11 pixels, and pairs that overlap
WORDS_WRONG = """() => {
    const wrong = [];
    for (const chart of document.querySelectorAll('svg.chart')) {
        const words = [...chart.querySelectorAll('text')].filter(e => e.textContent && !e.matches('.answer'));
        for (const e of words) {
            if (/^[-−]0(\\.0*)?$/.test(e.textContent)) wrong.push('signed zero: ' + e.textContent);
            if (parseFloat(getComputedStyle(e).fontSize) < 11) wrong.push('small: ' + e.textContent);
            const box = e.getBoundingClientRect(), page = document.documentElement.clientWidth;
            if (box.left < 0 || box.right > page) wrong.push('cut: ' + e.textContent);
        }
        const boxes = words.map(e => [e.textContent, e.getBoundingClientRect()]);
        boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
            const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const up = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (across > 1 && up > 3) wrong.push(`overlap: ${a} and ${b}`);
        }));
    }
    return [...new Set(wrong)];
}"""


@pytest.mark.parametrize("stem", dict.fromkeys(stem for stem, *_ in TOUCHED.values()))
def test_the_words_of_pictures_are_legible(stem: str, open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / f"{stem}.html")
    page.locator("svg.chart").first.wait_for()
    assert page.evaluate(WORDS_WRONG) == []


def test_the_sliders_stay_in_sight_on_a_telephone(open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / "01-derivation.html")
    if page.viewport_size["width"] > 1000:
        pytest.skip("panels stand side by side")
    picture = page.locator(".interactive").first
    panel = picture.locator(".interactive-panel").nth(3)
    panel.locator("svg.chart").wait_for()
    panel.evaluate("e => window.scrollTo(0, e.getBoundingClientRect().top + window.scrollY - 400)")
    shown = "e => { const b = e.getBoundingClientRect(); return [b.top, b.bottom]; }"
    top, bottom = picture.locator(".interactive-controls").evaluate(shown)
    assert top >= 0
    assert bottom <= panel.evaluate(shown)[0]


def test_a_choice_changes_the_curves(open_page: Any) -> None:
    page, _ = open_page(SITE / "book" / "pictures.html")
    picture = page.locator(".interactive").nth(3)
    panel = picture.locator(".interactive-panel").first
    panel.locator("svg.chart").first.wait_for()
    before = panel.evaluate(SHOWN)
    picture.get_by_label("type", exact=True).select_option(label="float16")
    assert panel.evaluate(SHOWN) != before


def test_without_scripts_the_stills_are_there(browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((SITE / "book" / "pictures.html").as_uri())
    assert [page.locator(".interactive-still").nth(i).is_visible() for i in range(4)] == [True] * 4
    page.goto((SITE / "book" / "01-derivation.html").as_uri())
    assert page.locator(".interactive-still").is_visible()
    context.close()


#: the smallest contrast of text on the page with what is behind it, and where: WCAG 2.1, 1.4.3 asks for 4.5,
#: of large text 3
CONTRAST = """() => {
    const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = c => { const f = c.slice(0, 3).map(v => linear(v / 255));
        return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
    const over = (a, b) => [0, 1, 2].map(i => a[3] * a[i] + (1 - a[3]) * b[i]).concat(1);
    const behind = e => { const layers = []; for (let n = e; n; n = n.parentElement) {
        const c = parse(getComputedStyle(n).backgroundColor);
        if (c[3] > 0) { layers.push(c); if (c[3] === 1) break; } }
        return layers.reverse().reduce((b, c) => over(c, b), [255, 255, 255, 1]); };
    const found = [];
    const kinds = 'p, li, td, th, h1, h2, h3, a, code, span, label, button, summary'.split(', ');
    for (const e of document.querySelectorAll(kinds.map(kind => 'article ' + kind).join(', '))) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.offsetParent || e.closest('mjx-container, .headerlink, svg')) continue;
        const style = getComputedStyle(e), back = behind(e), size = parseFloat(style.fontSize);
        const [a, b] = [light(over(parse(style.color), back)), light(back)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const what = `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`;
        if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${what}`);
    }
    return [...new Set(found)];
}"""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_text_stands_out(path: Path, open_page: Any, request: pytest.FixtureRequest) -> None:
    if "phone" in request.node.name:
        pytest.skip("colours do not depend on the width")
    page, _ = open_page(path)
    assert page.evaluate(CONTRAST) == []


def test_figures_bring_their_own_white() -> None:
    # transparent ones would lose their black axes and words when the page is dark
    from PIL import Image

    figures = [*SITE.glob("_images/*.png")]
    assert figures
    for path in figures:
        with Image.open(path) as image:
            corners = {
                image.convert("RGBA").getpixel((x, y))
                for x in (0, image.width - 1)
                for y in (0, image.height - 1)
            }
        assert corners == {(255, 255, 255, 255)}, path.name


def test_only_the_page_with_pictures_loads_their_library(open_page: Any) -> None:
    loads = "() => [...document.scripts].some(script => script.src.endsWith('charts.js'))"
    page, _ = open_page(SITE / "book" / "intro.html")
    assert not page.evaluate(loads)
    page.goto((SITE / "book" / "pictures.html").as_uri())
    assert page.evaluate(loads)
    # the first contentful paint is for the eye: its time is printed, and not held to a bound on a machine
    # that others use too
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    print(
        page.evaluate(
            "() => Math.round(performance.getEntriesByName('first-contentful-paint')[0].startTime)"
        ),
        "ms to the first paint",
    )


def test_search_finds_a_word(open_page: Any) -> None:
    page, complaints = open_page(SITE / "search.html")
    page.goto((SITE / "search.html").as_uri() + "?q=logsumexp")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li").count() > 0
    assert complaints == []
