"""Per-class gradient statistics against a loop that forms every gradient, and against their closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab import losses
from softmax_lab.balance import (
    class_gradients,
    gated_weight,
    initial_mass_ratio,
    neutral_smoothing,
    prior_response,
)

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
    return (
        float(np.linalg.norm(total)),
        float(np.linalg.norm(total / len(per_row))),
        float(np.mean([np.linalg.norm(g) for g in per_row])),
    )


sizes = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(1, 30),
    "classes": st.integers(2, 6),
    "width": st.integers(1, 4),
}


@given(**sizes)
def test_norms_match_a_loop_that_forms_every_gradient(seed: int, rows: int, classes: int, width: int) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    by_logit, by_weight = class_gradients(g, y), class_gradients(g, y, h)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        for stats, per_row in (
            (by_logit, [g[i] for i in members]),
            (by_weight, [np.outer(g[i], h[i]) for i in members]),
        ):
            computed = stats.sum_norm[c], stats.mean_norm[c], stats.sample_norm[c]
            np.testing.assert_allclose(computed, brute_force(per_row), rtol=1e-12, atol=1e-14)


@given(**sizes)
def test_masses_match_a_loop_and_their_difference_is_the_bias_gradient(
    seed: int, rows: int, classes: int, width: int
) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    stats = class_gradients(g, y, h)
    for k in range(classes):
        np.testing.assert_allclose(
            stats.positive_mass[k], sum(-g[i, k] for i in range(rows) if y[i] == k), rtol=1e-12, atol=0
        )
        np.testing.assert_allclose(
            stats.negative_mass[k], sum(g[i, k] for i in range(rows) if y[i] != k), rtol=1e-12, atol=0
        )
    np.testing.assert_allclose(
        stats.negative_mass - stats.positive_mass, g.sum(axis=0), rtol=1e-10, atol=1e-12
    )
    # every row's gradient sums to zero
    np.testing.assert_allclose(stats.positive_mass.sum(), stats.negative_mass.sum(), rtol=1e-12)


@given(**sizes)
def test_the_mean_is_never_longer_than_the_average_row(
    seed: int, rows: int, classes: int, width: int
) -> None:
    g, y, h = draw_rows(seed, rows, classes, width)
    for features in (None, h):
        stats = class_gradients(g, y, features)
        seen = stats.counts > 0
        assert (stats.mean_norm[seen] <= stats.sample_norm[seen] * (1 + 1e-12)).all()


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 30))
def test_the_order_of_the_rows_does_not_matter(seed: int, rows: int) -> None:
    g, y, h = draw_rows(seed, rows, 4, 3)
    order = np.random.default_rng(seed).permutation(rows)
    for one, other in zip(
        class_gradients(g, y, h), class_gradients(g[order], y[order], h[order]), strict=True
    ):
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
def test_bad_input_is_refused(
    gradient: Array, target: list[int], features: Array | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        class_gradients(gradient, target, features)


counts_of = st.lists(st.integers(1, 500), min_size=2, max_size=6)


@given(counts=counts_of, seed=st.integers(0, 2**32 - 1))
def test_initial_masses_are_those_of_the_gradients(counts: list[int], seed: int) -> None:
    bias = np.random.default_rng(seed).normal(size=len(counts))
    y = np.repeat(np.arange(len(counts)), counts)
    _, gradient = sl.cross_entropy_grad(
        np.zeros((len(y), len(counts))), y, sl.LossSpec(bias=bias), reduction="none"
    )
    stats = class_gradients(gradient, y)
    np.testing.assert_allclose(
        initial_mass_ratio(counts, bias), stats.positive_mass / stats.negative_mass, rtol=1e-9
    )


@given(counts=counts_of, move=st.floats(0.01, 3), place=st.integers(0, 5))
def test_only_the_log_prior_starts_in_balance(counts: list[int], move: float, place: int) -> None:
    bias = losses.balanced_softmax(counts).bias
    assert isinstance(bias, np.ndarray)
    np.testing.assert_allclose(initial_mass_ratio(counts, bias), 1.0, rtol=1e-9)
    np.testing.assert_allclose(initial_mass_ratio(counts, bias + 7.0), 1.0, rtol=1e-9)
    other = bias.copy()
    other[place % len(counts)] += move
    assert (np.abs(initial_mass_ratio(counts, other) - 1) > 1e-3 * move).any()


def test_a_start_that_is_sure_of_a_class_keeps_its_ratio() -> None:
    """The model's own odds are e^40 and e^-40, where 1 - q is lost in rounding."""
    np.testing.assert_allclose(
        initial_mass_ratio([90, 10], [40.0, 0.0]), [9 * np.exp(-40), np.exp(40) / 9], rtol=1e-13
    )
    assert initial_mass_ratio([1, 1], [800.0, 0.0]).tolist() == [0.0, np.inf]


