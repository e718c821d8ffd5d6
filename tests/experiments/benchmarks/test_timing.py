"""A call is warmed up, and timed often enough."""

from __future__ import annotations

import pytest

from experiments.benchmarks import _timing


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_timing, "REST", 0.0)


def test_without_a_budget_there_are_as_many_times_as_asked_for() -> None:
    calls: list[int] = []
    times = _timing.measure(lambda: calls.append(1), budget=0.0, repeats=7)
    assert (len(times), len(calls)) == (7, 7 + 2)
    assert min(times) > 0


def test_a_budget_is_spent_up_to_a_limit() -> None:
    assert len(_timing.measure(lambda: None, budget=60.0)) == _timing.MOST


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = _timing.in_turn(lambda: order.append("ours"), lambda: order.append("peer"), warm_ups=2, repeats=3)
    assert order == ["ours", "peer"] * (2 + 3)
    assert [len(part) for part in times] == [3, 3]
    order.clear()
    three = _timing.in_turn(*(lambda name=name: order.append(name) for name in "abc"), warm_ups=0, repeats=2)
    assert (order, len(three)) == (list("abcabc"), 3)
    many = _timing.in_turn(lambda: None, lambda: None, warm_ups=0, repeats=3, budget=60.0, most=20)
    assert [len(part) for part in many] == [20, 20]


def test_quantiles_by_hand() -> None:
    times = [5.0, 1.0, 2.0, 3.0, 4.0, 100.0]
    assert _timing.quantiles(times) == {"ms": 3.5, "ms_20": 2.0, "ms_80": 5.0, "repeats": 6}
