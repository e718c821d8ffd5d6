"""Reliability bins on rows that can be counted by hand, and the two forecasts whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import calibration


def test_bins_are_closed_on_the_right() -> None:
    table = calibration.reliability([0.0, 0.5, 0.5001, 1.0], [True, False, True, True], bins=2)
    assert table.count.tolist() == [2, 2]
    assert table.confidence.tolist() == pytest.approx([0.25, 0.75005])
    assert table.accuracy.tolist() == [0.5, 1.0]


def test_an_empty_bin_is_nan_and_does_not_count() -> None:
    table = calibration.reliability([0.9, 0.8], [True, False], bins=3)
    assert np.isnan(table.accuracy).tolist() == [True, True, False]
    assert table.ece() == pytest.approx(0.85 - 0.5)


def test_ece_by_hand() -> None:
    """One row of four is off by 0.3 in the low bin; three in the high bin are off by |2/3 - 0.8|."""
    ece = calibration.expected_calibration_error([0.3, 0.7, 0.8, 0.9], [False, True, True, False], bins=2)
    assert ece == pytest.approx(0.25 * 0.3 + 0.75 * (0.8 - 2 / 3))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_ece_lies_between_the_overall_gap_and_one(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    table = calibration.reliability(confidence, correct, bins=bins)
    assert table.count.sum() == len(rows)
    assert abs(confidence.mean() - correct.mean()) - 1e-12 <= table.ece() <= 1


def test_a_calibrated_forecast_is_told_from_a_boast() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, size=2000)
    correct = rng.random(2000) < confidence
    floor = calibration.calibrated_ece(confidence, draws=200)
    assert floor.min() > 0
    assert calibration.expected_calibration_error(confidence, correct) <= floor.max()
    assert calibration.expected_calibration_error(np.sqrt(confidence), correct) > 2 * floor.max()


def test_calibrated_ece_repeats_and_depends_on_the_seed() -> None:
    confidence = np.linspace(0.1, 0.9, 50)
    first, again, other = (calibration.calibrated_ece(confidence, draws=5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_top_label_of_rows_that_do_not_sum_to_one() -> None:
    confidence, correct = calibration.top_label([[0.9, 0.8], [0.1, 0.2]], [1, 1])
    assert confidence.tolist() == [0.9, 0.2]
    assert correct.tolist() == [False, True]


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "error", "words"),
    [
        ([], np.array([], bool), 5, ValueError, "same shape"),
        ([0.5], [True, False], 5, ValueError, "same shape"),
        ([1.5], [True], 5, ValueError, "1.5"),
        ([np.nan], [True], 5, ValueError, "nan"),
        ([0.5], [1], 5, TypeError, "bool"),
        ([0.5], [True], 0, ValueError, "at least 1"),
    ],
)
def test_bad_input(
    confidence: list[float], correct: list[bool], bins: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        calibration.reliability(confidence, correct, bins=bins)


def test_top_label_wants_rows_and_labels_that_match() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\)"):
        calibration.top_label(np.ones((2, 3)), [0, 1, 2])
