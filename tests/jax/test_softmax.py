"""Softmax, its logarithm and log-sum-exp on JAX arrays: ulps, derivatives, masks, temperatures, errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import softmax_lab as sl
import softmax_lab.jax as slj
from softmax_lab import exact
from softmax_lab.audit.cases import HARD_ROWS
from softmax_lab.jax._formula import arithmetic
from tests.ulps import dtype_of, row_errors

from .problems import problem, with_64_bits

MAPS = {"softmax": slj.softmax, "log_softmax": slj.log_softmax}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_log_sum_exp_is_within_an_ulp_of_its_largest_term(dtype: str) -> None:
    """The other functions of a row are in the audit."""
    with with_64_bits():
        for case in HARD_ROWS:
            rows = case.make(dtype_of(dtype))
            found = np.asarray(slj.logsumexp(rows))
            for row, value in zip(rows, found, strict=True):
                expected = exact.logsumexp(row.astype(np.float64))
                size = max(abs(float(row.astype(np.float64).max())), abs(float(expected)))
                assert exact.ulp_error(value, [expected], dtype=dtype_of(dtype), scale=[size]) <= 1.5, (
                    case.name
                )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["moderate", "confident", "offset 1e4", "wide", "many classes"])
def test_ulps_at_a_temperature(name: str, dtype: str) -> None:
    """The temperature divides the shift, remainder and all."""
    case = next(case for case in HARD_ROWS if case.name == name)
    with with_64_bits():
        for function, oracle in ((slj.softmax, exact.softmax), (slj.log_softmax, exact.log_softmax)):
            error = row_errors(
                case,
                np.dtype(dtype),
                lambda row, function=function: np.asarray(function(row, temperature=0.7)),
                lambda row, oracle=oracle: oracle(row, float(np.dtype(dtype).type(0.7))),
            )
            assert error <= 4.0


@pytest.mark.parametrize("name", MAPS)
def test_masks_and_axes_are_the_numpy_packages(name: str) -> None:
    z = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    where = np.random.default_rng(1).random(z.shape) < 0.6
    where[0, :, 1] = False
    expected = getattr(sl, name)(z, axis=1, where=where)
    found = MAPS[name](np.where(where, z, np.nan), 1, where=where)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.where(where, MAPS[name](x, 1, where=where), 0.0)[:, 0].sum())(z)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~where].any()
    total = slj.logsumexp(z, 1, where=where, keepdims=True)
    np.testing.assert_allclose(total, sl.logsumexp(z, axis=1, where=where, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_derivatives_in_logits_and_temperature(name: str) -> None:
    with with_64_bits():
        z = jnp.asarray(problem().logits)
        check_grads(  # type: ignore[no-untyped-call]
            lambda x, t: MAPS[name](x, temperature=t), (z, jnp.asarray(0.7)), order=2, rtol=1e-5, atol=1e-5
        )
        check_grads(slj.logsumexp, (z,), order=2, rtol=1e-5, atol=1e-5)  # type: ignore[no-untyped-call]


def test_a_confident_row_keeps_its_derivative() -> None:
    """In float32, forward and back: 1 - p is 1e-26."""
    z, g = jnp.array([60.0, 0.0, -1.0]), jnp.array([0.3, -1.0, 2.0])
    jacobian = np.array(exact.softmax_jacobian(np.asarray(z, np.float64)), dtype=np.float64)
    expected = jacobian @ np.float64(g)
    np.testing.assert_allclose(jax.jvp(slj.softmax, (z,), (g,))[1], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vjp(slj.softmax, z)[1](g)[0], expected, rtol=1e-6)


def test_infinities() -> None:
    inf = np.inf
    z = np.array([[inf, 0.0], [-inf, -inf], [-inf, 1.0], [np.nan, 0.0]], np.float32)
    np.testing.assert_array_equal(slj.logsumexp(z), [inf, -inf, 1.0, np.nan])
    np.testing.assert_array_equal(slj.softmax(z), [[np.nan] * 2, [np.nan] * 2, [0.0, 1.0], [np.nan] * 2])
    np.testing.assert_array_equal(slj.log_softmax(z)[2], [-inf, 0.0])


@pytest.mark.parametrize(
    ("error", "words", "arguments", "options"),
    [
        (TypeError, "logits must be a jax.Array or a numpy.ndarray; got float", (1.0,), {}),
        (ValueError, "logits must have at least one axis", (np.array(1.0, np.float32),), {}),
        (ValueError, "at least one class", (np.zeros((2, 0), np.float32),), {}),
        (ValueError, "temperature must be finite and > 0; got 0", (np.zeros(2),), {"temperature": 0.0}),
        (ValueError, "temperature must lie between", (np.zeros(2),), {"temperature": 1e-300}),
        (TypeError, "scalar array of floats", (np.zeros(2),), {"temperature": jnp.ones(2)}),
    ],
)
def test_bad_input_is_refused(error: type[Exception], words: str, arguments: Any, options: Any) -> None:
    with pytest.raises(error, match=words):
        slj.softmax(*arguments, **options)


# ---- the arithmetic ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_elementary_functions_are_within_an_ulp(dtype: str) -> None:
    """Compiled and not: a compiler may fuse products with sums."""
    rng = np.random.default_rng(0)
    lowest = -80.0 if dtype == "float32" else -700.0
    d = np.concatenate([-np.logspace(-12, np.log10(-lowest), 300), rng.uniform(-2, 0, 300), [0.0]]).astype(
        dtype
    )
    x = np.concatenate([np.logspace(-30, 8, 300), rng.uniform(0, 3, 300), [0.0]]).astype(dtype)
    mpmath = exact.mpmath
    with with_64_bits(), mpmath.workdps(40):
        for wrap in (lambda f: f, jax.jit):
            found = np.asarray(wrap(arithmetic.exponential)(jnp.asarray(d), jnp.zeros_like(d)))
            assert exact.ulp_error(found, [mpmath.exp(mpmath.mpf(float(t))) for t in d]).max() <= 1.0
            found = np.asarray(wrap(arithmetic.log1p)(jnp.asarray(x)))
            assert exact.ulp_error(found, [mpmath.log1p(mpmath.mpf(float(t))) for t in x]).max() <= 1.0


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", [1, 16, 17, 1000, 131_072, 1_000_003])
def test_sums_do_not_drift(size: int, jit: bool) -> None:
    x = np.random.default_rng(size).random((1, size)).astype(np.float32)
    total = (jax.jit(arithmetic.row_sum) if jit else arithmetic.row_sum)(jnp.asarray(x))
    exact_sum = exact.mpmath.mpf(float(np.sum(x.astype(np.float64))))
    assert exact.ulp_error(np.asarray(total), [exact_sum]) <= 1.5
