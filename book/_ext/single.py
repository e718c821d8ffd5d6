"""The book as one page, for printing: Sphinx's builder ``singlehtml``, mended.

Sphinx leaves the names of places as they are when it joins pages, so that of two places with one name the
first is found. Here each name begins with its page's. Chapters stand beside the opening page, not inside of
it, and the first of each part is preceded by the part's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import start_of_file, toctree
from sphinx.application import Sphinx
from sphinx.builders.singlehtml import SingleFileHTMLBuilder

PAGE = "book.html"
_ACROSS = re.compile(r"#document-([^#]+)#(.+)")


def place(docname: str, name: str) -> str:
    """Return the name, in the whole book, of a place on a page."""
    return f"{docname}--{name}".replace("/", "-")


class SinglePageBuilder(SingleFileHTMLBuilder):
    """Sphinx's builder, with one name a place."""

    name = "singlehtml"

    def get_outfilename(self, pagename: str) -> str:
        """Return where the page is written: beside its pictures and styles, whatever its folder was."""
        return str(Path(self.outdir) / PAGE)

    def assemble_doctree(self) -> nodes.document:
        """Return the whole book, its places renamed."""
        root = self.config.root_doc
        captions = {
            docname: node["caption"]
            for node in self.env.get_doctree(root).findall(toctree)
            for _, docname in node["entries"][:1]
            if node["caption"]
        }
        tree = super().assemble_doctree()
        rename(tree, root)
        lift(tree, captions)
        tree.insert(0, nodes.raw("", f'<span id="document-{root}"></span>', format="html"))
        return tree

    def fix_refuris(self, tree: nodes.Node) -> None:
        """Let a reference to another page lead to the place's new name."""
        for reference in tree.findall(nodes.reference):
            if across := _ACROSS.fullmatch(reference.get("refuri", "")):
                reference["refuri"] = f"#{place(across[1], across[2])}"

    def assemble_toc_secnumbers(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the numbers of sections by their new names."""
        numbers = {
            f"{docname}/{'#' + place(docname, anchor[1:]) if anchor else ''}": number
            for docname, sections in self.env.toc_secnumbers.items()
            for anchor, number in sections.items()
        }
        return {self.config.root_doc: numbers}

    def assemble_toc_fignumbers(self) -> dict[str, dict[str, dict[str, tuple[int, ...]]]]:
        """Return the numbers of figures by their new names."""
        numbers = {
            f"{docname}/{kind}": {place(docname, name): number for name, number in figures.items()}
            for docname, kinds in self.env.toc_fignumbers.items()
            for kind, figures in kinds.items()
        }
        return {self.config.root_doc: numbers}


def rename(node: nodes.Element, docname: str) -> None:
    """Rename the places in ``node``, a part of the page ``docname``, and what refers to them there."""
    docname = node["docname"] if isinstance(node, start_of_file) else docname
    for key in ("ids", "backrefs"):
        node[key] = [place(docname, name) for name in node.get(key, [])]
    if "refid" in node:
        node["refid"] = place(docname, node["refid"])
    for child in node.children:
        if isinstance(child, nodes.Element):
            rename(child, docname)


def lift(tree: nodes.document, captions: dict[str, str]) -> None:
    """Move the chapters out of the opening page's section, and put the names of parts before them."""
    for chapter in [*outermost(tree)]:
        holder = chapter.parent
        holder.remove(chapter)
        if caption := captions.get(chapter["docname"]):
            tree += nodes.raw("", f'<p class="part-title">{escape(caption)}</p>', format="html")
        tree += chapter


def outermost(node: nodes.Element) -> Iterator[start_of_file]:
    """Yield the pages inside of ``node`` that are inside of no other."""
    for child in node.children:
        if isinstance(child, start_of_file):
            yield child
        elif isinstance(child, nodes.Element):
            yield from outermost(child)


def setup(app: Sphinx) -> dict[str, Any]:
    """Put the builder in place of Sphinx's."""
    app.add_builder(SinglePageBuilder, override=True)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
