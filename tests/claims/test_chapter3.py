"""Chapter 3, propagation of the gradient: a test a claim.

Each tests the right statement, and what is wrong with the article's.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab import exact

Array = NDArray[np.float64]

rows = st.lists(st.floats(-30, 30), min_size=2, max_size=6)
boxes = st.lists(st.floats(-1, 1), min_size=2, max_size=5)
SLACK = 1 + 1e-12


def exact_spectrum(z: list[float]) -> list[Any]:
    """Eigenvalues of the Jacobian of logits z, from mpmath's dense eigensolver."""
    with mpmath.workdps(exact.DIGITS):
        return sorted(mpmath.eigsy(mpmath.matrix(exact.softmax_jacobian(z)), eigvals_only=True))


def gradient_norm(z: Any, target: int) -> float:
    return float(np.linalg.norm(sl.cross_entropy_grad(np.asarray(z, float), target)[1]))


def spectral_norm(z: Any, **keywords: Any) -> float:
    return float(sl.softmax_jacobian_norm(sl.softmax(np.asarray(z, float), **keywords), ord=2, **keywords))


@given(rows)
def test_claim_3_1_symmetric(z: list[float]) -> None:
    """Exactly symmetric as computed; and it is the Hessian of the cross-entropy, whichever the class."""
    jacobian = sl.softmax_jacobian(sl.softmax(z))
    np.testing.assert_array_equal(jacobian, jacobian.T)
    for target in (0, len(z) - 1):
        hessian = [sl.cross_entropy_hvp(z, target, e) for e in np.eye(len(z))]
        np.testing.assert_allclose(jacobian, hessian, rtol=0, atol=1e-15)


@pytest.mark.parametrize("total", [1.0, 0.5, 2.0])
def test_claim_3_1_hessian_of_the_cross_entropy(total: float) -> None:
    """For a target that sums to one it is G, for one that sums to S it is S G."""
    z, target = np.array([0.3, -1.0, 2.0]), total * np.array([0.2, 0.5, 0.3])
    hessian = [sl.cross_entropy_hvp(z, target, e) for e in np.eye(3)]
    jacobian = sl.softmax_jacobian(sl.softmax(z))
    np.testing.assert_allclose(hessian, total * jacobian, rtol=0, atol=1e-15)
    assert np.allclose(hessian, jacobian, rtol=0, atol=1e-2) == (total == 1)


@given(rows)
def test_claim_3_2_singular(z: list[float]) -> None:
    """det = 0 and G 1 = 0; the other eigenvalues multiply to K prod p, so that the rank is K - 1."""
    p = exact.softmax(z)
    with mpmath.workdps(exact.DIGITS):
        matrix, values = mpmath.matrix(exact.softmax_jacobian(z)), exact_spectrum(z)
        product = mpmath.fprod(values[1:])
        assert mpmath.norm(matrix * mpmath.ones(len(z), 1)) < mpmath.mpf(10) ** -390
        assert abs(mpmath.det(matrix)) < product * mpmath.mpf(10) ** -50
        assert mpmath.almosteq(product, len(z) * mpmath.fprod(p), rel_eps=mpmath.mpf(10) ** -50)


@pytest.mark.parametrize("masked", [0, 1, 3])
def test_claim_3_2_null_space_of_masked_classes(masked: int) -> None:
    """Each class of probability 0 is one more null direction: rank K - 1 - (number of zeros)."""
    p = sl.softmax([0.3, -1.0, 2.0, *[-np.inf] * masked])
    assert np.linalg.matrix_rank(sl.softmax_jacobian(p)) == 2
    assert np.count_nonzero(sl.softmax_spectrum(p)) == 2
    for k in range(3, len(p)):
        assert not sl.softmax_jvp(p, np.eye(len(p))[k]).any()


def test_claim_3_3_counterexample() -> None:
    """The article: the others are negative. Two classes at 1/2 have the eigenvalues 0 and +1/2."""
    assert sl.softmax_spectrum([0.5, 0.5]).tolist() == [0.0, 0.5]


