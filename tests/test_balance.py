"""Per-class gradient statistics against a loop that forms every gradient, and against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab.balance import class_gradients

Array = NDArray[np.float64]


def draw_rows(seed: int, rows: int, classes: int, width: int) -> tuple[Array, NDArray[np.int64], Array]:
    """Return the per-row gradients of random logits, their labels, and features."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    _, gradient = sl.cross_entropy_grad(3 * rng.normal(size=(rows, classes)), labels, reduction="none")
    return gradient, labels, rng.normal(size=(rows, width))


def brute_force(per_row: list[Array]) -> tuple[float, float, float]:
    """Return the norms of the sum and of the mean, and the mean norm, of arrays of any one shape."""
    total = sum(per_row, start=np.zeros_like(per_row[0]))
    return float(np.linalg.norm(total)), float(np.linalg.norm(total / len(per_row))), float(np.mean([np.linalg.norm(g) for g in per_row]))


sizes = {"seed": st.integers(0, 2**32 - 1), "rows": st.integers(1, 30), "classes": st.integers(2, 6), "width": st.integers(1, 4)}


@given(**sizes)
def test_norms_match_a_loop_that_forms_every_gradient(seed: int, rows: int, classes: int, width: int) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    by_logit, by_weight = class_gradients(g, y), class_gradients(g, y, h)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        for stats, per_row in ((by_logit, [g[i] for i in members]), (by_weight, [np.outer(g[i], h[i]) for i in members])):
            computed = stats.sum_norm[c], stats.mean_norm[c], stats.sample_norm[c]
            np.testing.assert_allclose(computed, brute_force(per_row), rtol=1e-12, atol=1e-14)


@given(**sizes)
def test_masses_match_a_loop_and_their_difference_is_the_bias_gradient(seed: int, rows: int, classes: int, width: int) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    stats = class_gradients(g, y, h)
    for k in range(classes):
        np.testing.assert_allclose(stats.positive_mass[k], sum(-g[i, k] for i in range(rows) if y[i] == k), rtol=1e-12, atol=0)
        np.testing.assert_allclose(stats.negative_mass[k], sum(g[i, k] for i in range(rows) if y[i] != k), rtol=1e-12, atol=0)
    np.testing.assert_allclose(stats.negative_mass - stats.positive_mass, g.sum(axis=0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(stats.positive_mass.sum(), stats.negative_mass.sum(), rtol=1e-12)  # every row's gradient sums to zero


@given(**sizes)
def test_the_mean_is_never_longer_than_the_average_row(seed: int, rows: int, classes: int, width: int) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    for features in (None, h):
        stats = class_gradients(g, y, features)
        seen = stats.counts > 0
        assert (stats.mean_norm[seen] <= stats.sample_norm[seen] * (1 + 1e-12)).all()


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 30))
def test_the_order_of_the_rows_does_not_matter(seed: int, rows: int) -> None:
    g, y, h = draw_rows(seed, rows, 4, 3)
    order = np.random.default_rng(seed).permutation(rows)
    for one, other in zip(class_gradients(g, y, h), class_gradients(g[order], y[order], h[order]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_a_class_without_rows_has_nan_norms_and_only_negative_mass() -> None:
    _, gradient = sl.cross_entropy_grad(np.zeros((3, 3)), [0, 0, 2], reduction="none")
    stats = class_gradients(gradient, [0, 0, 2], np.ones((3, 2)))
    assert stats.counts.tolist() == [2, 0, 1]
    for norm in (stats.sum_norm, stats.mean_norm, stats.sample_norm):
        assert np.isnan(norm).tolist() == [False, True, False]
    assert stats.positive_mass[1] == 0
    assert stats.negative_mass[1] == pytest.approx(1.0)


def test_no_rows_at_all() -> None:
    stats = class_gradients(np.empty((0, 3)), np.empty(0, dtype=int))
    assert stats.counts.tolist() == [0, 0, 0]
    assert np.isnan(stats.sum_norm).all()
    assert stats.negative_mass.tolist() == [0, 0, 0]


def test_a_small_push_beside_a_large_pull_is_kept() -> None:
    # the other rows' 1e-20 is lost when the column's own entry is added and taken away again
    stats = class_gradients([[-1.0, 1.0], [1e-20, -1e-20]], [0, 1])
    assert stats.negative_mass.tolist() == [1e-20, 1.0]
    assert stats.positive_mass.tolist() == [1.0, 1e-20]


def test_float32_rows_are_summed_in_float64() -> None:
    g = np.full((10_000, 2), 0.1, dtype=np.float32)
    g[:, 0] *= -1
    stats = class_gradients(g, np.zeros(10_000, dtype=int))
    assert stats.positive_mass[0] == pytest.approx(10_000 * float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize(
    ("gradient", "target", "features", "error", "words"),
    [
        (np.zeros(3), [0], None, ValueError, r"shape \(N, K\); got \(3,\)"),
        (np.zeros((2, 3), dtype=complex), [0, 1], None, TypeError, "complex128"),
        (np.zeros((2, 3)), [0], None, ValueError, r"shape \(2,\).*got \(1,\)"),
        (np.zeros((2, 3)), [0, 3], None, IndexError, "label 3 at row 1"),
        (np.zeros((2, 3)), [0, -1], None, IndexError, "label -1 at row 1"),
        (np.zeros((2, 3)), [0.0, 1.5], None, TypeError, "integer class indices; got dtype float64"),
        (np.zeros((2, 3)), [0, 1], np.zeros((3, 4)), ValueError, r"shape \(2, D\); got \(3, 4\)"),
        (np.zeros((2, 3)), [0, 1], np.zeros(2), ValueError, r"shape \(2, D\); got \(2,\)"),
    ],
)
def test_bad_input_is_refused(gradient: Array, target: list[int], features: Array | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        class_gradients(gradient, target, features)
