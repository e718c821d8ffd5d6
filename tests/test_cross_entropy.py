"""The family: every field against the oracle, finite differences, and the conventions of the tables."""

from __future__ import annotations

import threading
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import softmax_lab as sl
from softmax_lab import LossSpec, exact

from .limits import HANG
from .specs import INDEX_SPECS, SOFT_SPECS, K
from .ulps import Record

pytestmark = pytest.mark.usefixtures("each_path")

RNG = np.random.default_rng(20260101)
LOGITS = np.concatenate(
    [RNG.normal(0, 2, (6, K)), RNG.normal(0, 12, (4, K)), np.eye(K)[:2] * 35.0, np.zeros((1, K))]
)
LABELS = RNG.integers(0, K, len(LOGITS))
LABELS[10:12] = [0, 0]  # confident and right, confident and wrong
SOFT = RNG.dirichlet(np.ones(K), len(LOGITS)) * RNG.uniform(0.5, 1.5, (len(LOGITS), 1))
TANGENT = RNG.normal(size=LOGITS.shape)

#: ulps of the largest term added; soft cap adds tanh and cosh, whose own errors are multiplied by the logits'
#: size
BAR = 8.0


def _targets(soft: bool) -> list[Any]:
    return list(SOFT) if soft else [int(y) for y in LABELS]


def _cases() -> list[Any]:
    index = [pytest.param(spec, False, id=name) for name, spec in INDEX_SPECS.items()]
    return index + [pytest.param(spec, True, id=f"soft {name}") for name, spec in SOFT_SPECS.items()]


def _name(spec: LossSpec, soft: bool) -> str:
    return ("soft " if soft else "") + next(name for name, known in INDEX_SPECS.items() if known is spec)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("spec", "soft"), _cases())
def test_value_and_gradient_against_the_oracle(
    spec: LossSpec, soft: bool, dtype: str, record_ulp: Record
) -> None:
    rows = LOGITS.astype(dtype)
    values, gradients = sl.cross_entropy_grad(rows, SOFT if soft else LABELS, spec, reduction="none")
    for row, target, value, gradient in zip(rows, _targets(soft), values, gradients, strict=True):
        weight = exact.row_weight(row, target, spec)
        exact_value = exact.cross_entropy(row, target, spec, weight=weight)
        terms = exact.cross_entropy_grad_terms(row, target, spec, weight=weight)
        error = float(exact.ulp_error(value, [exact_value]).max())
        with mpmath.workdps(exact.DIGITS):
            error_g = exact.ulp_error(
                gradient, [mpmath.fsum(t) for t in terms], scale=[max(map(abs, t)) for t in terms]
            ).max()
        record_ulp("family value", dtype, _name(spec, soft), error)
        record_ulp("family gradient", dtype, _name(spec, soft), float(error_g))
        assert error <= BAR
        assert error_g <= BAR


