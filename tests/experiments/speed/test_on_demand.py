"""What is measured when asked."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import speed


def test_cost_is_measured_on_one_thread() -> None:
    before = sl.get_num_threads()
    sl.set_num_threads(3)
    try:
        found = speed.cost([(4, 3), (2, 100)], "softmax", budget=0.0)
        assert sl.get_num_threads() == 3
    finally:
        sl.set_num_threads(before)
    assert list(found.index) == [(4, 3), (2, 100)]
    assert (found > 0).all()
    assert np.isfinite(found).all()


def test_store_traffic_measures_three_ways() -> None:
    found = speed.store_traffic(1000, budget=0.0)
    assert list(found.index) == ["copied to another array", "negated to another array", "negated in place"]
    assert (found > 0).all()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            (0.30, 0.45, 0.30),
            "1.50 times .* as the count of bytes says, .* one that streams: the floor of a kernel is 1.5 "
            "copies, or 1 ",
        ),
        (
            (0.46, 0.45, 0.30),
            "with ordinary stores: the floor of a kernel is 1 copy, or 0.67 where it streams",
        ),
        (
            (0.75, 0.50, 0.14),
            "3.57 times as long .* bytes says 1.5, and the copy 1.50 and 5.36 times .* do not tell which "
            "stores the copy has",
        ),
        ((0.75, 0.45, 0.30), "do not tell"),  # a copy like neither
        ((0.37, 0.44, 0.32), "do not tell"),  # a copy like both
    ],
)
def test_stores_are_told_where_bytes_explain_the_times(times: tuple[float, ...], words: str) -> None:
    assert re.search(words, speed.store_words(pd.Series(times)))
