"""Docstrings as the API reference shows them, where reStructuredText reads them otherwise than people do.

- a reference that begins with an initial ("Z. Zhong, ...") is no item of a numbered list
- the fields of a named tuple, which its class's docstring explains, are not listed again as aliases of
  numbers
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def escape_initials(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape the full stop after an initial at the start of a line, in place."""
    lines[:] = [re.sub(r"^(\s*(?:[-*] )?[A-Z])\. ", r"\1\\. ", line) for line in lines]


def skip_aliases(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what says nothing but its place in a tuple."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect both."""
    app.connect("autodoc-process-docstring", escape_initials)
    app.connect("autodoc-skip-member", skip_aliases)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
