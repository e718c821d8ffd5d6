"""The cases are data: named once, fit for their type, with an exact answer, and labelled at every end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from softmax_lab import exact
from softmax_lab._ulp import float_format
from softmax_lab.audit.cases import (
    FAINT,
    FAINT_SCALE,
    FAR,
    GOOD,
    HARD_ROWS,
    LONG_ROW,
    SURE,
    TILE,
    TILES,
    WIDTHS,
    RowCase,
    labelled,
)

from ..ulps import dtype_of

ALL = (*HARD_ROWS, LONG_ROW, TILE, GOOD, SURE, FAR, FAINT, *WIDTHS)
DTYPES = ("float16", "bfloat16", "float32", "float64")


def named(name: str, dtype: str) -> Any:
    """Return the rows of a case in float64, as they are in a type."""
    case = next(case for case in HARD_ROWS if case.name == name)
    return case.make(dtype_of(dtype)).astype(np.float64)


def test_every_case_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({case.name for case in ALL}) == len(ALL)
    assert all(len(case.reason) > 10 for case in ALL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_rows_are_of_their_type_and_have_an_exact_answer(case: RowCase, dtype: str) -> None:
    rows = case.make(dtype_of(dtype))
    assert rows.dtype == dtype_of(dtype)
    assert rows.flags.c_contiguous
    wide = rows.astype(np.float64)
    assert not np.isnan(wide).any()
    assert np.isfinite(wide.max(axis=1)).all()  # +inf nowhere, and something above -inf
    np.testing.assert_array_equal(case.make(dtype_of(dtype)), rows)  # no chance in it


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_are_those_of_the_type(dtype: str) -> None:
    form = float_format(dtype_of(dtype))
    assert np.abs(named("huge", dtype)).max() == form.largest
    assert named("tiny", dtype)[0, 0] == form.smallest
    tops = named("nearly tied", dtype)[0]
    assert (np.diff(tops) > 0).all()
    assert tops[1] - tops[0] == form.eps
    p = np.exp(named("underflow", dtype)[:, 1])
    assert (p[:2] > form.smallest).all()
    assert (p[-2:] < form.smallest).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sure_rows_are_sure_in_their_type_and_have_a_gradient_in_it(dtype: str) -> None:
    form = float_format(dtype_of(dtype))
    for row in SURE.make(dtype_of(dtype)).astype(np.float64):
        own = -float(exact.cross_entropy_grad(row, 0)[0])
        assert form.smallest <= own <= form.eps / 4  # 1 - p_y: less rounds p_y to 1, half way to even


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_of_far_rows_underflows_in_every_type(dtype: str) -> None:
    for row in FAR.make(dtype_of(dtype)).astype(np.float64):
        assert (
            -np.inf
            < float(exact.log_loss(row, 0).value)
            < np.log(np.finfo(np.float64).smallest_subnormal) - 1
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_faint_rows_are_below_the_smallest_normal_number_until_they_are_scaled(dtype: str) -> None:
    form = float_format(dtype_of(dtype))
    for row in FAINT.make(dtype_of(dtype)).astype(np.float64):
        gradient = [float(entry) for entry in exact.cross_entropy_grad(row, 0)]
        assert abs(gradient[0]) > 0.5  # nothing cancels at the label
        for entry in gradient[2:]:
            assert entry < form.smallest < entry * FAINT_SCALE


def test_widths_have_the_likeliest_class_last_and_an_impossible_one() -> None:
    assert [case.make("float32").shape[1] for case in WIDTHS] == [7, 8, 9, 31, 33]
    for case in WIDTHS:
        rows = case.make("float16").astype(np.float64)
        assert rows[0].argmax() == rows.shape[1] - 1
        assert rows[1, -1] == -np.inf


def test_good_rows_are_quarters_and_tiles_a_power_of_two() -> None:
    """The shift of quarters is exact, and so is a division by the number of tiles."""
    rows = GOOD.make("float64")
    np.testing.assert_array_equal(4 * rows, np.rint(4 * rows))
    for dtype in DTYPES:
        np.testing.assert_array_equal(GOOD.make(dtype_of(dtype)).astype(np.float64), rows)
    assert np.frexp(TILES)[0] == 0.5
    assert 900_000 < TILES * TILE.make("float32").shape[1] < 1_000_000


def test_labels_stand_at_both_ends_and_at_the_extremes() -> None:
    rows, labels = labelled(np.array([[1.0, 9.0, -5.0, 0.0], [3.0, 1.0, 1.0, 0.5]]))
    pairs = [(row[1], label) for row, label in zip(rows.tolist(), labels.tolist(), strict=True)]
    assert pairs == [(9.0, 0), (9.0, 1), (9.0, 2), (9.0, 3), (1.0, 0), (1.0, 3)]  # each label once a row