@pytest.mark.parametrize(("spec", "soft"), _cases())
def test_hvp_against_the_oracle(spec: LossSpec, soft: bool, record_ulp: Record) -> None:
    products = sl.cross_entropy_hvp(LOGITS, SOFT if soft else LABELS, TANGENT, spec, reduction="none")
    for row, target, tangent, product in zip(LOGITS, _targets(soft), TANGENT, products, strict=True):
        expected = np.array([float(x) for x in exact.cross_entropy_hvp(row, target, tangent, spec)])
        # relative to the row's largest component: each is a sum of terms of that size
        error = float(np.abs(product - expected).max() / np.spacing(np.abs(expected).max()))
        record_ulp("family hvp", "float64", _name(spec, soft), error)
        assert error <= 4 * BAR


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("gap", [1e-3, 0.5, 1.0, 3.0, 12.0, 40.0, 150.0])
def test_polyloss_at_its_end_keeps_the_digits_of_confident_rows(gap: float, gamma: float) -> None:
    """At c = -1 the first order cancels: what is left is held to its own last digits."""
    spec, row, tangent = (
        LossSpec(poly=-1.0, gamma=gamma),
        np.array([gap, 0.0, -1.0]),
        np.array([1.0, -2.0, 0.5]),
    )
    value, gradient = sl.cross_entropy_grad(row, 0, spec)
    assert exact.ulp_error(value, [exact.cross_entropy(row, 0, spec)]).max() <= BAR
    assert exact.ulp_error(gradient, exact.cross_entropy_grad(row, 0, spec)).max() <= 4 * BAR
    product = sl.cross_entropy_hvp(row, 0, tangent, spec)
    expected = np.array([float(x) for x in exact.cross_entropy_hvp(row, 0, tangent, spec)])
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("gap", [1e-3, 1.0, 12.0, 40.0, 138.0])
def test_a_power_of_a_confident_row_keeps_its_digits(gap: float, gamma: float) -> None:
    """A factor of o^gamma has gamma times the relative error of o, and no more: its logarithm is large."""
    spec, row, tangent = LossSpec(gamma=gamma), np.array([gap, 0.0, -1.0]), np.array([1.0, -2.0, 0.5])
    value, gradient = sl.cross_entropy_grad(row, 0, spec)
    bar = BAR * (1 + gamma)
    assert exact.ulp_error(value, [exact.cross_entropy(row, 0, spec)]).max() <= bar
    assert exact.ulp_error(gradient, exact.cross_entropy_grad(row, 0, spec)).max() <= bar
    product = sl.cross_entropy_hvp(row, 0, tangent, spec)
    expected = np.array([float(x) for x in exact.cross_entropy_hvp(row, 0, tangent, spec)])
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-14 * (1 + gamma) * np.abs(expected).max())


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("poly", [-1.0, 2.0])
def test_an_impossible_target_costs_infinitely_much_with_polyloss_too(
    poly: float, smoothing: float, gamma: float
) -> None:
    row = np.array([-np.inf, 0.0, 1.0])
    specs = [LossSpec(poly=c, smoothing=smoothing, gamma=gamma) for c in (poly, 0.0)]
    (value, gradient), (_, without) = (sl.cross_entropy_grad(row, 0, spec) for spec in specs)
    assert value == np.inf
    # at q_y = 0 the first term has the derivative 0
    np.testing.assert_allclose(gradient, without, rtol=1e-14)


@pytest.mark.parametrize(("spec", "soft"), _cases())
def test_gradient_against_finite_differences(spec: LossSpec, soft: bool) -> None:
    """The gradient is the central difference of the package's own value, the gate held fixed.

    No closed form of the oracle is in it.
    """
    target = SOFT if soft else LABELS
    weights = np.array(
        [float(exact.row_weight(row, t, spec)) for row, t in zip(LOGITS, _targets(soft), strict=True)]
    )
    fixed = LossSpec.from_json(spec.to_json().replace(f'"gate": {spec.gate}', '"gate": 0.0'))
    class_weight = np.asarray(fixed.class_weight) * np.ones(K)
    ungated = SOFT @ class_weight / SOFT.sum(axis=1) if soft else class_weight[LABELS]
    rescale = weights / ungated  # what the gate makes of each row's weight, as a constant
    step = 1e-6

    def value(z: np.ndarray) -> np.ndarray:
        z_loss = LossSpec(**{**_fields(fixed), "class_weight": 0.0})
        regular = sl.cross_entropy(z, target, z_loss, reduction="none")
        return np.asarray(
            (sl.cross_entropy(z, target, fixed, reduction="none") - regular) * rescale + regular
        )

    _, gradient = sl.cross_entropy_grad(LOGITS, target, spec, reduction="none")
    for k in range(K):
        bump = step * np.eye(K)[k]
        difference = (value(LOGITS + bump) - value(LOGITS - bump)) / (2 * step)
        np.testing.assert_allclose(
            gradient[:, k], difference, rtol=2e-6, atol=3e-7 * (1 + np.abs(value(LOGITS)).max())
        )


