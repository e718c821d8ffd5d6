"""The loss on JAX arrays: the audit, the oracle, the NumPy package, finite differences, optax, and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import softmax_lab as sl
import softmax_lab.jax as slj
from softmax_lab import LossSpec, exact
from softmax_lab.audit.adapters import JaxFunctions
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

from .problems import N, problem, registered, with_64_bits

LOSSES = {**INDEX_SPECS, **{f"losses.{name}": registered(name) for name in sl.losses.REGISTRY}}
#: in ulps of the largest term, of value and gradient
BAR = 8.0
#: an ulp of it is the smallest normal number: what is below may be flushed
FLUSHED = 2.0**-102


# ---- accuracy ----


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True], ids=["by functions", "one program"])
def test_the_audit_passes(jit: bool) -> None:
    frame = sl.audit.run({"slj": JaxFunctions(jit=jit)}, progress=False)
    failed = frame[~frame.ok]
    assert failed.empty, failed[["function", "dtype", "case", "max_ulp", "problem"]].to_string()
    assert set(frame.dtype) == {"float16", "bfloat16", "float32", "float64"}
    assert {"mask", "soft targets", "smoothing with weights"} <= set(frame.case)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_the_oracles(name: str) -> None:
    """In float32, without a wider type; in float64 the NumPy package is the measure."""
    spec = LOSSES[name]
    logits, target, _ = problem(np.float32)
    values, gradient = _by_row(logits, target, spec)
    assert gradient.dtype == np.float32
    for row, y, value, slope in zip(logits[:-1], target[:-1], values, gradient, strict=False):
        u = [abs(float(x)) for x in exact._u(exact._row(row), int(y), spec)]
        size = max(*u, abs(float(exact.cross_entropy(row, int(y), spec))))
        assert exact.ulp_error(value, [exact.cross_entropy(row, int(y), spec)], scale=[size]) <= BAR
        terms = exact.cross_entropy_grad_terms(row, int(y), spec)
        largest = [max(*map(abs, each), FLUSHED) * max(1.0, *u) for each in terms]
        exact_slope = exact.cross_entropy_grad(row, int(y), spec)
        assert exact.ulp_error(slope, exact_slope, scale=largest).max() <= BAR
    assert values[-1] == 0
    assert not gradient[-1].any()


def _by_row(logits: Any, target: Any, spec: LossSpec) -> tuple[Any, Any]:
    def values(z: Any) -> Any:
        return slj.cross_entropy(z, target, spec, reduction="none")

    def both(z: Any) -> Any:
        found, pull_back = jax.vjp(values, z)
        return found, pull_back(jnp.ones_like(found))[0]

    found, gradient = jax.jit(both)(logits)
    return np.asarray(found), np.asarray(gradient)


#: every loss by its mean, and each form of target and of reduction by what has all fields
CALLS = [
    *((name, "mean", False) for name in LOSSES),
    *((name, "mean", True) for name in SOFT_SPECS),
    *(("everything", reduction, False) for reduction in ("sum", "none")),
    *(("z-loss", reduction, True) for reduction in ("sum", "none")),
]


@pytest.mark.parametrize(("name", "reduction", "soft"), CALLS)
def test_value_gradient_and_product_are_the_numpy_packages(name: str, reduction: Any, soft: bool) -> None:
    spec = LOSSES[name]
    logits, target, weights = problem(soft=soft)
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": weights}
    tangent = np.random.default_rng(1).standard_normal(logits.shape)

    def total(z: Any) -> Any:
        return slj.cross_entropy(z, target, spec, **options).sum()

    with with_64_bits():
        value, gradient, product, reverse = jax.jit(
            lambda z: (
                slj.cross_entropy(z, target, spec, **options),
                *jax.jvp(jax.grad(total), (z,), (tangent,)),
                jax.grad(lambda x: jnp.vdot(jax.grad(total)(x), tangent))(z),
            )
        )(logits)
    expected, slope = sl.cross_entropy_grad(logits, target, spec, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-13)
    exact_product = sl.cross_entropy_hvp(logits, target, tangent, spec, **options)
    np.testing.assert_allclose(product, exact_product, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(reverse, exact_product, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_derivatives_in_logits_and_fields_are_finite_differences(name: str) -> None:
    logits, target, _ = problem()
    spec = LOSSES[name]
    held = spec
    if spec.gate:  # it holds the row's weight constant, which a difference of values does not
        held = replace(spec, gate=0.0, class_weight=1.0)

    def loss(z: Any, fields: Any) -> Any:
        return slj.cross_entropy(z, target, fields)

    with with_64_bits():
        check_grads(jax.jit(loss), (jnp.asarray(logits), held), order=1, atol=1e-5, rtol=1e-5)  # type: ignore[no-untyped-call]


def test_a_soft_target_has_its_derivative() -> None:
    logits, target, _ = problem(soft=True)
    with with_64_bits():
        check_grads(lambda t: slj.cross_entropy(logits, t), (jnp.asarray(target),), order=2)  # type: ignore[no-untyped-call]


def test_a_confident_row_keeps_every_derivative() -> None:
    """In float32, where 1 - p is 0 to others."""
    z, y = jnp.array([[60.0, 0.0, -1.0]]), jnp.array([0])
    tangent = jnp.array([[0.3, -1.0, 2.0]])

    def total(logits: Any) -> Any:
        return slj.cross_entropy(logits, y, reduction="sum")

    gradient, product = jax.jvp(jax.grad(total), (z,), (tangent,))
    reverse = jax.grad(lambda logits: jnp.vdot(jax.grad(total)(logits), tangent))(z)
    row, along = np.asarray(z[0], np.float64), np.asarray(tangent[0], np.float64)
    expected = np.array([float(x) for x in exact.cross_entropy_hvp(row, 0, along)])
    np.testing.assert_allclose(gradient[0], [float(x) for x in exact.cross_entropy_grad(row, 0)], rtol=3e-7)
    np.testing.assert_allclose(product[0], expected, rtol=1e-6)
    np.testing.assert_allclose(reverse[0], expected, rtol=1e-6)
    # and who takes the logarithm's entry gets the same
    picked = jax.grad(lambda logits: -slj.log_softmax(logits)[0, 0])(z)
    np.testing.assert_allclose(picked, gradient, rtol=1e-6)


# ---- others' numbers ----


def test_optax_has_the_same_numbers() -> None:
    optax = pytest.importorskip("optax", reason="needs optax")
    logits, labels, _ = problem()
    labels = np.abs(labels) % K
    one_hot = np.eye(K)[labels]
    soft = problem(soft=True).target
    keep = np.ones((N, K), bool)
    keep[:, 0] = labels == 0
    with with_64_bits():
        pairs = [
            (optax.softmax_cross_entropy_with_integer_labels(logits, labels), LossSpec(), labels, None),
            (optax.softmax_cross_entropy(logits, soft), LossSpec(), soft, None),
            (
                optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, 0.1)),
                sl.losses.label_smoothing(0.1),
                labels,
                None,
            ),
            (
                optax.losses.poly_loss_cross_entropy(logits, one_hot, epsilon=2.0),
                sl.losses.poly1(2.0),
                labels,
                None,
            ),
            (
                optax.softmax_cross_entropy_with_integer_labels(logits, labels, where=keep),
                LossSpec(),
                labels,
                keep,
            ),
        ]
        for theirs, spec, target, where in pairs:
            ours = slj.cross_entropy(logits, target, spec, reduction="none", where=where)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


# ---- masks, what is not a number, and what does not count ----


@pytest.mark.parametrize("name", ["plain", "smoothing", "prior", "bias matrix", "everything"])
def test_masked_classes_take_no_part(name: str) -> None:
    spec = LOSSES[name]
    logits, target, _ = problem()
    where = np.random.default_rng(2).random(logits.shape) < 0.6
    where[np.arange(N - 1), target[:-1]] = True
    where[1] = False  # a row with nothing left
    spoilt = np.where(where, logits, np.nan)
    with with_64_bits():
        value, gradient = jax.value_and_grad(slj.cross_entropy)(spoilt, target, spec, where=where)
    expected, slope = sl.cross_entropy_grad(logits, target, spec, where=where)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_number_harms_no_other(bad: float) -> None:
    logits, target, _ = problem(np.float32)
    spoilt = logits.copy()
    spoilt[1, :] = np.where(bad == -np.inf, bad, spoilt[1])
    spoilt[1, 2] = bad
    found, slope = _by_row(spoilt, target, LossSpec())
    good, good_slope = _by_row(logits, target, LossSpec())
    others = np.arange(N) != 1
    np.testing.assert_array_equal(found[others], good[others])
    np.testing.assert_array_equal(slope[others], good_slope[others])
    assert np.isnan(found[1])
    assert np.isnan(slope[1]).all()


@pytest.mark.parametrize("name", ["plain", "everything", "temperature", "soft cap", "smoothing"])
def test_impossible_classes_are_the_numpy_packages(name: str) -> None:
    logits, target, _ = problem()
    logits[0, (target[0] + 1) % K] = -np.inf
    with with_64_bits():
        value, gradient = jax.value_and_grad(slj.cross_entropy)(logits, target, INDEX_SPECS[name])
    expected, slope = sl.cross_entropy_grad(logits, target, INDEX_SPECS[name])
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    if np.isfinite(expected):
        np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("empty", "expected"), [("nan", np.nan), ("zero", 0.0)])
@pytest.mark.parametrize("rows", [0, 2])
def test_the_mean_over_no_rows(rows: int, empty: Any, expected: float) -> None:
    z, y = jnp.zeros((rows, 3)), jnp.full(rows, -100)
    value, gradient = jax.value_and_grad(slj.cross_entropy)(z, y, empty=empty)
    np.testing.assert_equal(float(value), expected)
    assert gradient.shape == z.shape
    assert not np.asarray(gradient).any()


def test_any_axis_and_any_shape() -> None:
    z = np.random.default_rng(3).standard_normal((2, K, 3)).astype(np.float32)
    y = np.random.default_rng(4).integers(0, K, (2, 3))
    found = slj.cross_entropy(z, y, axis=1, reduction="none")
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, sl.cross_entropy(z, y, axis=1, reduction="none"), rtol=1e-6)
    one = slj.cross_entropy(z[0, :, 0], y[0, 0], reduction="none")
    np.testing.assert_array_equal(one, found[0, 0])


def test_half_gradients_are_rounded_once() -> None:
    """After the mean's divisor and a loss scale."""
    logits, target, _ = problem(np.float16)
    wide = jax.grad(lambda z: 1024.0 * slj.cross_entropy(z, target))(logits.astype(np.float32))
    half = jax.grad(lambda z: 1024.0 * slj.cross_entropy(z, target))(logits)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, np.asarray(wide).astype(np.float16))


