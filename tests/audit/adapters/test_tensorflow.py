"""TensorFlow's adapters: a quiet start, and one graph a type."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from softmax_lab.audit.adapters.tensorflow import _ByDtype, _quiet


def test_what_a_failed_import_printed_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with _quiet():
            os.write(2, b"the reason\n")
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    with _quiet():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == "the reason\n"


def test_a_variable_of_the_users_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with _quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with _quiet():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_a_graph_is_made_once_a_type() -> None:
    built: list[str] = []

    def build(dtype: str) -> Any:
        built.append(dtype)
        return lambda z, y: (dtype, y)

    traced = _ByDtype(build)
    answers = [traced(SimpleNamespace(dtype=dtype), 7) for dtype in ("half", "single", "half")]
    assert answers == [("half", 7), ("single", 7), ("half", 7)]
    assert built == ["half", "single"]
