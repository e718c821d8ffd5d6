"""Every field of the family in the compiled loops, against the NumPy reference.

Rows are short, long and very long.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import mpmath
import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch, exact
from softmax_lab._compiled import Compiled
from softmax_lab._problem import prepare
from softmax_lab._twofloat import round_once
from softmax_lab.cross_entropy import cross_entropy_backward, cross_entropy_forward

from ..ulps import dtype_of

pytest.importorskip("numba", reason="the compiled loops need Numba")


def _specs(k: int) -> dict[str, LossSpec]:
    """One spec a field, and all of them at once, for K classes."""
    rng = np.random.default_rng(k)

    def per_class(low: float, high: float) -> np.ndarray:
        return np.asarray(rng.uniform(low, high, k))

    prior = per_class(0.1, 1.0)
    prior /= prior.sum()
    fields: dict[str, Any] = {
        "temperature": 0.7,
        "scale": per_class(0.5, 1.5),
        "bias": per_class(-2, 1),
        "margin": per_class(0, 1),
        "smoothing": per_class(0, 0.4),
        "class_weight": per_class(0.5, 3),
        "gamma": 1.5,
        "z_loss": 1e-2,
        "softcap": 9.0,
    }
    specs = {name: LossSpec(**{name: value}) for name, value in fields.items()}
    specs |= {
        "plain": LossSpec(),
        "prior": LossSpec(smoothing=0.2, prior=prior),
        "uniform": LossSpec(smoothing=0.1),
        "ldam": LossSpec(margin=0.5, temperature=1 / 30),
        "gate": LossSpec(class_weight=per_class(1, 20), gate=2.0),
        "balanced": LossSpec(
            bias=per_class(-2, 1),
            class_weight=per_class(1, 20),
            gate=4.0,
            smoothing=per_class(0, 0.1),
            prior=prior,
        ),
        "everything": LossSpec(**fields, gate=1.5, prior=prior),
    }
    if k <= 100:
        specs["bias matrix"] = LossSpec(bias=rng.normal(size=(k, k)))
    return specs


def _rows(k: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary rows, a confident one right and wrong, one with -inf, one ignored."""
    rng = np.random.default_rng(k + 1)
    n = 11 if k < 10_000 else 3
    z = rng.normal(0, 3, (n, k))
    y = rng.integers(0, k, n)
    z[1, y[1]] += 25
    if n > 3:
        z[2, (y[2] + 1) % k] += 25
        z[3, (y[3] + 1) % k] = -np.inf
        y[4] = -100
    return z.astype(dtype_of(dtype)), y


def _both(monkeypatch: pytest.MonkeyPatch, call: Any) -> tuple[Any, Any]:
    """The same call by the compiled loops and by the reference."""
    compiled = call()
    with monkeypatch.context() as patched:
        patched.setattr(_dispatch, "kernels", lambda: None)
        return compiled, call()


def _agree(a: np.ndarray, b: np.ndarray, dtype: np.dtype[Any], ulps: float) -> None:
    """Equal up to ``ulps`` of the row's largest entry.

    Types that are rounded from float64 may differ by one last place.
    """
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    finite = np.isfinite(y)
    np.testing.assert_array_equal(x[~finite], y[~finite])
    scale = np.where(finite, np.abs(y), 0.0).max(axis=-1, keepdims=True)
    slack = np.broadcast_to(ulps * np.spacing(scale), x.shape)
    # rounded to neighbouring numbers at most; where terms cancel, the exponential's 2^-33 shows
    if dtype != np.float64:
        unit = np.abs(round_once(np.abs(y), dtype).astype(np.float64)) * float(
            2.0 ** -(7 if dtype.name == "bfloat16" else np.finfo(dtype).nmant)
        )
        slack = slack + unit + scale * 2.0**-27 + {"float16": 6e-8, "bfloat16": 1e-38}.get(dtype.name, 1e-45)
    assert (np.abs(x[finite] - y[finite]) <= slack[finite]).all(), np.abs(x[finite] - y[finite]).max()


