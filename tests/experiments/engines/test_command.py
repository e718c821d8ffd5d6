"""The command: names, and its status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

from experiments.engines import command
from experiments.engines.recipes import ENGINES


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the calls that the command makes; "mlx" cannot be had."""
    calls: list[Any] = []

    def run_engines(names: Sequence[str], path: Path, **options: Any) -> list[str]:
        calls.append((list(names), path, options))
        return [name for name in names if name == "mlx"]

    monkeypatch.setattr(command, "run_engines", run_engines)
    return calls


def test_the_status_says_whether_all_could_be_had(
    called: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "engines.csv"
    assert command.main(["--install", "mnn", "ncnn", "--out", str(path), "--folder", str(tmp_path)]) == 0
    assert called == [(["mnn", "ncnn"], path, {"folder": tmp_path, "keep": True})]
    assert command.main(["--install", "all", "--remove"]) == 1
    assert called[1][0] == list(ENGINES)
    assert called[1][2]["keep"] is False
    assert capsys.readouterr().out == "cannot be had: mlx\n"


def test_an_unknown_engine_is_refused(called: list[Any]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--install", "caffe"])
    assert called == []


def test_the_article_and_the_reproductions_are_asked_for_by_name(
    called: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def run_article() -> list[str]:
        asked.append("article")
        return ["jax"]

    monkeypatch.setattr(command, "run_article", run_article)
    monkeypatch.setattr(command, "reproduce", lambda folder: asked.append(folder))
    assert command.main(["--article"]) == 1
    assert command.main(["--reproduce", "--folder", str(tmp_path)]) == 0
    assert asked == ["article", tmp_path]
    with pytest.raises(SystemExit):
        command.main([])
