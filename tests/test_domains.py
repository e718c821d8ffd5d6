"""Every field of the family at both ends of its domain, against the oracle, and the temperature of the maps.

An error is counted in ulps of the largest term that is added, as in ``test_cross_entropy``; a bias or margin
of 1e308 is such a term of every logit. No end of a domain gives NaN, and what overflows does so in truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, exact
from softmax_lab.spec import FIELDS

pytestmark = pytest.mark.usefixtures("each_path")

SMALLEST, LARGEST = 5e-324, float(np.finfo(np.float64).max)
#: of the numbers that a field may be, the ends, and where reciprocals, squares and float32 end
ENDS = (SMALLEST, 2.0**-1022, 1e-160, 1e-50, 1e50, 1e160, LARGEST)
#: what a field needs beside it to act at all
COMPANIONS: dict[str, dict[str, Any]] = {"gate": {"class_weight": 3.0}, "prior": {"smoothing": 0.25}}
BAR = 16.0


def _ends(name: str) -> list[float]:
    field = FIELDS[name]
    low, high, open_low = field.low, field.high, field.open_low
    inside = [x for x in ENDS if low <= x <= high]
    return (
        inside
        + [-x for x in ENDS if -x >= low]
        + [x for x in (low, high) if np.isfinite(x) and not (open_low and x == low)]
    )


def cases(num_classes: int) -> Iterator[Any]:
    """Each field as a number at each end, and as an array with the end at one class, where it may be one."""
    for name, field in FIELDS.items():
        ranks = field.ranks
        for end in _ends(name):
            if name != "prior":
                yield pytest.param(LossSpec(**({name: end} | COMPANIONS.get(name, {}))), id=f"{name}={end:g}")
            if 1 in ranks:
                yield pytest.param(
                    LossSpec(**({name: _array(name, end, num_classes)} | COMPANIONS.get(name, {}))),
                    id=f"{name}=[{end:g}]",
                )


def _array(name: str, end: float, num_classes: int) -> Any:
    values = np.full(num_classes, 0.5)
    values[1] = end
    if name == "prior":
        values[[0, 2]] = (1.0 - end) / 2
        values[3:] = 0.0
    return values


def rows(num_classes: int, dtype: str) -> Any:
    first = np.array([[2.0, 1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1e-3], [300.0, -200.0, 0.125]])
    rest = -1.0 - np.arange(num_classes - 3) / 64
    return np.concatenate([first, np.broadcast_to(rest, (4, len(rest)))], axis=1).astype(dtype)


def addend(spec: LossSpec) -> float:
    """The largest term added to a logit, over T: of its digits u is made."""
    return float(max(np.abs(spec.bias).max(), np.max(spec.margin)) / spec.temperature)


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a step far below the smallest number, and a sum with the largest."""
    monkeypatch.setattr(exact, "DIGITS", 900)


def check(computed: Any, expected: list[Any], sizes: list[Any], spec: LossSpec) -> None:
    if addend(spec) > 1:  # the digits that u lost are felt by every class
        sizes = [max(sizes) * addend(spec)] * len(sizes)
    scale = [min(size, LARGEST) for size in sizes]
    error = exact.ulp_error(computed, expected, scale=scale)
    assert (error <= BAR * max(1.0, _conditioning(spec))).all(), (
        computed,
        [float(x) for x in expected],
        error,
    )


def _conditioning(spec: LossSpec) -> float:
    """Relative error of W^f and (1 - q)^gamma per ulp.

    It is the size of their logarithms, as far as the result is not 0.
    """
    weight = np.asarray(spec.class_weight, np.float64)
    logs = np.abs(np.log(weight, where=weight > 0, out=np.zeros_like(weight)))
    return max(float(logs.max()) if spec.gate else 0.0, min(spec.gamma, 745.0))


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spec", cases(3))
def test_value_gradient_and_product_at_the_ends(spec: LossSpec, dtype: str) -> None:
    z, labels = rows(3, dtype), np.array([0, 1, 2, 1])
    tangents = np.cos(np.arange(z.size)).reshape(z.shape).astype(dtype)
    values, gradients = sl.cross_entropy_grad(z, labels, spec, reduction="none")
    products = sl.cross_entropy_hvp(z, labels, tangents, spec, reduction="none")
    check_rows(z, labels, values, gradients, spec)
    for row, y, tangent, product in zip(z, labels, tangents, products, strict=True):
        bent = exact.cross_entropy_hvp(row, int(y), tangent, spec)
        check(product, bent, [max(map(abs, bent))] * len(bent), spec)