@given(rows)
def test_claim_3_3_positive_semidefinite(z: list[float]) -> None:
    """All but one eigenvalue are positive, interlace the sorted probabilities and sum to 1 - sum p^2."""
    values, poles = exact_spectrum(z), sorted(exact.softmax(z))
    with mpmath.workdps(exact.DIGITS):
        slack = mpmath.mpf(10) ** -300
        assert abs(values[0]) < slack
        assert min(values[1:]) > slack
        assert all(
            low - slack <= value <= high + slack
            for low, value, high in zip(poles, values[1:], poles[1:], strict=False)
        )
        assert abs(mpmath.fsum(values) - (1 - mpmath.fsum(x * x for x in poles))) < slack
        diagonal = max(x * (1 - x) for x in poles)
        assert diagonal - slack <= values[-1] <= min(2 * diagonal, mpmath.mpf(1) / 2) + slack
    np.testing.assert_allclose(
        sl.softmax_spectrum(sl.softmax(z)), [float(x) for x in values], rtol=1e-14, atol=1e-300
    )


@given(rows, st.data())
def test_claim_3_3_quadratic_form_is_a_variance(z: list[float], data: st.DataObject) -> None:
    p = sl.softmax(z)
    v = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=len(z), max_size=len(z))))
    variance = p @ (v - p @ v) ** 2
    assert v @ sl.softmax_jvp(p, v) == pytest.approx(variance, rel=1e-9, abs=1e-11)


@given(rows)
def test_claim_3_4_every_entry_is_at_most_one_minus_p(z: list[float]) -> None:
    """The sum of the others bounds the whole matrix, its diagonal included.

    It bounds more than the off-diagonal entries.
    """
    p = sl.softmax(z)
    others = np.array([np.delete(p, k).sum() for k in range(len(p))])
    assert np.abs(sl.softmax_jacobian(p)).max() <= others.min() * SLACK


@pytest.mark.parametrize(
    ("dtype", "gap"), [(np.float32, 20.0), (np.float32, 80.0), (np.float64, 40.0), (np.float64, 700.0)]
)
def test_claim_3_4_rate_and_rounding(dtype: type, gap: float) -> None:
    """The derivative is e^-gap and not zero, where 1 - p is zero already."""
    p = sl.softmax(np.array([gap, 0.0], dtype))
    assert p[0] * (1 - p[0]) == 0
    np.testing.assert_allclose(
        sl.softmax_jacobian(p), math.exp(-gap) * np.array([[1, -1], [-1, 1]]), rtol=3e-7
    )


def test_claim_3_5_cross_entropy_takes_the_jacobian_out() -> None:
    """Confidently wrong, the Jacobian is gone.

    The gradient of the cross-entropy is sqrt(2) there. That of the squared error is gone too.
    """
    z = [50.0, 0.0, 0.0]
    p = sl.softmax(z)
    assert spectral_norm(z) < 1e-20
    assert gradient_norm(z, 1) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert np.linalg.norm(sl.softmax_vjp(p, p - np.eye(3)[1])) < 1e-20


@given(rows)
def test_claim_3_5_gradient_is_p_minus_y(z: list[float]) -> None:
    """G times dL/dp = -e_y / p_y: the 1 / p_y cancels."""
    p, y = sl.softmax(z), 0
    gradient = sl.cross_entropy_grad(z, y)[1]
    np.testing.assert_allclose(gradient, p - np.eye(len(z))[y], rtol=0, atol=1e-15)
    np.testing.assert_allclose(sl.softmax_vjp(p, -np.eye(len(z))[y] / p[y]), gradient, rtol=0, atol=1e-14)


def test_claim_3_5_depth_does_not_multiply_probabilities() -> None:
    """The counterexample: under orthogonal layers the gradient keeps its norm at every depth."""
    gradient = sl.cross_entropy_grad([5.0, 0.0, -1.0, 2.0], 1)[1]
    norm = np.linalg.norm(gradient)
    for layer in range(1, 65):
        v = np.cos(layer + np.arange(4.0))
        gradient = gradient - 2 * v * (v @ gradient) / (v @ v)
    assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize(("temperature", "norm"), [(1.0, 0.5), (0.5, 1.0), (0.25, 2.0)])
def test_claim_3_5_stacked_softmax(temperature: float, norm: float) -> None:
    """A softmax inside the network contributes at most 1 / (2 T), which is reached.

    It shrinks for T > 1/2, and may grow below.
    """
    assert spectral_norm([0.5, 0.5], temperature=temperature) == norm
    rng = np.random.default_rng(0)
    norms = [spectral_norm(z, temperature=temperature) for z in rng.normal(scale=2.0, size=(200, 4))]
    assert max(norms) <= norm * SLACK