@given(seed=st.integers(0, 2**32 - 1), gate=st.sampled_from([0.0, 0.5, 1.0, 4.0]))
def test_the_gate_is_that_of_the_loss(seed: int, gate: float) -> None:
    rng = np.random.default_rng(seed)
    z, y, weight = 3 * rng.normal(size=(9, 4)), rng.integers(4, size=9), rng.uniform(0.1, 50, size=4)
    q_y = sl.softmax(z)[np.arange(9), y]
    whole, plain = (
        sl.cross_entropy(z, y, spec, reduction="none")
        for spec in (sl.LossSpec(class_weight=weight, gate=gate), sl.LossSpec())
    )
    np.testing.assert_allclose(whole, gated_weight(weight[y], q_y, gate) * plain, rtol=1e-12)


def test_the_gate_is_shut_for_a_row_that_is_not_fit_and_open_for_one_that_is() -> None:
    assert gated_weight([0.1, 50.0], 0.0, 4.0).tolist() == [1.0, 1.0]
    assert gated_weight([0.1, 50.0], 1.0, 4.0).tolist() == [0.1, 50.0]
    assert gated_weight([0.1, 50.0], 0.3, 0.0).tolist() == [0.1, 50.0]  # no gate
    assert (np.diff(gated_weight(50.0, np.linspace(0, 1, 20), 4.0)) > 0).all()


def learned(classes: Array, spec: sl.LossSpec) -> Array:
    """Return the logits (one row) that minimise the expected loss at these class probabilities.

    They are found by Newton's method.
    """
    k = len(classes)
    z = np.zeros(k)
    for _ in range(60):
        rows = np.tile(z, (k, 1))
        _, gradient = sl.cross_entropy_grad(rows, np.arange(k), spec, reduction="none")
        mean = classes @ gradient
        hessian = np.stack(
            [
                classes @ sl.cross_entropy_hvp(rows, np.arange(k), np.tile(e, (k, 1)), spec, reduction="none")
                for e in np.eye(k)
            ]
        )
        step = -np.linalg.pinv(hessian) @ mean
        z = z + step / max(1.0, np.abs(step).max())
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    return z


@given(seed=st.integers(0, 2**32 - 1))
def test_neutral_smoothing_keeps_the_order_of_the_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, bias, eps = (
        rng.dirichlet(np.ones(4)) * 0.9 + 0.025,
        rng.normal(size=4),
        rng.uniform(0, 0.6, size=4),
    )
    shifted, prior = neutral_smoothing(bias, eps)
    z = learned(classes, sl.LossSpec(bias=shifted, smoothing=eps, prior=prior))
    fair = classes * np.exp(-bias)
    np.testing.assert_array_equal(np.argsort(z), np.argsort(fair))
    # beyond the order: what was learned is fair up to a factor and a constant, which the first and the last
    # class fix
    order = np.argsort(fair)
    learned_sorted, fair_sorted = np.exp(z)[order], fair[order]
    factor = (learned_sorted[-1] - learned_sorted[0]) / (fair_sorted[-1] - fair_sorted[0])
    np.testing.assert_allclose(
        learned_sorted, learned_sorted[0] + factor * (fair_sorted - fair_sorted[0]), rtol=1e-9
    )


def test_the_uniform_distribution_and_the_bias_as_it_was_move_decisions() -> None:
    bias, eps = np.log([0.6, 0.3, 0.1]), np.array([0.3, 0.2, 0.0])
    classes = np.array([0.61, 0.295, 0.095])  # just the head's
    assert np.argmax(classes * np.exp(-bias)) == 0
    shifted, prior = neutral_smoothing(bias, eps)
    assert np.argmax(learned(classes, sl.LossSpec(bias=shifted, smoothing=eps, prior=prior))) == 0
    assert np.argmax(learned(classes, sl.LossSpec(bias=bias, smoothing=eps))) == 2
    assert np.argmax(learned(classes, sl.LossSpec(bias=bias, smoothing=eps, prior=np.exp(bias)))) == 2


