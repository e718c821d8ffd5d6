"""The loops of the log of the mean loss's Hessian product: the reference, the oracle, edges, and bits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch, exact
from softmax_lab._log_reference import LogReference
from softmax_lab._log_rows import deviations_of, shares_of
from softmax_lab._problem import prepare
from tests.logs import HARD, Array, in_type, relative_errors
from tests.ulps import dtype_of

from .test_log_rows import LENGTHS, MOST, batch, fields

#: of the size of a row's terms: one rounding of the result, and those of float64
BARS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-48}
SLACK = 1 + 2.0**-10  # for what is near the middle of two numbers


def tangents(z: Array) -> Array:
    return np.random.default_rng(7).normal(0, 1, z.shape).astype(z.dtype)


def reference(
    z: Array, y: Array, t: Array, spec: LossSpec = LossSpec(), **options: Any
) -> tuple[Array, Array]:
    """Return the product in float64, and the size of each row's terms, (N, 1)."""
    problem = prepare(z.astype(np.float64), y, spec, **options)
    work = LogReference(problem)
    *logs, moments = work.logs_and_moments(t.astype(np.float64))
    found = shares_of(problem, *logs)
    apart = np.zeros(len(z)) if problem.reduction == "none" else deviations_of(found.rho, moments)
    gradient = np.abs(work.logs_and_gradient(None)[1](found.rho)).max(axis=1)
    steepness = float(np.max(spec.scale)) / spec.temperature + 1.0
    size = gradient * steepness * (np.abs(t.astype(np.float64)).max(axis=1) + np.abs(apart))
    return work.product(t.astype(np.float64), found.rho, apart, None), size[:, None]


def assert_close(z: Array, y: Array, spec: LossSpec = LossSpec(), **options: Any) -> None:
    t = tangents(z)
    found = sl.log_cross_entropy_hvp(z, y, t, spec, **options)
    assert found.dtype == z.dtype
    expected, size = reference(z, y, t, spec, **options)
    bar = max(BARS[z.dtype.name], ((spec.softcap or 0.0) + 4.0) * 2.0**-50)
    smallest = 1e-37 if z.dtype != np.float16 else 6e-8
    assert (np.abs(found.astype(np.float64) - expected) <= SLACK * bar * size + smallest).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("k", LENGTHS)
def test_rows_of_every_length(k: int, dtype: str, reduction: str) -> None:
    if k == 1:  # log l is -inf of every row
        z, y = np.ones((4, 1), dtype_of(dtype)), np.zeros(4, int)
        assert not sl.log_cross_entropy_hvp(z, y, z, reduction=reduction).any()  # type: ignore[arg-type]
        return
    assert_close(*batch(k, dtype), reduction=reduction)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("k", [6, 300, 5000])
@pytest.mark.parametrize("name", fields(6))
def test_fields_masks_and_weights(name: str, k: int, dtype: str) -> None:
    z, y = batch(k, dtype, 11)
    where = np.random.default_rng(2).random((11, k)) < 0.7
    where[np.arange(11), y] = True
    y[3] = -100
    weight = np.linspace(0.0, 3.0, 11)
    assert_close(z, y, fields(k)[name], sample_weight=weight)
    assert_close(z, y, fields(k)[name], where=where, reduction="sum")


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("case", HARD)
def test_the_oracles_products(case: str, reduction: Any, dtype: str) -> None:
    hard = in_type(HARD[case], dtype_of(dtype))
    t = tangents(hard.rows)
    found = sl.log_cross_entropy_hvp(hard.rows, hard.labels, t, reduction=reduction)
    wide = hard.rows.astype(np.float64), hard.labels, t.astype(np.float64)
    expected = exact.log_cross_entropy_hvp(*wide, reduction=reduction)
    finite = np.isfinite(hard.rows.astype(np.float64)).all(axis=1)
    # the oracle is a difference with a step of 1e-100: what is smaller than its square is none
    some = [
        [x if abs(x) > 1e-200 else mpmath.mpf(0) for x in row]
        for row, kept in zip(expected, finite, strict=True)
        if kept
    ]
    assert relative_errors(found[finite], some).max(initial=0.0) <= ORACLES_BARS[dtype]


ORACLES_BARS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-44}


@pytest.mark.parametrize("k", [2, MOST + 1])
@pytest.mark.parametrize("gap", [3.0, 30.0, 60.0])
def test_one_row_that_matters_keeps_the_digits_of_its_own_second_derivative(gap: float, k: int) -> None:
    """With two classes, or a tangent at the target alone, nothing but -e^s / 2 is left of a confident row."""
    z, t = np.zeros((2, k)), np.zeros((2, k))
    z[0, 0], z[1, 0], t[:, 0] = gap, gap + 400.0, 1.0
    found = sl.log_cross_entropy_hvp(z, [0, 0], t)
    assert relative_errors(found[:1], exact.log_cross_entropy_hvp(z, [0, 0], t)[:1]).max() <= 1e-14
    assert found[0, 0] < 0.0
    alone = sl.log_cross_entropy_hvp(z[:1], [0], t[:1])
    np.testing.assert_array_equal(alone, sl.log_cross_entropy_hvp(z[:1], [0], t[:1], reduction="none"))


