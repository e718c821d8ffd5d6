"""What the formula needs is measured."""

from __future__ import annotations

from experiments import large_vocabulary as lv


def test_what_the_formula_needs_is_measured(alone: None) -> None:
    assert min(lv.measure_rates(classes=100, rows=4, width=4, repeats=1)) > 0
    (step,) = lv.time_steps([51], rows=4, width=4, chunk_bytes=1, repeats=1)
    assert step.problem == lv.Problem(51, 1, 4, 4, 1)
    times = lv.time_all_reduce([64, 4096], repeats=1)
    assert [time[:2] for time in times] == [(1, 64), (1, 4096)]
    assert all(row[-1] > 0 for row in (step, *times))
