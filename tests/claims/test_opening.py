"""Evidence for the verdicts on claims 0.1 and 0.2 of the article's opening."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl

Logits = st.lists(st.floats(-20, 20), min_size=2, max_size=6)


@given(Logits)
def test_claim_0_1_finite_logits_couple_every_pair(z: list[float]) -> None:
    """Every off-diagonal entry is negative: in exact arithmetic, and computed while nothing underflows."""
    off = ~np.eye(len(z), dtype=bool)
    assert all(entry < 0 for entry in np.array(sl.exact.softmax_jacobian(z))[off])
    assert (sl.softmax_jacobian(sl.softmax(z))[off] < 0).all()


@pytest.mark.parametrize("z", [[1.0, -np.inf, 0.0], [800.0, 0.0, 0.0]], ids=["masked", "underflow"])
def test_claim_0_1_masks_and_underflow_uncouple(z: list[float]) -> None:
    """Outside the condition the article's statement fails: off-diagonal entries are exactly zero."""
    assert sl.softmax_jacobian(sl.softmax(z))[0, 1] == 0


def _gradient(z: list[float], target: Any) -> NDArray[np.float64]:
    gradient = sl.cross_entropy_grad([z], [target], reduction="none")[1][0]
    return np.asarray(gradient)


@given(Logits, st.data())
def test_claim_0_2_gradient_is_probability_minus_label(z: list[float], data: st.DataObject) -> None:
    y = data.draw(st.integers(0, len(z) - 1))
    difference = sl.softmax(z) - np.eye(len(z))[y]
    assert np.allclose(_gradient(z, y), difference, rtol=0, atol=4e-16)
    step = 1e-5  # a derivative of the value, by central differences: knows nothing of the formula
    ahead, behind = (
        sl.cross_entropy(z + s * np.eye(len(z)), np.full(len(z), y), reduction="none") for s in (step, -step)
    )
    assert np.allclose((ahead - behind) / (2 * step), difference, rtol=0, atol=1e-8)


def test_claim_0_2_needs_a_label_that_sums_to_one() -> None:
    """Smoothed labels do and keep p - t; a label multiplied by a weight does not."""
    z, smooth, doubled = [2.0, 1.0, 0.0], np.array([0.9, 0.05, 0.05]), np.array([2.0, 0.0, 0.0])
    assert np.allclose(_gradient(z, smooth), sl.softmax(z) - smooth)
    assert np.allclose(_gradient(z, doubled), 2 * sl.softmax(z) - doubled)
    assert np.abs(_gradient(z, doubled) - (sl.softmax(z) - doubled)).max() > 0.1
