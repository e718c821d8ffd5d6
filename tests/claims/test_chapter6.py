"""Evidence for the verdicts of chapter 6: the temperature."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

import softmax_lab as sl
from experiments import differences
from experiments.digits import distillation as dd
from experiments.digits import mlp

Array = NDArray[np.float64]
STEP = mpmath.mpf(10) ** -100  # the oracle works with 400 digits


def _numerical_jacobian(z: list[float], temperature: float) -> Array:
    """Differentiate the oracle's softmax by central differences.

    Their error is of the order of STEP squared.
    """
    columns = []
    with mpmath.workdps(sl.exact.DIGITS):
        for j in range(len(z)):
            up, down = ([mpmath.mpf(x) + sign * STEP * (k == j) for k, x in enumerate(z)] for sign in (1, -1))
            ends = zip(sl.exact.softmax(up, temperature), sl.exact.softmax(down, temperature), strict=True)
            columns.append([float((a - b) / (2 * STEP)) for a, b in ends])
    return np.array(columns).T


def _jacobian(z: Any, temperature: float) -> Array:
    return np.asarray(sl.softmax_jacobian(sl.softmax(z, temperature=temperature), temperature=temperature))


def _spectral(z: Any, temperature: float) -> float:
    return float(
        sl.softmax_jacobian_norm(sl.softmax(z, temperature=temperature), ord=2, temperature=temperature)
    )


def _gradient(z: Any, target: Any, temperature: float) -> Array:
    return np.asarray(sl.cross_entropy_grad(z, target, sl.LossSpec(temperature=temperature))[1])


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("z", [[2.0, 1.0, 0.5, -1.0], [0.0, 0.0, 0.0], [5.0, -5.0]])
def test_claim_6_1_jacobian_at_temperature(z: list[float], temperature: float) -> None:
    numerical = _numerical_jacobian(z, temperature)
    q = sl.softmax(z, temperature=temperature)
    np.testing.assert_allclose(
        q[:, None] * (np.eye(len(z)) - q) / temperature, numerical, rtol=1e-10, atol=1e-13
    )
    np.testing.assert_allclose(_jacobian(z, temperature), numerical, rtol=1e-12, atol=1e-16)


def test_claim_6_1_probabilities_are_those_at_the_temperature() -> None:
    """With p at T = 1 the formula is off."""
    z = [2.0, 1.0, 0.5, -1.0]
    misread = sl.softmax_jacobian(sl.softmax(z), temperature=2.0)
    assert np.abs(misread - _numerical_jacobian(z, 2.0)).max() > 0.01


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.1, 50), st.floats(0.1, 10))
def test_claim_6_2_only_the_ratio_of_spread_and_temperature_counts(
    z: list[float], temperature: float, s: float
) -> None:
    wide = s * np.array(z)
    np.testing.assert_allclose(
        sl.softmax(wide, temperature=s * temperature), sl.softmax(z, temperature=temperature), rtol=1e-10
    )
    np.testing.assert_allclose(
        s * _jacobian(wide, s * temperature), _jacobian(z, temperature), rtol=1e-9, atol=1e-12
    )


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.2, 20), st.floats(1.01, 3))
def test_claim_6_2_entropy_rises_and_the_top_falls(z: list[float], temperature: float, factor: float) -> None:
    cool, warm = (sl.softmax(z, temperature=t) for t in (temperature, factor * temperature))
    entropies = [-np.sum(q * np.where(q > 0, np.log(np.maximum(q, 1e-300)), 0.0)) for q in (cool, warm)]
    assert entropies[0] <= entropies[1] + 1e-12
    assert cool.max() >= warm.max() - 1e-15
    assert np.argmax(z) == 0 or warm[np.argmax(z)] == warm.max()


@pytest.mark.parametrize("tied", [1, 2, 3, 4])
def test_claim_6_2_ends_of_entropy_and_top(tied: int) -> None:
    """With m classes at the top: from log m and 1/m at T = 0 to log K and 1/K at infinity."""
    z = [2.0] * tied + [1.0] * (4 - tied)
    for temperature, count in ((0.01, tied), (1e7, 4)):
        q = sl.softmax(z, temperature=temperature)
        assert -(q @ sl.log_softmax(z, temperature=temperature)) == pytest.approx(np.log(count), abs=1e-12)
        assert q.max() == pytest.approx(1 / count, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 0.1, 0.03, 0.01])
def test_claim_6_2_cold_limit(temperature: float) -> None:
    """The Jacobian vanishes like exp(-gap/T)/T, but at a tie of m classes it grows like 1/(mT)."""
    clear = [3.0, 2.0, 0.0, -1.0]
    assert _spectral(clear, temperature) <= 4 / temperature * np.exp(-1 / temperature)
    for m in (2, 3):
        tied = np.array([3.0] * m + [0.0] * (4 - m))
        assert _spectral(tied, temperature) == pytest.approx(1 / (m * temperature), rel=2e-3)
    assert np.linalg.norm(_gradient(clear, 1, temperature)) == pytest.approx(
        np.sqrt(2) / temperature, rel=0.05
    )
    assert np.linalg.norm(_gradient(clear, 0, temperature)) <= np.sqrt(2) * 3 / temperature * np.exp(
        -1 / temperature
    )


@pytest.mark.parametrize("num_classes", [2, 5, 50])
def test_claim_6_2_hot_limit(num_classes: int) -> None:
    z = np.random.default_rng(0).normal(size=num_classes)
    limit = np.eye(num_classes) - 1 / num_classes
    off = [np.linalg.norm(T * num_classes * _jacobian(z, T) - limit, 2) for T in (1e3, 1e4)]
    assert off[1] < 0.11 * off[0] + 1e-10  # of the order of 1/T; for two classes 1/T^2
    for label in (0, num_classes - 1):
        assert 1e4 * np.linalg.norm(_gradient(z, label, 1e4)) == pytest.approx(
            np.sqrt(1 - 1 / num_classes), rel=2e-3
        )


def _peak(f: Callable[[float], float]) -> float:
    """Return gap/T, for a gap of 4, where f(T) is largest."""
    result: Any = minimize_scalar(
        lambda u: -f(4.0 / u), bounds=(0.1, 30.0), method="bounded", options={"xatol": 1e-9}
    )
    return float(result.x)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_claim_6_2_peak_of_the_gradient(num_classes: int) -> None:
    z = np.r_[4.0, np.zeros(num_classes - 1)]
    u = _peak(lambda T: _spectral(z, T))
    assert u * np.tanh((u - np.log(num_classes - 1)) / 2) == pytest.approx(1, abs=1e-4)
    u = _peak(lambda T: float(np.linalg.norm(_gradient(z, 0, T))))
    assert u == pytest.approx(1 + lambertw((num_classes - 1) / math.e).real, rel=1e-5)


def test_a_wrong_row_has_a_peak_only_with_very_many_classes() -> None:
    """The row's label nearly ties with the top class.

    The crowd of the others takes its probability within a narrow range of T.
    """
    temperatures = np.geomspace(0.5, 2.0, 40)
    for num_classes, rises in ((10, False), (1000, False), (50_000, True)):
        z = np.r_[10.0, 9.99, np.zeros(num_classes - 2)]
        norms = [np.linalg.norm(_gradient(z, 1, T)) for T in temperatures]
        assert (np.diff(norms) > 0).any() == rises


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8), st.floats(0.1, 10))
def test_a_wrong_row_is_at_least_half_the_square_away(z: list[float], temperature: float) -> None:
    q = sl.softmax(z, temperature=temperature)
    wrong = temperature * np.linalg.norm(_gradient(z, int(np.argmin(q)), temperature))
    assert np.sqrt(0.5) * (1 - 1e-12) <= wrong <= np.sqrt(2) * (1 + 1e-12)


def test_claim_6_2_two_classes() -> None:
    assert _peak(lambda T: _spectral([4.0, 0.0], T)) == pytest.approx(1.5434, abs=1e-4)
    wrong = [np.linalg.norm(_gradient([4.0, 0.0], 1, T)) for T in np.geomspace(0.02, 100, 100)]
    assert (np.diff(wrong) < 0).all()


CONFIG = dd.Config(temperatures=(1.0, 4.0, 16.0))


@pytest.fixture(scope="module")
def problems() -> dd.Students:
    return dd.students(CONFIG)


def test_claim_0_5_both_change_the_gradient() -> None:
    z, K, eps, T = np.array([2.0, 1.0, 0.5, -1.0]), 4, 0.1, 3.0
    one_hot = np.eye(K)[0]
    smoothed = (1 - eps) * one_hot + eps / K
    spec = sl.LossSpec(temperature=T, smoothing=eps)
    np.testing.assert_allclose(
        sl.cross_entropy_grad(z, 0, spec)[1], (sl.softmax(z, temperature=T) - smoothed) / T, rtol=1e-12
    )
    assert np.abs(sl.cross_entropy_grad(z, 0, spec)[1] - (sl.softmax(z) - one_hot)).max() > 0.1


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_claim_0_5_temperature_is_a_start_and_a_learning_rate(
    problems: dd.Students, temperature: float
) -> None:
    """Training at T is training at T = 1 with another start and rate.

    The last layer is T times smaller, and its learning rate is divided by T squared.
    """
    config = dataclasses.replace(CONFIG, steps=60)
    start = dd.stacked([mlp.initial_network(seed, config.student_hidden) for seed in problems.seeds])
    images, labels = (
        np.stack([getattr(split.train, part) for split in problems.splits]) for part in ("images", "labels")
    )
    eta, small = config.learning_rate, config.learning_rate / temperature**2
    probs = []
    for begin, spec, rates in (
        (start, sl.LossSpec(temperature=temperature), eta),
        (dd.rescaled(start, temperature), sl.LossSpec(), (eta, eta, small, small)),
        (dd.rescaled(start, temperature), sl.LossSpec(), eta),  # the learning rate matters
    ):
        draws = dd.minibatches(config, problems.seeds, problems.visible)
        network = dd.train(begin, images, labels, spec, draws, config, learning_rate=rates)
        probs.append(sl.softmax(mlp.forward(network, images)[1], temperature=spec.temperature))
    np.testing.assert_allclose(probs[0], probs[1], rtol=0, atol=1e-10)
    assert np.abs(probs[0] - probs[2]).max() > 0.01


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_claim_0_5_smoothing_moves_the_minimum(eps: float) -> None:
    K = 10
    z = np.r_[np.log(1 + (1 - eps) * K / eps), np.zeros(K - 1)]
    assert np.abs(sl.cross_entropy_grad(z, 0, sl.losses.label_smoothing(eps))[1]).max() < 1e-15
    assert sl.cross_entropy(z, 0) == pytest.approx(-np.log(1 - eps + eps / K))


@pytest.mark.slow
def test_claim_0_5_small_effects_over_twenty_seeds() -> None:
    """Smoothing lowers the error and a temperature on one-hot labels raises it, by half a point each.

    The temperature is that which the validation rows choose, 2 for every seed.
    """
    config = dd.Config(seeds=range(20))
    splits = [dd.make_split(seed, config.train, config.validation) for seed in config.seeds]
    visible = [rows for rows in config.student_rows for _ in splits]
    problems = dd.Students([*config.seeds] * 2, visible, splits * 2, np.empty((2 * len(splits), 0, 0)))
    alone, smoothed, tempered = (
        dd.fit(method, T, problems, config).set_index(["student_rows", "seed"])
        for method, T in (("alone", 1.0), ("smoothed", 1.0), ("tempered", 2.0))
    )
    found = [
        differences.difference(
            100 * (other["test_error"] - alone["test_error"]).groupby("seed").mean(), together=2
        )
        for other in (smoothed, tempered)
    ]
    assert [str(one) for one in found] == ["−0.5 (−0.9 to −0.1)", "+0.5 (+0.2 to +0.8)"]  # as the ledger says
    assert (smoothed["test_loss"] - alone["test_loss"]).groupby("student_rows").mean().min() > 0


def test_claim_0_5_does_not_always_improve(problems: dd.Students) -> None:
    """A high temperature on one-hot labels makes every student's error larger."""
    alone, hot = (dd.fit(method, T, problems, CONFIG) for method, T in (("alone", 1.0), ("tempered", 16.0)))
    assert (hot["test_error"] > alone["test_error"] + 0.05).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_claim_9_2_gradient_needs_the_square_of_the_temperature(seed: int, num_classes: int) -> None:
    """T squared times the gradient tends to the difference of the centred logits over K.

    Without the factor the gradient vanishes.
    """
    z, v = np.random.default_rng(seed).normal(size=(2, num_classes))
    limit = ((z - z.mean()) - (v - v.mean())) / num_classes
    off = [np.abs(T**2 * _gradient(z, sl.softmax(v, temperature=T), T) - limit).max() for T in (1e2, 1e3)]
    assert off[0] < 0.1
    assert off[1] < 0.15 * off[0] + 1e-8


