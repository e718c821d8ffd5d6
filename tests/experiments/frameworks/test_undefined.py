"""Answers where nothing is defined, in words."""

from __future__ import annotations

import pytest

from experiments import frameworks


@pytest.mark.parametrize("name", ["softmax_lab", "numpy"])
def test_answers_in_words(name: str) -> None:
    told = frameworks.answers(name)
    assert told["log_softmax, NaN in the row"] == "nan nan nan"
    assert told["loss, label's logit -inf"] == "inf"
    assert told["loss, label K"] == "raises IndexError"
    assert told["loss, label -1"] == ("raises IndexError" if name == "softmax_lab" else "0.408")


def test_answers_where_nothing_is_left() -> None:
    assert list(frameworks.nothing_left("softmax_lab").values()) == ["nan", "0 0 0"]
    assert set(frameworks.nothing_left("numpy").values()) == {"not offered"}


def test_scipy_offers_no_gradient() -> None:
    pytest.importorskip("scipy")
    assert frameworks.answers("scipy")["gradient, label K"] == "not offered"
