"""What the rule does to decisions."""

from __future__ import annotations

import softmax_lab as sl
from experiments.long_tail import report


def test_neutral_smoothing_moves_no_decision() -> None:
    moved = report.moved_decisions(sl.data.long_tail_counts(100, 100, 10), 0.1, rows=2000)
    assert moved["neutral"] == moved["neutral, eps per class"] == 0
    assert moved["uniform"] > 0
