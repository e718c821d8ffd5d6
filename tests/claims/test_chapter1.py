"""Evidence for the verdicts of chapter 1.

The Jacobian, the range of its entries, the gradient of cross-entropy.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl

Logits = st.lists(st.floats(-20, 20), min_size=2, max_size=6)
Z = [2.0, 1.0, 0.5, 0.0, -1.0]
SOFT = np.array([0.5, 0.25, 0.125, 0.125, 0.0])  # sums to one exactly


def _gradient(z: Any, target: Any) -> NDArray[np.float64]:
    return np.asarray(sl.cross_entropy_grad([z], [target], reduction="none")[1][0])


@given(Logits)
def test_claim_1_1_jacobian_formula(z: list[float]) -> None:
    """The formula is the derivative of the softmax, by differences with a step of 1e-100."""
    with mpmath.workdps(sl.exact.DIGITS):
        step, row = mpmath.mpf(10) ** -100, [mpmath.mpf(x) for x in z]
        for j, column in enumerate(np.array(sl.exact.softmax_jacobian(z)).T):
            ahead, behind = (
                sl.exact.softmax([x + s * (k == j) for k, x in enumerate(row)]) for s in (step, -step)
            )
            assert all(
                abs((a - b) / (2 * step) - g) < mpmath.mpf(10) ** -150
                for a, b, g in zip(ahead, behind, column, strict=True)
            )


@given(Logits)
def test_claim_1_1_package_computes_it(z: list[float]) -> None:
    """Within 2 ulp for the probabilities that it is given.

    From the logits, an entry carries the rounding of two probabilities.
    """
    p = sl.softmax(z)
    computed = sl.softmax_jacobian(p).ravel()
    with mpmath.workdps(sl.exact.DIGITS):
        row = [mpmath.mpf(x) for x in p]
        # 1 - p_i, for probabilities that add up to one only nearly
        others = [mpmath.fsum(row) - x for x in row]
        given_p = [x * (others[i] if i == j else -y) for i, x in enumerate(row) for j, y in enumerate(row)]
    assert sl.exact.ulp_error(computed, given_p).max() <= 2
    assert (
        sl.exact.ulp_error(computed, [entry for line in sl.exact.softmax_jacobian(z) for entry in line]).max()
        <= 8
    )


@given(Logits)
def test_claim_1_1_matrix_form(z: list[float]) -> None:
    p = sl.softmax(z)
    assert np.allclose(sl.softmax_jacobian(p), np.diag(p) - np.outer(p, p), rtol=0, atol=1e-15)


@given(Logits)
def test_claim_1_2_diagonal_range(z: list[float]) -> None:
    """For finite logits 0 < p (1 - p) <= 1/4, as exact numbers."""
    assert all(0 < line[i] <= mpmath.mpf("0.25") for i, line in enumerate(sl.exact.softmax_jacobian(z)))


def test_claim_1_2_ends_of_the_range() -> None:
    """1/4 is reached at p_i = 1/2, with any K.

    0 is reached by one class, a mask or underflow, and only approached otherwise.
    """
    assert sl.exact.softmax_jacobian([0.0, 0.0])[0][0] == 0.25
    with mpmath.workdps(sl.exact.DIGITS):
        # p = (1/2, 1/4, 1/4)
        three = sl.exact.softmax_jacobian([mpmath.log(2), mpmath.mpf(0), mpmath.mpf(0)])[0][0]
        assert abs(three - mpmath.mpf("0.25")) < mpmath.mpf(10) ** -300
    assert 0 < sl.exact.softmax_jacobian([300.0, 0.0])[0][0] < 1e-100
    for z in ([1.0], [1.0, -np.inf], [800.0, 0.0]):
        assert sl.softmax_jacobian(sl.softmax(z))[0, 0] == 0


@given(Logits)
def test_claim_1_3_off_diagonal_range(z: list[float]) -> None:
    """For finite logits -1/4 <= -p_i p_j < 0, and -1/4 is excluded as soon as there is a third class."""
    entries: NDArray[Any] = np.array(sl.exact.softmax_jacobian(z))[~np.eye(len(z), dtype=bool)]
    assert all(-0.25 <= entry < 0 for entry in entries)
    assert len(z) == 2 or all(entry > -0.25 for entry in entries)


def test_claim_1_3_lower_end_needs_two_halves() -> None:
    assert sl.exact.softmax_jacobian([0.0, 0.0])[0][1] == -0.25
    assert sl.exact.softmax_jacobian([0.0, 1e-9])[0][1] > -0.25
    gap = sl.exact.softmax_jacobian([0.0, 0.0, -30.0])[0][1] + 0.25
    assert 0 < gap < 1e-12


@pytest.mark.parametrize("z", [[1.0, -np.inf], [800.0, 0.0]], ids=["masked", "underflow"])
def test_claim_1_3_zero_outside_the_condition(z: list[float]) -> None:
    """The article excludes 0, and a masked class or an underflow gives exactly 0."""
    assert sl.softmax_jacobian(sl.softmax(z))[0, 1] == 0


@given(Logits, st.data())
def test_claim_1_4_hard_label_gradient(z: list[float], data: st.DataObject) -> None:
    y = data.draw(st.integers(0, len(z) - 1))
    gradient, p = _gradient(z, y), sl.exact.softmax(z)
    assert sl.exact.ulp_error(gradient, [p_k - (k == y) for k, p_k in enumerate(p)]).max() <= 4


@pytest.mark.parametrize("soft", [False, True], ids=["1.4 hard", "1.5 soft"])
def test_claim_1_4_1_5_cost_is_linear(soft: bool) -> None:
    """A million classes: what is touched is O(K) numbers, a K x K matrix would be a million times the row."""
    row = np.zeros((1, 1 << 20))
    tracemalloc.start()
    try:
        sl.cross_entropy_grad(row, np.full_like(row, 2.0**-20) if soft else [0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * row.nbytes  # O(K), where a Jacobian would be K * row.nbytes


@given(Logits, st.data())
def test_claim_1_5_soft_label_gradient(z: list[float], data: st.DataObject) -> None:
    """The gradient is the vector S p - t, for any target; its components add up to zero."""
    t = data.draw(st.lists(st.floats(0, 2), min_size=len(z), max_size=len(z)))
    p = sl.exact.softmax(z)
    with mpmath.workdps(sl.exact.DIGITS):
        total = mpmath.fsum(mpmath.mpf(x) for x in t)
        exact = [total * p_k - mpmath.mpf(t_k) for p_k, t_k in zip(p, t, strict=True)]
        scale = [max(total * p_k, mpmath.mpf(t_k)) for p_k, t_k in zip(p, t, strict=True)]
        assert abs(mpmath.fsum(exact)) < mpmath.mpf(10) ** -350
        step, row = mpmath.mpf(10) ** -100, [mpmath.mpf(x) for x in z]
        for j, entry in enumerate(exact):  # from the value alone
            ahead, behind = (
                sl.exact.cross_entropy([x + s * (k == j) for k, x in enumerate(row)], t)
                for s in (step, -step)
            )
            assert abs((ahead - behind) / (2 * step) - entry) < mpmath.mpf(10) ** -150
    assert sl.exact.ulp_error(_gradient(z, t), exact, scale=scale).max() <= 4


def test_claim_1_5_article_sum_is_always_zero() -> None:
    """The counterexample: one number, zero for every row of logits, against a gradient of K components."""
    for z in (Z, Z[::-1], [0.0] * 5):
        article = mpmath.fsum(p - t for p, t in zip(sl.exact.softmax(z), SOFT, strict=True))
        assert abs(article) < 1e-14
        assert np.abs(_gradient(z, SOFT)).max() > 0.01
    assert np.allclose(_gradient(Z, SOFT), sl.softmax(Z) - SOFT, rtol=0, atol=1e-15)