CASES = [
    (6, "float64"),
    (49, "float32"),
    (70, "float64"),
    (5000, "float32"),
    (4100, "float64"),
    ((1 << 20) + 1, "float32"),
]


@pytest.mark.parametrize(("k", "dtype"), CASES)
@pytest.mark.parametrize("name", list(_specs(2)))
def test_class_indices(monkeypatch: pytest.MonkeyPatch, name: str, k: int, dtype: str) -> None:
    specs = _specs(k)
    if name not in specs or (k > 10_000 and name not in ("plain", "bias", "prior", "everything")):
        pytest.skip("a K x K bias, or one more field, of very long rows says nothing new")
    z, y = _rows(k, dtype)
    t = np.random.default_rng(0).normal(size=z.shape).astype(z.dtype)
    weights = np.linspace(0.5, 2.0, len(z))
    for reduction in ("none", "mean"):
        (value, gradient), (expected, expected_gradient) = _both(
            monkeypatch,
            lambda reduction=reduction: sl.cross_entropy_grad(
                z, y, specs[name], reduction=reduction, sample_weight=weights
            ),  # type: ignore[misc]
        )
        _agree(np.atleast_1d(value), np.atleast_1d(expected), np.asarray(value).dtype, 64)
        _agree(gradient, expected_gradient, z.dtype, 64)
    product, expected = _both(
        monkeypatch, lambda: sl.cross_entropy_hvp(z, y, t, specs[name], reduction="none")
    )
    _agree(product, expected, z.dtype, 256)


@pytest.mark.parametrize(("k", "dtype"), [(6, "float64"), (60, "float32"), (4100, "float64")])
@pytest.mark.parametrize(
    "name", ["plain", "temperature", "scale", "bias", "class_weight", "uniform", "prior", "z_loss", "softcap"]
)
def test_distributions_as_targets(monkeypatch: pytest.MonkeyPatch, name: str, k: int, dtype: str) -> None:
    z, _ = _rows(k, dtype)
    z[~np.isfinite(z)] = -20.0
    rng = np.random.default_rng(3)
    target = (rng.dirichlet(np.ones(k), len(z)) * rng.uniform(0.5, 1.5, (len(z), 1))).astype(z.dtype)
    target[0] = 0.0
    target[0, 2] = 1.0
    spec = _specs(k)[name]
    (value, gradient), (expected, expected_gradient) = _both(
        monkeypatch, lambda: sl.cross_entropy_grad(z, target, spec, reduction="none")
    )
    _agree(value, expected, value.dtype, 64)
    _agree(gradient, expected_gradient, z.dtype, 64)
    product, expected = _both(monkeypatch, lambda: sl.cross_entropy_hvp(z, target, z, spec, reduction="none"))
    _agree(product, expected, z.dtype, 256)


@pytest.mark.parametrize(("k", "dtype"), [(6, "float64"), (60, "float32"), (4100, "float64")])
@pytest.mark.parametrize("name", ["plain", "everything", "prior"])
@pytest.mark.parametrize("shared", [True, False])
def test_masks(monkeypatch: pytest.MonkeyPatch, name: str, k: int, dtype: str, shared: bool) -> None:
    z, y = _rows(k, dtype)
    mask = np.random.default_rng(5).random(k if shared else z.shape) < 0.7
    if shared:
        y = np.where(y == -100, y, int(np.flatnonzero(mask)[0]))
    else:
        mask[np.arange(len(z)), np.maximum(y, 0)] = True
        mask[5] = False  # nothing left: the row does not count
    spec = _specs(k)[name]
    (value, gradient), (expected, expected_gradient) = _both(
        monkeypatch, lambda: sl.cross_entropy_grad(z, y, spec, reduction="none", where=mask)
    )
    _agree(value, expected, value.dtype, 64)
    _agree(gradient, expected_gradient, z.dtype, 64)
    assert (gradient[~np.broadcast_to(mask, z.shape)] == 0).all()
    product, expected = _both(
        monkeypatch,
        lambda: sl.cross_entropy_hvp(z, y, np.full_like(z, 1.5), spec, reduction="none", where=mask),
    )
    defined = np.isfinite(expected)  # a row whose loss is infinite has no curvature to speak of
    _agree(np.where(defined, product, 0), np.where(defined, expected, 0), z.dtype, 256)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("k", [5, 100])
