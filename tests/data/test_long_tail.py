"""The long-tailed split: counts by the formula, disjoint parts, nested over rho, and bad input refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softmax_lab.data import long_tail, long_tail_counts


def labels_of(sizes: list[int], seed: int = 0) -> NDArray[np.int64]:
    """Return shuffled labels with these many rows a class."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


@given(n_max=st.integers(1, 10_000), rho=st.floats(1, 1000), num_classes=st.integers(1, 50))
def test_counts_follow_the_formula(n_max: int, rho: float, num_classes: int) -> None:
    counts = long_tail_counts(n_max, rho, num_classes)
    assert counts.shape == (num_classes,)
    assert counts[0] == n_max
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= 1
    for c, count in enumerate(counts.tolist()):
        exact = n_max * rho ** (-c / (num_classes - 1)) if num_classes > 1 else n_max
        assert abs(count - max(exact, 1)) <= 0.5 + 1e-9 * n_max


@pytest.mark.parametrize("rho", [1.0, 10.0, 100.0])
def test_the_rarest_class_has_n_max_over_rho(rho: float) -> None:
    assert long_tail_counts(5000, rho, 10)[-1] == 5000 / rho


split_inputs = {
    "sizes": st.lists(st.integers(6, 40), min_size=2, max_size=6),
    "rho": st.floats(1, 200),
    "seed": st.integers(0, 2**32 - 1),
    "test_per_class": st.integers(0, 5),
}


@given(**split_inputs)
def test_parts_are_disjoint_sorted_and_have_the_promised_counts(
    sizes: list[int], rho: float, seed: int, test_per_class: int
) -> None:
    labels = labels_of(sizes)
    split = long_tail(labels, rho, seed=seed, test_per_class=test_per_class)
    assert np.intersect1d(split.train, split.test).size == 0
    for part in (split.train, split.test):
        assert (np.diff(part) > 0).all()  # sorted, and none twice
    np.testing.assert_array_equal(np.bincount(labels[split.train], minlength=len(sizes)), split.counts)
    np.testing.assert_array_equal(
        np.bincount(labels[split.test], minlength=len(sizes)), np.full(len(sizes), test_per_class)
    )
    np.testing.assert_array_equal(
        split.counts, long_tail_counts(min(sizes) - test_per_class, rho, len(sizes))
    )


@given(**split_inputs, factor=st.floats(1, 50))
def test_a_larger_rho_takes_a_subset_and_the_same_test_rows(
    sizes: list[int], rho: float, seed: int, test_per_class: int, factor: float
) -> None:
    labels = labels_of(sizes)
    wide, narrow = (
        long_tail(labels, r, seed=seed, test_per_class=test_per_class) for r in (rho, rho * factor)
    )
    assert set(narrow.train.tolist()) <= set(wide.train.tolist())
    np.testing.assert_array_equal(narrow.test, wide.test)


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_order_says_which_class_is_frequent(seed: int, order: list[int]) -> None:
    split = long_tail(labels_of([30, 40, 50, 60]), 10, seed=seed, order=order)
    np.testing.assert_array_equal(split.counts[order], long_tail_counts(30, 10, 4))


def test_the_seed_fixes_the_rows() -> None:
    labels = labels_of([50, 50, 50])
    first, again, other = (long_tail(labels, 10, seed=seed, test_per_class=5) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.test, again.test)
    assert first.train.tolist() != other.train.tolist()
    assert first.test.tolist() != other.test.tolist()


def test_n_max_limits_the_most_frequent_class() -> None:
    assert long_tail(labels_of([50, 60, 70]), 4, n_max=16).counts.tolist() == [16, 8, 4]


def test_n_max_and_test_rows_may_use_up_the_smallest_class() -> None:
    split = long_tail(labels_of([10, 30]), 1, test_per_class=4, n_max=6)
    assert split.counts.tolist() == [6, 6]


def test_a_set_with_a_long_tail_gives_what_it_has() -> None:
    labels = labels_of([16, 9, 4])
    assert long_tail(labels, 4, n_max=16).counts.tolist() == [16, 8, 4]
    with pytest.raises(ValueError, match="got 16, for which class 1 gives 11 of 9"):
        long_tail(labels, 2, n_max=16)


def test_no_ratio_exceeds_n_max() -> None:
    counts = long_tail(labels_of([100, 100]), 200).counts
    assert counts.max() / counts.min() == 100


GOOD = labels_of([10, 10])


@pytest.mark.parametrize(
    ("labels", "keywords", "error", "words"),
    [
        (np.array([0.0, 1.0]), {}, ValueError, "dtype float64"),
        (np.zeros((2, 2), dtype=int), {}, ValueError, r"shape \(2, 2\)"),
        (np.empty(0, dtype=int), {}, ValueError, r"shape \(0,\)"),
        (np.array([0, -1]), {}, IndexError, "label -1"),
        (np.array([0, 2, 2]), {}, ValueError, "the smallest has 0"),
        (GOOD, {"rho": 0.5}, ValueError, "rho must be finite and >= 1; got 0.5"),
        (GOOD, {"rho": float("nan")}, ValueError, "rho"),
        (GOOD, {"rho": "10"}, TypeError, "rho"),
        (GOOD, {"test_per_class": -1}, ValueError, "test_per_class"),
        (GOOD, {"test_per_class": 10}, ValueError, "more than test_per_class=10 rows; the smallest has 10"),
        (GOOD, {"n_max": 0}, ValueError, r"\[1, 10\]"),
        (GOOD, {"n_max": 11}, ValueError, r"\[1, 10\].*got 11"),
        (GOOD, {"order": [0, 0]}, ValueError, "permutation of 0 ... 1"),
        (GOOD, {"order": [0]}, ValueError, "permutation of 0 ... 1"),
    ],
)
def test_bad_input_is_refused(
    labels: NDArray[Any], keywords: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        long_tail(labels, **{"rho": 10.0, **keywords})


@pytest.mark.parametrize(("n_max", "rho", "num_classes"), [(0, 10, 3), (10, 0.9, 3), (10, 10, 0)])
def test_counts_refuse_bad_input(n_max: int, rho: float, num_classes: int) -> None:
    with pytest.raises(ValueError, match=r"must be (finite and )?>= 1; got"):
        long_tail_counts(n_max, rho, num_classes)
