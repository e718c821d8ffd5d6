"""The text follows its law."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import large_vocabulary as lv


def test_tokens_follow_their_predecessor_half_of_the_time() -> None:
    tokens = lv.text(20_000, 50, seed=1)
    pairs = np.zeros((50, 50))
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    often = pairs.sum(1) > 200
    share = pairs[often].max(1) / pairs[often].sum(1)
    assert np.all((share > 0.4) & (share < 0.75))
    np.testing.assert_array_equal(tokens, lv.text(20_000, 50, seed=1))


def test_zipf_is_a_law_with_a_tail() -> None:
    p = lv.zipf(1000)
    assert p.sum() == pytest.approx(1)
    assert p[0] == pytest.approx(10 * p[9])


def test_floor_is_the_entropy_of_the_law() -> None:
    p, k = lv.zipf(7), 7
    rows = [0.5 * np.eye(k)[s] + 0.5 * p for s in range(k)]
    assert lv.floor(k) == pytest.approx(np.mean([-(row * np.log(row)).sum() for row in rows]))
