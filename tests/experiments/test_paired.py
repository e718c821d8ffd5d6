"""Intervals of paired differences: simulated pairs with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import paired


def test_an_interval_says_on_which_side_it_lies() -> None:
    found = paired.difference([-1.0, -2.0, -3.0])
    assert found.mean == -2.0
    assert found.high == pytest.approx(-2.0 + 4.302652729911275 / 3**0.5)
    assert not found.clear  # three pairs leave zero in it
    found = paired.difference([-1.0, -2.0, -3.0] * 5)
    assert found.below
    assert found.clear
    assert not found.above
    assert paired.difference([1.0, 2.0, 3.0] * 5).above
    assert found.within(3.0)
    assert not found.within(2.0)


def test_one_pair_says_nothing() -> None:
    found = paired.difference([-5.0])
    assert not any([found.below, found.above, found.clear, found.within(100.0)])
    assert str(found) == "−5.0 (one pair)"


def test_words() -> None:
    assert str(paired.Difference(-0.44, -0.61, 0.02)) == "−0.4 (−0.6 to 0.0)"
    assert str(paired.Difference(0.44, -0.02, 0.61)) == "+0.4 (0.0 to +0.6)"


@pytest.mark.parametrize("together", [1, 6])
def test_of_differences_without_effect_one_in_twenty_is_clear(together: int) -> None:
    """Whatever the number that is judged together: it is the share of *sentences* with an error."""
    rng = np.random.default_rng(0)
    wrong = [
        any(paired.difference(pairs, together=together).clear for pairs in rng.normal(size=(together, 20)))
        for _ in range(600)
    ]
    assert 0.03 < np.mean(wrong) < 0.07


def test_an_effect_of_one_deviation_is_found_with_twenty_pairs_and_hardly_with_three() -> None:
    rng = np.random.default_rng(1)
    found = {
        pairs: np.mean([paired.difference(rng.normal(1.0, 1.0, pairs)).above for _ in range(200)])
        for pairs in (3, 20)
    }
    assert found[20] > 0.95
    assert found[3] < 0.4
