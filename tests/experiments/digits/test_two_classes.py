"""Gradients against finite differences, and the penalties of the two models against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from experiments.digits import two_classes as regression

PENALTY = 0.1


@pytest.fixture
def sample() -> tuple[regression.Array, regression.Labels]:
    """Return 40 rows of 3 features, with labels that no line separates."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.integers(2, size=40)


def test_logistic_gradient_matches_finite_differences(
    sample: tuple[regression.Array, regression.Labels],
) -> None:
    v = np.array([0.5, -1.0, 2.0])
    error = check_grad(
        *(lambda x, part=part: regression.logistic_objective(x, *sample, PENALTY)[part] for part in (0, 1)), v
    )
    assert error < 1e-6


def test_softmax_gradient_matches_finite_differences(
    sample: tuple[regression.Array, regression.Labels],
) -> None:
    weights = np.array([0.5, -1.0, 2.0, 0.3, 0.2, -0.1])
    error = check_grad(
        lambda x: regression.softmax_objective(x.reshape(2, 3), *sample, PENALTY)[0],
        lambda x: regression.softmax_objective(x.reshape(2, 3), *sample, PENALTY)[1].ravel(),
        weights,
    )
    assert error < 1e-6


def test_the_losses_agree_without_a_penalty(sample: tuple[regression.Array, regression.Labels]) -> None:
    weights = np.array([[0.5, -1.0, 2.0], [0.3, 0.2, -0.1]])
    value, gradient = regression.softmax_objective(weights, *sample, 0.0)
    logistic_value, logistic_gradient = regression.logistic_objective(weights[0] - weights[1], *sample, 0.0)
    assert value == pytest.approx(logistic_value, rel=1e-12)
    np.testing.assert_allclose(gradient, [logistic_gradient, -logistic_gradient], rtol=1e-10)


def test_the_fits_are_minima(sample: tuple[regression.Array, regression.Labels]) -> None:
    weights = regression.fit_softmax(*sample, PENALTY, np.ones((2, 3)))
    v = regression.fit_logistic(*sample, PENALTY)
    assert weights.shape == (2, 3)
    assert v.shape == (3,)
    assert np.abs(regression.softmax_objective(weights, *sample, PENALTY)[1]).max() < 1e-6
    assert np.abs(regression.logistic_objective(v, *sample, PENALTY)[1]).max() < 1e-6


def test_the_softmax_is_logistic_regression_with_half_the_penalty(
    sample: tuple[regression.Array, regression.Labels],
) -> None:
    w_1, w_2 = regression.fit_softmax(*sample, PENALTY, np.ones((2, 3)))
    np.testing.assert_allclose(w_1, -w_2, atol=1e-5)
    np.testing.assert_allclose(w_1 - w_2, regression.fit_logistic(*sample, PENALTY / 2), atol=1e-5)
    assert np.abs(w_1 - w_2 - regression.fit_logistic(*sample, PENALTY)).max() > 1e-3


def test_two_digits() -> None:
    images, labels = regression.two_digits(3, 8)
    assert images.shape == (357, 64)  # 183 images of a 3 and 174 of an 8, as scikit-learn lists them
    assert np.bincount(labels).tolist() == [183, 174]
