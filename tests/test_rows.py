"""Rows: views where memory allows, blocks that cover each once, and the shifted exponential."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from softmax_lab._rows import RowWriter, as_rows, blocks, detached, read_only, shifted_exp, take

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Infinities are meant here, as in the functions that call these."""
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_is_seen_as_rows(axis: int) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    rows = as_rows(array, axis)
    np.testing.assert_array_equal(rows, np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]))
    assert np.shares_memory(rows, array) == (axis != 1)  # the middle axis alone takes a copy


def test_rows_of_a_matrix_are_the_matrix_itself() -> None:
    array = np.zeros((3, 4))
    assert as_rows(array, 1) is array
    assert np.shares_memory(as_rows(array, 0), array)


def test_a_read_only_view_leaves_the_array_writeable() -> None:
    array = np.zeros(3)
    view = read_only(array)
    assert np.shares_memory(view, array)
    assert (view.flags.writeable, array.flags.writeable) == (False, True)


@pytest.mark.parametrize(("rows", "num_classes"), [(0, 5), (1, 5), (1000, 10), (100_000, 10), (3, 10**6)])
def test_blocks_cover_every_row_once(rows: int, num_classes: int) -> None:
    found = list(blocks(rows, num_classes))
    assert [row for block in found for row in range(rows)[block]] == list(range(rows))
    assert all((block.stop - block.start) * num_classes <= max(1 << 16, num_classes) for block in found)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_finished_rows_are_written_to_any_axis_and_rounded(axis: int, dtype: type) -> None:
    out: NDArray[Any] = np.zeros((2, 3, 4), dtype)
    values = np.random.default_rng(0).normal(size=(24 // out.shape[axis], out.shape[axis]))
    writer = RowWriter(out, axis)
    for block in blocks(*values.shape):
        writer.write(block, values[block])
    writer.close()
    np.testing.assert_array_equal(as_rows(out, axis), values.astype(dtype))


def test_what_would_be_overwritten_while_it_is_read_is_copied() -> None:
    memory = np.arange(8.0)
    source, shifted, apart = memory[:6], memory[2:], np.zeros(6)
    assert detached(source, None) is source
    assert detached(source, apart) is source
    assert detached(source, source) is source
    copied = detached(source, shifted)
    assert not np.shares_memory(copied, memory)
    np.testing.assert_array_equal(copied, source)


def test_the_largest_entry_stands_apart() -> None:
    shifted = shifted_exp(np.array([[40.0, 0.0, -INF], [0.0, 0.0, 0.0]]))
    assert shifted.top.tolist() == [0, 0]
    assert shifted.e[0].tolist() == [1.0, np.exp(-40.0), 0.0]
    assert shifted.rest.tolist() == [np.exp(-40.0), 2.0]
    np.testing.assert_array_equal(shifted.log_normaliser, np.log1p(shifted.rest))
    np.testing.assert_array_equal(take(shifted.log_probs, shifted.top), -shifted.log_normaliser)


def test_the_rounding_of_the_shift_is_carried() -> None:
    shifted = shifted_exp(np.array([[1.0, 2.0**-60]]))
    assert shifted.d[0].tolist() == [0.0, -1.0]
    assert shifted.d_low[0].tolist() == [0.0, 2.0**-60]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_sum_of_the_others_loses_no_digits(index: int) -> None:
    shifted = shifted_exp(np.array([[40.0, 0.0, 1.0]]))
    p = np.exp(np.array([0.0, -40.0, -39.0]))
    expected = np.delete(p, index).sum() / p.sum()
    assert shifted.others(np.array([index]))[0] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("row", [[0.0, NAN], [0.0, INF], [-INF, -INF]])
def test_a_row_without_a_softmax_is_nan_and_leaves_the_others(row: Any) -> None:
    probs = shifted_exp(np.array([row, [0.0, 0.0]])).probs
    assert np.isnan(probs[0]).all()
    assert probs[1].tolist() == [0.5, 0.5]


def test_masked_entries_take_no_part_whatever_they_hold() -> None:
    mask = np.array([[True, False, True]])
    shifted = shifted_exp(np.array([[0.0, NAN, 0.0]]), mask=mask)
    assert shifted.probs[0].tolist() == [0.5, 0.0, 0.5]


def test_the_temperature_divides_after_the_shift() -> None:
    shifted = shifted_exp(np.array([[1e300, 0.5e300]]), temperature=1e-10)
    assert shifted.probs[0].tolist() == [1.0, 0.0]
