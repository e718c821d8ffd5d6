"""Sentences that depend on a chapter's first cell say whether they hold."""

from __future__ import annotations

import pytest

from experiments.sentences import Sentences, listed


def test_a_condition_is_a_truth_value_or_is_asked_for_one() -> None:
    computed: dict[str, float] = {}
    found = Sentences({"One.": True, "Two.": lambda: 1 > 2, "Three.": lambda: computed["three"]})
    assert found.outcomes == {"One.": True, "Two.": False, "Three.": None}
    assert repr(found).splitlines() == ["holds: One.", "does not hold: Two.", "is about other values: Three."]


def test_what_is_wrong_with_a_condition_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        Sentences({"One.": lambda: 1 // 0})


def test_the_box_is_folded_while_all_hold() -> None:
    folded, opened = Sentences({"a < b": True, "c": True}), Sentences({"a < b": True, "c": False})
    assert '<details class="for-these-values"><summary>For these values 2 sentences here hold' in (
        folded._repr_html_()
    )
    assert "a &lt; b" in folded._repr_html_()
    assert " open><summary>For these values 1 of 2 sentences here hold" in opened._repr_html_()
    assert "does not hold</strong>: c" in opened._repr_html_()
    assert "For these values the sentence here does not hold" in Sentences({"c": False})._repr_html_()


def test_words_are_joined_as_a_sentence_does() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a"]) == "a"
    assert listed(iter(())) == "none of these"
    assert listed([], "") == ""
