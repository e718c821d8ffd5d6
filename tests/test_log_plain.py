"""The plain call of the log of the mean loss: the ordinary way's bits and errors wherever it is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch, _log_plain, _plain
from softmax_lab._threads import WORTH_SHARING

from .logs import HARD, LOG_SPECS, in_type
from .specs import K

pytest.importorskip("numba", reason="without Numba there is only the reference")

RNG = np.random.default_rng(20260203)
MOST = _dispatch.kernels().short.MOST_CLASSES  # type: ignore[union-attr]
REDUCTIONS = ["mean", "sum", "none"]
UNWEIGHTED = [name for name, spec in LOG_SPECS.items() if not np.ndim(spec.class_weight)]


def batch(n: int, k: int = K, dtype: str = "float32") -> tuple[Any, Any]:
    return RNG.normal(0, 4, (n, k)).astype(dtype), RNG.integers(0, k, n)


def plain(z: Any, y: Any, spec: LossSpec = LossSpec(), **options: Any) -> Any:
    """Return what the plain way makes of a call, None where it leaves the call alone."""
    given: dict[str, Any] = {"reduction": "mean", "ignore_index": -100, "axis": -1, "empty": "nan"} | options
    return _plain.evaluate(z, y, spec, wanted=True, other=_log_plain.plan_of, **given)


def ordinary(z: Any, y: Any, *given: Any, **options: Any) -> Any:
    """Return the same by the ordinary way, which a list of labels takes."""
    return sl.log_cross_entropy_grad(z, y.tolist(), *given, **options)


def same(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LOG_SPECS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_spec_has_the_ordinary_ways_bits(name: str, reduction: Any, dtype: str) -> None:
    spec = LOG_SPECS[name]
    z, y = batch(37, dtype=dtype)
    expected = ordinary(z, y, spec, reduction=reduction)
    for _ in range(2):  # the first call asks for the loop's code, the second has it
        taken = plain(z, y, spec, reduction=reduction)
        assert (taken is not None) == (name in UNWEIGHTED)
        if taken is not None:
            same(taken, expected)
        same(sl.log_cross_entropy_grad(z, y, spec, reduction=reduction), expected)
        value = sl.log_cross_entropy(z, y, spec, reduction=reduction)
        same([value], expected[:1])
        assert type(value) is type(expected[0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", HARD)
def test_hard_rows(case: str, dtype: str, reduction: Any) -> None:
    z, y = in_type(HARD[case], np.dtype(dtype))
    taken = plain(z, y, reduction=reduction)
    assert (taken is not None) == (z.shape[1] <= MOST or dtype == "float32")
    if taken is not None:
        same(taken, ordinary(z, y, reduction=reduction))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("k", [3, 100])
@pytest.mark.parametrize("out", [True, False])
def test_rows_without_a_number(k: int, reduction: Any, out: bool) -> None:
    rows = {
        "alone": [0.0, -np.inf, -np.inf],
        "impossible": [-np.inf, 0.0, 1.0],
        "none": [np.nan, 0.0, 1.0],
        "endless": [0.0, np.inf, 1.0],
        "usual": [0.0, 1.0, 2.0],
    }
    for chosen in (["alone"], ["alone", "usual"], ["usual", "impossible"], ["none", "usual"], ["endless"]):
        z = np.full((len(chosen), k), -np.inf, np.float32)
        z[:, :3] = [rows[name] for name in chosen]
        y = np.zeros(len(chosen), int)
        expected = ordinary(z, y, reduction=reduction)
        for _ in range(2):
            place = z.copy()
            taken = plain(place, y, reduction=reduction, out=place if out else None)
            assert taken is not None
            same(taken, expected)


@pytest.mark.parametrize("ignore", [-100, 2])
@pytest.mark.parametrize("label", [2, -100, 6, -1])
def test_labels_that_are_no_class_are_left_alone(label: int, ignore: int) -> None:
    z, y = batch(9)
    y[y == 2], y[4] = 3, label
    out = np.full_like(z, 7.0)
    usual = label == 2 != ignore
    for _ in range(2):
        assert (plain(z, y, ignore_index=ignore, out=out) is not None) == usual
        assert usual or (out == 7.0).all()
        if label in (6, -1) or (label == -100 and ignore == 2):
            with pytest.raises(IndexError, match=f"label {label} at row 4"):
                sl.log_cross_entropy_grad(z, y, ignore_index=ignore)
        else:
            found = sl.log_cross_entropy_grad(z, y, ignore_index=ignore)
            same(found, ordinary(z, y, ignore_index=ignore))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (1, 3), (17, 384), (300, 10), (6553, 10), (6554, 10)])
def test_every_size(n: int, k: int, dtype: str) -> None:
    z, y = batch(n, k, dtype)
    short = n * k < WORTH_SHARING and (k <= MOST or dtype == "float32")
    assert (plain(z, y) is not None) == short
    same(sl.log_cross_entropy_grad(z, y), ordinary(z, y))


def test_many_classes_and_half_precision_are_left_alone() -> None:
    z, y = batch(4, 400)
    assert plain(z, y) is None
    assert plain(z.astype(np.float16), y) is None
    assert plain(z[:, :400:2].copy(), y // 2) is not None


def test_what_is_refused_is_refused() -> None:
    z, y = batch(4)
    for spec in (LossSpec(gamma=2.0), LossSpec(smoothing=0.1)):
        for _ in range(2):
            assert plain(z, y, spec) is None
            with pytest.raises(ValueError, match="takes class indices and the fields"):
                sl.log_cross_entropy(z, y, spec)
    with pytest.raises(ValueError, match="the logits have 7"):
        sl.log_cross_entropy(*batch(4, 7), LOG_SPECS["bias"])


def test_a_plan_is_one_function_s_alone() -> None:
    spec = LossSpec(temperature=0.9)
    z, y = batch(6)
    sl.cross_entropy(z, y, spec)
    sl.log_cross_entropy(z, y, spec)
    first, second = spec.__dict__["_plans"].values()
    assert isinstance(first, _plain.Plan)
    assert isinstance(second, _log_plain.LogPlan)
    assert second.loop.code in [
        compiled.entry_point
        for compiled in _dispatch.kernels().short_logs.log_losses.overloads.values()  # type: ignore[union-attr]
    ]
    assert sl.log_cross_entropy(z, y, spec) == pytest.approx(np.log(sl.cross_entropy(z, y, spec)), rel=1e-6)


def test_the_reference_is_asked_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = batch(12)
    assert plain(z, y) is not None
    monkeypatch.setattr(_dispatch, "kernels", lambda: None)
    assert plain(z, y) is None


def test_the_ordinary_way_is_taken_where_the_loop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = batch(12, 4, "float64")
    loops, spec = _dispatch.kernels(), LossSpec(temperature=0.8)
    expected = sl.log_cross_entropy_grad(z, y, LossSpec(temperature=0.8))

    def broken(*_: Any) -> None:
        raise RuntimeError("does not compile")

    monkeypatch.setattr(_dispatch._State, "failed", False)
    monkeypatch.setattr(loops.short_logs, "log_losses", broken)  # type: ignore[union-attr]
    own = z.copy()
    with pytest.warns(RuntimeWarning, match="NumPy takes over"):
        value, gradient = sl.log_cross_entropy_grad(own, y, spec, out=own)
    np.testing.assert_allclose(value, expected[0], rtol=1e-14)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-13)