@pytest.fixture(scope="module")
def students(problems: dd.Students) -> pd.DataFrame:
    methods = [
        ("alone", 1.0),
        *(("distilled", T) for T in CONFIG.temperatures),
        ("distilled, no T^2", 2.0),
        ("distilled, no T^2", 16.0),
    ]
    return pd.concat([dd.fit(method, T, problems, CONFIG) for method, T in methods], ignore_index=True)


def test_claim_9_2_helps_a_student_that_sees_few_rows(students: pd.DataFrame) -> None:
    picked = dd.chosen(students)
    assert (dd.against_alone(picked, "test_error", 100, "distilled") < -0.02).all()
    assert (
        picked.loc[(100, "distilled"), "test_error"].mean()
        < 0.5 * picked.loc[(100, "alone"), "test_error"].mean()
    )


def test_claim_9_2_at_a_low_temperature_it_helps_without_the_factor(students: pd.DataFrame) -> None:
    few = students[students["student_rows"] == 100].set_index(["method", "temperature", "seed"])["test_error"]
    assert few.loc["distilled, no T^2", 2.0].max() < few.loc["alone", 1.0].min() - 0.01


def test_claim_9_2_helps_less_if_the_teacher_saw_the_same_rows(students: pd.DataFrame) -> None:
    config = dataclasses.replace(CONFIG, train=100, student_rows=(100,))
    same, more = dd.chosen(dd.run_all(config, methods=("alone", "distilled"))), dd.chosen(students)
    gains = [dd.against_alone(picked, "test_error", 100, "distilled").mean() for picked in (same, more)]
    assert gains[1] < 3 * gains[0] < 0