@pytest.mark.parametrize("name", ["plain", "everything"])
def test_half_precision_is_rounded_once(
    monkeypatch: pytest.MonkeyPatch, name: str, k: int, dtype: str
) -> None:
    z, y = _rows(k, dtype)
    spec = _specs(k)[name]
    (value, gradient), (expected, expected_gradient) = _both(
        monkeypatch, lambda: sl.cross_entropy_grad(z, y, spec, reduction="none")
    )
    assert value.dtype == np.float32
    assert gradient.dtype == z.dtype
    _agree(value, expected, value.dtype, 64)
    # the same float64 but for its last digits: rounded once, the two are almost always the same number
    np.testing.assert_array_equal(np.isnan(gradient), np.isnan(expected_gradient))
    same = (np.asarray(gradient, float) == np.asarray(expected_gradient, float)) | np.isnan(gradient)
    tiny = np.abs(np.asarray(expected_gradient, float)) < (6.2e-5 if dtype == "float16" else 1.2e-38)
    assert (same | tiny).mean() > 0.999


@pytest.mark.parametrize("name", ["plain", "everything"])
@pytest.mark.parametrize("k", [5, 60, 3000])
def test_any_layout_gives_the_same_bits(name: str, k: int) -> None:
    """Rows that do not lie one after the other are copied a piece at a time; the loop is the same."""
    z = np.random.default_rng(0).normal(0, 2, (7, 9, k)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, k, (7, 9))
    spec = _specs(k)[name]
    value, gradient = sl.cross_entropy_grad(z, y, spec, reduction="none")
    moved = np.moveaxis(z, 2, 1).copy()  # (7, K, 9)
    other, other_gradient = sl.cross_entropy_grad(moved, y, spec, reduction="none", axis=1)
    np.testing.assert_array_equal(other, value)
    np.testing.assert_array_equal(np.moveaxis(other_gradient, 1, 2), gradient)
    same = moved.copy()
    sl.cross_entropy_grad(same, y, spec, reduction="none", axis=1, out=same)
    np.testing.assert_array_equal(same, other_gradient)
    reversed_value, reversed_gradient = sl.cross_entropy_grad(
        z[::-1, ::2], y[::-1, ::2], spec, reduction="none"
    )
    np.testing.assert_array_equal(reversed_value, value[::-1, ::2])
    np.testing.assert_array_equal(reversed_gradient, gradient[::-1, ::2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ten_million_classes_in_a_row(dtype: str) -> None:
    """The exponentials of so long a row are taken twice instead of held; against plain float64."""
    k = 10_000_000
    z = np.random.default_rng(0).normal(0, 2, (1, k)).astype(dtype)
    wide = z.astype(np.float64)
    log_total = np.log(np.exp(wide).sum())
    value, gradient = sl.cross_entropy_grad(z, [k - 3])
    assert float(value) == pytest.approx(log_total - wide[0, k - 3], rel=1e-7)
    expected = np.exp(wide - log_total)
    expected[0, k - 3] -= 1
    np.testing.assert_allclose(
        gradient.astype(np.float64),
        expected,
        rtol=1e-7 if dtype == "float32" else 5e-4,
        atol=3e-8 if dtype == "float16" else 0,
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_a_moved_axis_is_not_copied_as_a_whole(axis: int) -> None:
    z = (
        np.random.default_rng(0)
        .normal(size=(4, 200, 64, 64) if axis else (200, 4, 64, 64))
        .astype(np.float32)
    )
    y, out = np.zeros((4, 64, 64), np.int64), np.empty_like(z)
    sl.cross_entropy_grad(z, y, axis=axis, out=out)  # compiled, pool started
    tracemalloc.start()
    try:
        sl.cross_entropy_grad(z, y, axis=axis, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.35 * z.nbytes  # values, labels, and a piece or two a thread


# ---- a gate under a mean: divided when all rows are done ----


def _gated(k: int, dtype: str) -> tuple[np.ndarray, np.ndarray, LossSpec]:
    z, y = _rows(k, dtype)
    return z, y, LossSpec(class_weight=np.random.default_rng(k).uniform(1, 100, k), gate=4.0)


@pytest.mark.parametrize(
    ("dtype", "passes"), [("float64", 1), ("float32", 1), ("float16", 2), ("bfloat16", 2)]
)
@pytest.mark.parametrize("k", [6, 60])
def test_how_often_the_rows_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, k: int, dtype: str, passes: int
) -> None:
    """Half precision would show the second rounding: its gradient is made when the divisor is known."""
    z, y, spec = _gated(k, dtype)
    expected_passes = {"mean": passes, "sum": 1, "none": 1}
    real, calls, labels = _dispatch.run, [], list(y)  # a list is not plain: tests/test_plain.py counts there
    monkeypatch.setattr(_dispatch, "run", lambda *arguments: (calls.append(arguments[1]), real(*arguments)))
    for reduction in expected_passes:
        calls.clear()
        sl.cross_entropy_grad(z, labels, spec, reduction=reduction)  # type: ignore[arg-type]
        assert calls == ["cross_entropy", "cross_entropy_gradient"][: expected_passes[reduction]]
    calls.clear()
    sl.cross_entropy(z, labels, spec)
    assert calls == ["cross_entropy"]


@pytest.mark.parametrize("k", [6, 60])
def test_heavy_weights_neither_overflow_nor_vanish(k: int) -> None:
    """What is written before the division is known is at most one: weights beyond float32 pass through."""
    z, y, spec = _gated(k, "float32")
    # no gate: all weights 1e60 as large, and the mean the same
    heavy = LossSpec(class_weight=np.asarray(spec.class_weight) * 1e60)
    for a, b in zip(
        sl.cross_entropy_grad(z, y, heavy, sample_weight=np.full(len(z), 1e9)),
        sl.cross_entropy_grad(z, y, LossSpec(class_weight=spec.class_weight)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)
    open_gate = LossSpec(class_weight=heavy.class_weight, gate=1e-3)  # open for nearly every row
    z64 = z.astype(np.float64)
    value, gradient = sl.cross_entropy_grad(z, y, open_gate, sample_weight=np.full(len(z), 1e9))
    exact, expected = sl.cross_entropy_grad(z64, y, open_gate, sample_weight=np.full(len(z), 1e9))
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("k", [6, 60])
def test_a_class_of_no_weight_behind_a_gate(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """0^(q^g) is 1 where q underflows, and falls to 0 as the row is fit."""
    z = np.zeros((3, k))
    z[0, 0], z[1, 0] = -2000.0, 2000.0
    spec = LossSpec(class_weight=np.where(np.arange(k) == 0, 0.0, 2.0), gate=2.0)
    weights = _both(monkeypatch, lambda: sl.cross_entropy(z, np.zeros(3, int), spec, reduction="none"))
    np.testing.assert_allclose(*weights, rtol=1e-14)
    assert weights[0][0] == 2000.0 + np.log(k - 1)
    assert weights[0][1] == 0.0


def test_the_division_reaches_results_that_are_not_contiguous() -> None:
    z, y, spec = _gated(60, "float32")
    _, expected = sl.cross_entropy_grad(z, y, spec)
    for out in (np.empty((60, len(z)), np.float32).T, np.empty((len(z), 120), np.float32)[:, ::2]):
        _, gradient = sl.cross_entropy_grad(z, y, spec, out=out)
        assert gradient is out
        np.testing.assert_array_equal(out, expected)


# ---- a bias alone ----


@pytest.mark.parametrize(
    ("dtype", "fields", "shifts"),
    [
        ("float32", {}, True),
        ("float16", {}, True),
        ("float64", {}, False),  # the sum's rounding error is kept
        ("float32", {"temperature": 2.0}, False),
        ("float32", {"margin": 0.1}, False),
        ("float32", {"scale": 2.0}, False),
        ("float32", {"softcap": 30.0}, False),
        ("float32", {"bias": np.zeros((70, 70)) + np.eye(70)}, False),
        ("float32", {"class_weight": np.arange(1.0, 71.0), "smoothing": 0.1}, True),
    ],
)
def test_a_bias_alone_is_added_where_logits_are_read(
    dtype: str, fields: dict[str, Any], shifts: bool
) -> None:
    loops = _dispatch.kernels()
    assert loops is not None
    spec = LossSpec(**{"bias": np.linspace(-1, 1, 70), **fields})
    found = loops.transform.transform_of(spec, None, narrow=dtype != "float64")
    assert isinstance(found, loops.transform.Shift) is shifts


def test_a_bias_of_very_long_rows_is_held_in_pieces() -> None:
    loops = _dispatch.kernels()
    assert loops is not None
    for k in (loops.transform.HELD, loops.transform.HELD + 1):
        found = loops.transform.transform_of(LossSpec(bias=np.linspace(-1, 1, k)), None, narrow=True)
        assert isinstance(found, loops.transform.Shift) is (k == loops.transform.HELD)


@pytest.mark.parametrize(
    ("fields", "is_a_factor"),
    [
        ({}, True),
        ({"gate": 4.0, "class_weight": np.arange(1.0, 71.0), "gamma": 2.0}, True),
        ({"smoothing": 0.1}, False),  # the smoothed target asks for the logits again
        ({"temperature": 2.0}, False),
        ({"bias": np.where(np.arange(70) == 3, -1025.0, 0.5)}, False),  # a logit may be far from the maximum
    ],
)
def test_a_bias_alone_is_a_factor_in_sixteen_lanes(fields: dict[str, Any], is_a_factor: bool) -> None:
    """And the factors are the exponentials of the biases, as two floats and a power of two."""
    loops = _dispatch.kernels()
    assert loops is not None
    spec = LossSpec(**{"bias": np.linspace(-9, 9, 70), **fields})
    compiled = Compiled(prepare(np.zeros((1, 70), np.float32), np.zeros(1, np.int64), spec))
    found = compiled.taken[3]
    assert isinstance(found, loops.transform.Factors) is is_a_factor
    if not is_a_factor:
        return
    with mpmath.workdps(40):
        for k, b in enumerate(np.asarray(spec.bias)):
            factor = (mpmath.mpf(float(found.high[k])) + float(found.low[k])) * 2 ** int(found.powers[k])
            assert abs(factor / mpmath.exp(float(b)) - 1) < mpmath.mpf(2) ** -47


@pytest.mark.parametrize("k", [1, 3, 16, 17, 100, 384, 385, 2048, 2100])
def test_a_row_with_a_bias_is_the_same_among_any_rows(k: int) -> None:
    """Neighbours of the largest logits send a register the slow way; a row alone is a register of copies."""
    rng = np.random.default_rng(k)
    z, y = rng.normal(0, 3, (40, k)).astype(np.float32), rng.integers(0, k, 40)
    spec = LossSpec(bias=rng.normal(0, 3, k))
    z[5], z[17] = 9000.0, -30000.0
    z[23, 0] = np.inf
    values, gradient = sl.cross_entropy_grad(z, y, spec, reduction="none")
    for n in range(40):
        own, g = sl.cross_entropy_grad(z[n : n + 1], y[n : n + 1], spec, reduction="none")
        np.testing.assert_array_equal(own, values[n : n + 1])
        np.testing.assert_array_equal(g, gradient[n : n + 1])
        alone = sl.cross_entropy(z[n : n + 1], y[n : n + 1], spec, reduction="none")
        np.testing.assert_array_equal(alone, own)


@pytest.mark.parametrize(
    ("size", "shift", "spread"), [(1, 0, 3), (10, 0, 3), (3, 5000, 3), (3, 8190, 5), (5, 20000, 3)]
)
@pytest.mark.parametrize("k", [2, 10, 16, 17, 130, 385])
def test_a_bias_in_sixteen_lanes_keeps_its_digits(k: int, size: float, shift: float, spread: float) -> None:
    """Confident rows and others, large logits, and biases that are far apart."""
    rng = np.random.default_rng(k)
    z, y = (rng.normal(0, size, (4, k)) + shift).astype(np.float32), rng.integers(0, k, 4)
    z[np.arange(0, 4, 2), y[::2]] += np.float32(25)
    spec = LossSpec(bias=rng.normal(0, spread, k))
    value, gradient = sl.cross_entropy_grad(z, y, spec, reduction="none")
    exacts = [exact.cross_entropy(row, int(label), spec) for row, label in zip(z, y, strict=True)]
    assert exact.ulp_error(value, exacts).max() <= 0.6
    for row, label, found in zip(z, y, gradient, strict=True):
        expected = exact.cross_entropy_grad(row, int(label), spec)
        shown = np.abs(found) >= 2.0**-110  # below it a result's second float is lost
        errors = exact.ulp_error(found, expected)
        assert errors[shown].max() <= 0.75
        assert errors.max() <= 1.5


@pytest.mark.parametrize("k", [6, 60, 3000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_bias_alone_gives_what_logits_with_it_give(k: int, dtype: str) -> None:
    """Ties, -inf, NaN and +inf among the rows.

    Float64 logits of the same sum go through the loops without a bias.
    """
    rng = np.random.default_rng(k)
    z, y = rng.normal(0, 3, (20, k)).astype(dtype_of(dtype)), rng.integers(0, k, 20)
    bias = rng.normal(size=k)
    bias[1] = bias[0]
    z[0, :2], y[0] = 30.0, 0  # a tie at the top
    z[1] = -np.inf
    z[2, 2], z[3, 3], z[4, 1] = np.nan, np.inf, -np.inf
    z[5, y[5]] = 60.0  # confident
    value, gradient = sl.cross_entropy_grad(z, y, LossSpec(bias=bias), reduction="none")
    exact, expected = sl.cross_entropy_grad(z.astype(np.float64) + bias, y, reduction="none")
    np.testing.assert_array_equal(np.isnan(value), np.isnan(exact))
    _agree(np.atleast_1d(value), exact, value.dtype, 4)
    _agree(gradient, expected, z.dtype, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("k", [1, 5, 48, 300, 2100])
def test_a_gradient_from_what_was_kept_is_the_gradient(k: int, dtype: str) -> None:
    """Two passes give the values of one pass to the bit.

    The gradient is the same but for the order of two multiplications.
    """
    z, y = _rows(k, dtype)
    bar = {"float64": 8 * 2.0**-52, "float32": 2.0**-23}.get(dtype, 0.0)
    for name, spec in _specs(k).items():
        value, expected = sl.cross_entropy_grad(z, y, spec)
        found, kept = cross_entropy_forward(z, y, spec)
        gradient = cross_entropy_backward(z, y, kept, np.ones(1), spec)
        np.testing.assert_array_equal(found, value, err_msg=name)
        size = np.abs(np.nan_to_num(expected.astype(np.float64))).max()
        np.testing.assert_allclose(
            gradient.astype(np.float64), expected.astype(np.float64), rtol=bar, atol=bar * size, err_msg=name
        )


@pytest.mark.parametrize("k", [6, 3000])
def test_kept_rows_without_a_distribution_are_nan_and_no_others(k: int) -> None:
    z, y = np.zeros((12, k), np.float16), np.zeros(12, np.int64)
    z[1, 2], z[3, 0], z[5], y[7] = np.nan, np.inf, -np.inf, -100
    _, expected = sl.cross_entropy_grad(z, y)
    for spec in (LossSpec(), LossSpec(smoothing=0.1), LossSpec(bias=np.zeros(k) + 1.0)):
        _, kept = cross_entropy_forward(z, y, spec)
        gradient = cross_entropy_backward(z, y, kept, np.linspace(1, 2, 12), spec)
        np.testing.assert_array_equal(np.isnan(gradient).all(1), np.isnan(expected).all(1))
        np.testing.assert_array_equal(np.isnan(gradient).any(1), np.isnan(expected).any(1))
        assert not gradient[7].any()