def test_one_epsilon_for_all_classes_leaves_the_bias() -> None:
    shifted, prior = neutral_smoothing([0.0, -2.0, 1.0], 0.1)
    np.testing.assert_allclose(shifted - shifted[0], [0.0, -2.0, 1.0])
    np.testing.assert_allclose(prior, sl.softmax([0.0, -2.0, 1.0]))
    flat, uniform = neutral_smoothing(0.0, 0.2, num_classes=4)
    np.testing.assert_allclose(uniform, 0.25)
    assert np.ptp(flat) == 0


@given(seed=st.integers(0, 2**32 - 1), delta=st.floats(-0.5, 0.5))
def test_the_response_is_the_derivative_of_the_balanced_loss(seed: int, delta: float) -> None:
    rng = np.random.default_rng(seed)
    z, y, prior = (
        rng.normal(size=(30, 4)),
        rng.integers(3, size=30),
        np.log(rng.dirichlet(np.ones(4)) * 0.9 + 0.025),
    )
    present = np.bincount(y, minlength=4)
    weight = (1.0 / np.maximum(present, 1))[y] / (present > 0).sum()
    h = 1e-4

    def loss(d: float) -> float:
        return float(sl.cross_entropy(z + (delta + d) * prior, y, reduction="sum", sample_weight=weight))

    found = prior_response(z + delta * prior, y, prior)
    seen = found.counts > 0
    slope, curvature = (float(np.mean(x[seen] / found.counts[seen])) for x in (found.slope, found.curvature))
    assert slope == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-5, abs=1e-7)
    assert curvature == pytest.approx((loss(h) - 2 * loss(0) + loss(-h)) / h**2, rel=1e-3, abs=1e-5)
    assert found.shift(limit=1e9) == pytest.approx(-slope / curvature)


def test_the_shift_has_its_limits() -> None:
    prior = np.log([0.9, 0.1])
    assert prior_response(50 * np.eye(2)[[0, 0]], [0, 1], prior).shift() == -1.0  # sure of the head
    # so sure that there is no curvature
    assert prior_response(1e4 * np.eye(2)[[0, 0]], [0, 1], prior).shift(0.3) == -0.3
    assert prior_response(np.full((2, 2), np.nan), [0, 1], prior).shift() == 0.0
    assert prior_response(np.zeros((0, 2)), np.zeros(0, dtype=int), prior).shift() == 0.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: initial_mass_ratio([3]), ValueError, "at least two classes"),
        (
            lambda: initial_mass_ratio([3, 1], [0.0, 0.0, 0.0]),
            ValueError,
            r"bias must be a number or have shape \(2,\)",
        ),
        (lambda: gated_weight(-1.0, 0.5, 1.0), ValueError, "class_weight must be"),
        (lambda: gated_weight(1.0, 1.5, 1.0), ValueError, r"probability must be in \[0, 1\]"),
        (lambda: gated_weight([1.0, 2.0], [0.1, 0.2, 0.3], 1.0), ValueError, "must broadcast"),
        (lambda: gated_weight(1.0, 0.5, -1.0), ValueError, "gate must be"),
        (lambda: neutral_smoothing(0.0, 0.1), ValueError, "num_classes be given"),
        (lambda: neutral_smoothing([0.0, 0.0], 1.0), ValueError, r"smoothing must lie in \[0, 1\)"),
        (
            lambda: neutral_smoothing([0.0, 0.0], [0.1, 0.1, 0.1]),
            ValueError,
            "smoothing must be a number or have shape",
        ),
        (
            lambda: prior_response(np.zeros(3), [0], np.zeros(3)),
            ValueError,
            r"logits must have shape \(N, K\)",
        ),
        (lambda: prior_response(np.zeros((1, 3)), [3], np.zeros(3)), IndexError, "label 3 at row 0"),
        (
            lambda: prior_response(np.zeros((1, 3)), [0], np.zeros(2)),
            ValueError,
            r"log_prior must have shape \(3,\)",
        ),
    ],
)
def test_the_rules_refuse_bad_input(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
