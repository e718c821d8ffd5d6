"""Engines are asked the audit's cases, less those that a line of text cannot put to them."""

from __future__ import annotations

from experiments.engines.cases import ASKED, LEFT_OUT
from softmax_lab.audit import CHECKS


def test_the_cases_are_the_audits_less_what_is_left_out() -> None:
    names = [check.name for check in ASKED]
    assert names == [check.name for check in CHECKS if check.name not in LEFT_OUT]
    assert set(LEFT_OUT) <= {check.name for check in CHECKS}
    assert {"widths", "a hundred thousand classes", "+inf beside -inf", "after NaN"} <= set(names)
