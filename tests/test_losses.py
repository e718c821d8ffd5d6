"""Every registered loss: value against its paper's formula, derivatives, classes without samples, errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, losses

COUNTS = np.array([500, 120, 40, 9, 1])
K = len(COUNTS)
PRIOR = COUNTS / COUNTS.sum()
Z = np.random.default_rng(20260101).normal(0, 1.5, (40, K))
Y = np.arange(40) % K
ROWS = np.arange(len(Y))

Array = np.ndarray


def _spec(name: str, counts: Any = COUNTS) -> LossSpec:
    factory = losses.REGISTRY[name]
    parameters = inspect.signature(factory).parameters
    if "counts" in parameters:
        return factory(counts)
    return factory(np.linspace(0.5, 2.0, K)) if "class_weight" in parameters else factory()


def _softmax(u: Array) -> Array:
    e = np.exp(u - u.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _ce(u: Array) -> Array:
    return -np.log(_softmax(u)[ROWS, Y])


def _one_hot() -> Array:
    return np.eye(K)[Y]


def _smoothed(eps: Array, r: Array, u: Array) -> Array:
    s = (1 - eps)[:, None] * _one_hot() + eps[:, None] * r
    return -(s * np.log(_softmax(u))).sum(axis=1)


def _class_balanced() -> Array:
    weight = np.array([(1 - 0.999) / (1 - 0.999**n) for n in COUNTS])
    return (weight / weight.sum() * K)[Y] * _ce(Z)


def _label_aware() -> Array:
    """MiSLAS as printed: 1 - eps_y at y and eps_y / (K - 1) elsewhere."""
    eps = (0.1 + 0.3 * np.sin((COUNTS - 1) * np.pi / (2 * 499)))[Y]
    s = np.where(_one_hot() == 1, 1 - eps[:, None], eps[:, None] / (K - 1))
    return -(s * np.log(_softmax(Z))).sum(axis=1)


def _seesaw() -> Array:
    mitigation = np.array([[min(1.0, COUNTS[k] / COUNTS[y]) ** 0.8 for k in range(K)] for y in range(K)])[Y]
    e = np.exp(Z) * mitigation
    return -np.log(np.exp(Z)[ROWS, Y] / e.sum(axis=1))


def _equalization() -> Array:
    factor = 1 - 0.9 * (PRIOR < 0.5 / K) * (1 - _one_hot())
    return -np.log(np.exp(Z)[ROWS, Y] / (np.exp(Z) * factor).sum(axis=1))


def _gradient_balanced() -> Array:
    u = Z + 1.1 * np.log(PRIOR)
    q = _softmax(u)[ROWS, Y]
    return ((COUNTS.max() / COUNTS)[Y] ** (q**4)) * _ce(u)


FORMULAS: dict[str, Callable[[], Array]] = {
    "plain": lambda: _ce(Z),
    "weighted": lambda: np.linspace(0.5, 2.0, K)[Y] * _ce(Z),
    "class_balanced": _class_balanced,
    "label_smoothing": lambda: _smoothed(np.full(len(Y), 0.1), np.full(K, 1 / K), Z),
    "label_aware_smoothing": _label_aware,
    "focal": lambda: (1 - _softmax(Z)[ROWS, Y]) ** 2 * _ce(Z),
    "poly1": lambda: _ce(Z) + 1.0 - _softmax(Z)[ROWS, Y],
    "ldam": lambda: _ce(30 * (Z - _one_hot() * 0.5 * (COUNTS / COUNTS.min()) ** -0.25)),
    "balanced_softmax": lambda: -np.log((COUNTS * np.exp(Z))[ROWS, Y] / (COUNTS * np.exp(Z)).sum(axis=1)),
    "logit_adjusted": lambda: _ce(Z + np.log(PRIOR)),
    "cdt": lambda: _ce(Z * (COUNTS / COUNTS.max()) ** 0.2),
    "vs": lambda: _ce(Z * (COUNTS / COUNTS.max()) ** 0.3 + np.log(PRIOR)),
    "seesaw": _seesaw,
    "equalization": _equalization,
    "gradient_balanced": _gradient_balanced,
}

every_loss = pytest.mark.parametrize("name", losses.REGISTRY)


def test_every_registered_loss_has_a_formula_and_is_public() -> None:
    assert set(FORMULAS) == set(losses.REGISTRY)
    assert set(losses.__all__) == {*losses.REGISTRY, "REGISTRY"}


@every_loss
def test_value_against_the_papers_formula(name: str) -> None:
    np.testing.assert_allclose(
        sl.cross_entropy(Z, Y, _spec(name), reduction="none"), FORMULAS[name](), rtol=1e-12, atol=1e-14
    )


@every_loss
def test_gradient_and_hvp_against_finite_differences(name: str) -> None:
    spec, step = _spec(name), 1e-6
    fixed = LossSpec(
        **{f: getattr(spec, f) for f in spec.__dataclass_fields__ if f not in ("gate", "class_weight")}
    )
    gradient = sl.cross_entropy_grad(Z, Y, spec, reduction="none")[1]
    value = sl.cross_entropy(Z, Y, spec, reduction="none")
    # w, which derivatives hold constant
    weight = (value / sl.cross_entropy(Z, Y, fixed, reduction="none"))[:, None]
    for k in range(K):
        ahead, behind = Z + step * np.eye(K)[k], Z - step * np.eye(K)[k]
        slope = (
            sl.cross_entropy(ahead, Y, fixed, reduction="none")
            - sl.cross_entropy(behind, Y, fixed, reduction="none")
        ) / (2 * step)
        np.testing.assert_allclose(gradient[:, k], weight[:, 0] * slope, rtol=1e-5, atol=2e-7 * value.max())
        tangent = np.broadcast_to(np.eye(K)[k], Z.shape)
        curve = (
            sl.cross_entropy_grad(ahead, Y, fixed, reduction="none")[1]
            - sl.cross_entropy_grad(behind, Y, fixed, reduction="none")[1]
        ) / (2 * step)
        hvp = sl.cross_entropy_hvp(Z, Y, tangent, spec, reduction="none")
        np.testing.assert_allclose(hvp, weight * curve, rtol=1e-5, atol=1e-6 * np.abs(weight * curve).max())


@every_loss
def test_a_class_without_samples_counts_as_one(name: str) -> None:
    assert _spec(name, [500, 120, 40, 9, 0]) == _spec(name, COUNTS)
    value, gradient = sl.cross_entropy_grad(Z, Y, _spec(name, [500, 120, 40, 0, 0]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@every_loss
def test_balanced_counts_leave_the_decision_alone(name: str) -> None:
    """On equal counts every loss treats the classes alike.

    The value does not change when classes are renamed.
    """
    if name == "weighted":
        pytest.skip("weights are given, not made of counts")
    spec, order = _spec(name, np.full(K, 30)), np.array([3, 0, 4, 1, 2])
    renamed = sl.cross_entropy(Z[:, order], np.argsort(order)[Y], spec, reduction="none")
    np.testing.assert_allclose(renamed, sl.cross_entropy(Z, Y, spec, reduction="none"), rtol=1e-13)


@every_loss
def test_one_class(name: str) -> None:
    spec = losses.weighted([2.0]) if name == "weighted" else _spec(name, [7])
    assert sl.cross_entropy([[3.0]], [0], spec) == 0


NEEDS_SAMPLES = ("class_balanced",)
by_counts = pytest.mark.parametrize(
    "name", [n for n, f in losses.REGISTRY.items() if "counts" in inspect.signature(f).parameters]
)


def test_frequencies_are_the_counts_up_to_a_factor() -> None:
    assert losses.logit_adjusted([0.5, 0.3, 0.2]) == losses.logit_adjusted([5, 3, 2])
    np.testing.assert_allclose(
        np.asarray(losses.balanced_softmax([0.5, 0.3, 0.2]).bias), np.log([0.5, 0.3, 0.2]), rtol=1e-15
    )
    np.testing.assert_allclose(sl.balance.initial_mass_ratio([0.75, 0.25]), [3.0, 1 / 3], rtol=1e-15)


@by_counts
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_loss_of_counts_takes_frequencies_or_says_that_it_needs_samples(name: str, dtype: Any) -> None:
    if name in NEEDS_SAMPLES:
        with pytest.raises(ValueError, match=r"whole numbers of samples here.*got frequencies"):
            _spec(name, PRIOR)
        return
    by_share, by_count = _spec(name, PRIOR.astype(dtype)), _spec(name)
    rounding = 1e-13 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(
        sl.cross_entropy(Z, Y, by_share, reduction="none"),
        sl.cross_entropy(Z, Y, by_count, reduction="none"),
        rounding,
    )
    assert by_count != LossSpec()


@by_counts
def test_whole_numbers_are_counts_whatever_their_type(name: str) -> None:
    assert _spec(name, COUNTS.astype(np.float32)) == _spec(name, COUNTS.astype(np.uint16)) == _spec(name)
    assert _spec(name, [1.0, 0.0, 0.0, 0.0, 0.0]) == _spec(name, [1, 1, 1, 1, 1])


@by_counts
@pytest.mark.parametrize(
    ("counts", "match"),
    [
        (
            [0.5, 0.3, 0.1],
            r"frequencies > 0 that sum to one \(within 1e-6\); got values from 0.1 to 0.5 that sum to 0.9",
        ),
        ([0.5, 0.5, 0.0], r"frequencies > 0 that sum to one .*got values from 0.0 to 0.5"),
        ([2.5, 3.0], "whole numbers of samples, or frequencies"),
        ([0.5, np.nan], "counts must be in .*got nan at index"),
        ([1.5, -0.5], "counts must be in .*got -0.5 at index"),
        ([2.0**54, 1.0], "counts must be in .*got 1.8014398509481984e"),
    ],
)
def test_what_is_neither_counts_nor_frequencies_is_refused(
    name: str, counts: list[float], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        _spec(name, counts)


def test_gradient_balanced_is_plain_on_balanced_data() -> None:
    value, gradient = sl.cross_entropy_grad(Z, Y, losses.gradient_balanced(np.full(K, 30)))
    expected, expected_gradient = sl.cross_entropy_grad(Z, Y)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-16)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_neutral_smoothing_keeps_the_decision(power: float) -> None:
    """The minimiser of E[CE(u, s)] has q_k = (1 - eps_k) P_k + (sum of P eps) r_k.

    Z = log q - b keeps the order of P / prior.
    """
    spec = losses.gradient_balanced(COUNTS, eps=0.3, power=power, tau=1.0)
    posterior = np.random.default_rng(1).dirichlet(np.ones(K), 200)
    eps = np.broadcast_to(spec.smoothing, K)
    kept, mass = (1 - eps) * posterior, posterior @ eps[:, None]
    fair = (posterior / PRIOR).argmax(axis=1)
    np.testing.assert_array_equal(
        (np.log(kept + mass * np.asarray(spec.prior)) - np.asarray(spec.bias)).argmax(axis=1), fair
    )
    assert ((np.log(kept + mass / K) - np.asarray(spec.bias)).argmax(axis=1) != fair).any()


def test_class_balanced_limits() -> None:
    np.testing.assert_allclose(np.asarray(losses.class_balanced(COUNTS, beta=0.0).class_weight), 1.0)
    inverse = 1 / COUNTS
    np.testing.assert_allclose(
        np.asarray(losses.class_balanced(COUNTS, beta=1 - 1e-12).class_weight),
        inverse * (K / inverse.sum()),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, r"counts must be in \[0, 9.0072e\+15\]; got -1.0", lambda: losses.ldam([3, -1])),
        (ValueError, r"counts must be in \[0, 9.0072e\+15\]; got nan", lambda: losses.cdt([3, np.nan])),
        (ValueError, r"counts must have shape \(K,\)", lambda: losses.vs([[1, 2]])),
        (ValueError, "at least one class with samples", lambda: losses.seesaw([0, 0])),
        (TypeError, "counts must hold real numbers", lambda: losses.balanced_softmax(["many"])),
        (ValueError, "beta must be < 1", lambda: losses.class_balanced([1, 2], beta=1.0)),
        (ValueError, r"beta must be in \[0, 1\]; got 1.5", lambda: losses.class_balanced([1, 2], beta=1.5)),
        (ValueError, "gamma must be finite and >= 0", lambda: losses.focal(-1.0)),
        (ValueError, "scale must be finite and > 0", lambda: losses.ldam([1, 2], scale=0.0)),
        (ValueError, r"eps must be in \[0, 1\]", lambda: losses.label_smoothing(1.5)),
        (
            ValueError,
            "shape must be one of 'concave'",
            lambda: losses.label_aware_smoothing([1, 2], shape="flat"),  # type: ignore[arg-type]
        ),
        (ValueError, r"head must be in \[0, 0.5\]", lambda: losses.label_aware_smoothing([1, 2], head=0.6)),
        (ValueError, "drop must be < 1", lambda: losses.equalization([1, 2], drop=1.0)),
        (ValueError, "tau must be", lambda: losses.gradient_balanced([1, 2], tau=-1)),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, call: Callable[[], LossSpec]) -> None:
    with pytest.raises(error, match=match):
        call()
