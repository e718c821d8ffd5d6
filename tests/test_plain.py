"""The plain call: taken where it can be, and the ordinary way's bits and errors wherever it is taken."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch, _plain, _problem

from .specs import INDEX_SPECS, K

pytest.importorskip("numba", reason="without Numba there is only the reference")

RNG = np.random.default_rng(20260202)
DTYPES = ["float32", "float64"]
REDUCTIONS = ["mean", "sum", "none"]
BY_CLASS = [name for name, spec in INDEX_SPECS.items() if np.ndim(spec.class_weight) and not spec.gate]


def batch(n: int, k: int = K, dtype: str = "float32") -> tuple[Any, Any]:
    return RNG.normal(0, 4, (n, k)).astype(dtype), RNG.integers(0, k, n)


def plain(z: Any, y: Any, spec: LossSpec = LossSpec(), **options: Any) -> Any:
    """Return what the plain way makes of a call, None where it leaves the call alone."""
    given: dict[str, Any] = {"reduction": "mean", "ignore_index": -100, "axis": -1, "empty": "nan"} | options
    return _plain.evaluate(z, y, spec, wanted=True, **given)


def ordinary(z: Any, y: Any, *given: Any, **options: Any) -> Any:
    """Return the same by the ordinary way, which a list of labels takes."""
    return sl.cross_entropy_grad(z, y.tolist(), *given, **options)


def same(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", INDEX_SPECS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_spec_has_the_ordinary_ways_bits(name: str, reduction: Any, dtype: str) -> None:
    spec = INDEX_SPECS[name]
    z, y = batch(37, dtype=dtype)
    taken = plain(z, y, spec, reduction=reduction)
    assert taken is not None
    expected = ordinary(z, y, spec, reduction=reduction)
    same(sl.cross_entropy_grad(z, y, spec, reduction=reduction), expected)
    value = sl.cross_entropy(z, y, spec, reduction=reduction)
    same([value], expected[:1])
    assert type(value) is type(expected[0])
    same(taken, expected)


@pytest.mark.parametrize("name", INDEX_SPECS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore", [-100, 2, 7, -(2**63)])
def test_ignored_rows(name: str, reduction: str, ignore: int) -> None:
    spec = INDEX_SPECS[name]
    z, y = batch(41)
    y[::3] = ignore
    z[0] = np.nan
    options: dict[str, Any] = {"reduction": reduction, "ignore_index": ignore}
    taken = plain(z, y, spec, **options)
    # whose weights would have to be looked up for rows without a class
    assert (taken is None) == (reduction == "mean" and name in BY_CLASS)
    same(sl.cross_entropy_grad(z, y, spec, **options), ordinary(z, y, spec, **options))


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_a_batch_without_a_row_that_counts(empty: Any) -> None:
    z, y = batch(5)
    y[:] = -100
    assert plain(z, y, empty=empty) is not None
    same(sl.cross_entropy_grad(z, y, empty=empty), ordinary(z, y, empty=empty))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "k"),
    [(1, 1), (1, 3), (300, 10), (6001, 10), (9000, 10), (40, 3000), (3, 150_000), (3, (1 << 20) + 1)],
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_size_on_every_number_of_threads(n: int, k: int, dtype: str, threads: int) -> None:
    z, y = batch(n, k, dtype)
    before = sl.get_num_threads()
    try:
        sl.set_num_threads(threads)
        assert plain(z, y) is not None
        same(sl.cross_entropy_grad(z, y), ordinary(z, y))
        same([sl.softmax(z), sl.log_softmax(z)], [sl.softmax(z.T, axis=0).T, sl.log_softmax(z.T, axis=0).T])
    finally:
        sl.set_num_threads(before)


def test_values_beyond_numbers() -> None:
    z = np.array([[np.inf, 0, 1], [-np.inf, 0, 1], [np.nan, 0, 1], [3e38, -3e38, 0]], np.float32)
    for y in (np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])):
        reduction: Any
        for reduction in REDUCTIONS:
            assert plain(z, y, reduction=reduction) is not None
            expected = ordinary(z, y, reduction=reduction)
            same(sl.cross_entropy_grad(z, y, reduction=reduction), expected)
    same([sl.softmax(z)], [sl.softmax(z.T, axis=0).T])


@pytest.mark.parametrize("label", [3, -1, 2**40, -(2**63), -99])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_label_out_of_range_is_named_before_anything_is_written(label: int, ignored: bool) -> None:
    z, y = batch(9, 3)
    y[4] = label
    if ignored:
        y[1] = -100
    out = np.full_like(z, 7.0)
    message = rf"label {label} at row 4 is outside \[0, 3\) and is not ignore_index=-100"
    with pytest.raises(IndexError, match=message):
        sl.cross_entropy_grad(z, y, out=out)
    with pytest.raises(IndexError, match=message):
        sl.cross_entropy(z, y)
    assert (out == 7.0).all()


def test_an_ignored_label_beyond_64_bits_is_refused() -> None:
    z, y = batch(9)
    for label in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match="ignore_index must be an integer of 64 bits"):
            sl.cross_entropy_grad(z, y, ignore_index=label)


def test_out_is_written_wherever_it_lies() -> None:
    z, y = batch(20)
    _, expected = ordinary(z, y)
    probs = sl.softmax(z.T, axis=0).T
    apart, wide, room = np.empty_like(z), np.empty((20, 2 * K), np.float32), np.empty(21 * K, np.float32)
    shifted = room[: 20 * K].reshape(20, K)
    shifted[:] = z
    over = room[K:].reshape(20, K)
    for out, source, is_plain in (
        (apart, z, True),
        (own := z.copy(), own, True),
        (wide[:, ::2], z, False),
        (over, shifted, False),  # half of what is still to be read
    ):
        kept = source.copy()
        assert _plain.evaluate(kept, y, LossSpec(), "mean", -100, -1, "nan", wanted=True) is not None
        assert sl.cross_entropy_grad(source, y, out=out)[1] is out
        np.testing.assert_array_equal(out, expected)
        source[...] = kept
        assert (_plain.mapped("softmax", source, -1, 1.0, None, out) is not None) == is_plain
        source[...] = kept
        assert sl.softmax(source, out=out) is out
        np.testing.assert_array_equal(out, probs)
        source[...] = kept


def test_out_that_does_not_fit_is_refused() -> None:
    z, y = batch(4)
    fixed = np.empty_like(z)
    fixed.flags.writeable = False
    for out, match in ((fixed, "read-only"), (np.empty((3, K), "f4"), "shape"), (np.empty((4, K)), "dtype")):
        with pytest.raises((TypeError, ValueError), match=match):
            sl.cross_entropy_grad(z, y, out=out)
        with pytest.raises((TypeError, ValueError), match=match):
            sl.softmax(z, out=out)
    z.flags.writeable = False
    assert plain(z, y) is not None  # logits are only read
    with pytest.raises(ValueError, match="read-only"):
        sl.softmax(z, out=z)


def test_the_callers_arrays_stay_writeable() -> None:
    z, y = batch(4)
    out = np.empty_like(z)
    sl.cross_entropy_grad(z, y, out=out)
    line = sl.softmax(z[0].copy())
    for array in (z, y, out, sl.softmax(z, out=out), line, sl.softmax(line)):
        assert array.flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        lambda z, y: (z.astype(np.float16), y),
        lambda z, y: (z.astype(">f4"), y),
        lambda z, y: (np.asfortranarray(z), y),
        lambda z, y: (z[:, ::2], y // 2),
        lambda z, y: (z[None], y[None]),
        lambda z, y: (z[::2].copy(), y[::2]),
        lambda z, y: (z, y.astype(np.uint8)),
        lambda z, y: (z, list(y)),
        lambda z, y: (z.tolist(), y),
        lambda z, y: (z.view(np.recarray), y),
        lambda z, y: (z[:0], y[:0]),
    ],
)
def test_what_is_not_plain_is_left_alone(change: Any) -> None:
    z, y = change(*batch(12))
    assert plain(z, y) is None
    sl.cross_entropy_grad(z, y)


def test_odd_addresses_are_left_alone() -> None:
    z, y = batch(12)
    odd = np.frombuffer(b"\0" + z.tobytes(), np.uint8)[1:].view(np.float32).reshape(z.shape)
    assert odd.flags.aligned or plain(odd, y) is None
    same(sl.cross_entropy_grad(odd, y), ordinary(z, y))
    labels = np.frombuffer(b"\0" + y.tobytes(), np.uint8)[1:].view(np.int64)
    assert labels.flags.aligned or plain(z, labels) is None
    same(sl.cross_entropy_grad(z, labels), ordinary(z, y))


def test_labels_that_are_not_side_by_side() -> None:
    z, y = batch(12)
    sl.cross_entropy_grad(z, y)
    for labels in (y[::-1], np.stack([y, y - 9], axis=1)[:, 0]):
        assert plain(z, labels) is None
        same(sl.cross_entropy_grad(z, labels), ordinary(z, labels))


def test_the_reference_is_asked_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = batch(12)
    assert plain(z, y) is not None
    monkeypatch.setattr(_dispatch, "kernels", lambda: None)
    assert plain(z, y) is None
    assert plain(z, y, LossSpec(gamma=3.0)) is None  # of which there is no plan
    assert _plain.mapped("softmax", z, -1, 1.0, None, None) is None


def test_a_plan_is_made_once_for_each_spec_type_and_number_of_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    real = _problem.prepare

    def counted(*given: Any, **options: Any) -> Any:
        made.append(given[0].dtype.name)
        return real(*given, **options)

    monkeypatch.setattr(_plain, "prepare", counted)
    spec = LossSpec(gamma=1.0)
    for _ in range(3):
        for dtype in DTYPES:
            for k in (3, 60):
                sl.cross_entropy_grad(*batch(4, k, dtype), spec)
    assert made == ["float32", "float32", "float64", "float64"]
    for k in range(1, 200):
        sl.cross_entropy(*batch(4, k), spec)
    assert len(spec.__dict__["_plans"]) <= 64


def test_a_plan_holds_the_machine_code_of_its_loop() -> None:
    spec = LossSpec(gamma=1.0)
    sl.cross_entropy(*batch(4), spec)
    (plan,) = spec.__dict__["_plans"].values()
    assert plan.loop.code in [
        compiled.entry_point
        for compiled in _dispatch.kernels().short.cross_entropy.overloads.values()  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_behind_a_gate_is_one_pass_over_the_rows(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    z, y = batch(9, dtype=dtype)
    spec = LossSpec(class_weight=np.arange(1.0, K + 1), gate=2.0)
    calls: list[str] = []
    run, rescale = _dispatch.Loop.__call__, _dispatch.rescale

    def counted_run(loop: Any, *arguments: Any) -> None:
        calls.append(loop.name)
        run(loop, *arguments)

    def counted_rescale(*arguments: Any) -> None:
        calls.append("rescale")
        rescale(*arguments)

    monkeypatch.setattr(_dispatch.Loop, "__call__", counted_run)
    monkeypatch.setattr(_dispatch, "rescale", counted_rescale)
    for _ in range(2):
        sl.cross_entropy_grad(z, y, spec)
        sl.cross_entropy(z, y, spec)
    assert calls == 2 * ["cross_entropy", "rescale", "cross_entropy"]


def test_plans_are_no_part_of_a_spec() -> None:
    z, y = batch(4)
    spec, other = LossSpec(gamma=1.0), LossSpec(gamma=1.0)
    before = hash(spec)
    sl.cross_entropy(z, y, spec)
    assert spec == other
    assert hash(spec) == before
    assert "_plans" not in pickle.loads(pickle.dumps(spec)).__dict__


def test_specs_at_the_ends_of_their_domains_are_left_alone() -> None:
    z, y = batch(4)
    assert plain(z, y, LossSpec(temperature=1e-300)) is None
    assert plain(z, y, LossSpec(class_weight=np.full(K, 1e-200))) is None


def test_a_spec_for_other_classes_is_refused() -> None:
    z, y = batch(4, K + 1)
    with pytest.raises(ValueError, match=f"made for {K} classes; the logits have {K + 1}"):
        sl.cross_entropy(z, y % K, INDEX_SPECS["bias"])
