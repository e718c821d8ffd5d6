"""Sentences of a chapter that depend on the values in its first cell, and whether they hold.

The prose of a chapter is written for the values that are stored with it. Whoever reruns the chapter with
others sees at each place which of its sentences still hold. For the stored values all of them must:
``tools/build_book.py`` refuses a chapter in which one does not.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Sentences", "listed"]

#: the words for each outcome; ``tools/build_book.py`` looks for the second and the third
WORDS = {True: "holds", False: "does not hold", None: "is about other values"}


def listed(words: Iterable[str], nobody: str = "none of these") -> str:
    """Join words as a sentence does.

    Examples
    --------
    >>> listed(["mnn", "ncnn", "tract"]), listed(["mnn"]), listed([])
    ('mnn, ncnn and tract', 'mnn', 'none of these')
    """
    *first, last = list(words) or [nobody]
    return f"{', '.join(first)} and {last}" if first else last


class Sentences:
    """Sentences, each with a condition: shown in a cell, they say which of them hold for these values.

    A condition is a truth value, or a function without arguments that returns one. Of a function that asks
    for something that is not there (a class count, a temperature, a loss that was not computed) nothing is
    concluded: the sentence is about other values.

    Examples
    --------
    >>> ran = {2: 0.42}
    >>> Sentences({"Two is small.": ran[2] < 1, "So is ten.": lambda: ran[10] < 1})
    holds: Two is small.
    is about other values: So is ten.

    """

    def __init__(self, conditions: Mapping[str, bool | Callable[[], Any] | Any]) -> None:
        self.outcomes = {sentence: _outcome(condition) for sentence, condition in conditions.items()}

    def __repr__(self) -> str:
        return "\n".join(f"{WORDS[outcome]}: {sentence}" for sentence, outcome in self.outcomes.items())

    def _repr_html_(self) -> str:
        """Return a box that is folded as long as all sentences hold."""
        every = all(self.outcomes.values())
        count = sum(bool(outcome) for outcome in self.outcomes.values())
        how_many = "" if every else f"{count} of "
        title = f"For these values {how_many}{len(self.outcomes)} sentences here hold"
        if len(self.outcomes) == 1:
            title = f"For these values the sentence here {WORDS[next(iter(self.outcomes.values()))]}"
        items = "".join(
            f'<li class="{"holds" if outcome else "fails"}"><strong>{WORDS[outcome]}</strong>: '
            f"{html.escape(sentence)}</li>"
            for sentence, outcome in self.outcomes.items()
        )
        opened = "" if every else " open"
        return (
            f'<details class="for-these-values"{opened}><summary>{title}</summary><ul>{items}</ul></details>'
        )


def _outcome(condition: Any) -> bool | None:
    """Return whether a condition is met, or None if it asks for what is not there."""
    if not callable(condition):
        return bool(condition)
    try:
        return bool(condition())
    except (KeyError, IndexError):
        return None
