"""The language of a page is that of its text: ``language: zh`` at the head of a page's source names it.

Sphinx knows one language for the whole book. A page in another one would be read out, and broken into lines,
as if it were English.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def set_language(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Give the template the language that the page's source names, if it names one."""
    language = app.env.metadata.get(pagename, {}).get("language")
    if language:
        context["language"] = language


def setup(app: Sphinx) -> dict[str, Any]:
    """Listen to each page before it is written."""
    app.connect("html-page-context", set_language)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
