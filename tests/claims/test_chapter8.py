"""Evidence for the verdicts of chapter 8: two classes."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

import softmax_lab as sl

Logit = st.floats(-300, 300)


def _gradient(z: Any, target: Any) -> NDArray[np.float64]:
    return np.asarray(sl.cross_entropy_grad([z], [target], reduction="none")[1][0])


@given(Logit, Logit)
def test_claim_8_1_sigmoid_of_the_difference(a: float, b: float) -> None:
    with mpmath.workdps(sl.exact.DIGITS):
        sigma = 1 / (1 + mpmath.exp(mpmath.mpf(b) - mpmath.mpf(a)))
        assert abs(sl.exact.softmax([a, b])[0] - sigma) < mpmath.mpf(10) ** -390
    assert sl.exact.ulp_error(sl.softmax([a, b]), [sigma, 1 - sigma]).max() <= 4


def test_claim_8_1_agrees_with_scipy() -> None:
    gaps = np.linspace(-700, 700, 1401)
    rows = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    assert np.allclose(sl.softmax(rows)[:, 0], special.expit(gaps), rtol=1e-14, atol=0)
    assert np.allclose(sl.log_softmax(rows)[:, 0], special.log_expit(gaps), rtol=1e-14, atol=0)
    loss = sl.cross_entropy(rows, np.ones(len(rows), int), reduction="none")
    assert np.allclose(loss, -special.log_expit(-gaps), rtol=1e-14, atol=0)


def test_claim_8_1_not_the_sigmoids_of_the_logits() -> None:
    """It is the sigmoid of the difference: sigmoids of the two logits do not even add up to one."""
    assert abs(special.expit(1.0) + special.expit(0.5) - 1) > 0.3


def _article(z: Any, y_1: float) -> NDArray[np.float64]:
    sigma = special.expit(z[0] - z[1])
    return np.array([sigma - y_1, -sigma + y_1])


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(0, 1))
def test_claim_8_2_gradient_where_the_label_sums_to_one(a: float, b: float, y_1: float) -> None:
    assert np.allclose(_gradient([a, b], [y_1, 1 - y_1]), _article([a, b], y_1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("target", [[1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
def test_claim_8_2_fails_where_it_does_not(target: list[float]) -> None:
    """The condition that is missing: y_1 + y_2 = 1.

    With y_1 + y_2 = S the gradient is S sigma - y_1, and the article's formula is off.
    """
    z, total = [1.5, 0.2], sum(target)
    first = total * special.expit(z[0] - z[1]) - target[0]
    assert np.allclose(_gradient(z, target), [first, -first], rtol=1e-13, atol=1e-15)
    assert np.abs(_gradient(z, target) - _article(z, target[0])).min() > 0.1


def test_claim_8_2_confident_row_keeps_its_gradient() -> None:
    """sigma(d) - 1 cancels to 0 where -sigma(-d) and the package are right."""
    exact = sl.exact.cross_entropy_grad([60.0, 0.0], 0)
    assert special.expit(60.0) - 1 == 0
    assert sl.exact.ulp_error(_gradient([60.0, 0.0], 0), exact).max() <= 4
    assert np.isclose(-special.expit(-60.0), float(exact[0]), rtol=1e-14)


@given(Logit, Logit)
def test_claim_8_2_null_direction(a: float, b: float) -> None:
    """The gradient is orthogonal to (1, 1) and the Hessian annihilates it: only the difference matters."""
    gradient = _gradient([a, b], 0)
    assert gradient[0] == -gradient[1]
    assert not sl.cross_entropy_hvp([[a, b]], [0], [[1.0, 1.0]]).any()
