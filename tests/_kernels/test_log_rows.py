"""The loops of the log of the mean loss against the reference: chunks, confident rows, types, and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch, exact
from softmax_lab._log_reference import LogReference
from softmax_lab._log_rows import shares_of
from softmax_lab._problem import prepare
from tests.logs import Array
from tests.ulps import dtype_of

MOST = _dispatch.kernels().short.MOST_CLASSES  # type: ignore[union-attr]
MOST_IN_SINGLES = _dispatch.kernels().short.MOST_IN_SINGLES  # type: ignore[union-attr]
#: one class alone, a vector and its neighbours, both sides of the change of loops, several chunks, and a row
#: that is not held as a whole
LENGTHS = (
    1,
    2,
    8,
    9,
    16,
    17,
    MOST,
    MOST + 1,
    128,
    MOST_IN_SINGLES,
    MOST_IN_SINGLES + 1,
    2048,
    2049,
    5000,
    (1 << 20) + 1,
)
BARS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-22, "float64": 2.0**-48}


def batch(k: int, dtype: str, rows: int = 4) -> tuple[Array, Array]:
    """Rows whose targets, the first, the last and other classes, are far ahead, ahead, level and behind."""
    rng = np.random.default_rng(k)
    z, y = rng.normal(0, 3, (rows, k)), rng.integers(0, k, rows)
    y[:2] = 0, k - 1
    z[np.arange(rows), y] += np.resize([900.0, 30.0, 0.0, -40.0], rows)
    return z.astype(dtype_of(dtype)), y


def reference(z: Array, y: Array, spec: LossSpec = LossSpec(), **options: Any) -> tuple[Any, Array]:
    problem = prepare(z, y, spec, **options)
    logs, gradient = LogReference(problem).logs_and_gradient(None)
    found = shares_of(problem, *logs)
    return found.value, gradient(found.rho)


def assert_close(z: Array, y: Array, spec: LossSpec = LossSpec(), **options: Any) -> None:
    value, gradient = sl.log_cross_entropy_grad(z, y, spec, **options)
    expected, g = reference(z, y, spec, **options)
    # a row's share shows the rounding error of the soft cap, which is one of the cap's size
    bar = max(BARS[z.dtype.name], (spec.softcap or 0.0) * 2.0**-52)
    np.testing.assert_allclose(value, expected, rtol=min(bar, 2.0**-23), atol=1e-14)
    wide, exacts = gradient.astype(np.float64), g.astype(np.float64)
    largest = np.abs(exacts).max(axis=-1, keepdims=True)
    smallest = 1e-37 if z.dtype != np.float16 else 6e-8
    assert (np.abs(wide - exacts) <= bar * largest + smallest).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("k", LENGTHS)
def test_rows_of_every_length(k: int, dtype: str, reduction: str) -> None:
    if k == 1:  # log l is -inf of every row
        z, y = np.ones((4, 1), dtype_of(dtype)), np.zeros(4, int)
        assert not sl.log_cross_entropy_grad(z, y, reduction=reduction)[1].any()  # type: ignore[arg-type]
        return
    assert_close(*batch(k, dtype), reduction=reduction)


def fields(k: int) -> dict[str, LossSpec]:
    bias = np.random.default_rng(1).normal(size=k)
    return {
        "temperature": LossSpec(temperature=0.3),
        "shift": LossSpec(bias=bias),
        "soft cap and margin": LossSpec(softcap=40.0, margin=0.5, scale=1.5),
        "weights": LossSpec(bias=bias, class_weight=np.linspace(0.0, 2.0, k)),
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("k", [6, 300, 5000])
@pytest.mark.parametrize("name", fields(6))
def test_fields_masks_and_weights(name: str, k: int, dtype: str) -> None:
    z, y = batch(k, dtype, 11)
    where = np.random.default_rng(2).random((11, k)) < 0.7
    where[np.arange(11), y] = True
    y[3] = -100
    weight = np.linspace(0.0, 3.0, 11)
    assert_close(z, y, fields(k)[name], sample_weight=weight)
    assert_close(z, y, fields(k)[name], where=where, reduction="sum")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at_target", [True, False])
@pytest.mark.parametrize("k", [3, 100, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype: str, k: int, at_target: bool, value: float) -> None:
    z, y = batch(k, dtype, 9)
    z[4, y[4] if at_target else (y[4] + 1) % k] = value
    found, gradient = sl.log_cross_entropy_grad(z, y, reduction="none")
    expected, g = reference(z, y, reduction="none")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # of a row that is no number some entries may be one
    assert np.array_equal(np.isnan(gradient).any(axis=1), np.isnan(g).any(axis=1))
    plain = ~np.isnan(g).any(axis=1)
    np.testing.assert_allclose(gradient[plain], g[plain], atol=1e-6)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record (path, loop) of every compiled call."""
    calls: list[tuple[str, str]] = []
    real = _dispatch.run

    def run(path: Any, name: str, *arguments: Any, **options: Any) -> None:
        calls.append((path, name))
        real(path, name, *arguments, **options)

    monkeypatch.setattr(_dispatch, "run", run)
    return calls