def _fields(spec: LossSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


@pytest.mark.parametrize(("spec", "soft"), _cases())
def test_hvp_is_symmetric_and_the_gradients_derivative(spec: LossSpec, soft: bool) -> None:
    target = SOFT if soft else LABELS
    other = np.random.default_rng(5).normal(size=LOGITS.shape)
    forth = (sl.cross_entropy_hvp(LOGITS, target, TANGENT, spec, reduction="none") * other).sum(axis=1)
    back = (sl.cross_entropy_hvp(LOGITS, target, other, spec, reduction="none") * TANGENT).sum(axis=1)
    np.testing.assert_allclose(forth, back, rtol=1e-9, atol=1e-12)
    if spec.gate == 0:  # with a gate the gradient holds w fixed, a difference of gradients does not
        step = 1e-6
        ahead = sl.cross_entropy_grad(LOGITS + step * TANGENT, target, spec, reduction="none")[1]
        behind = sl.cross_entropy_grad(LOGITS - step * TANGENT, target, spec, reduction="none")[1]
        product = sl.cross_entropy_hvp(LOGITS, target, TANGENT, spec, reduction="none")
        np.testing.assert_allclose(
            product, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6 * (1 + np.abs(product).max())
        )


finite_rows = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(-50, 50)
)


@given(finite_rows, st.integers(0, 10**6), st.floats(-1e4, 1e4))
def test_plain_gradient_sums_to_zero_and_ignores_a_shift(z: np.ndarray, pick: int, shift: float) -> None:
    y = np.full(len(z), pick % z.shape[1])
    value, gradient = sl.cross_entropy_grad(z, y, reduction="none")
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-15)
    # adding the shift rounds the logits themselves: that, and no more, may change the result
    moved, moved_gradient = sl.cross_entropy_grad(z + shift, y, reduction="none")
    slack = 4 * np.spacing(np.abs(z).max() + abs(shift) + 1)
    np.testing.assert_allclose(moved, value, rtol=1e-14, atol=slack)
    np.testing.assert_allclose(moved_gradient, gradient, rtol=1e-14, atol=slack)


@given(finite_rows, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_permutation_equivariance(z: np.ndarray, pick: int, random: Any) -> None:
    order = list(range(z.shape[1]))
    random.shuffle(order)
    y = pick % z.shape[1]
    value, gradient = sl.cross_entropy_grad(z, np.full(len(z), y), reduction="none")
    moved, moved_gradient = sl.cross_entropy_grad(
        z[:, order], np.full(len(z), order.index(y)), reduction="none"
    )
    np.testing.assert_allclose(moved, value, rtol=4e-16 * 4)
    np.testing.assert_allclose(moved_gradient, gradient[:, order], rtol=4e-16 * 4, atol=1e-300)


@pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS)
def test_rows_are_bit_identical_whatever_the_batch(spec: LossSpec) -> None:
    many = np.random.default_rng(8).normal(0, 5, (20_000, K))  # more than one block
    labels = np.arange(len(many)) % K
    values, gradients = sl.cross_entropy_grad(many, labels, spec, reduction="none")
    shuffled = np.random.default_rng(9).permutation(len(many))
    v, g = sl.cross_entropy_grad(many[shuffled], labels[shuffled], spec, reduction="none")
    np.testing.assert_array_equal(v, values[shuffled])
    np.testing.assert_array_equal(g, gradients[shuffled])
    for i in (0, 10_922, 19_999):
        v, g = sl.cross_entropy_grad(many[i], labels[i], spec, reduction="none")
        assert v == values[i]
        np.testing.assert_array_equal(g, gradients[i])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["plain", "class weight", "gate", "everything"])