# ---- the spec as a pytree ----


@pytest.mark.parametrize("name", LOSSES)
def test_a_spec_is_a_pytree_of_its_active_fields(name: str) -> None:
    spec = LOSSES[name]
    leaves, structure = jax.tree.flatten(spec)
    assert len(leaves) == sum(spec.has(field) for field in sl.spec.FIELDS)
    assert jax.tree.unflatten(structure, leaves) == spec
    assert bool(structure == jax.tree.structure(spec))  # type: ignore[operator]


def test_fields_that_change_compile_once() -> None:
    traced = []

    @jax.jit
    def loss(z: Any, y: Any, spec: LossSpec) -> Any:
        traced.append(spec)
        return slj.cross_entropy(z, y, spec)

    z, y = jnp.zeros((1, K)), jnp.array([0])
    found = [float(loss(z, y, LossSpec(bias=np.arange(K) * x, temperature=1 + x))) for x in (1.0, 2.0)]
    expected = [
        sl.cross_entropy(np.zeros((1, K)), [0], LossSpec(bias=np.arange(K) * x, temperature=1 + x))
        for x in (1.0, 2.0)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(traced) == 1
    loss(z, y, LossSpec())
    assert len(traced) == 2


# ---- errors ----

Z, Y = np.zeros((2, 3), np.float32), np.array([0, 2])


@pytest.mark.parametrize(
    ("error", "words", "arguments", "options"),
    [
        (TypeError, "logits must be a jax.Array or a numpy.ndarray; got list", ([[0.0]], Y), {}),
        (
            TypeError,
            "logits must be float16, bfloat16, float32, float64; got dtype int32",
            (Z.astype(np.int32), Y),
            {},
        ),
        (ValueError, "axis must lie in", (Z, Y), {"axis": 2}),
        (ValueError, "reduction must be one of", (Z, Y), {"reduction": "average"}),
        (ValueError, "empty must be one of", (Z, Y), {"empty": "none"}),
        (TypeError, "spec must be a LossSpec; got dict", (Z, Y, {}), {}),
        (ValueError, "spec is made for 2 classes; the logits have 3", (Z, Y, LossSpec(bias=[0.0, 1.0])), {}),
        (IndexError, "label 3 at row 1", (Z, np.array([0, 3])), {}),
        (IndexError, "label 4294967296 at row 0", (Z, np.array([2**32, 0])), {}),
        (IndexError, "label 156 at row 0", (Z, np.array([156, 0], np.uint8)), {}),
        (ValueError, "class-index target must have shape", (Z, np.array([0])), {}),
        (TypeError, "target must hold integers", (Z, np.array([True, False])), {}),
        (ValueError, "target must be", (Z, -np.ones_like(Z)), {}),
        (ValueError, "gamma needs class-index targets", (Z, np.ones_like(Z), LossSpec(gamma=2.0)), {}),
        (ValueError, "sample_weight must be", (Z, Y), {"sample_weight": np.array([1.0, -1.0])}),
        (TypeError, "where must be boolean", (Z, Y), {"where": np.ones((2, 3))}),
        (ValueError, "where must broadcast", (Z, Y), {"where": np.ones((2, 2), bool)}),
        (ValueError, "target of row 0 is masked", (Z, Y), {"where": np.array([False, True, True])}),
        (ValueError, "temperature must lie between", (Z, Y, LossSpec(temperature=1e-200)), {}),
        (TypeError, "mask of a masked array would be lost", (np.ma.masked_array(Z), Y), {}),
    ],
)
def test_bad_input_is_refused_before_any_work(
    error: type[Exception], words: str, arguments: Any, options: Any
) -> None:
    with pytest.raises(error, match=words):
        slj.cross_entropy(*arguments, **options)


def test_what_cannot_be_looked_at_makes_its_own_row_nan() -> None:
    compiled = jax.jit(lambda y, where: slj.cross_entropy(Z, y, reduction="none", where=where))
    every = np.ones((2, 3), bool)
    for label in (3, -1, 2**31 - 1):
        np.testing.assert_array_equal(np.isnan(compiled(jnp.array([label, 0]), every)), [True, False])
    np.testing.assert_array_equal(
        np.isnan(compiled(jnp.array([0, 1]), np.array([[False, True, True]] * 2))), [True, False]
    )
    assert float(compiled(jnp.array([-100, 0]), every)[0]) == 0.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_an_unsigned_label_is_never_the_ignored_one(dtype: Any) -> None:
    """156 is -100 in eight bits, and 4294967196 in thirty-two."""
    wrapped = np.array([-100]).astype(dtype)
    found = jax.jit(lambda y: slj.cross_entropy(Z[:1], y, reduction="none"))(wrapped)
    assert np.isnan(found).all()


@pytest.mark.parametrize("name", SOFT_SPECS)
def test_distributions_meet_the_oracle(name: str) -> None:
    spec = SOFT_SPECS[name]
    logits, target, _ = problem(np.float32, soft=True)
    target = target.astype(np.float32)
    values, gradient = _by_row(logits, target, spec)
    for row, t, value, slope in zip(logits, target, values, gradient, strict=True):
        u = [abs(float(x)) for x in exact._u(exact._row(row), None, spec)]
        size = max(*u, abs(float(exact.cross_entropy(row, t, spec))))
        assert exact.ulp_error(value, [exact.cross_entropy(row, t, spec)], scale=[size]) <= BAR
        terms = exact.cross_entropy_grad_terms(row, t, spec)
        largest = [max(*map(abs, each), FLUSHED) * max(1.0, *u) for each in terms]
        assert exact.ulp_error(slope, exact.cross_entropy_grad(row, t, spec), scale=largest).max() <= BAR
