"""Errors in ulp against the oracle on the hard rows, for every function and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import exact
from softmax_lab.audit.cases import HARD_ROWS, LONG_ROW, RowCase

from .ulps import BARS, Record, dtype_of, label_errors, row_errors

pytestmark = pytest.mark.usefixtures("each_path")

DTYPES = tuple(BARS)
ROW_FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax": (sl.softmax, exact.softmax),
    "log_softmax": (sl.log_softmax, exact.log_softmax),
    "logsumexp": (sl.logsumexp, lambda row: [exact.logsumexp(row)]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", HARD_ROWS, ids=lambda case: case.name)
@pytest.mark.parametrize("name", ROW_FUNCTIONS)
def test_rows_within_the_bar(name: str, case: RowCase, dtype: str, record_ulp: Record) -> None:
    error = row_errors(case, dtype_of(dtype), *ROW_FUNCTIONS[name])
    record_ulp(name, dtype, case.name, error)
    assert error <= BARS[dtype], case.reason


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case", [c for c in HARD_ROWS if c.name != "many classes"], ids=lambda case: case.name
)
def test_plain_loss_within_the_bar(case: RowCase, dtype: str, record_ulp: Record) -> None:
    value, gradient = label_errors(case, dtype_of(dtype))
    record_ulp("cross_entropy", dtype, case.name, value)
    record_ulp("cross_entropy_grad", dtype, case.name, gradient)
    assert value <= BARS["float32" if dtype != "float64" else dtype], case.reason
    assert gradient <= BARS[dtype], case.reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hundred_thousand_classes(dtype: str, record_ulp: Record) -> None:
    row = LONG_ROW.make(dtype)[0]
    values = exact.softmax(row.astype(np.float64))
    error = float(exact.ulp_error(sl.softmax(row), values).max())
    record_ulp("softmax", dtype, LONG_ROW.name, error)
    assert error <= BARS[dtype]
    loss, gradient = sl.cross_entropy_grad(row, 7)
    with mpmath.workdps(exact.DIGITS):
        values[7] -= 1
        log_p = exact.logsumexp(row) - float(row[7])
    error = float(exact.ulp_error(gradient, values).max())
    record_ulp("cross_entropy_grad", dtype, LONG_ROW.name, error)
    assert error <= BARS[dtype]
    error = float(exact.ulp_error(loss, [log_p]).max())
    record_ulp("cross_entropy", dtype, LONG_ROW.name, error)
    assert error <= BARS[dtype]


def test_logits_whose_shift_costs_others_a_hundred_ulp() -> None:
    """The shift's rounding, dropped, is seen.

    The same row through a plain float64 formula is over 20 ulp off.
    """
    row = np.array([100.3, -0.3, 97.1, -5.7, -400.2])
    naive = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    assert exact.ulp_error(naive, exact.softmax(row)).max() > 20
    assert exact.ulp_error(sl.softmax(row), exact.softmax(row)).max() <= 2


def test_the_oracle_would_see_a_wrong_answer() -> None:
    row = np.array([1.0, 2.0])
    off_by_one = np.nextafter(sl.softmax(row), 1)
    assert exact.ulp_error(off_by_one, exact.softmax(row)).max() > 0.9