def test_reductions_weigh_rows(name: str, reduction: Any) -> None:
    spec = INDEX_SPECS[name]
    sample_weight = np.random.default_rng(1).uniform(0, 2, len(LOGITS))
    rows, row_gradients = sl.cross_entropy_grad(
        LOGITS, LABELS, spec, reduction="none", sample_weight=sample_weight
    )
    np.testing.assert_allclose(
        rows, sl.cross_entropy(LOGITS, LABELS, spec, reduction="none") * sample_weight, rtol=1e-14
    )
    divisor = 1.0
    if reduction == "mean":
        divisor = sum(
            float(exact.row_weight(z, int(y), spec)) * s
            for z, y, s in zip(LOGITS, LABELS, sample_weight, strict=True)
        )
    value, gradient = sl.cross_entropy_grad(
        LOGITS, LABELS, spec, reduction=reduction, sample_weight=sample_weight
    )
    np.testing.assert_allclose(value, rows.sum() / divisor, rtol=1e-13)
    np.testing.assert_allclose(gradient, row_gradients / divisor, rtol=1e-12, atol=1e-300)
    hvp = sl.cross_entropy_hvp(
        LOGITS, LABELS, TANGENT, spec, reduction=reduction, sample_weight=sample_weight
    )
    row_hvp = sl.cross_entropy_hvp(
        LOGITS, LABELS, TANGENT, spec, reduction="none", sample_weight=sample_weight
    )
    np.testing.assert_allclose(hvp, row_hvp / divisor, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS)
def test_ignored_rows_do_not_count(spec: LossSpec) -> None:
    labels = LABELS.copy()
    labels[[1, 4]] = -100
    z = LOGITS.copy()
    z[1] = np.nan  # not even NaN leaks out of an ignored row
    kept = labels != -100
    value, gradient = sl.cross_entropy_grad(z, labels, spec)
    expected, expected_gradient = sl.cross_entropy_grad(z[kept], labels[kept], spec)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(gradient[kept], expected_gradient, rtol=1e-14)
    assert not gradient[~kept].any()
    assert not sl.cross_entropy(z, labels, spec, reduction="none")[~kept].any()
    assert sl.cross_entropy(LOGITS, np.where(kept, LABELS, 255), spec, ignore_index=255) == sl.cross_entropy(
        LOGITS, labels, spec
    )


@pytest.mark.parametrize("spec", [s for s in INDEX_SPECS.values() if s.num_classes is None], ids=str)
def test_a_mask_is_the_row_without_those_classes(spec: LossSpec) -> None:
    """All fields that do not name classes: masking equals deleting."""
    keep = np.array([True, False, True, True, False, True])
    y = 1  # of the kept classes
    value, gradient = sl.cross_entropy_grad(
        LOGITS, np.full(len(LOGITS), 2), spec, where=keep, reduction="none"
    )
    expected, expected_gradient = sl.cross_entropy_grad(
        LOGITS[:, keep], np.full(len(LOGITS), y), spec, reduction="none"
    )
    np.testing.assert_allclose(value, expected, rtol=4e-15)
    np.testing.assert_allclose(gradient[:, keep], expected_gradient, rtol=1e-13, atol=1e-17)
    assert not gradient[:, ~keep].any()
    product = sl.cross_entropy_hvp(
        LOGITS, np.full(len(LOGITS), 2), TANGENT, spec, where=keep, reduction="none"
    )
    expected = sl.cross_entropy_hvp(
        LOGITS[:, keep], np.full(len(LOGITS), y), TANGENT[:, keep], spec, reduction="none"
    )
    np.testing.assert_allclose(product[:, keep], expected, rtol=1e-12, atol=1e-16)
    assert not product[:, ~keep].any()


def test_the_prior_is_renormalised_under_a_mask() -> None:
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    keep = np.array([True, True, False, True])
    z = np.array([0.3, -1.0, 9.0, 0.5])
    masked = sl.cross_entropy(z, 1, LossSpec(smoothing=0.2, prior=prior), where=keep)
    deleted = sl.cross_entropy(z[keep], 1, LossSpec(smoothing=0.2, prior=prior[keep] / prior[keep].sum()))
    assert masked == pytest.approx(deleted, rel=1e-15)


