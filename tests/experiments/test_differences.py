"""The statistics say what they promise, on simulated differences with a known answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from experiments.differences import CHANCE, Difference, difference, differences, holm

WORLDS = 2000
SETTINGS = 14


def shares(seeds: int, effect: float = 0.0, *, settings: int = SETTINGS) -> Iterator[NDArray[np.float64]]:
    """Yield paired differences (settings, seeds) in points, as coarse as accuracies on 740 rows are."""
    rng = np.random.default_rng(seeds)
    for _ in range(WORLDS):
        drawn = rng.normal(effect, 1.0, (settings, seeds))
        yield np.rint(drawn * 7.4) / 7.4


@pytest.mark.parametrize("seeds", [5, 20])
def test_the_interval_covers_as_often_as_it_says(seeds: int) -> None:
    covered = []
    for world in shares(seeds, 0.8, settings=1):
        found = difference(world[0])
        covered.append(found.low <= 0.8 <= found.high)
    assert abs(np.mean(covered) - 0.95) < 0.015  # three standard errors of 2,000 worlds


@pytest.mark.parametrize("seeds", [5, 20])
def test_where_nothing_is_there_something_is_called_clear_in_one_world_of_twenty(seeds: int) -> None:
    found = [differences(dict(enumerate(world))) for world in list(shares(seeds))[:600]]
    any_clear = np.mean([(table["clear"] != 0).any() for table in found])
    assert CHANCE - 0.03 < any_clear < CHANCE + 0.03
    # without a correction it would be every other world: 1 - 0.95 ** 14
    alone = np.mean([(table["p"] < CHANCE).any() for table in found])
    assert abs(alone - (1 - 0.95**SETTINGS)) < 0.08


def test_effects_that_are_there_are_found() -> None:
    for world in list(shares(20))[:100]:
        planted = {setting: values + 2.0 * (setting in (3, 7)) for setting, values in enumerate(world)}
        planted[9] = planted[9] - 2.0
        clear = differences(planted)["clear"]
        assert clear[[3, 7, 9]].tolist() == [1, 1, -1]
        assert (clear.drop([3, 7, 9]) != 0).sum() <= 1


def test_interval_and_p_are_scipys() -> None:
    values = np.random.default_rng(0).normal(size=12)
    found, expected = difference(values, level=0.9), stats.ttest_1samp(values, 0.0)
    interval = expected.confidence_interval(0.9)
    np.testing.assert_allclose(
        found, [values.mean(), interval.low, interval.high, expected.pvalue, 12], rtol=1e-12
    )


def test_holm_by_hand() -> None:
    # 4 x 0.01; 3 x 0.013 is less than that, and may not be; 2 x 0.03; 1 x 0.04 may not be less
    np.testing.assert_allclose(holm([0.03, 0.01, 0.04, 0.013]), [0.06, 0.04, 0.06, 0.04])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_without_spread_and_with_one_seed() -> None:
    assert difference([0.0, 0.0, 0.0]).p == 1.0
    assert difference([0.1 + 0.2, 0.3]).p == 0.0
    assert difference([5.0]) == (5.0, -np.inf, np.inf, 1.0, 1)
    assert differences({"one": [5.0], "same": [0.0, 0.0]})["clear"].tolist() == [0, 0]
    assert differences({}).empty


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, float("nan")]])
def test_what_is_no_row_of_numbers_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values must be a row of numbers"):
        difference(values)


def test_an_interval_says_on_which_side_it_lies() -> None:
    found = difference([-1.0, -2.0, -3.0])
    assert found.mean == -2.0
    assert found.high == pytest.approx(-2.0 + 4.302652729911275 / 3**0.5)
    assert not found.clear  # three pairs leave zero in it
    found = difference([-1.0, -2.0, -3.0] * 5)
    assert found.below
    assert found.clear
    assert not found.above
    assert difference([1.0, 2.0, 3.0] * 5).above
    assert found.within(3.0)
    assert not found.within(2.0)


def test_one_pair_says_nothing() -> None:
    found = difference([-5.0])
    assert not any([found.below, found.above, found.clear, found.within(100.0)])
    assert str(found) == "−5.0 (one pair)"


def test_words() -> None:
    assert str(Difference(-0.44, -0.61, 0.02, 0.5, 20)) == "−0.4 (−0.6 to 0.0)"
    assert str(Difference(0.44, -0.02, 0.61, 0.5, 20)) == "+0.4 (0.0 to +0.6)"


@pytest.mark.parametrize("together", [1, 6])
def test_of_differences_without_effect_one_in_twenty_is_clear(together: int) -> None:
    """Whatever the number that is judged together: it is the share of *sentences* with an error."""
    rng = np.random.default_rng(0)
    wrong = [
        any(difference(pairs, together=together).clear for pairs in rng.normal(size=(together, 20)))
        for _ in range(600)
    ]
    assert 0.03 < np.mean(wrong) < 0.07


def test_an_effect_of_one_deviation_is_found_with_twenty_pairs_and_hardly_with_three() -> None:
    rng = np.random.default_rng(1)
    found = {
        pairs: np.mean([difference(rng.normal(1.0, 1.0, pairs)).above for _ in range(200)])
        for pairs in (3, 20)
    }
    assert found[20] > 0.95
    assert found[3] < 0.4
