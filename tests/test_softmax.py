"""softmax, log_softmax, logsumexp: properties, conventions at infinities and masks, outputs and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import softmax_lab as sl

pytestmark = pytest.mark.usefixtures("each_path")

FUNCTIONS = {"softmax": sl.softmax, "log_softmax": sl.log_softmax}
both = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
rows = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.floats(-700, 700))


@given(rows)
def test_agrees_with_scipy_to_its_accuracy(z: np.ndarray) -> None:
    np.testing.assert_allclose(sl.softmax(z), special.softmax(z, axis=-1), rtol=2e-12, atol=1e-300)
    np.testing.assert_allclose(sl.log_softmax(z), special.log_softmax(z, axis=-1), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(sl.logsumexp(z), special.logsumexp(z, axis=-1), rtol=1e-13, atol=1e-13)


@given(rows)
def test_sums_to_one_and_log_is_the_log(z: np.ndarray) -> None:
    p = sl.softmax(z)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-15 * z.shape[1])
    normal = p > 1e-300
    np.testing.assert_allclose(np.exp(sl.log_softmax(z))[normal], p[normal], rtol=3e-13)


@given(rows, st.integers(-(2**20), 2**20))
def test_exact_shifts_change_nothing(z: np.ndarray, shift: int) -> None:
    z = np.rint(z * 1024) / 1024  # so that adding the shift rounds nothing
    np.testing.assert_array_equal(sl.softmax(z + shift), sl.softmax(z))
    np.testing.assert_array_equal(sl.log_softmax(z + shift), sl.log_softmax(z))


@given(rows, st.randoms(use_true_random=False))
def test_permutation_equivariance(z: np.ndarray, random: Any) -> None:
    order = list(range(z.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(sl.softmax(z[:, order]), sl.softmax(z)[:, order], rtol=2e-15, atol=1e-320)


@given(rows, st.floats(0.01, 100))
def test_temperature_divides_the_logits(z: np.ndarray, temperature: float) -> None:
    np.testing.assert_allclose(
        sl.softmax(z, temperature=temperature), sl.softmax(z / temperature), rtol=1e-10, atol=1e-300
    )


def test_a_tiny_temperature_picks_the_maximum() -> None:
    """z / T overflows where (z - max) / T does not."""
    np.testing.assert_array_equal(sl.softmax([1e10, 0.0, 1e10], temperature=1e-305), [0.5, 0, 0.5])


@both
@pytest.mark.parametrize("k", [1, 2, 10, 1000, 70_000])
def test_rows_are_bit_identical_whatever_the_batch(function: Callable[..., Any], k: int) -> None:
    z = np.random.default_rng(k).normal(0, 5, (max(3, 200_000 // k), k))
    whole = function(z)
    order = np.random.default_rng(0).permutation(len(z))
    np.testing.assert_array_equal(function(z[order]), whole[order])
    for i in (0, len(z) // 2, len(z) - 1):
        np.testing.assert_array_equal(function(z[i]), whole[i])


@both
def test_any_axis_stride_and_out(function: Callable[..., Any]) -> None:
    z = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    expected = np.moveaxis(function(np.ascontiguousarray(np.moveaxis(z, 1, -1))), -1, 1)
    np.testing.assert_array_equal(function(z, axis=1), expected)
    np.testing.assert_array_equal(function(z.transpose(2, 0, 1), axis=2), expected.transpose(2, 0, 1))
    np.testing.assert_array_equal(function(np.repeat(z, 2, axis=2)[..., ::2], axis=1), expected)
    out = np.full((4, 5, 3), 9, np.float32).transpose(2, 0, 1)
    assert function(z, axis=1, out=out) is out
    np.testing.assert_array_equal(out, expected)
    same = z.copy()
    function(same, axis=1, out=same)
    np.testing.assert_array_equal(same, expected)


@both
def test_infinities_and_nan(function: Callable[..., Any]) -> None:
    z = np.array(
        [[0.0, np.nan, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3, [1.0, -np.inf, 1.0], [0.0, 0.0, 0.0]]
    )
    result = function(z)
    assert np.isnan(result[:3]).all()
    np.testing.assert_array_equal(
        result[3],
        function(np.array([1.0, -1e5, 1.0])) if function is sl.softmax else [-np.log(2), -np.inf, -np.log(2)],
    )
    assert np.isfinite(result[4]).all()


def test_logsumexp_at_infinities() -> None:
    assert sl.logsumexp([-np.inf, -np.inf]) == -np.inf
    assert sl.logsumexp([np.inf, 0.0]) == np.inf
    assert np.isnan(sl.logsumexp([np.nan, np.inf]))
    assert sl.logsumexp([3.0, -np.inf]) == 3.0


def test_masks() -> None:
    z = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]])
    where = np.array([[True, False, True], [False, False, False]])
    p = sl.softmax(z, where=where)
    np.testing.assert_allclose(p[0, [0, 2]], sl.softmax([1.0, 2.0]), rtol=4e-16)
    assert p[0, 1] == 0
    assert not p[1].any()
    log_p = sl.log_softmax(z, where=where)
    np.testing.assert_allclose(log_p[0, [0, 2]], sl.log_softmax([1.0, 2.0]), rtol=4e-16)
    assert (log_p[1] == -np.inf).all()
    np.testing.assert_array_equal(sl.logsumexp(z, where=where), [sl.logsumexp([1.0, 2.0]), -np.inf])
    np.testing.assert_array_equal(sl.softmax(z.T, axis=0, where=where.T), p.T)
    np.testing.assert_allclose(sl.softmax([1.0, 2.0], where=True), sl.softmax([1.0, 2.0]), rtol=4e-16)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (1, 1), (3,)])
def test_small_and_empty_shapes(shape: tuple[int, ...]) -> None:
    z = np.zeros(shape, np.float32)
    assert sl.softmax(z).shape == shape
    assert sl.softmax(z).dtype == np.float32
    assert sl.logsumexp(z).shape == shape[:-1]
    assert sl.logsumexp(z, keepdims=True).shape == (*shape[:-1], 1)


@both
def test_byte_order_alignment_and_protection_do_not_matter(function: Callable[..., Any]) -> None:
    for k in (5, 100):
        z = np.random.default_rng(k).normal(size=(3, k)).astype(np.float32)
        expected = function(z)
        swapped = function(z.astype(">f4"))
        assert swapped.dtype == np.float32
        np.testing.assert_array_equal(swapped, expected)
        protected = z.copy()
        protected.flags.writeable = False
        np.testing.assert_array_equal(function(protected), expected)
        unaligned = np.frombuffer(b"x" + z.tobytes(), np.float32, offset=1).reshape(z.shape)
        np.testing.assert_array_equal(function(unaligned), expected)


@pytest.mark.parametrize("axis", [None, (0,), (0, 2), (2, 0), (-1, 1)])
def test_several_axes_are_scipys(axis: Any) -> None:
    z = np.random.default_rng(0).normal(size=(3, 4, 5))
    where = np.random.default_rng(1).random(z.shape) < 0.7
    np.testing.assert_allclose(sl.softmax(z, axis=axis), special.softmax(z, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(sl.log_softmax(z, axis=axis), special.log_softmax(z, axis=axis), rtol=1e-13)
    masked = np.where(where, z, -np.inf)
    for keepdims in (False, True):
        np.testing.assert_allclose(
            sl.logsumexp(np.where(where, z, np.nan), axis=axis, where=where, keepdims=keepdims),
            special.logsumexp(masked, axis=axis, keepdims=keepdims),
            rtol=1e-13,
        )
    same = z.copy()
    assert sl.softmax(same, axis=axis, out=same) is same
    np.testing.assert_array_equal(same, sl.softmax(z, axis=axis))
    factors = np.random.default_rng(2).normal(size=(4, 1))
    found = sl.logsumexp(z, axis=axis, b=factors, return_sign=True)
    for one, other in zip(found, special.logsumexp(z, axis=axis, b=factors, return_sign=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_logsumexp_keeps_the_axis_where_it_was() -> None:
    z = np.random.default_rng(0).normal(size=(3, 4, 5))
    np.testing.assert_array_equal(sl.logsumexp(z, axis=1, keepdims=True)[:, 0], sl.logsumexp(z, axis=1))
    np.testing.assert_allclose(sl.logsumexp(z, axis=1), special.logsumexp(z, axis=1), rtol=1e-14)


BAD: list[tuple[str, type[Exception], str, Any]] = [
    ("dtype", TypeError, "logits must be .* got dtype complex128", lambda: sl.softmax([1j])),
    (
        "longdouble",
        TypeError,
        "got dtype longdouble|got dtype float128",
        lambda: sl.softmax(np.zeros(2, np.longdouble)),
    ),
    ("text", TypeError, "got dtype", lambda: sl.softmax(["a"])),
    ("scalar", ValueError, "at least one axis", lambda: sl.softmax(1.0)),
    ("no class", ValueError, "at least one class", lambda: sl.softmax(np.zeros((3, 0)))),
    (
        "axis",
        ValueError,
        r"axis must lie in \[-1, 1\) for shape \(2,\); got 1",
        lambda: sl.softmax([0.0, 1.0], axis=1),
    ),
    (
        "axes",
        TypeError,
        "axis must be one integer",
        lambda: sl.logsumexp(np.zeros((2, 2)), axis=[0, 1]),  # type: ignore[arg-type]
    ),
    ("axis twice", ValueError, "name each axis once", lambda: sl.softmax(np.zeros((2, 2)), axis=(0, -2))),
    ("no axis", ValueError, "at least one axis", lambda: sl.softmax(np.zeros((2, 2)), axis=())),
    ("b", ValueError, "b must broadcast", lambda: sl.logsumexp(np.zeros(2), b=np.ones(3))),
    ("infinite b", ValueError, "b must be finite", lambda: sl.logsumexp(np.zeros(2), b=np.inf)),
    (
        "zero T",
        ValueError,
        "temperature must be finite and > 0; got 0",
        lambda: sl.softmax([0.0], temperature=0),
    ),
    ("NaN T", ValueError, "temperature must be", lambda: sl.log_softmax([0.0], temperature=np.nan)),
    ("text T", TypeError, "temperature must be a real number", lambda: sl.softmax([0.0], temperature="1")),  # type: ignore[arg-type]
    (
        "where",
        TypeError,
        "where must be boolean; got dtype int64",
        lambda: sl.softmax([0.0, 1.0], where=[1, 0]),
    ),
    (
        "read-only out",
        ValueError,
        "out must be writeable",
        lambda: sl.softmax(np.zeros(2), out=np.broadcast_to(np.zeros(1), 2)),
    ),
]


@pytest.mark.parametrize(("error", "match", "call"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_input(error: type[Exception], match: str, call: Any) -> None:
    with pytest.raises(error, match=match):
        call()
