"""The shared validators: what is lost nowhere, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import _checks, data

Z, Y = np.zeros((2, 3)), np.array([0, 1])


def masked(values: Any) -> Any:
    return np.ma.MaskedArray(values, mask=False)


MASKED: dict[str, Callable[[], object]] = {
    "logits": lambda: sl.softmax(masked(Z)),
    "where": lambda: sl.log_softmax(Z, where=masked(Z == 0)),
    "out": lambda: sl.softmax(Z, out=masked(Z.copy())),
    "target": lambda: sl.cross_entropy(Z, masked(Y)),
    "sample_weight": lambda: sl.cross_entropy(Z, Y, sample_weight=masked([1.0, 2.0])),
    "tangent": lambda: sl.cross_entropy_hvp(Z, Y, masked(Z)),
    "probs": lambda: sl.softmax_jacobian(masked([0.5, 0.5])),
    "bias": lambda: sl.LossSpec(bias=masked([0.0, 1.0])),
    "prior": lambda: sl.LossSpec(prior=masked([0.5, 0.5])),
    "counts": lambda: sl.losses.balanced_softmax(masked([3, 1])),
    "class_weight": lambda: sl.losses.weighted(masked([3.0, 1.0])),
    "logit_gradient": lambda: sl.balance.class_gradients(masked(Z), Y),
    "log_prior": lambda: sl.balance.prior_response(Z, Y, masked([0.0, 1.0, 2.0])),
    "labels": lambda: data.long_tail(masked([0, 1]), 1.0),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_array_is_refused_wherever_arrays_come_in(name: str) -> None:
    with pytest.raises(
        TypeError,
        match=f"{name} must be a .*MaskedArray"
        if name == "out"
        else f"{name} must be a plain array.*where=~mask",
    ):
        MASKED[name]()


@pytest.mark.parametrize("value", [2.7, 2.0, "2", None, True, np.bool_(True), np.array([2, 3])])
def test_a_whole_number_is_no_fraction(value: Any) -> None:
    with pytest.raises(TypeError, match="n must be a whole number; got"):
        _checks.whole("n", value, low=1)


def test_a_whole_number_of_any_integer_type() -> None:
    assert [_checks.whole("n", value, low=1) for value in (2, np.int8(2), np.uint64(2))] == [2, 2, 2]
    with pytest.raises(ValueError, match="n must be >= 1; got 0"):
        _checks.whole("n", 0, low=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sl.set_num_threads(1.5),  # type: ignore[arg-type]
        lambda: data.long_tail_counts(10.5, 2.0, 3),  # type: ignore[arg-type]
        lambda: data.long_tail_counts(10, 2.0, 3.5),  # type: ignore[arg-type]
        lambda: data.long_tail([0, 1], 1.0, test_per_class=0.5),  # type: ignore[arg-type]
    ],
)
def test_a_number_of_things_is_not_cut_off(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="must be a whole number"):
        call()


class Foreign:
    """An array of the standard that nobody here knows."""

    def __array_namespace__(self) -> object:
        return object()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return Z


def _tensor() -> Any:
    return pytest.importorskip("torch", reason="needs torch").zeros(2, 3)


def _jax_array() -> Any:
    return pytest.importorskip("jax", reason="needs JAX").numpy.zeros((2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_tensor, r"got a torch\.Tensor, which softmax_lab\.torch takes under the same names"),
        (_jax_array, ".*which softmax_lab.jax takes under the same names"),
        (Foreign, r"got a .*Foreign: pass numpy\.asarray of it"),
    ],
)
def test_an_array_of_others_is_told_its_face(make: Callable[[], Any], words: str) -> None:
    value = make()
    for call in (
        lambda: sl.softmax(value),
        lambda: sl.logsumexp(value),
        lambda: sl.cross_entropy(value, Y),
        lambda: sl.cross_entropy(Z, value),
    ):
        with pytest.raises(TypeError, match=f"must be a NumPy array here; {words}"):
            call()


def test_a_scalar_of_numpy_and_what_knows_no_standard_are_taken() -> None:
    class Series:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.zeros(2)

    np.testing.assert_array_equal(sl.softmax(Series()), [0.5, 0.5])
    np.testing.assert_array_equal(sl.softmax([np.float64(0.0), np.float64(0.0)]), [0.5, 0.5])