def test_a_fully_masked_row_is_ignored_and_a_masked_target_raises() -> None:
    where = np.ones(LOGITS.shape, bool)
    where[3] = False
    value, gradient = sl.cross_entropy_grad(LOGITS, LABELS, where=where, reduction="none")
    assert value[3] == 0
    assert not gradient[3].any()
    kept = np.arange(len(LOGITS)) != 3
    assert sl.cross_entropy(LOGITS, LABELS, where=where) == pytest.approx(
        sl.cross_entropy(LOGITS[kept], LABELS[kept]), rel=1e-15
    )
    where[5, LABELS[5]] = False
    with pytest.raises(ValueError, match="target of row 5 is masked"):
        sl.cross_entropy(LOGITS, LABELS, where=where)
    with pytest.raises(ValueError, match="target of row 5 is masked"):
        sl.cross_entropy(LOGITS, SOFT, where=where)


def test_nan_stays_in_its_row() -> None:
    z = LOGITS.copy()
    z[2, 0] = np.nan
    for spec in INDEX_SPECS.values():
        value, gradient = sl.cross_entropy_grad(z, LABELS, spec, reduction="none")
        assert np.flatnonzero(np.isnan(value)).tolist() == [2]
        assert np.unique(np.argwhere(np.isnan(gradient))[:, 0]).tolist() == [2]
        _, mean_gradient = sl.cross_entropy_grad(z, LABELS, spec)
        assert np.unique(np.argwhere(np.isnan(mean_gradient))[:, 0]).tolist() == [2]


def test_minus_infinity_is_an_impossible_class() -> None:
    z = np.array([0.5, -np.inf, 1.0])
    value, gradient = sl.cross_entropy_grad(z, 0)
    assert (value, gradient[1]) == (sl.cross_entropy(z[[0, 2]], 0), 0.0)
    assert sl.cross_entropy(z, 1) == np.inf
    value, gradient = sl.cross_entropy_grad(z, 0, LossSpec(smoothing=0.3))
    assert value == np.inf  # a literal -inf gets smoothing mass, as in torch
    assert gradient[1] == pytest.approx(-0.1)
    assert np.isnan(sl.cross_entropy([np.inf, 0.0], 0))
    assert np.isnan(sl.cross_entropy([-np.inf, -np.inf], 0))
    capped, gradient = sl.cross_entropy_grad(z, 0, LossSpec(softcap=3.0))
    assert np.isfinite(capped)
    assert gradient[1] == 0


@pytest.mark.parametrize(
    ("logits", "labels"), [(np.zeros((2, 3)), [-100, -100]), (np.zeros((0, 3)), np.zeros(0, int))]
)
def test_the_mean_over_no_rows(logits: np.ndarray, labels: Any) -> None:
    value, gradient = sl.cross_entropy_grad(logits, labels)
    assert np.isnan(value)
    assert not gradient.any()
    value, gradient = sl.cross_entropy_grad(logits, labels, empty="zero")
    assert value == 0
    assert not gradient.any()
    assert sl.cross_entropy(logits, labels, reduction="sum") == 0


def test_soft_targets_are_taken_as_they_are() -> None:
    """q sum(s) - s, and a one-hot distribution is the class index."""
    _, gradient = sl.cross_entropy_grad(LOGITS, SOFT, reduction="none")
    q = sl.softmax(LOGITS)
    np.testing.assert_allclose(gradient, q * SOFT.sum(axis=1, keepdims=True) - SOFT, atol=1e-15)
    for spec in SOFT_SPECS.values():
        hard = sl.cross_entropy_grad(LOGITS, LABELS, spec)
        soft = sl.cross_entropy_grad(LOGITS, np.eye(K)[LABELS], spec)
        np.testing.assert_allclose(soft[0], hard[0], rtol=1e-13)
        np.testing.assert_allclose(soft[1], hard[1], atol=1e-15)


