"""A page in another language says so at its head, and the others keep that of the book."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils


def test_a_page_is_in_the_language_that_its_source_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Book\n\n```{toctree}\nzh\n```\n", encoding="utf-8")
    (source / "zh.md").write_text("---\nlanguage: zh\n---\n\n# 勘误\n", encoding="utf-8")
    options = {"extensions": ["myst_parser", "page_language"], "language": "en"}
    with patch_docutils(), docutils_namespace():
        Sphinx(source, None, tmp_path / "html", tmp_path / "trees", "html", options, status=None).build()
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "html").glob("*.html")}
    assert re.findall(r'<html[^>]* lang="(\w+)"', pages["zh"]) == ["zh"]
    assert re.findall(r'<html[^>]* lang="(\w+)"', pages["index"]) == ["en"]
    assert "language" not in re.sub("<[^>]*>", "", pages["zh"].partition("<body")[2])
