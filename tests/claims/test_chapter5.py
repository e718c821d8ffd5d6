"""Evidence for the verdicts of chapter 5: softmax and sigmoid."""

from __future__ import annotations

from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

import softmax_lab as sl
from experiments.digits import sigmoid as digits_sigmoid

Logit = st.floats(-30, 30)
Row = st.lists(Logit, min_size=2, max_size=6)


def _p_1_slopes(z_1: float, z_2: float) -> NDArray[np.float64]:
    """(dp_1/dz_1, dp_1/dz_2)."""
    return np.asarray(sl.softmax_jacobian(sl.softmax([z_1, z_2]))[0])


def _sigma_slope(x: Any) -> Any:
    return special.expit(x) * special.expit(-x)


def _article(z_1: Any, z_2: Any) -> Any:
    """The article's dp_1/dz_1, sigma'(z_1) (1 - sigma(z_2))."""
    return _sigma_slope(z_1) * special.expit(-z_2)


def _numeric_jacobian(function: Any, z: NDArray[np.float64], step: float = 1e-6) -> NDArray[np.float64]:
    return np.stack(
        [(function(z + step * e) - function(z - step * e)) / (2 * step) for e in np.eye(len(z))], axis=1
    )


@given(Row)
def test_claim_5_1_softmax_sums_to_one(z: list[float]) -> None:
    p = sl.softmax(z)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-14)


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=6))
def test_claim_5_1_sigmoids_reach_every_point_of_the_cube(target: list[float]) -> None:
    """No constraint ties the sigmoids.

    Any values in (0, 1) are those of some logits, whatever they add up to.
    """
    assert np.allclose(digits_sigmoid.sigmoid(special.logit(target)), target, rtol=1e-9)


def test_claim_5_1_sigmoids_are_a_softmax_over_subsets_conditioned_on_one() -> None:
    """K independent labels are a softmax over the 2^K subsets with logits sum_{k in A} z_k.

    Given exactly one label, the softmax of z.
    """
    z = np.array([1.2, -0.4, 0.3])
    subsets = np.array(list(product([0, 1], repeat=3)))
    joint = np.prod(np.where(subsets == 1, special.expit(z), special.expit(-z)), axis=1)
    assert np.allclose(sl.softmax(subsets @ z), joint, rtol=1e-13)
    single = subsets.sum(axis=1) == 1
    conditional = (subsets[single] * joint[single, None]).sum(axis=0) / joint[single].sum()
    assert np.allclose(sl.softmax(z), conditional, rtol=1e-13)


def test_claim_5_2_softmax_jacobian_is_full_and_sigmoid_diagonal() -> None:
    z = np.array([2.0, 1.0, 0.0, -1.0])
    full, own = sl.softmax_jacobian(sl.softmax(z)), np.diag(_sigma_slope(z))
    assert np.allclose(_numeric_jacobian(sl.softmax, z), full, atol=1e-9)
    assert np.allclose(_numeric_jacobian(digits_sigmoid.sigmoid, z), own, atol=1e-9)
    off = ~np.eye(4, dtype=bool)
    assert (full[off] < 0).all()
    assert np.linalg.matrix_rank(full) == 3
    assert np.linalg.matrix_rank(own) == 4


def test_claim_5_2_the_gradients_of_the_losses() -> None:
    """Both reach every logit. The softmax's adds up to zero and each component feels all logits.

    A sigmoid's feels its own alone.
    """
    z, on = np.array([2.0, 1.0, 0.0, -1.0]), np.arange(4) == 1
    _, coupled = sl.cross_entropy_grad([z], [1])
    _, separate = digits_sigmoid.sigmoid_loss(z, on)
    assert np.allclose(separate, special.expit(z) - on, atol=1e-15)
    assert (np.concatenate([coupled[0], separate]) != 0).all()
    assert abs(coupled.sum()) < 1e-15
    assert abs(separate.sum()) > 0.1
    moved = z + np.array([0.0, 0.0, 0.0, 1.0])
    assert (sl.cross_entropy_grad([moved], [1])[1] != coupled).all()
    assert (digits_sigmoid.sigmoid_loss(moved, on)[1] != separate).tolist() == [False, False, False, True]


@given(Logit, Logit)
def test_claim_5_3_slope_of_the_sigmoid_of_the_difference(z_1: float, z_2: float) -> None:
    with mpmath.workdps(sl.exact.DIGITS):
        d = mpmath.mpf(z_1) - mpmath.mpf(z_2)
        slope = 1 / (1 + mpmath.exp(-d)) / (1 + mpmath.exp(d))
        assert abs(sl.exact.softmax_jacobian([z_1, z_2])[0][0] - slope) < mpmath.mpf(10) ** -390
    p_1, p_2 = sl.softmax([z_1, z_2])
    assert np.isclose(_p_1_slopes(z_1, z_2)[0], float(slope), rtol=1e-13)
    assert np.isclose(p_1 * p_2, float(slope), rtol=1e-13)  # the article's first equality is right


@pytest.mark.parametrize("z", [(0.0, 0.0), (1.0, 1.0), (3.0, 2.0), (-1.0, -4.0)])
def test_claim_5_3_the_article_is_wrong(z: tuple[float, float]) -> None:
    assert abs(_p_1_slopes(*z)[0] / _article(*z) - 1) > 0.3


