"""Cards and reproductions are sound HTML that says what the rows say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

from experiments.engines import cards, report
from experiments.engines.recipes import ENGINES
from experiments.engines.reproduced import recorded
from tests.experiments.engines.test_report import softmax, table_of


class Balance(HTMLParser):
    """Gathers tags that are closed in another order than they are opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def balanced(text: str) -> bool:
    parser = Balance()
    parser.feed(text)
    return not parser.faults and not parser.open


def test_a_card_says_what_the_rows_say() -> None:
    table = table_of(
        softmax("a.b", "wide", 53.0, False, "53 ulp off"),
        softmax("a.b", "NaN row", np.inf, True, "returns 0 < NaN"),
        softmax("a.b", "moderate"),
        ("a.b", "axis 0", "softmax", "float32", "moderate", 0.5, False, ""),
    )
    shown = cards.Cards(table)
    assert repr(shown) == "a.b 1: right within 4 ulp in 1 of 3 cases, over it in 1, wrong in 1"
    text = shown._repr_html_()
    assert balanced(text)
    assert 'id="engine-a-b"' in text
    assert "<td>53 ulp</td>" in text
    assert "returns 0 &lt; NaN" in text
    assert "Also run as axis 0: 1 right, 0 over, 0 wrong." in text


def test_a_card_says_how_an_engine_was_asked_where_its_users_run_it_otherwise() -> None:
    text = cards.Cards(
        table_of(softmax("liger-kernel", "moderate"), softmax("mnn", "moderate"))
    )._repr_html_()
    assert text.count("Triton&#x27;s interpreter runs them here") == 1
    noted = {name for name, engine in ENGINES.items() if engine.note}
    assert {"cut-cross-entropy", "liger-kernel"} <= noted
    assert all(engine.note.endswith(".") for engine in ENGINES.values() if engine.note)


def test_every_stored_engine_has_one_card() -> None:
    table = report.rows()
    text = cards.Cards(table)._repr_html_()
    assert balanced(text)
    names = re.findall(r'id="engine-([^"]+)"', text)
    assert len(names) == len(set(names)) == table["engine"].nunique()
    assert len(text) < 12_000 * len(names)


def test_only_programs_of_the_engines_are_shown_with_what_they_told() -> None:
    told = recorded()
    engines = sorted({row["engine"] for row in told.values()})
    shown = cards.Reproductions(engines[:1])
    assert {each.engine for each in shown.shown} == set(engines[:1])
    assert balanced(cards.Reproductions(engines)._repr_html_())
    assert cards.Reproductions([]).shown == []