def check_rows(z: Any, labels: Any, values: Any, gradients: Any, spec: LossSpec) -> None:
    for row, y, value, gradient in zip(z, labels, values, gradients, strict=True):
        weight = exact.row_weight(row, int(y), spec)
        expected = exact.cross_entropy(row, int(y), spec, weight=weight)
        terms = exact.cross_entropy_grad_terms(row, int(y), spec, weight=weight)
        check(value, [expected], [max(abs(expected), weight)], spec)
        with mpmath.workdps(exact.DIGITS):
            check(gradient, [mpmath.fsum(t) for t in terms], [max(map(abs, t)) for t in terms], spec)


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("spec", cases(49))
def test_long_rows_at_the_ends(spec: LossSpec) -> None:
    z, labels = rows(49, "float64")[:1], np.array([1])
    check_rows(z, labels, *sl.cross_entropy_grad(z, labels, spec, reduction="none"), spec)


@pytest.mark.parametrize("temperature", [SMALLEST, 1e-309, 2.0**-1022, 1e-100, 1e100, LARGEST])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_maps_at_the_ends_of_the_temperature(temperature: float, dtype: str) -> None:
    tiny = [[3 * SMALLEST, SMALLEST, 0.0], [1e-308, 0.0, -1e-308]] if dtype == "float64" else []
    for row in np.concatenate([rows(3, dtype), np.array(tiny, dtype).reshape(-1, 3)]):
        p, log_p = sl.softmax(row, temperature=temperature), sl.log_softmax(row, temperature=temperature)
        assert exact.ulp_error(p, exact.softmax(row, temperature)).max() <= 4
        assert exact.ulp_error(log_p, exact.log_softmax(row, temperature)).max() <= 4
        # derivatives are made of the probabilities as they were rounded: one that is 0 has none
        jacobian: Any = np.array(exact.softmax_jacobian(row, temperature))
        known = np.asarray(p, np.float64) > 0
        for computed, expected in (
            (sl.softmax_jvp(p, np.eye(3, dtype=dtype)[0], temperature=temperature), jacobian[0]),
            (np.diag(sl.softmax_jacobian(p, temperature=temperature)), np.diag(jacobian)),
        ):
            assert not computed[~known].any()
            assert (exact.ulp_error(computed, expected)[known] <= (16 if dtype != "float16" else 64)).all()


WEIGHTS = (SMALLEST, 1e-310, 1e-200, 1e200, LARGEST)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("spec", [LossSpec(), LossSpec(gamma=2.0), LossSpec(smoothing=0.1)])
def test_a_mean_does_not_know_a_factor_that_all_weights_share(weight: float, spec: LossSpec) -> None:
    """The sum of two weights of 1e308 is infinite, and one over that of two weights of 5e-324 too."""
    z, y = rows(3, "float64"), np.array([0, 1, 2, 1])
    tangent = np.cos(z)
    cases: tuple[tuple[LossSpec, dict[str, Any]], ...] = (
        (LossSpec(**(_fields(spec) | {"class_weight": weight})), {}),
        (LossSpec(**(_fields(spec) | {"class_weight": np.full(3, weight)})), {}),
        (spec, {"sample_weight": np.full(4, weight)}),
    )
    for weighted, options in cases:
        value, gradient = sl.cross_entropy_grad(z, y, weighted, **options)
        expected, expected_gradient = sl.cross_entropy_grad(z, y, spec)
        assert value == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-13, atol=1e-300)
        product = sl.cross_entropy_hvp(z, y, tangent, weighted, **options)
        np.testing.assert_allclose(
            product, sl.cross_entropy_hvp(z, y, tangent, spec), rtol=1e-12, atol=1e-300
        )


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_mean_of_gated_and_of_given_distributions_at_the_ends(weight: float) -> None:
    z, y = np.array([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, 1])
    gated = sl.cross_entropy(z, y, LossSpec(class_weight=weight, gate=4.0))
    # both rows have the same weight, whatever it is
    assert gated == pytest.approx(sl.cross_entropy(z, y), rel=1e-12)
    soft = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    assert sl.cross_entropy(z, soft, LossSpec(class_weight=np.full(3, weight))) == pytest.approx(
        sl.cross_entropy(z, soft), rel=1e-14
    )