def test_claim_5_3_half_the_truth_where_the_second_logit_is_zero() -> None:
    for z_1 in np.linspace(-20, 20, 41):
        assert np.isclose(_article(z_1, 0.0), _p_1_slopes(z_1, 0.0)[0] / 2, rtol=1e-13)


def _agreement(z_1: float) -> Any:
    """Return the z_2 at which the article's formula is right.

    It is the log of the positive root of x (2 + x) y^2 + (1 + x^2) y - x^2, with x = e^{z_1}.
    """
    x = mpmath.exp(z_1)
    b = 1 + x**2
    return mpmath.log(2 * x**2 / (b + mpmath.sqrt(b**2 + 4 * x**3 * (2 + x))))


def _sigma(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _exact_slopes(z_1: Any, z_2: Any) -> tuple[Any, Any]:
    """(the truth, the article's formula) in mpmath."""
    return _sigma(z_1 - z_2) * _sigma(z_2 - z_1), _sigma(z_1) * _sigma(-z_1) * _sigma(-z_2)


@given(st.floats(-50, 50), st.floats(1e-3, 20))
def test_claim_5_3_agrees_on_one_curve_alone(z_1: float, offset: float) -> None:
    """Equal on the curve, too large below it and too small above; the curve lies below the diagonal."""
    with mpmath.workdps(100):
        z_2 = _agreement(z_1)
        truth, article = _exact_slopes(mpmath.mpf(z_1), z_2)
        assert abs(article / truth - 1) < mpmath.mpf(10) ** -80
        assert z_2 < z_1
        below, above = (_exact_slopes(mpmath.mpf(z_1), z_2 + side * offset) for side in (-1, 1))
        assert below[1] > below[0]
        assert above[1] < above[0]


def test_claim_5_3_ends_of_the_curve() -> None:
    with mpmath.workdps(60):
        assert abs(_agreement(-60) - 2 * -60) < 1e-20
        assert abs(_agreement(60) - mpmath.log((mpmath.sqrt(5) - 1) / 2)) < 1e-20


def _only_first(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([special.expit(z[0]) * special.expit(-z[1])])


def test_claim_5_3_is_the_slope_of_another_probability() -> None:
    """sigma'(z_1) (1 - sigma(z_2)) differentiates sigma(z_1) (1 - sigma(z_2)).

    That is the probability that, of two independent labels, only the first is on.
    """
    z = np.array([0.7, -0.2])
    assert np.isclose(_numeric_jacobian(_only_first, z)[0, 0], _article(*z), rtol=1e-8)
    exactly_one = _only_first(z) + _only_first(z[::-1])
    assert np.allclose(_only_first(z) / exactly_one, sl.softmax(z)[0], rtol=1e-14)


@given(Row)
def test_claim_5_4_softmax_normalises_the_odds(z: list[float]) -> None:
    odds = special.expit(z) / special.expit(np.negative(z))
    assert np.allclose(sl.softmax(z), odds / odds.sum(), rtol=1e-12)


@given(Logit, Logit)
def test_claim_5_4_normalised_sigmoids_are_no_softmax(z_1: float, z_2: float) -> None:
    """sigma(z_1) / (sigma(z_1) + sigma(z_2)) is p_1 only at a tie; elsewhere it is nearer to 1/2."""
    assume(abs(z_1 - z_2) > 1e-3)
    with mpmath.workdps(60):
        sigma_1, sigma_2 = (_sigma(mpmath.mpf(x)) for x in (z_1, z_2))
        normalised, p_1 = sigma_1 / (sigma_1 + sigma_2), sl.exact.softmax([z_1, z_2])[0]
        assert abs(normalised - 0.5) < abs(p_1 - 0.5)
        assert (normalised > 0.5) == (p_1 > 0.5)


def test_claim_5_4_normalised_sigmoids_by_numbers() -> None:
    assert digits_sigmoid.sum_normalised(np.array([6.0, 3.0]))[0] < 0.52
    assert sl.softmax([6.0, 3.0])[0] > 0.95
    assert np.allclose(digits_sigmoid.sum_normalised(np.array([2.0, 2.0])), 0.5)


@given(Logit, Logit)
def test_claim_5_4_two_logits_keep_the_cross_term(z_1: float, z_2: float) -> None:
    own, cross = _p_1_slopes(z_1, z_2)
    assert cross == -own < 0
    assert np.isclose(cross, -_sigma_slope(z_1 - z_2), rtol=1e-12)


@given(Logit)
def test_claim_5_4_one_logit_has_no_cross_term(d: float) -> None:
    """With z_2 = 0 for good there is one variable, p_1 = sigma(d).

    Its one derivative is sigma'(d): nothing is left to cross with.
    """
    p = digits_sigmoid.sigmoid(np.array([d]))
    assert np.isclose(p[0], sl.softmax([d, 0.0])[0], rtol=1e-15)
    jacobian = _numeric_jacobian(digits_sigmoid.sigmoid, np.array([d]))
    assert jacobian.shape == (1, 1)
    assert np.isclose(jacobian[0, 0], _p_1_slopes(d, 0.0)[0], rtol=1e-4, atol=1e-9)
