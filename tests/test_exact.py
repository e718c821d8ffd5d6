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
    """Only the value's formula is trusted: its central difference with step 1e-100 is good to about 200
    digits.
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_ulp_is_the_spacing_of_floats(dtype: type) -> None:
    for x in (1.0, 1.5, 0.1, 1023.0, 2.0**-10):
        value = dtype(x)
        assert exact.ulp_error(np.nextafter(value, dtype(9999)), [float(value)])[0] == pytest.approx(1.0)
        assert exact.ulp_error(value, [float(value)])[0] == 0


def test_ulp_conventions() -> None:
    nan, inf = float("nan"), float("inf")
    assert exact.ulp_error([nan, inf, -inf], [mpmath.nan, mpmath.inf, mpmath.ninf]).max() == 0
    assert exact.ulp_error([1.0], [mpmath.nan])[0] == inf
    assert exact.ulp_error([nan], [mpmath.mpf(1)])[0] == inf
    assert exact.ulp_error([1e308], [mpmath.inf])[0] == inf
    assert exact.ulp_error(np.float32(np.inf), [mpmath.mpf(10) ** 60])[0] == 0
    assert exact.ulp_error(np.float32(0.0), [mpmath.mpf(2) ** -127])[0] == 0.5  # flushed to zero
    assert (
        exact.ulp_error([1.0], [mpmath.mpf(1) + mpmath.mpf(2) ** -52], scale=[mpmath.mpf(1024)])[0]
        == 2.0**-10
    )
