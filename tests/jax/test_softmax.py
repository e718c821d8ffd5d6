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
from softmax_lab.jax._formula.rows import blocks_of
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


_BLOCKS = {2: 1, 100: 1, 511: 1, 512: 4, 1000: 5, 4096: 32, 32_003: 1, 50_257: 29, 131_072: 256}


def test_blocks_are_of_one_size_and_neither_short_nor_few() -> None:
    assert {num_classes: blocks_of(num_classes) for num_classes in _BLOCKS} == _BLOCKS


def _rows_with_their_peak_in_blocks() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Confident and tied rows of four blocks of 128 entries: the peak may stand in any of them, or in two."""
    background = np.random.default_rng(3).uniform(-9.0, 9.0, 512)
    peaks = ([0], [127], [128], [511], [130, 131], [5, 500], [0, 1, 300], range(512))
    rows = np.stack([background] * len(peaks))
    for row, places in zip(rows, peaks, strict=True):
        row[list(places)] = 25.25
    return rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("jit", [False, True])
def test_a_peak_is_left_out_of_its_block_alone(dtype: str, jit: bool) -> None:
    rows = _rows_with_their_peak_in_blocks().astype(dtype)
    assert blocks_of(rows.shape[1]) == 4
    wrap = jax.jit if jit else lambda f: f
    with with_64_bits():
        logs, totals = wrap(slj.log_softmax)(rows), wrap(slj.logsumexp)(rows)
        for row, found, total in zip(rows, np.asarray(logs), np.asarray(totals), strict=True):
            assert exact.ulp_error(found, exact.log_softmax(row.astype(np.float64))).max() <= 4.0
            assert exact.ulp_error(total, [exact.logsumexp(row.astype(np.float64))]) <= 1.5


def test_a_long_row_that_is_no_number_harms_no_other() -> None:
    rows = _rows_with_their_peak_in_blocks().astype(np.float32)[:5]
    expected = np.asarray(slj.log_softmax(rows))
    rows[0, 3], rows[1, 400], rows[2], rows[3, 200] = np.nan, np.inf, -np.inf, -np.inf
    found = np.asarray(slj.log_softmax(rows))
    assert np.isnan(found[:3]).all()
    assert found[3, 200] == -np.inf
    np.testing.assert_array_equal(found[4], expected[4])
    assert slj.log_softmax(jnp.zeros((0, 512))).shape == (0, 512)


def test_derivatives_of_long_rows_are_the_numpy_packages() -> None:
    rows = _rows_with_their_peak_in_blocks()
    tangent = np.random.default_rng(4).standard_normal(rows.shape)
    labels = np.arange(len(rows)) * 60
    probabilities = sl.softmax(rows)
    expected = sl.softmax_jvp(probabilities, tangent)
    value, gradient = sl.log_cross_entropy_grad(rows, labels)
    with with_64_bits():
        close: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-14}
        np.testing.assert_allclose(jax.jvp(slj.softmax, (rows,), (tangent,))[1], expected, **close)
        np.testing.assert_allclose(jax.vjp(slj.softmax, rows)[1](tangent)[0], expected, **close)
        found = jax.jvp(slj.log_softmax, (rows,), (tangent,))[1]
        centred = tangent - (probabilities * tangent).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, centred, **close)
        found = jax.value_and_grad(slj.log_cross_entropy)(jnp.asarray(rows), labels)
        np.testing.assert_allclose(found[0], value, rtol=1e-13)
        np.testing.assert_allclose(found[1], gradient, **close)


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