def test_which_loops_ran(taken: list[tuple[str, str]]) -> None:
    for k, dtype in (
        *((MOST, "float64"), (MOST + 1, "float64"), (MOST, "float16")),
        *((MOST_IN_SINGLES, "float32"), (MOST_IN_SINGLES + 1, "float32")),
    ):
        z, y = batch(k, dtype)
        sl.log_cross_entropy_grad(z, y.tolist())  # labels that are no array: not the plain call
    short, kept = ("short_logs", "log_losses"), ("logs", "log_losses")
    scaled = ("logs", "scale_rows")
    assert taken == [
        *(short, scaled),
        *(kept, ("long", "cross_entropy_gradient")),
        *(short, ("short", "cross_entropy_gradient")),
        *(short, scaled),
        *(kept, ("long", "cross_entropy_gradient")),
    ]
    taken.clear()
    z, y = batch(4, "float32")
    sl.log_cross_entropy_grad(z, y.tolist(), reduction="none")  # every share is 1
    sl.log_cross_entropy(z, y.tolist())
    assert taken == [short, short]


@pytest.mark.parametrize(("n", "k"), [(5000, 10), (300, 60), (100, 3000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rows_logarithm_has_the_same_bits_in_every_batch(n: int, k: int, dtype: str) -> None:
    z, y = batch(k, dtype, n)
    whole, gradient = sl.log_cross_entropy_grad(z, y, reduction="none")
    some = slice(n // 3, n // 3 + 5)
    part, g = sl.log_cross_entropy_grad(z[some], y[some], reduction="none")
    assert np.array_equal(whole[some], part)
    assert np.array_equal(gradient[some], g)


def test_numpy_takes_over_where_a_loop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = batch(5, "float64")
    expected, g = reference(z, y)
    loops = _dispatch.kernels()
    assert loops is not None

    def broken(*_: Any) -> None:
        raise RuntimeError("does not compile")

    monkeypatch.setattr(_dispatch._State, "failed", False)
    monkeypatch.setattr(loops.logs, "scale_rows", broken)
    with pytest.warns(RuntimeWarning, match="NumPy takes over"):
        value, gradient = sl.log_cross_entropy_grad(z, y.tolist())
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(gradient, g, rtol=1e-14)


@pytest.mark.parametrize("gap", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("k", [4, 60, 500])
def test_far_rows_share_the_sum_by_what_their_logarithms_round_off(k: int, gap: float) -> None:
    """At a logarithm of -1e9 the last digit of float64 is one that float32 shows in a share."""
    z, y = np.full((40, k), -np.inf, np.float32), np.zeros(40, int)
    z[:, 0], z[:, 1] = gap, np.random.default_rng(k).normal(0, 0.1, 40)
    _, gradient = sl.log_cross_entropy_grad(z, y)
    shares = [-share for share in exact.softmax(z[:, 1])]
    assert exact.ulp_error(gradient[:, 0], shares).max() <= 0.51
