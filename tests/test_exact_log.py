"""The oracle of the log of the mean loss: against numerical differentiation, the plain oracle, and limits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from softmax_lab import exact
from softmax_lab.spec import refused_by_log

from .specs import INDEX_SPECS, K

SPECS = {name: spec for name, spec in INDEX_SPECS.items() if not refused_by_log(spec)}
ROWS = np.random.default_rng(3).normal(0, 3, (3, K))
LABELS, WEIGHTS = [2, 0, 5], [0.5, 2.0, 1.0]
TINY = mpmath.mpf(10) ** -150


def test_the_specs_of_the_tests_hold_some_that_are_taken() -> None:
    assert len(SPECS) > 8


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", SPECS)
def test_gradient_is_the_derivative_of_the_value(name: str, reduction: str) -> None:
    spec = SPECS[name]
    gradient = exact.log_cross_entropy_grad(ROWS, LABELS, spec, reduction=reduction, sample_weight=WEIGHTS)
    with mpmath.workdps(exact.DIGITS):
        step = mpmath.mpf(10) ** -100
        for row, column in ((0, 2), (0, 1), (1, 3), (2, 5)):
            values = []
            for sign in (1, -1):
                moved = [[mpmath.mpf(float(x)) for x in z] for z in ROWS]
                moved[row][column] += sign * step
                value = exact.log_cross_entropy(
                    moved, LABELS, spec, reduction=reduction, sample_weight=WEIGHTS
                )
                values.append(value[row] if reduction == "none" else value)
            assert abs((values[0] - values[1]) / (2 * step) - gradient[row][column]) < TINY


@pytest.mark.parametrize("name", SPECS)
def test_it_is_the_log_of_the_plain_oracles_mean(name: str) -> None:
    spec = SPECS[name]
    with mpmath.workdps(exact.DIGITS):
        losses = [w * exact.cross_entropy(z, y, spec) for z, y, w in zip(ROWS, LABELS, WEIGHTS, strict=True)]
        omega = [w * exact.row_weight(z, y, spec) for z, y, w in zip(ROWS, LABELS, WEIGHTS, strict=True)]
        expected = mpmath.log(mpmath.fsum(losses) / mpmath.fsum(omega))
        found = exact.log_cross_entropy(ROWS, LABELS, spec, sample_weight=WEIGHTS)
        assert abs(found - expected) < TINY


@pytest.mark.parametrize("gap", [1e4, 1e38, 1e300])
def test_gaps_of_any_size_are_held(gap: float) -> None:
    """log l = s - e^s / 2 + ..., and of two rows with the same gap each has half of the gradient."""
    with mpmath.workdps(exact.DIGITS):
        found = exact.log_loss([gap, 0.0, 0.0], 0)
        assert found.value == mpmath.log(2) - mpmath.mpf(gap)
        assert found.slope == 1
        gradient = exact.log_cross_entropy_grad([[gap, 0.0, 0.0]] * 2, [0, 0])
        assert gradient[0] == [-0.5, 0.25, 0.25]


def test_a_row_without_other_classes_has_no_loss() -> None:
    assert exact.log_loss([3.0], 0).value == mpmath.ninf
    assert exact.log_cross_entropy([[3.0]], [0]) == mpmath.ninf
    assert exact.log_cross_entropy_grad([[3.0]], [0]) == [[0]]