@pytest.mark.parametrize("name", sorted(set(INDEX_SPECS) - set(SOFT_SPECS)))
def test_what_needs_a_class_index_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="needs class-index targets"):
        sl.cross_entropy(LOGITS, SOFT, INDEX_SPECS[name])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_any_axis_and_stride(axis: int) -> None:
    z = np.random.default_rng(3).normal(size=(4, 5, K))
    moved = np.moveaxis(z, -1, axis)
    labels = np.random.default_rng(4).integers(0, K, (4, 5))
    value, gradient = sl.cross_entropy_grad(moved, labels, axis=axis, reduction="none")
    expected, expected_gradient = sl.cross_entropy_grad(z, labels, reduction="none")
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, np.moveaxis(expected_gradient, -1, axis))
    strided = np.repeat(np.repeat(moved, 2, axis=0), 2, axis=1)[::2, ::2]
    assert sl.cross_entropy(strided, labels, axis=axis) == sl.cross_entropy(z, labels)


def test_out_may_be_the_logits_or_a_strange_view() -> None:
    expected_value, expected = sl.cross_entropy_grad(LOGITS, LABELS)
    z = LOGITS.copy()
    value, gradient = sl.cross_entropy_grad(z, LABELS, out=z)
    assert gradient is z
    assert value == expected_value
    np.testing.assert_array_equal(z, expected)
    buffer = np.concatenate([LOGITS, np.full((1, K), 7.0)])
    sl.cross_entropy_grad(buffer[:-1], LABELS, out=buffer[1:])  # shifted overlap
    np.testing.assert_array_equal(buffer[1:], expected)
    turned = np.empty((K, len(LOGITS))).T
    sl.cross_entropy_grad(LOGITS, LABELS, out=turned)
    np.testing.assert_array_equal(turned, expected)
    t = TANGENT.copy()
    np.testing.assert_array_equal(
        sl.cross_entropy_hvp(LOGITS, LABELS, t, out=t), sl.cross_entropy_hvp(LOGITS, LABELS, TANGENT)
    )


