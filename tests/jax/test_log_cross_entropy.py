"""The log of the mean loss on JAX arrays: the NumPy package, the oracle, rows that do not count, refusals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import softmax_lab as sl
import softmax_lab.jax as slj
from softmax_lab import LossSpec, exact
from tests.logs import LOG_SPECS
from tests.specs import K

from .problems import problem, with_64_bits


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOG_SPECS)
def test_value_gradient_and_product_are_the_numpy_packages(name: str, reduction: Any) -> None:
    logits, target, weights = problem()
    spec = LOG_SPECS[name]
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": weights}
    tangent = np.random.default_rng(1).standard_normal(logits.shape)

    def total(z: Any) -> Any:
        values = slj.log_cross_entropy(z, target, spec, **options)
        return jnp.where(jnp.isinf(values), 0.0, values).sum()

    with with_64_bits():
        value = slj.log_cross_entropy(logits, target, spec, **options)
        gradient, product = jax.jvp(jax.grad(total), (logits,), (tangent,))
    expected, slope = sl.log_cross_entropy_grad(logits, target, spec, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-13)
    exact_product = sl.log_cross_entropy_hvp(logits, target, tangent, spec, **options)
    np.testing.assert_allclose(product, exact_product, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", LOG_SPECS)
def test_derivatives_are_finite_differences(name: str) -> None:
    logits, target, _ = problem()
    with with_64_bits():
        check_grads(  # type: ignore[no-untyped-call]
            lambda z, spec: slj.log_cross_entropy(z, target, spec),
            (jnp.asarray(logits), LOG_SPECS[name]),
            order=1,
            atol=1e-5,
            rtol=1e-5,
        )


def test_a_confident_batch_keeps_its_gradient() -> None:
    """In float32 the mean loss of these rows is 0, and so is its gradient."""
    rows = np.array([[1000.0, 0.0, -1.0], [998.0, 0.0, 3.0], [0.0, 500.0, 2.0]], np.float32)
    labels = np.array([0, 0, 1])
    value, gradient = jax.value_and_grad(slj.log_cross_entropy)(rows, labels)
    np.testing.assert_allclose(value, float(exact.log_cross_entropy(rows, labels)), rtol=1e-6)
    expected = [[float(x) for x in row] for row in exact.log_cross_entropy_grad(rows, labels)]
    # a share is an exponential: it has the absolute error of its logarithm
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-30)
    assert float(jax.grad(slj.cross_entropy)(rows, labels)[0, 0]) == 0.0


def test_rows_without_another_class_and_rows_that_do_not_count() -> None:
    rows = np.array([[0.0, -np.inf], [1.0, 2.0], [3.0, 4.0]], np.float32)
    labels, weights = np.array([0, 1, -100]), np.array([1.0, 1.0, 1.0])
    found = slj.log_cross_entropy(rows, labels, reduction="none", sample_weight=weights)
    expected = sl.log_cross_entropy(rows, labels, reduction="none", sample_weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    gradient = jax.grad(slj.log_cross_entropy)(rows, labels)
    np.testing.assert_allclose(gradient, sl.log_cross_entropy_grad(rows, labels)[1], rtol=1e-6)


@pytest.mark.parametrize(("empty", "expected"), [("nan", np.nan), ("zero", 0.0)])
@pytest.mark.parametrize("rows", [0, 2])
def test_where_no_row_counts(rows: int, empty: Any, expected: float) -> None:
    z, y = jnp.zeros((rows, 3)), jnp.full(rows, -100)
    value, gradient = jax.value_and_grad(slj.log_cross_entropy)(z, y, empty=empty)
    np.testing.assert_equal(float(value), expected)
    assert not np.asarray(gradient).any()


def test_what_bounds_the_loss_is_refused_traced_too() -> None:
    z, y = np.zeros((1, K), np.float32), np.array([0])
    for spec in (LossSpec(smoothing=0.1), LossSpec(gamma=2.0), LossSpec(prior=np.full(K, 1 / K))):
        with pytest.raises(ValueError, match="the log of the mean loss takes class indices"):
            slj.log_cross_entropy(z, y, spec)
        with pytest.raises(ValueError, match="the log of the mean loss takes class indices"):
            jax.jit(slj.log_cross_entropy)(z, y, spec)
    with pytest.raises(ValueError, match="a distribution per row"):
        slj.log_cross_entropy(z, z)
