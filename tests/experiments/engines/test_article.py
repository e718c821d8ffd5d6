"""The article's frameworks are asked what the engines are asked, and stored beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

import softmax_lab as sl
from experiments.engines import stored
from experiments.engines.article import ARTICLE_TABLE, NAMES, run_article
from experiments.engines.cases import ASKED
from softmax_lab.audit import adapters


class Exact:
    """The package's own softmax, in one type."""

    dtypes = ("float32",)
    softmax = staticmethod(sl.softmax)


def test_what_is_stored_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(name: str) -> Any:
        if name == "jax":
            raise adapters.MissingFramework("jax is not installed")
        made.append(name)
        return Exact()

    monkeypatch.setattr(adapters, "make", make)
    monkeypatch.setattr(adapters, "versions", lambda: {"torch": "1.0"})
    path, said = tmp_path / "article.csv", list[str]()
    assert run_article(("torch", "jax"), path, say=said.append) == ["jax"]
    table = stored.read(path)
    assert set(table["engine"]) == {"torch"}
    assert set(table["version"]) == {"1.0"}
    assert table["ok"].all()
    assert said[1] == "jax: left out: jax is not installed"
    before = path.read_text()
    assert run_article(("torch",), path, say=said.append) == []
    assert said[-1] == "torch 1.0: stored"
    assert path.read_text() == before


def test_what_is_shipped_is_of_the_article_and_of_the_cases() -> None:
    table = stored.read(ARTICLE_TABLE)
    assert set(table["engine"]) <= set(NAMES)
    assert set(table["case"]) <= {check.name for check in ASKED}
    assert not table.duplicated(["engine", "version", "function", "dtype", "case"]).any()