@given(boxes)
def test_claim_3_6_jacobian_of_up_to_five_classes(z: list[float]) -> None:
    """|z_i| <= 1 and K <= 5: spectral and Frobenius norm lie in [0.2, 0.5]."""
    p = sl.softmax(z)
    two, fro = (float(sl.softmax_jacobian_norm(p, ord=order)) for order in (2, "fro"))
    assert 0.2 / SLACK <= two <= fro * SLACK <= 0.5 * SLACK**2


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 6, 10, 100, 1000])
def test_claim_3_6_nuclear_norm_stays_in_the_interval(num_classes: int) -> None:
    """The sum of the eigenvalues is 1 - sum p^2, in [0.2099, 1) for every K."""
    corners = [[1.0] * m + [-1.0] * (num_classes - m) for m in range(1, num_classes)]
    drawn = np.random.default_rng(0).uniform(-1, 1, size=(50, num_classes))
    p = sl.softmax(np.array([*corners, *drawn, np.zeros(num_classes)]))
    few = p[:: max(1, num_classes // 10)]
    eigenvalues = np.linalg.eigvalsh(sl.softmax_jacobian(few))
    np.testing.assert_allclose(abs(eigenvalues).sum(axis=1), 1 - (few**2).sum(axis=1), rtol=1e-12)
    nuclear = 1 - (p**2).sum(axis=1)
    assert 0.2099 < nuclear.min() == nuclear[: len(corners)].min()
    assert nuclear.max() == pytest.approx(1 - 1 / num_classes)
    assert nuclear.min() >= 1 / (2 * math.cosh(1.0) ** 2) / SLACK
    entries = abs(sl.softmax_jacobian(few)).sum(axis=(1, 2))  # entry by entry it leaves the interval
    np.testing.assert_allclose(entries, 2 * (1 - (few**2).sum(axis=1)), rtol=1e-12)
    assert num_classes < 3 or entries.max() > 1


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 6, 10, 100, 1000])
def test_claim_3_6_smallest_spectral_norm(num_classes: int) -> None:
    """The minimum over the box is at equal logits, or for K = 2 and 3 at a corner.

    At that corner one class is up. From K = 6 on the minimum is below 0.2.
    """
    corner = np.full(num_classes, -1.0)
    corner[0] = 1.0
    smallest = min(spectral_norm(corner), spectral_norm(np.zeros(num_classes)))
    drawn = np.random.default_rng(0).uniform(-1, 1, size=(50, num_classes))
    assert min(spectral_norm(z) for z in drawn) >= smallest / SLACK
    assert spectral_norm(np.zeros(num_classes)) == pytest.approx(1 / num_classes)
    assert (smallest < 0.2 / SLACK) == (num_classes >= 6)


@pytest.mark.parametrize("num_classes", range(2, 31))
def test_claim_3_6_frobenius_norm_of_up_to_23_classes(num_classes: int) -> None:
    """The chapter's lower bound, in fractions: above 0.2 on the whole box from K = 6 to K = 23.

    Up to K = 5 the spectral norm, which is the smaller one, is at least 0.2. From K = 24 on equal logits
    are below.
    """
    e2 = Fraction(7389057, 10**6)  # above e^2: the bound falls as it grows
    assert math.e**2 < e2 < math.e**2 + 1e-6
    uniform = Fraction(1, num_classes)
    above = e2 / (e2 + num_classes - 1) - uniform  # what a probability has above 1/K at most
    c = max(Fraction(0), 2 * above - 1 + 4 * uniform)
    bound = (num_classes - 1) * uniform**2 - c**2 / 4
    assert (bound >= Fraction(1, 25)) == (6 <= num_classes <= 23)
    assert (c == 0) == (num_classes >= 12)  # so that the least is at equal logits
    spectral = min(1 / num_classes, num_classes * math.e**2 / (math.e**2 + num_classes - 1) ** 2)
    assert (spectral >= 0.2) == (num_classes <= 5)
    corners = [[1.0] * m + [-1.0] * (num_classes - m) for m in range(1, num_classes)]
    drawn = np.random.default_rng(0).uniform(-1, 1, size=(500, num_classes))
    p = sl.softmax(np.array([*corners, *drawn]))
    norms = sl.softmax_jacobian_norm(p, ord="fro")
    assert (norms**2).min() >= float(bound) / SLACK
    assert norms.max() <= 0.5 * SLACK
    two, three = ((p - 1 / num_classes) ** r for r in (2, 3))
    second, third = two.sum(axis=1), three.sum(axis=1)
    expanded = (num_classes - 1) / num_classes**2 + (1 - 4 / num_classes) * second - 2 * third + second**2
    np.testing.assert_allclose(norms**2, expanded, rtol=1e-11)
    assert (third <= float(above) * second * SLACK).all()


