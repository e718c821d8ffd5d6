"""Check that the rendered book stands by itself.

Every internal link must resolve, and nothing may be loaded from the network.

python tools/check_site.py [FOLDER]    FOLDER is _build/html by default
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
_REMOTE = re.compile(r"(?:https?:)?//[\w-]+\.[\w.-]+", re.IGNORECASE)
_CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")


@dataclass
class Page(HTMLParser):
    """What one page defines and refers to."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    _in_script: bool = False

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the anchors and references of a tag.

        An `a` leads somewhere; any other tag loads what it names.
        """
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        found = [values[name] for name in ("href", "src", "poster", "data") if name in values]
        (self.links if tag == "a" else self.loads).extend(found)
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        """Leave a script."""
        self._in_script = False

    def handle_data(self, data: str) -> None:
        """Keep the text of inline scripts."""
        if self._in_script:
            self.scripts.append(data)


def read_pages(site: Path) -> dict[Path, Page]:
    """Parse every page of the site; the theme leaves templates in ``_static``, which are not pages."""
    pages = {}
    for path in sorted(
        path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts
    ):
        pages[path.resolve()] = page = Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def check_site(site: Path) -> list[str]:
    """Return what is wrong with the site at ``site``, in words; an empty list if nothing is."""
    if not (site / "index.html").is_file():
        return [f"there is no site at {site}: run `make book` first"]
    pages = read_pages(site)
    problems = [
        f"{path.relative_to(site.resolve())}: {problem}"
        for path, page in pages.items()
        for problem in page_problems(path, page, pages)
    ]
    return problems + [
        f"{path.relative_to(site)}: {problem}"
        for path in sorted(site.rglob("*.css"))
        for problem in style_problems(path)
    ]


def page_problems(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the broken links and the remote resources of one page."""
    yield from (f"loads {url} from the network" for url in page.loads if _REMOTE.match(url))
    yield from (
        f"an inline script names {match[0]}"
        for text in page.scripts
        for match in _REMOTE.finditer(text)
        if "://" in match[0]
    )
    for url in page.links + page.loads:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            yield f"broken link {url}: no such file"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"broken link {url}: no such anchor"


def style_problems(path: Path) -> Iterator[str]:
    """Yield what a style sheet loads from the network, and what it names that is not there."""
    for url in _CSS_URL.findall(path.read_text(encoding="utf-8")):
        if _REMOTE.match(url):
            yield f"loads {url} from the network"
        elif not url.startswith(("data:", "#")) and not (path.parent / unquote(urlsplit(url).path)).is_file():
            yield f"names {url}, which is not there"


def main(arguments: Sequence[str]) -> int:
    """Check the site, print what is wrong, return the exit status."""
    site = Path(arguments[0]) if arguments else ROOT / "_build" / "html"
    problems = check_site(site)
    print(
        "\n".join(problems)
        or f"{len(read_pages(site))} pages: every internal link resolves and nothing is loaded from the "
        f"network"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
