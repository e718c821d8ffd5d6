"""Evidence for the verdicts of chapter 4: the frameworks as they are, and the training advice."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from experiments import frameworks
from softmax_lab.audit import adapters

Logits = st.lists(st.floats(-30, 30), min_size=2, max_size=6)
CONFIDENT = np.array([[40.0, 0.0]])  # -log p of class 0 is 4.2e-18
FAR = np.array([[1e4, 1e4 - 1, 1e4 - 2]], dtype=np.float32)
DEEP = np.array([[0.0, -200.0]], dtype=np.float32)  # exp(-200) is 0 in float32
HALF_WAY = np.array([[0.5, 0.25, 0.0]])  # a target that sums to 0.75


def made(name: str) -> Any:
    """Return the adapter, or skip where its framework is not installed."""
    try:
        return adapters.make(name)
    except adapters.MissingFramework as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def audit() -> pd.DataFrame:
    return frameworks.read_audit()


def worst(audit: pd.DataFrame, name: str, function: str, dtype: str, case: str) -> float:
    """Return the stored error of one case in ulp."""
    row = audit.query(
        "implementation == @name and function == @function and dtype == @dtype and case == @case"
    )
    return float(row["max_ulp"].iloc[0])


# 0.4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_claim_0_4_gradients_differ_between_frameworks(audit: pd.DataFrame, dtype: str) -> None:
    torch, tensorflow, jax = (
        worst(audit, name, "cross_entropy_grad", dtype, "soft targets")
        for name in ("torch", "tensorflow", "jax")
    )
    assert tensorflow > 1e5 * torch  # p - t where p sum(t) - t is due
    assert max(torch, jax) < 20
    torch, jax = (
        worst(audit, name, "cross_entropy_grad", dtype, "a million classes") for name in ("torch", "jax")
    )
    assert torch > 10 * jax


@pytest.mark.parametrize(("name", "right"), [("torch", True), ("jax", True), ("tensorflow", False)])
def test_claim_0_4_the_same_call_gives_another_gradient(name: str, right: bool) -> None:
    z = np.array([[1.0, 2.0, 3.0]])
    gradient = made(name).cross_entropy_grad(z, HALF_WAY)
    assert np.allclose(gradient, sl.softmax(z) * HALF_WAY.sum() - HALF_WAY) == right
    assert np.allclose(gradient, sl.softmax(z) - HALF_WAY) != right


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ["confident", "wide", "underflow", "two classes"])
def test_claim_0_4_but_the_largest_error_is_shared(audit: pd.DataFrame, dtype: str, case: str) -> None:
    failing = frameworks.failing(audit, "cross_entropy_grad", case, [dtype])
    assert failing == ["numpy", "torch", "torch.compile", "tensorflow", "tf.function", "jax", "jax.jit"]


# 4.1 and 4.2: the corrections


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax", "scipy"])
def test_claim_4_1_4_2_the_corrections_are_there(name: str) -> None:
    subject = made(name)
    # unshifted, exp(1e4) overflows
    np.testing.assert_allclose(subject.softmax(FAR), sl.softmax(FAR), rtol=1e-5)
    assert subject.log_softmax(DEEP)[0, 1] == -200  # the logarithm of a softmax would be -inf
    assert subject.cross_entropy(DEEP, np.array([1]))[0] == 200


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_claim_4_1_4_2_the_corrections_do_not_save_confident_rows(name: str) -> None:
    subject, label = made(name), np.array([0])
    assert subject.cross_entropy(CONFIDENT, label)[0] == 0
    assert subject.cross_entropy_grad(CONFIDENT, label)[0, 0] == 0
    assert sl.cross_entropy(CONFIDENT, label) == pytest.approx(4.248e-18, rel=1e-3)
    assert sl.cross_entropy_grad(CONFIDENT, label)[1][0, 0] == pytest.approx(-4.248e-18, rel=1e-3)


def test_claim_4_1_dynamic_by_default_and_capturable() -> None:
    pytest.importorskip("torch")
    modes = frameworks.torch_modes()
    assert "LogSoftmaxBackward" in modes["graph of cross_entropy"]  # the log domain, in the graph itself
    assert modes["recorded anew by each call"] == "yes"
    # outside the article's condition: not only dynamic
    assert modes["can be captured ahead of time"] == "yes"


def test_claim_4_1_threads_are_those_of_the_cpu() -> None:
    pytest.importorskip("torch")
    modes = frameworks.torch_modes()
    assert modes["intra-op threads can be set"] == "yes"
    assert modes["same softmax on one thread and two"] == "yes"


def test_claim_4_2_eager_by_default() -> None:
    """The counterexample to static graph compilation and to a GPU."""
    pytest.importorskip("tensorflow")
    modes = frameworks.tensorflow_modes()
    assert modes["executing eagerly by default"] == modes["a result has its value at once"] == "yes"
    assert modes["compiled by XLA by default"] == "no"
    assert modes["runs without a GPU"] == "yes"
    assert "Softmax" in modes["graph under tf.function"]  # a graph is made where it is asked for


def test_claim_4_2_not_the_same_correction() -> None:
    torch, tensorflow = made("torch"), made("tensorflow")
    z = np.array([[1.0, 2.0, 3.0]])
    assert not np.allclose(
        torch.cross_entropy_grad(z, HALF_WAY), tensorflow.cross_entropy_grad(z, HALF_WAY), atol=1e-2
    )


# 4.3


def test_claim_4_3_the_lock_is_released_in_exp() -> None:
    """Longer arrays: another Python thread goes on while NumPy computes.

    It stands still for Python objects.
    """
    x, objects = np.linspace(-10.0, 0.0, 8_000_000), np.arange(2_000_000).astype(object)
    out = np.empty_like(x)
    exp = frameworks.lock_release(lambda: np.exp(x, out=out))
    held = frameworks.lock_release(lambda: np.add(objects, objects), repeats=3)
    assert exp.share > 0.15
    assert exp.share > 2 * held.share


def test_claim_4_3_short_arrays_keep_the_lock() -> None:
    """The condition: up to 500 elements a call keeps the lock, so no thread shares the work."""
    short, longer = np.linspace(-10.0, 0.0, 500), np.linspace(-10.0, 0.0, 501)
    out = np.empty(501)
    assert frameworks.turns_beside(lambda: np.exp(short, out=out[:500])) == 0
    assert frameworks.turns_beside(lambda: np.exp(longer, out=out)) > 10


@given(Logits)
def test_claim_4_3_logaddexp_is_corrected(z: list[float]) -> None:
    shifted = np.array(z) + 1e3
    exact = float(sl.exact.logsumexp(shifted))
    assert np.logaddexp.reduce(shifted) == pytest.approx(exact, rel=1e-13)
    with np.errstate(over="ignore"):
        assert np.log(np.exp(shifted).sum()) == np.inf


def test_claim_4_3_there_is_no_softmax_to_correct() -> None:
    assert not [name for name in dir(np) if "softmax" in name]
    small = np.logaddexp(0.0, -40.0)
    with mpmath.workdps(30):
        assert small == pytest.approx(float(mpmath.log1p(mpmath.exp(-40))), rel=1e-15)


# 4.4


@given(Logits, st.floats(0.01, 0.9), st.data())
def test_claim_4_4_gradient_is_p_minus_the_smoothed_label(
    z: list[float], eps: float, data: st.DataObject
) -> None:
    label, k = data.draw(st.integers(0, len(z) - 1)), len(z)
    s = np.full(k, eps / k)
    s[label] += 1 - eps
    value, gradient = sl.cross_entropy_grad(np.array([z]), np.array([label]), sl.LossSpec(smoothing=eps))
    np.testing.assert_allclose(gradient[0], sl.softmax(z) - s, atol=1e-14)
    assert value == pytest.approx(-float(s @ sl.log_softmax(z)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("k", [2, 10, 1000])
@pytest.mark.parametrize("eps", [0.05, 0.1, 0.3])
def test_claim_4_4_the_optimum_is_at_a_finite_gap(k: int, eps: float) -> None:
    rest = np.log(1 + k * (1 - eps) / eps)

    def pull(gap: float) -> float:
        z = np.zeros((1, k))
        z[0, 0] = gap
        return float(sl.cross_entropy_grad(z, np.array([0]), sl.LossSpec(smoothing=eps))[1][0, 0])

    assert pull(rest) == pytest.approx(0, abs=1e-14)
    assert pull(rest - 0.5) < 0 < pull(rest + 0.5)


@pytest.fixture(scope="module")
def trained() -> dict[str, list[frameworks.Trained]]:
    setting = frameworks.Digits(seeds=(0,), steps=600)
    return {
        "right": frameworks.smoothing_runs((0.0, 0.1), setting),
        "noisy": frameworks.smoothing_runs((0.0, 0.1), setting._replace(noise=0.3)),
    }


def test_claim_4_4_it_relieves_over_confidence_where_there_is_some(
    trained: dict[str, list[frameworks.Trained]],
) -> None:
    plain, smooth = trained["noisy"]
    assert plain.confidence > plain.accuracy + 0.05
    assert abs(smooth.confidence - smooth.accuracy) < plain.confidence - plain.accuracy
    assert smooth.ece < plain.ece


def test_claim_4_4_it_makes_others_under_confident(trained: dict[str, list[frameworks.Trained]]) -> None:
    """Outside the condition: nearly calibrated without smoothing, worse with it."""
    plain, smooth = trained["right"]
    assert abs(plain.confidence - plain.accuracy) < 0.05
    assert smooth.confidence < smooth.accuracy - 0.05
    assert smooth.ece > 2 * plain.ece


# 4.5


@given(st.lists(st.floats(0.1, 20), min_size=2, max_size=6), st.floats(0.01, 0.9), st.data())
def test_claim_4_5_weight_rows_not_terms(weight: list[float], eps: float, data: st.DataObject) -> None:
    w = np.array(weight)
    label = data.draw(st.integers(0, len(w) - 1))
    ours, terms = frameworks.weighted_optimum(w, label, eps)
    gradient = sl.cross_entropy_grad(
        np.log(ours)[None], np.array([label]), sl.LossSpec(smoothing=eps, class_weight=w), reduction="none"
    )[1]
    np.testing.assert_allclose(gradient, 0, atol=1e-13 * w.max())
    if w.max() > 1.5 * w.min():
        assert np.abs(terms - ours).max() > 1e-4


def test_claim_4_5_torch_weights_terms() -> None:
    torch = made("torch")
    weight = np.array([1.0, 8.0, 1.0, 2.0])
    ours, terms = frameworks.weighted_optimum(weight, 0, 0.25)

    def gradient(p: NDArray[np.float64]) -> float:
        return float(
            np.abs(
                torch.cross_entropy_grad(
                    np.log(p)[None], np.array([0]), label_smoothing=0.25, class_weight=weight
                )
            ).max()
        )

    assert gradient(terms) < 1e-13
    assert gradient(ours) > 0.1


@pytest.mark.parametrize("offset", [0.0, 20.0, 100.0])
def test_claim_4_5_half_logits_float32_loss(offset: float) -> None:
    table = frameworks.half_precision(offset)
    assert (table.loc["computed in it from them"] > 100 * table.loc["computed in float32 from them"]).all()
    assert (table.loc["computed in float32 from them"] < 1e-6).all()


@given(Logits, st.floats(1e-4, 1.0), st.data())
def test_claim_4_5_z_loss_moves_the_offset_that_cross_entropy_leaves(
    z: list[float], lam: float, data: st.DataObject
) -> None:
    row, label = np.array([z]), np.array([data.draw(st.integers(0, len(z) - 1))])
    plain = sl.cross_entropy_grad(row, label)[1]
    held = sl.cross_entropy_grad(row, label, sl.LossSpec(z_loss=lam))[1]
    lse = float(sl.logsumexp(z))
    assert plain.sum() == pytest.approx(0, abs=1e-14)
    assert held.sum() == pytest.approx(2 * lam * lse, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(held - plain, 2 * lam * lse * sl.softmax(row), atol=1e-12)


@given(st.lists(st.floats(-1000, 1000), min_size=2, max_size=6), st.data())
def test_claim_4_5_the_logit_gradient_is_bounded(z: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(z) - 1))
    norm = np.linalg.norm(sl.cross_entropy_grad(np.array([z]), np.array([label]))[1])
    assert norm <= np.sqrt(2) * (1 - sl.softmax(z)[label]) + 1e-12


def test_claim_4_5_what_clipping_is_for() -> None:
    """The bound is reached; weights and the z-loss break it, and the features multiply it."""
    z, label = np.array([[50.0, 0.0]]), np.array([1])
    assert np.linalg.norm(sl.cross_entropy_grad(z, label)[1]) == pytest.approx(np.sqrt(2))
    weighted = sl.cross_entropy_grad(z, label, sl.LossSpec(class_weight=[1.0, 5.0]), reduction="none")[1]
    assert np.linalg.norm(weighted) == pytest.approx(5 * np.sqrt(2))
    assert np.linalg.norm(sl.cross_entropy_grad(100 * z, label, sl.LossSpec(z_loss=0.01))[1]) > 50
