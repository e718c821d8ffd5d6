"""The log of the mean loss in NumPy: the oracle's numbers, properties, edges, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import softmax_lab as sl
from softmax_lab import LossSpec, exact
from softmax_lab._checks import Reduction

from .logs import (
    HARD,
    LOG_SPECS,
    VALUE_BARS,
    Array,
    exact_gradient,
    in_type,
    numeric,
    relative_errors,
    value_errors,
)
from .specs import INDEX_SPECS, K
from .ulps import dtype_of

pytestmark = pytest.mark.usefixtures("each_path")

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
N = 9
RNG = np.random.default_rng(5)
Z, Y, T = 3 * RNG.normal(size=(N, K)), RNG.integers(0, K, N), RNG.normal(size=(N, K))
WEIGHTS = RNG.uniform(0.2, 3.0, N)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", HARD)
def test_the_oracles_values_and_gradients(case: str, reduction: Reduction, dtype: str) -> None:
    kind = dtype_of(dtype)
    batch = in_type(HARD[case], kind)
    value, gradient = sl.log_cross_entropy_grad(batch.rows, batch.labels, reduction=reduction)
    assert gradient.dtype == kind
    of_value = np.dtype(np.float64 if dtype == "float64" else np.float32)
    assert value.dtype == of_value
    errors = value_errors(value, batch, LossSpec(), of_value, reduction=reduction)
    assert errors.max() <= VALUE_BARS[of_value.name]
    assert np.array_equal(sl.log_cross_entropy(batch.rows, batch.labels, reduction=reduction), value)
    expected = exact_gradient(case, dtype, reduction)
    # in the ulps of the largest entry of a row: what is below the smallest normal number may be flushed
    assert relative_errors(gradient, expected).max() <= GRADIENT_BARS[dtype]


GRADIENT_BARS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 1.03 * 2.0**-23, "float64": 2.0**-49}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOG_SPECS)
def test_every_member_that_is_taken(name: str, reduction: Reduction) -> None:
    spec, options = LOG_SPECS[name], {"reduction": reduction, "sample_weight": WEIGHTS}
    value, gradient = sl.log_cross_entropy_grad(Z, Y, spec, **options)  # type: ignore[arg-type]
    expected = exact.log_cross_entropy(Z, Y, spec, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(value, np.array(expected, dtype=np.float64), rtol=1e-14, atol=1e-15)
    expected = exact.log_cross_entropy_grad(Z, Y, spec, **options)  # type: ignore[arg-type]
    assert relative_errors(gradient, expected).max() <= 4e-15


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOG_SPECS)
def test_the_hessians_product(name: str, reduction: Reduction) -> None:
    spec = LOG_SPECS[name]
    found = sl.log_cross_entropy_hvp(Z, Y, T, spec, reduction=reduction)
    expected = exact.log_cross_entropy_hvp(Z, Y, T, spec, reduction=reduction)
    assert relative_errors(found, expected).max() <= 1e-13


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_product_is_the_gradients_difference(reduction: Reduction) -> None:
    spec = LOG_SPECS["all that it takes"]

    def gradient(z: Array) -> Array:
        return sl.log_cross_entropy_grad(z, Y, spec, reduction=reduction)[1]

    found = sl.log_cross_entropy_hvp(Z, Y, T, spec, reduction=reduction)
    np.testing.assert_allclose(found, (gradient(Z + 1e-6 * T) - gradient(Z - 1e-6 * T)) / 2e-6, atol=1e-8)
    if reduction != "none":
        by_entry = numeric(lambda z: float(sl.log_cross_entropy(z, Y, spec, reduction=reduction)), Z)
        np.testing.assert_allclose(gradient(Z), by_entry, atol=1e-8)


@pytest.mark.parametrize("gap", [30.0, 40.0, 60.0])
def test_the_product_of_a_confident_row_keeps_its_digits(gap: float) -> None:
    """With two classes nothing but the second derivative of log l is left, -e^s / 2 + ..."""
    z, t = np.array([[gap, 0.0]]), np.array([[1.0, 0.0]])
    found = sl.log_cross_entropy_hvp(z, [0], t, reduction="none")
    assert relative_errors(found, exact.log_cross_entropy_hvp(z, [0], t, reduction="none")).max() <= 1e-15
    assert found[0, 0] == pytest.approx(-np.exp(-gap) / 2, rel=1e-11)


# ---- properties ----

ROWS = arrays(np.float64, (4, 5), elements=st.floats(-1e5, 1e5))
LABELS = arrays(np.int64, 4, elements=st.integers(0, 4))
OMEGA = arrays(np.float64, 4, elements=st.floats(1e-3, 1e3))


@settings(max_examples=60, deadline=None)
@given(ROWS, LABELS, OMEGA)
def test_gradients_of_rows_sum_to_zero_and_all_magnitudes_do_not_underflow(
    z: Array, y: Array, w: Array
) -> None:
    _, gradient = sl.log_cross_entropy_grad(z, y, sample_weight=w)
    assert np.abs(gradient.sum(axis=1)).max() <= 4e-16
    # h' is 1 / s where a row is wrong, and between sigmoid(0) / log 2 and 1 where it is right
    at_target = np.abs(gradient[np.arange(4), y]).sum()
    assert 1e-6 < at_target < 1.0 + 1e-12


@settings(max_examples=60, deadline=None)
@given(ROWS, LABELS, OMEGA, st.integers(-20, 20))
def test_shifts_and_the_order_of_rows_and_classes_do_not_matter(
    z: Array, y: Array, w: Array, shift: int
) -> None:
    size = max(1.0, float(np.abs(z).max()))
    value, gradient = sl.log_cross_entropy_grad(z, y, sample_weight=w)
    moved, g = sl.log_cross_entropy_grad(z + shift, y, sample_weight=w)
    np.testing.assert_allclose(moved, value, atol=1e-14 * size)
    np.testing.assert_allclose(g, gradient, atol=1e-13 * size)
    back, g = sl.log_cross_entropy_grad(z[::-1], y[::-1], sample_weight=w[::-1])
    np.testing.assert_allclose(back, value, atol=4e-16 * size)
    np.testing.assert_allclose(g[::-1], gradient, atol=1e-15)
    turned, g = sl.log_cross_entropy_grad(z[:, ::-1], 4 - y, sample_weight=w)
    np.testing.assert_allclose(turned, value, atol=4e-16 * size)
    np.testing.assert_allclose(g[:, ::-1], gradient, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(ROWS, LABELS, OMEGA, st.floats(1e-250, 1e250))
def test_a_factor_of_all_weights_is_a_summand_or_nothing(z: Array, y: Array, w: Array, factor: float) -> None:
    w = np.maximum(w, 1e-3)
    for reduction, summand in (("mean", 0.0), ("sum", np.log(factor)), ("none", np.log(factor))):
        options: dict[str, Any] = {"reduction": reduction}
        value, gradient = sl.log_cross_entropy_grad(z, y, sample_weight=w, **options)
        scaled, g = sl.log_cross_entropy_grad(z, y, sample_weight=factor * w, **options)
        np.testing.assert_allclose(scaled, value + summand, rtol=1e-14, atol=1e-12)
        np.testing.assert_allclose(g, gradient, atol=1e-13)


def test_it_is_the_log_of_the_mean_where_that_can_be_computed() -> None:
    spec = LOG_SPECS["all that it takes"]
    mean, gradient = sl.cross_entropy_grad(Z, Y, spec, sample_weight=WEIGHTS)
    value, of_log = sl.log_cross_entropy_grad(Z, Y, spec, sample_weight=WEIGHTS)
    assert value == pytest.approx(np.log(mean), rel=1e-14)
    np.testing.assert_allclose(of_log, gradient / mean, rtol=1e-12, atol=1e-16)


def test_no_result_depends_on_threads() -> None:
    z = np.random.default_rng(0).normal(0, 9, (4000, 40)).astype(np.float32)
    y, before, found = np.arange(4000) % 40, sl.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            sl.set_num_threads(threads)
            value, gradient = sl.log_cross_entropy_grad(z, y)
            found.append((value.tobytes(), gradient.tobytes()))
    finally:
        sl.set_num_threads(before)
    assert len(set(found)) == 1


def test_other_axes_and_memory() -> None:
    value, gradient = sl.log_cross_entropy_grad(Z, Y)
    out = np.empty((K, N))
    turned, g = sl.log_cross_entropy_grad(Z.T, Y, axis=0, out=out)
    assert g is out
    assert turned == value
    assert np.array_equal(g.T, gradient)
    own = Z.copy()
    assert sl.log_cross_entropy_grad(own, Y, out=own)[1] is own
    assert np.array_equal(own, gradient)
    product = sl.log_cross_entropy_hvp(Z, Y, T)
    assert np.array_equal(sl.log_cross_entropy_hvp(Z.T, Y, T.T, axis=0).T, product)
    images = sl.log_cross_entropy(Z.reshape(3, 3, K), Y.reshape(3, 3), reduction="none")
    assert images.shape == (3, 3)
    assert sl.log_cross_entropy(Z[0], Y[0], reduction="none") == images[0, 0]


# ---- edges ----


def test_what_does_not_count() -> None:
    z, y, w, where = Z.copy(), Y.copy(), WEIGHTS.copy(), np.ones((N, K), bool)
    z[0], z[3], z[5] = np.nan, np.inf, np.nan
    y[0], w[3], where[5] = -100, 0.0, False
    out, kept = [0, 3, 5], [1, 2, 4, 6, 7, 8]
    for reduction in REDUCTIONS:
        options: dict[str, Any] = {"reduction": reduction}
        value, gradient = sl.log_cross_entropy_grad(z, y, sample_weight=w, where=where, **options)
        alone, g = sl.log_cross_entropy_grad(Z[kept], Y[kept], sample_weight=WEIGHTS[kept], **options)
        np.testing.assert_allclose(value[kept] if reduction == "none" else value, alone, rtol=1e-15)
        np.testing.assert_allclose(gradient[kept], g, rtol=1e-13)
        assert not gradient[out].any()
        product = sl.log_cross_entropy_hvp(z, y, T, sample_weight=w, where=where, **options)
        h = sl.log_cross_entropy_hvp(Z[kept], Y[kept], T[kept], sample_weight=WEIGHTS[kept], **options)
        np.testing.assert_allclose(product[kept], h, rtol=1e-12, atol=1e-16)
        assert not product[out].any()
    assert (value[out] == -np.inf).all()


@pytest.mark.parametrize("name", ["plain", "all that it takes"])
def test_masked_classes_are_as_if_they_were_at_minus_infinity(name: str) -> None:
    where = np.random.default_rng(2).random((N, K)) < 0.6
    where[np.arange(N), Y] = True
    value, gradient = sl.log_cross_entropy_grad(Z, Y, LOG_SPECS[name], where=where)
    low = np.where(where, Z, -np.inf)
    assert value == sl.log_cross_entropy(low, Y, LOG_SPECS[name])
    assert np.array_equal(gradient, sl.log_cross_entropy_grad(low, Y, LOG_SPECS[name])[1])
    assert not gradient[~where].any()
    product = sl.log_cross_entropy_hvp(Z, Y, T, LOG_SPECS[name], where=where)
    assert not product[~where].any()


def test_rows_without_other_classes() -> None:
    z, where = np.zeros((2, 3)), np.array([[True, False, False], [True, True, True]])
    value, gradient = sl.log_cross_entropy_grad(z, [0, 0], where=where)
    assert value == pytest.approx(np.log(np.log(3.0) / 2))
    assert not gradient[0].any()
    assert gradient[1, 0] == pytest.approx(-2 / 3 / np.log(3.0))
    rows, g = sl.log_cross_entropy_grad(z, [0, 0], where=where, reduction="none")
    assert rows[0] == -np.inf
    assert np.array_equal(g, gradient)
    for all_alone in (z[:1, :1], np.array([[3.0, -np.inf]])):
        value, gradient = sl.log_cross_entropy_grad(all_alone, [0])
        assert value == -np.inf
        assert not gradient.any()
        assert not sl.log_cross_entropy_hvp(all_alone, [0], np.ones_like(all_alone)).any()


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_no_row_counts(rows: int, empty: Any) -> None:
    z, y = np.ones((rows, 4)), np.full(rows, -100)
    value, gradient = sl.log_cross_entropy_grad(z, y, empty=empty)
    assert np.isnan(value) if empty == "nan" else value == 0
    assert not gradient.any()
    assert sl.log_cross_entropy(z, y, reduction="sum") == -np.inf
    assert (sl.log_cross_entropy(z, y, reduction="none") == -np.inf).all()
    assert sl.log_cross_entropy(z, np.array([]) if rows == 0 else y, empty="zero") == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_impossible_target(reduction: Reduction) -> None:
    z = np.array([[-np.inf, 0.0, 1.0], [0.0, 1.0, 2.0]])
    value, gradient = sl.log_cross_entropy_grad(z, [0, 0], reduction=reduction)
    assert np.ravel(value)[0] == np.inf
    assert np.isnan(gradient[0]).all()
    assert not np.isnan(gradient[1]).any()


@pytest.mark.parametrize(
    "row", [[np.nan, 0.0, 1.0], [0.0, np.nan, 1.0], [np.inf, 0.0, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3]
)
def test_rows_that_are_no_distribution(row: list[float]) -> None:
    z = np.array([row, [0.0, 1.0, 2.0]])
    value, gradient = sl.log_cross_entropy_grad(z, [0, 0])
    assert np.isnan(value)
    assert np.isnan(gradient).all()
    value, gradient = sl.log_cross_entropy_grad(z, [0, 0], reduction="none")
    assert np.isnan(value).tolist() == [True, False]
    assert np.isnan(gradient).any(axis=1).tolist() == [True, False]


@pytest.mark.parametrize(
    "name", ["smoothing", "smoothing per class", "prior", "gate", "focal", "z-loss", "poly", "everything"]
)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"takes class indices and the fields temperature, scale.*; got "):
        sl.log_cross_entropy(Z, Y, INDEX_SPECS[name])


def test_distributions_are_refused_with_the_same_message() -> None:
    with pytest.raises(
        ValueError, match=r"takes class indices and the fields .*; got a distribution per row"
    ):
        sl.log_cross_entropy(Z, sl.softmax(Z), LossSpec(margin=1.0))
    with pytest.raises(ValueError, match=r"got a distribution per row"):
        sl.log_cross_entropy(np.zeros((0, 3)), np.zeros((0, 3)))


def test_other_errors() -> None:
    with pytest.raises(IndexError, match="label 9 at row 1"):
        sl.log_cross_entropy(Z[:2], [0, 9])
    with pytest.raises(ValueError, match="tangent must have the logits' shape"):
        sl.log_cross_entropy_hvp(Z, Y, T[:1])
    with pytest.raises(ValueError, match="masked by where"):
        sl.log_cross_entropy(Z, Y, where=np.zeros(K, bool) | (np.arange(K) != Y[0]))
    with pytest.raises(TypeError, match="spec must be a LossSpec"):
        sl.log_cross_entropy(Z, Y, "plain")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_fields_at_the_ends_of_their_domains(size: float) -> None:
    for spec in (LossSpec(class_weight=size), LossSpec(temperature=size), LossSpec(scale=size)):
        for reduction in REDUCTIONS:
            value, gradient = sl.log_cross_entropy_grad(Z, Y, spec, reduction=reduction)
            expected = exact.log_cross_entropy(Z, Y, spec, reduction=reduction)
            np.testing.assert_allclose(value, np.array(expected, np.float64), rtol=1e-14)
            of_gradient = exact.log_cross_entropy_grad(Z, Y, spec, reduction=reduction)
            assert relative_errors(gradient, of_gradient).max() <= 1e-13
