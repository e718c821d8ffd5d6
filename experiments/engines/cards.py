"""A card an engine: what it does at each question, in words; and its reproductions with what they told."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .recipes import ENGINES
from .report import (
    FUNCTIONS,
    OTHER,
    QUESTIONS,
    SINGLE,
    WRONG,
    alike,
    cells,
    label,
    listed,
    order,
    shares,
    ulp_words,
)
from .reproduced import Reproduction, recorded, reproductions

__all__ = ["Cards", "Reproductions"]


class Cards:
    """The cards of a table's engines, folded, in the order of the softmax's picture.

    A card has a line a question and a column a function, in single precision where it is offered, and what
    the audit says of each wrong answer. Half precision is counted in a line.
    """

    def __init__(self, table: pd.DataFrame, function: str = "softmax") -> None:
        drawn = [engine for engine, _ in order(cells(table, function))]
        self.engines = list(dict.fromkeys([*drawn, *table["engine"]]))
        self.table = table

    def __repr__(self) -> str:
        return "\n".join(re.sub(r"<[^>]+>", "", _summary(*self._of(engine))) for engine in self.engines)

    def _of(self, engine: str) -> tuple[str, pd.DataFrame]:
        return engine, self.table[self.table["engine"] == engine]

    def _repr_html_(self) -> str:
        return f'<div class="engine-cards">{"".join(_card(*self._of(each)) for each in self.engines)}</div>'


def _default(own: pd.DataFrame) -> pd.DataFrame:
    """Return the findings of the mode that an engine has by default: the one stored first."""
    return own[own["variant"] == own["variant"].iloc[0]]


def _summary(engine: str, own: pd.DataFrame) -> str:
    counts = shares(_default(own))
    return (
        f"<strong>{html.escape(engine)}</strong> {html.escape(own['version'].iloc[0])}: right within 4 ulp "
        f"in {counts['right']} of {sum(counts.values())} cases, over it in {counts['over']}, wrong in "
        f"{counts['wrong']}"
    )


def _card(engine: str, own: pd.DataFrame) -> str:
    default = _default(own)
    parts = [f"<summary>{_summary(engine, own)}</summary>", f"<p>{html.escape(_circumstances(own))}</p>"]
    offered = [function for function in FUNCTIONS if function in set(default["function"])]
    # of an engine without single precision its own types are shown
    types = SINGLE if set(default["dtype"]) & set(SINGLE) else tuple(dict.fromkeys(default["dtype"]))
    found = {function: cells(default, function, types) for function in offered}
    parts += [_lines(found), _words(found)]
    return f'<details class="engine-card" id="engine-{_anchor(engine)}">{"".join(parts)}</details>'


def _anchor(engine: str) -> str:
    return re.sub(r"\W+", "-", engine)


def _circumstances(own: pd.DataFrame) -> str:
    default, said = _default(own), []
    said.append(f"Asked on {own['date'].iloc[0]}, on {own['processor'].iloc[0]}.")
    engine = ENGINES.get(str(own["engine"].iloc[0]))
    if engine is not None and engine.note:
        said.append(engine.note)
    for dtype in dict.fromkeys(default["dtype"]):
        each = shares(default[default["dtype"] == dtype])
        said.append(f"{dtype}: {each['right']} right, {each['over']} over 4 ulp, {each['wrong']} wrong.")
    other = [name for name in dict.fromkeys(own["variant"]) if name != default["variant"].iloc[0]]
    same = alike(cells(own, own["function"].iloc[0]))
    for variant in other:
        name, run_as = label(own["engine"].iloc[0], variant), variant or "it is without options"
        each = shares(own[own["variant"] == variant])
        if name in same:
            said.append(f"Also run as {run_as}: its {FUNCTIONS[own['function'].iloc[0]]} does the same.")
        else:
            said.append(
                f"Also run as {run_as}: {each['right']} right, {each['over']} over, {each['wrong']} wrong."
            )
    return " ".join(said)


def _lines(found: Mapping[str, pd.DataFrame]) -> str:
    verdicts = {
        function: {row.question: _verdict(row) for row in own.itertuples()} for function, own in found.items()
    }
    asked = [name for name in (*QUESTIONS, OTHER) if any(name in each for each in verdicts.values())]
    head = "".join(f'<th scope="col">{FUNCTIONS[function]}</th>' for function in verdicts)
    body = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f"<td>{each.get(name, '–')}</td>" for each in verdicts.values())
        + "</tr>"
        for name in asked
    )
    return f'<table class="dataframe"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'


def _verdict(row: Any) -> str:
    if row.severity == WRONG:
        return "<strong>wrong</strong>"
    return f"{ulp_words(row.max_ulp)} ulp" if row.severity else "right"


def _words(found: Mapping[str, pd.DataFrame]) -> str:
    """Say what is wrong, each once: two questions may have one answer."""
    said: dict[str, list[str]] = {}
    for function, own in found.items():
        for row in own[own["severity"] == WRONG].itertuples():
            said.setdefault(f"{FUNCTIONS[function]}, {row.dtype}: {row.problem}", []).append(
                str(row.question)
            )
    items = "".join(
        f"<li><strong>{listed(questions)}</strong>, {html.escape(words)}</li>"
        for words, questions in said.items()
    )
    return f"<ul>{items}</ul>" if items else "<p>Nothing is wrong.</p>"


class Reproductions:
    """The reproductions of a table's engines, each folded: the program as it stands, and what it told.

    Parameters
    ----------
    engines : sequence of str
        Only these are shown.
    """

    def __init__(self, engines: Sequence[str]) -> None:
        self.told = recorded()
        self.shown = [each for each in reproductions() if each.engine in engines and each.name in self.told]

    def __repr__(self) -> str:
        return "\n".join(f"{each.engine}, {each.question}: {each.words}" for each in self.shown)

    def _repr_html_(self) -> str:
        return f'<div class="engine-cards">{"".join(map(self._program, self.shown))}</div>'

    def _program(self, each: Reproduction) -> str:
        told = self.told[each.name]
        return (
            f'<details class="engine-card"><summary><strong>{html.escape(each.engine)}</strong>, '
            f"{html.escape(each.question)}: {html.escape(each.words)}</summary>"
            f'<pre class="engine-code">{html.escape(each.code.strip())}</pre>'
            f"<p>{html.escape(each.engine)} {html.escape(told['version'])} on "
            f"{html.escape(told['processor'])}, {told['date']}, {each.path.name}:</p>"
            f'<pre class="engine-code">{html.escape(told["output"])}</pre></details>'
        )
