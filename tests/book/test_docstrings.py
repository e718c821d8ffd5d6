"""What ``book/_ext/docstrings.py`` does to docstrings before Sphinx reads them."""

from __future__ import annotations

from typing import Any

from docstrings import escape_initials, skip_aliases

from softmax_lab.balance import ClassGradients

HOOK: tuple[Any, Any, Any, Any, Any] = (None, "function", "name", None, None)


def test_an_initial_begins_no_list() -> None:
    lines = [
        "Z. Zhong and J. Cui, 2021.",
        "- K. Cao, 2019",
        "    A. K. Menon",
        "1. a list",
        "A sentence. B. is inside.",
    ]
    escape_initials(*HOOK, lines)
    assert lines == [
        r"Z\. Zhong and J. Cui, 2021.",
        r"- K\. Cao, 2019",
        r"    A\. K. Menon",
        "1. a list",
        "A sentence. B. is inside.",
    ]


def test_fields_that_say_nothing_are_left_out() -> None:
    assert skip_aliases(None, "class", "counts", ClassGradients.counts, False, None)  # type: ignore[arg-type]
    assert skip_aliases(None, "class", "class_gradients", test_an_initial_begins_no_list, False, None) is None  # type: ignore[arg-type]
