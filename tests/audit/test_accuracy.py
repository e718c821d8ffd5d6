"""The table of worst errors names every function of the package, within the bars of the design."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the table is made by pandas")

from softmax_lab.audit import HARD_ROWS, accuracy, worst_errors

from ..ulps import BARS

FUNCTIONS = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "cross_entropy_grad, soft",
    "softmax_jacobian",
    "softmax_jacobian, from logits",
    "softmax_jvp",
    "softmax_spectrum",
    "softmax_jacobian_norm",
    "cross_entropy_hvp",
    "cross_entropy",
    "cross_entropy_grad",
]


@pytest.fixture(scope="module")
def table() -> Any:
    return worst_errors(["float32"])


def test_every_function_is_there_with_the_case_that_has_its_worst_error(table: Any) -> None:
    assert list(table.index) == FUNCTIONS
    assert table.index.name == "function"
    assert list(table.columns) == [("float32", "ulp"), ("float32", "case")]
    assert set(table["float32", "case"]) <= {case.name for case in HARD_ROWS}
    assert table["float32", "ulp"].max() <= BARS["float32"]
    assert table["float32", "ulp"].min() > 0  # a rounding at least


def test_a_wrong_function_would_be_seen_with_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def errors(rows: Any) -> Iterator[tuple[str, Any]]:
        yield "softmax", np.array([0.25, 9.0 if rows.shape[1] == 2 else 0.5])

    monkeypatch.setattr(accuracy, "_errors", errors)
    found = worst_errors(["float64"])
    assert found["float64", "ulp"].tolist() == [9.0]
    case = next(case for case in HARD_ROWS if case.name == found["float64", "case"].iloc[0])
    assert case.make("float64").shape[1] == 2