def _fields(spec: LossSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in FIELDS}


def test_a_bias_that_all_classes_share_changes_nothing() -> None:
    z, y = rows(3, "float64"), np.array([0, 1, 2, 1])
    for bias in (1e20, -LARGEST):
        np.testing.assert_array_equal(
            sl.cross_entropy_grad(z, y, LossSpec(bias=bias))[1], sl.cross_entropy_grad(z, y)[1]
        )


def test_a_prior_whose_whole_mass_is_masked_is_refused_with_the_row() -> None:
    z, prior = np.zeros((3, 3)), [0.5, 0.5, 0.0]
    keep = np.array([[True, True, True], [False, False, True], [True, False, True]])
    for spec in (LossSpec(smoothing=0.2, prior=prior), LossSpec(smoothing=[0.0, 0.0, 0.2], prior=prior)):
        for call in (
            lambda spec=spec: sl.cross_entropy(z, [0, 2, 2], spec, where=keep),
            lambda spec=spec: sl.cross_entropy_grad(z, [0, 2, 2], spec, where=keep),
            lambda spec=spec: sl.cross_entropy_hvp(z, [0, 2, 2], z, spec, where=keep),
        ):
            with pytest.raises(ValueError, match="where masks every class of the prior in row 1"):
                call()
    with pytest.raises(ValueError, match="where masks every class of the prior"):
        exact.restricted(z[1], 2, LossSpec(smoothing=0.2, prior=prior), keep[1].tolist())


def test_a_row_that_is_not_smoothed_or_does_not_count_needs_no_prior() -> None:
    z, keep = np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([False, False, True, True])
    spec = LossSpec(smoothing=[0.5, 0.5, 0.0, 0.5], prior=[0.5, 0.5, 0.0, 0.0])
    value, gradient = sl.cross_entropy_grad(z, [2], spec, where=keep)
    expected, expected_gradient = sl.cross_entropy_grad(z[:, 2:], [0])
    assert value == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, np.pad(expected_gradient, ((0, 0), (2, 0))), rtol=1e-15)
    ignored, zero = sl.cross_entropy_grad(z, [-100], spec, where=keep, reduction="none")
    assert ignored == 0
    assert not zero.any()
    assert (
        sl.cross_entropy(
            z, [2], LossSpec(smoothing=0.5, prior=[0.5, 0.5, 0.0, 0.0]), where=False, reduction="none"
        )
        == 0
    )


@pytest.mark.parametrize("least", [SMALLEST, 1e-310, 1e-290])
def test_what_a_mask_leaves_of_a_prior_may_be_as_little_as_there_is(least: float) -> None:
    z, keep = np.array([0.5, -1.0, 2.0, 0.25]), [False, True, True, True]
    spec = LossSpec(smoothing=0.25, prior=[1.0, least, least, 0.0])
    value, gradient = sl.cross_entropy_grad(z, 3, spec, where=keep)
    row, y, cut = exact.restricted(z, 3, spec, keep)
    assert exact.ulp_error(value, [exact.cross_entropy(row, y, cut)]).max() <= 8
    np.testing.assert_allclose(
        gradient[1:], [float(x) for x in exact.cross_entropy_grad(row, y, cut)], rtol=1e-13
    )