def test_dtypes() -> None:
    import ml_dtypes

    for dtype, loss in (
        (np.float16, np.float32),
        (ml_dtypes.bfloat16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
    ):
        value, gradient = sl.cross_entropy_grad(LOGITS.astype(dtype), LABELS)
        assert value.dtype == loss
        assert gradient.dtype == dtype
    value, gradient = sl.cross_entropy_grad(np.zeros((2, 3), int), [0, 1])
    assert gradient.dtype == np.float64


def test_labels_of_any_integer_type_and_a_single_row() -> None:
    for dtype in (np.uint8, np.int16, np.uint64, np.int64):
        assert sl.cross_entropy(LOGITS, LABELS.astype(dtype)) == sl.cross_entropy(LOGITS, LABELS)
    assert sl.cross_entropy(LOGITS[0], LABELS[0]).shape == ()
    assert sl.cross_entropy([[0.0, 1.0], [2.0, 0.0]], [1, 0]).shape == ()


BAD: list[tuple[str, type[Exception], str, Any]] = [
    ("complex logits", TypeError, "got dtype complex128", lambda: sl.cross_entropy(np.zeros(3, complex), 0)),
    ("bool logits", TypeError, "got dtype bool", lambda: sl.cross_entropy(np.zeros(3, bool), 0)),
    ("scalar logits", ValueError, "got a scalar", lambda: sl.cross_entropy(3.0, 0)),
    ("no classes", ValueError, r"got shape \(2, 0\)", lambda: sl.cross_entropy(np.zeros((2, 0)), [0, 0])),
    (
        "axis",
        ValueError,
        r"axis must lie in \[-2, 2\)",
        lambda: sl.cross_entropy(np.zeros((2, 3)), [0, 0], axis=2),
    ),
    (
        "axis type",
        TypeError,
        "axis must be one integer",
        lambda: sl.cross_entropy(np.zeros((2, 3)), [0, 0], axis=(0, 1)),  # type: ignore[arg-type]
    ),
    ("label", IndexError, "label 3 at row 1", lambda: sl.cross_entropy(np.zeros((2, 3)), [0, 3])),
    ("negative label", IndexError, "label -1 at row 0", lambda: sl.cross_entropy(np.zeros((2, 3)), [-1, 0])),
    (
        "label in 2-d",
        IndexError,
        r"label 9 at row \(1, 0\)",
        lambda: sl.cross_entropy(np.zeros((2, 2, 3)), [[0, 0], [9, 0]]),
    ),
    (
        "label shape",
        ValueError,
        r"must have shape \(2,\)",
        lambda: sl.cross_entropy(np.zeros((2, 3)), [0, 1, 2]),
    ),
    ("label dtype", TypeError, "got dtype bool", lambda: sl.cross_entropy(np.zeros((2, 3)), [True, False])),
    (
        "soft shape",
        ValueError,
        r"logits' shape \(2, 3\)",
        lambda: sl.cross_entropy(np.zeros((2, 3)), [0.5, 0.5]),
    ),
    (
        "negative soft",
        ValueError,
        "target must be finite and >= 0",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [[-0.5, 1.5]]),
    ),
    (
        "reduction",
        ValueError,
        "reduction must be one of",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], reduction="avg"),  # type: ignore[arg-type]
    ),
    (
        "empty",
        ValueError,
        "empty must be one of",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], empty="none"),  # type: ignore[arg-type]
    ),
    ("spec", TypeError, "spec must be a LossSpec", lambda: sl.cross_entropy(np.zeros((1, 2)), [0], 0.1)),  # type: ignore[arg-type]
    (
        "classes",
        ValueError,
        "made for 6 classes; the logits have 2",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], INDEX_SPECS["bias"]),
    ),
    (
        "weights",
        ValueError,
        "one weight a row",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], sample_weight=[1, 2]),
    ),
    (
        "negative weight",
        ValueError,
        "sample_weight must be",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], sample_weight=[-1]),
    ),
    (
        "where dtype",
        TypeError,
        "where must be boolean",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], where=[1, 0]),
    ),
    (
        "where shape",
        ValueError,
        "where must broadcast",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], where=np.ones((3, 2), bool)),
    ),
    (
        "ignore",
        TypeError,
        "ignore_index must be",
        lambda: sl.cross_entropy(np.zeros((1, 2)), [0], ignore_index=0.5),  # type: ignore[arg-type]
    ),
    (
        "out dtype",
        TypeError,
        "out must have dtype",
        lambda: sl.cross_entropy_grad(np.zeros((1, 2)), [0], out=np.zeros((1, 2), "f4")),
    ),
    (
        "out shape",
        ValueError,
        "out must have shape",
        lambda: sl.cross_entropy_grad(np.zeros((1, 2)), [0], out=np.zeros((2, 2))),
    ),
    (
        "out type",
        TypeError,
        "out must be a numpy.ndarray",
        lambda: sl.cross_entropy_grad(np.zeros((1, 2)), [0], out=[[0.0, 0.0]]),  # type: ignore[arg-type]
    ),
    (
        "tangent",
        ValueError,
        "tangent must have",
        lambda: sl.cross_entropy_hvp(np.zeros((1, 2)), [0], [1.0, 2.0]),
    ),
]


@pytest.mark.parametrize(("error", "match", "call"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_input_says_what_was_expected_and_what_came(
    error: type[Exception], match: str, call: Any
) -> None:
    with pytest.raises(error, match=match):
        call()


def test_an_error_leaves_out_untouched() -> None:
    out = np.full((2, 3), 7.0)
    with pytest.raises(IndexError):
        sl.cross_entropy_grad(np.zeros((2, 3)), [0, 5], out=out)
    assert (out == 7.0).all()


@pytest.mark.parametrize(
    "function",
    [sl.cross_entropy, sl.cross_entropy_grad, lambda z, y, spec: sl.cross_entropy_hvp(z, y, z, spec)],
)
def test_a_gate_without_weights_does_not_wait_for_itself(function: Any) -> None:
    """The mean's divisor asks for a pass over the rows.

    On a thread that shares them already it would wait forever.
    """
    rng = np.random.default_rng(0)
    # rows that are copied, a part at a time
    z, y = np.asfortranarray(rng.normal(size=(2000, 500))), rng.integers(500, size=2000)
    thread = threading.Thread(target=function, args=(z, y, sl.LossSpec(gate=2.0)), daemon=True)
    thread.start()
    thread.join(HANG)
    assert not thread.is_alive()