@pytest.mark.parametrize("num_classes", [2, 5, 6, 23, 24, 1000])
def test_claim_3_6_frobenius_norm_at_equal_logits(num_classes: int) -> None:
    """The other norm leaves the interval later: below 0.2 at equal logits from K = 24."""
    norm = float(sl.softmax_jacobian_norm(sl.softmax(np.zeros(num_classes)), ord="fro"))
    assert norm == pytest.approx(math.sqrt(num_classes - 1) / num_classes)
    assert (norm < 0.2) == (num_classes >= 24)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
def test_claim_3_6_cross_entropy_leaves_the_interval(num_classes: int) -> None:
    """The gradient p - y: above 1 at a corner of the box for every K here, below 0.2 at another for K = 2."""
    corners = [[1.0] * m + [-1.0] * (num_classes - m) for m in range(1, num_classes)]
    norms = [gradient_norm(z, y) for z in corners for y in (0, num_classes - 1)]
    drawn = np.random.default_rng(0).uniform(-1, 1, size=(50, num_classes))
    assert min(norms) / SLACK <= min(gradient_norm(z, 0) for z in drawn)
    assert max(gradient_norm(z, 0) for z in drawn) <= max(norms) * SLACK
    assert max(norms) > 1
    assert (min(norms) < 0.2) == (num_classes == 2)
    s = (num_classes - 1) / (math.e**2 + num_classes - 1)
    assert min(norms) == pytest.approx(s * math.sqrt(num_classes / (num_classes - 1)))
    if num_classes == 2:
        assert [round(min(norms), 2), round(max(norms), 2)] == [0.17, 1.25]


def test_claim_3_7_counterexamples() -> None:
    """All logits beyond 3 in size, and norms far above 0.01: a tie, and a row that is wrong."""
    assert spectral_norm([4.0, 4.0]) == 0.5
    assert spectral_norm([100.0, 100.0, -100.0]) == pytest.approx(0.5)
    assert gradient_norm([4.0, -4.0], 1) > 1.41
    assert spectral_norm([3.1] + [-3.1] * 9) > 0.01
    assert spectral_norm([0.0] * 1000) < 0.01


@given(rows, st.floats(-1000, 1000))
def test_claim_3_7_only_differences_count(z: list[float], shift: float) -> None:
    shifted = np.round(np.array(z) * 2**20) / 2**20 + np.round(shift * 2**10) / 2**10  # exact sums
    assert spectral_norm(shifted) == pytest.approx(spectral_norm(shifted - shifted.max()), rel=1e-13)


@given(rows)
def test_claim_3_7_bound_by_the_gap(z: list[float]) -> None:
    """||G||_2 <= p_1 (1 - p_1 + p_2) <= K e^-gap, p_1 >= p_2 the largest two."""
    with mpmath.workdps(exact.DIGITS):
        norm = exact_spectrum(z)[-1]
        second, first = sorted(exact.softmax(z))[-2:]
        assert norm <= first * (1 - first + second) * (1 + mpmath.mpf(10) ** -300)
        assert first * (1 - first + second) <= len(z) * second / first
        assert len(z) / (len(z) - 1) * first * (1 - first) <= norm * SLACK


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
def test_claim_3_7_gap_for_one_percent(num_classes: int) -> None:
    """A gap of log(100 K) keeps the norm below 0.01; with equal others, half a unit less does not."""
    gap = math.log(100 * num_classes)
    worst_row = np.r_[gap, np.zeros(num_classes - 1)]
    assert 0.009 < spectral_norm(worst_row) < 0.01
    assert spectral_norm(worst_row - np.r_[0.5, np.zeros(num_classes - 1)]) > 0.01
