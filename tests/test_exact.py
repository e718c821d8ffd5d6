"""The oracle: against numerical differentiation in 400 digits, and values known in closed form."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from softmax_lab import LossSpec, exact

from .specs import INDEX_SPECS, SOFT_SPECS, K

Z = np.random.default_rng(3).normal(0, 3, K)
TARGETS = [pytest.param(spec, 2, id=name) for name, spec in INDEX_SPECS.items()]
TARGETS += [
    pytest.param(spec, list(np.random.default_rng(4).dirichlet(np.ones(K))), id=f"soft {name}")
    for name, spec in SOFT_SPECS.items()
]


@pytest.mark.parametrize(("spec", "target"), TARGETS)
def test_gradient_is_the_derivative_of_the_value(spec: LossSpec, target: int | list[float]) -> None:
    """Only the value's formula is trusted.

    Its central difference with step 1e-100 is good to about 200 digits.
    """
    weight = exact.row_weight(Z, target, spec)
    gradient = exact.cross_entropy_grad(Z, target, spec)
    with mpmath.workdps(exact.DIGITS):
        step = mpmath.mpf(10) ** -100
        for k in range(K):
            ahead, behind = (
                [mpmath.mpf(float(x)) + s * step * (i == k) for i, x in enumerate(Z)] for s in (1, -1)
            )
            up, down = (exact.cross_entropy(x, target, spec, weight=weight) for x in (ahead, behind))
            assert abs((up - down) / (2 * step) - gradient[k]) < mpmath.mpf(10) ** -150


def test_known_values() -> None:
    with mpmath.workdps(50):
        assert abs(exact.softmax([0.0, 0.0])[0] - 0.5) < 1e-50
        assert abs(exact.logsumexp([0.0, 0.0]) - mpmath.log(2)) < 1e-50
        assert (
            abs(exact.cross_entropy([40.0, 0.0], 0) - mpmath.log1p(mpmath.exp(-40))) < mpmath.mpf(10) ** -60
        )
        assert abs(exact.softmax([3.0, 1.0], temperature=2.0)[0] - 1 / (1 + mpmath.exp(-1))) < 1e-40


def test_jacobian_is_the_derivative_of_softmax() -> None:
    jacobian = exact.softmax_jacobian(Z, temperature=0.5)
    with mpmath.workdps(exact.DIGITS):
        step = mpmath.mpf(10) ** -100
        ahead, behind = (
            [mpmath.mpf(float(x)) + s * step * (i == 1) for i, x in enumerate(Z)] for s in (1, -1)
        )
        up, down = exact.softmax(ahead, 0.5), exact.softmax(behind, 0.5)
        for i in range(K):
            assert abs((up[i] - down[i]) / (2 * step) - jacobian[i][1]) < mpmath.mpf(10) ** -150


def test_two_floats_hold_twice_the_digits() -> None:
    with mpmath.workdps(exact.DIGITS):
        values = [mpmath.mpf(1) / 3, mpmath.mpf(2) ** 1030, mpmath.ninf, -mpmath.pi]
        high, low = exact.two_floats(values)
        for x, top, rest in zip(values[::3], high[::3], low[::3], strict=True):
            assert float(x) == top
            assert abs(x - mpmath.mpf(top) - mpmath.mpf(rest)) < abs(x) * mpmath.mpf(2) ** -105
    assert high[1:3].tolist() == [float("inf"), float("-inf")]
    assert low[1:3].tolist() == [0.0, 0.0]


def test_an_error_is_counted_against_every_digit() -> None:
    with mpmath.workdps(exact.DIGITS):
        value = mpmath.mpf(1) + mpmath.mpf(2) ** -60
    assert exact.ulp_error(1.0, [value])[0] == 2.0**-8
    assert exact.ulp_error(1.0, [value], dtype=np.float32)[0] == 2.0**-37
    assert exact.ulp_error(1.0, [value], scale=[mpmath.mpf(4)])[0] == 2.0**-10


def test_a_masked_row_is_the_row_of_the_classes_that_take_part() -> None:
    spec = LossSpec(bias=np.arange(9.0).reshape(3, 3), smoothing=0.5, prior=[0.5, 0.25, 0.25])
    row, target, cut = exact.restricted([1.0, 2.0, 3.0], 2, spec, [True, False, True])
    assert (list(map(float, row)), target) == ([1.0, 3.0], 1)
    assert cut == LossSpec(bias=[[0.0, 2.0], [6.0, 8.0]], smoothing=0.5, prior=[2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="the target 1 is masked"):
        exact.restricted([1.0, 2.0, 3.0], 1, spec, [True, False, True])