def test_claim_9_2_gains_nothing_where_the_student_sees_all(students: pd.DataFrame) -> None:
    picked = dd.chosen(students)
    gain = dd.against_alone(picked, "test_error", 897, "distilled")
    assert abs(gain.mean()) < np.ptp(picked.loc[(897, "alone"), "test_error"])


def test_claim_9_2_without_the_factor_a_high_temperature_stops_the_learning(students: pd.DataFrame) -> None:
    hot = (
        students[students["temperature"] == 16.0]
        .set_index(["student_rows", "seed", "method"])["test_error"]
        .unstack("method")
    )
    assert (hot["distilled, no T^2"] > 3 * hot["distilled"]).all()


def test_claim_9_2_calibration_keeps_every_prediction() -> None:
    config = dd.Config(seeds=(0,), train=200, steps=1000)
    splits, validation, test = dd.overconfident(config)
    T, labels = dd.fit_temperature(validation[0], splits[0].validation.labels), splits[0].test.labels
    assert T > 1.05
    assert sl.cross_entropy(test[0], labels, sl.LossSpec(temperature=T)) < sl.cross_entropy(test[0], labels)
    np.testing.assert_array_equal(
        sl.softmax(test[0], temperature=T).argmax(axis=1), sl.softmax(test[0]).argmax(axis=1)
    )