@pytest.mark.parametrize("k", [3, 100, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_gradients_difference(k: int, dtype: str) -> None:
    z, y = batch(k, "float64", 5)
    z[0, y[0]] -= 890.0
    z = z.astype(np.float32).astype(np.float64)
    t = tangents(z).astype(np.float32).astype(np.float64)
    ahead, behind = (sl.log_cross_entropy_grad(z + step * t, y)[1] for step in (1e-6, -1e-6))
    found = sl.log_cross_entropy_hvp(z.astype(dtype), y, t.astype(dtype))
    np.testing.assert_allclose(found, (ahead - behind) / 2e-6, atol=2e-8)


@pytest.mark.parametrize("k", [4, 100])
def test_it_is_symmetric(k: int) -> None:
    z, y = batch(k, "float64", 7)
    a, b = np.random.default_rng(3).normal(size=(2, 7, k))
    of_a, of_b = (sl.log_cross_entropy_hvp(z, y, t) for t in (a, b))
    assert (b * of_a).sum() == pytest.approx((a * of_b).sum(), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at_target", [True, False])
@pytest.mark.parametrize("k", [3, 100, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype: str, k: int, at_target: bool, value: float) -> None:
    z, y = batch(k, dtype, 9)
    z[4, y[4] if at_target else (y[4] + 1) % k] = value
    found = sl.log_cross_entropy_hvp(z, y, tangents(z), reduction="none")
    expected, _ = reference(z, y, tangents(z), reduction="none")
    assert np.array_equal(np.isnan(found).any(axis=1), np.isnan(expected).any(axis=1))
    number = ~np.isnan(expected).any(axis=1)
    assert number.sum() >= 8
    np.testing.assert_allclose(found[number], expected[number], atol=1e-6)
    of_all, expected = sl.log_cross_entropy_hvp(z, y, tangents(z)), reference(z, y, tangents(z))[0]
    assert np.array_equal(np.isnan(of_all).any(axis=1), np.isnan(expected).any(axis=1))


@pytest.mark.parametrize("k", [5, 60, 3000])
def test_the_result_may_take_the_place_of_what_is_read(k: int) -> None:
    z, y = batch(k, "float64", 9)
    t = tangents(z)
    for spec in (LossSpec(), LossSpec(softcap=30.0)):
        expected = sl.log_cross_entropy_hvp(z, y, t, spec)
        for place in (0, 1):
            given = [z.copy(), t.copy()]
            found = sl.log_cross_entropy_hvp(given[0], y, given[1], spec, out=given[place])
            assert found is given[place]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("n", "k"), [(5000, 10), (300, 60), (100, 3000)])
def test_a_rows_own_product_has_the_same_bits_in_every_batch(n: int, k: int) -> None:
    z, y = batch(k, "float32", n)
    t, some = tangents(z), slice(n // 3, n // 3 + 5)
    whole = sl.log_cross_entropy_hvp(z, y, t, reduction="none")
    assert np.array_equal(whole[some], sl.log_cross_entropy_hvp(z[some], y[some], t[some], reduction="none"))
    turned = sl.log_cross_entropy_hvp(np.asfortranarray(z), y, np.asfortranarray(t), reduction="none")
    assert np.array_equal(turned, whole)


def test_which_loops_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, str]] = []
    real = _dispatch.run

    def run(path: Any, name: str, *arguments: Any, **options: Any) -> None:
        taken.append((path, name))
        real(path, name, *arguments, **options)

    monkeypatch.setattr(_dispatch, "run", run)
    for k, path in ((MOST, "short_log_products"), (MOST + 1, "log_products")):
        z, y = batch(k, "float64")
        for reduction, runs in (("mean", 2), ("sum", 2), ("none", 1)):
            taken.clear()
            sl.log_cross_entropy_hvp(z, y, z, reduction=reduction)  # type: ignore[arg-type]
            assert taken == runs * [(path, "log_cross_entropy_hvp")]


@pytest.mark.parametrize("k", [5, 60])
def test_numpy_takes_over_where_a_loop_fails(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    z, y = batch(k, "float64")
    expected, _ = reference(z, y, tangents(z))
    loops = _dispatch.kernels()
    assert loops is not None

    def broken(*_: Any) -> None:
        raise RuntimeError("does not compile")

    monkeypatch.setattr(_dispatch._State, "failed", False)
    for module in (loops.log_products, loops.short_log_products):
        monkeypatch.setattr(module, "log_cross_entropy_hvp", broken)
    with pytest.warns(RuntimeWarning, match="NumPy takes over"):
        found = sl.log_cross_entropy_hvp(z, y, tangents(z))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
