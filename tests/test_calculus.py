"""softmax_lab.calculus against mpmath.

Worst error in ulp, the algebra of the Jacobian, singular rows, bad input. The oracle takes the float
probabilities exactly, as the matrix with -p_i p_j off the diagonal and rows that sum to zero. For
probabilities that sum to one that is diag(p) - p p^T; a rounded row misses one by less than an ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab import exact

from .ulps import Record

Array = NDArray[Any]
Matrix = list[list[Any]]

# The design asks at most 2 ulp in float32 and 4 in float64. The half types are computed in float64 and
# rounded once. A row rounded to them misses the sum of one by up to an ulp: so far diag(p) - p p^T and the
# oracle's matrix differ.
BARS = {"bfloat16": 2.0, "float16": 2.0, "float32": 2.0, "float64": 4.0}
DTYPES = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)]
ORDERS: list[float | str] = ["fro", 1, 2, np.inf]

HARD: dict[str, list[float]] = {
    "one class": [3.0],
    "two classes": [0.3, -0.2],
    "plain": [0.1, -0.7, 1.3, 0.4, -2.0],
    "uniform": [0.0] * 6,
    "tied at the top": [4.0, 4.0, 1.0, 0.5, -3.0],
    "tied at the bottom": [4.0, 1.0, -2.0, -2.0, -2.0],
    "nearly tied": [1.0, 1.0 + 2**-22, 1.0 + 2**-21, 0.0, 5.0],
    "neighbouring floats": [0.5, float(np.nextafter(0.5, 1.0)), 0.25, 0.0],
    "confident": [40.0, 0.0, 1.0, -2.0],
    "very confident": [80.0, 0.0, 1.0],
    "wide": [300.0, 0.0, -100.0, 150.0, 290.0],
    "squares underflow": [600.0, 0.0, -100.0],
    "offset by 1e4": [10001.5, 10000.25, 9998.0],
    "with -inf": [1.0, -np.inf, 0.0, -np.inf, 0.3],
    "one survivor": [1.0, -np.inf, -np.inf],
}

logits = st.lists(st.floats(-60, 60), min_size=1, max_size=6)
temperatures = st.sampled_from([0.05, 0.5, 1.0, 3.0, 100.0])


def probabilities(
    z: list[float], dtype: np.dtype[Any] | type = np.float64, temperature: float = 1.0
) -> Array:
    return sl.softmax(np.array(z).astype(dtype), temperature=temperature)


def oracle(probs: Array, temperature: float = 1.0) -> Matrix:
    p = [mpmath.mpf(float(x)) for x in probs]
    with mpmath.workdps(exact.DIGITS):
        others = [mpmath.fsum(p[:k] + p[k + 1 :]) for k in range(len(p))]
        return [
            [a * (others[i] if i == j else -b) / mpmath.mpf(temperature) for j, b in enumerate(p)]
            for i, a in enumerate(p)
        ]


def oracle_spectrum(probs: Array, temperature: float = 1.0) -> list[Any]:
    with mpmath.workdps(exact.DIGITS):
        return sorted(mpmath.eigsy(mpmath.matrix(oracle(probs, temperature)), eigvals_only=True))


def oracle_norm(probs: Array, order: float | str, temperature: float = 1.0) -> Any:
    matrix = oracle(probs, temperature)
    with mpmath.workdps(exact.DIGITS):
        if order == "fro":
            return mpmath.sqrt(mpmath.fsum(x * x for row in matrix for x in row))
        if order == 2:
            return oracle_spectrum(probs, temperature)[-1]
        return max(mpmath.fsum(abs(x) for x in row) for row in matrix)


def oracle_product(probs: Array, tangent: Array) -> tuple[list[Any], list[Any]]:
    """Return the product with the tangent, and the largest term of each of its entries.

    An entry is the sum of the terms p_k p_j (t_k - t_j).
    """
    p, t = ([mpmath.mpf(float(x)) for x in row] for row in (probs, tangent))
    with mpmath.workdps(exact.DIGITS):
        terms = [
            [p_k * p_j * (t_k - t_j) for p_j, t_j in zip(p, t, strict=True)]
            for p_k, t_k in zip(p, t, strict=True)
        ]
        return [mpmath.fsum(row) for row in terms], [max(abs(x) for x in row) for row in terms]


def worst(computed: Any, expected: list[Any], **keywords: Any) -> float:
    return float(exact.ulp_error(computed, expected, **keywords).max())


def flat(matrix: Matrix) -> list[Any]:
    return [x for row in matrix for x in row]


def dense(probs: Array) -> Array:
    return np.asarray(np.diag(probs) - np.outer(probs, probs))


# Accuracy
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_worst_error_in_ulp(dtype: np.dtype[Any], record_ulp: Record) -> None:
    errors: dict[tuple[str, str], float] = {}
    for name, z in HARD.items():
        p = probabilities(z, dtype)
        tangent = np.cos(np.arange(len(z)) + 1.0).astype(dtype)
        product, terms = oracle_product(p, tangent)
        errors["jacobian", name] = worst(sl.softmax_jacobian(p), flat(oracle(p)))
        errors["jvp", name] = worst(sl.softmax_jvp(p, tangent), product, scale=terms)
        errors["spectrum", name] = worst(sl.softmax_spectrum(p), oracle_spectrum(p))
        for order in ORDERS:
            errors["jacobian_norm", f"{name}, ord={order}"] = worst(
                sl.softmax_jacobian_norm(p, ord=order), [oracle_norm(p, order)]
            )
    for (function, name), error in errors.items():
        record_ulp(f"softmax_{function}", dtype.name, name, error)
    assert {key: error for key, error in errors.items() if error > BARS[dtype.name]} == {}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jacobian_from_logits(name: str, dtype: type) -> None:
    """The rounding of the probabilities included: against the Jacobian of the logits themselves."""
    z: Array = np.array(HARD[name]).astype(dtype)
    assert (
        worst(sl.softmax_jacobian(sl.softmax(z)), flat(exact.softmax_jacobian(z)))
        <= BARS[np.dtype(dtype).name]
    )


@given(logits, temperatures)
def test_jacobian_and_spectrum_in_float64(z: list[float], temperature: float) -> None:
    p = probabilities(z, temperature=temperature)
    assert (
        worst(sl.softmax_jacobian(p, temperature=temperature), flat(oracle(p, temperature)))
        <= BARS["float64"]
    )
    assert (
        worst(sl.softmax_spectrum(p, temperature=temperature), oracle_spectrum(p, temperature))
        <= BARS["float64"]
    )


@given(logits, temperatures)
def test_jacobian_and_spectrum_in_float32(z: list[float], temperature: float) -> None:
    p = probabilities(z, np.float32, temperature)
    assert (
        worst(sl.softmax_jacobian(p, temperature=temperature), flat(oracle(p, temperature)))
        <= BARS["float32"]
    )
    assert (
        worst(sl.softmax_spectrum(p, temperature=temperature), oracle_spectrum(p, temperature))
        <= BARS["float32"]
    )


@given(logits, temperatures, st.sampled_from(ORDERS))
def test_norms_in_float64(z: list[float], temperature: float, order: float | str) -> None:
    p = probabilities(z, temperature=temperature)
    norm = sl.softmax_jacobian_norm(p, ord=order, temperature=temperature)
    assert worst(norm, [oracle_norm(p, order, temperature)]) <= BARS["float64"]


@given(logits, st.data())
def test_jvp_in_float64(z: list[float], data: st.DataObject) -> None:
    p = probabilities(z)
    tangent = np.array(data.draw(st.lists(st.floats(-100, 100), min_size=len(z), max_size=len(z))))
    product, terms = oracle_product(p, tangent)
    assert worst(sl.softmax_jvp(p, tangent), product, scale=terms) <= BARS["float64"]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0])
def test_jvp_is_the_derivative_of_softmax(temperature: float) -> None:
    """No formula for the Jacobian is trusted.

    A central difference of mpmath's softmax is good to 200 digits.
    """
    z, tangent, step = HARD["plain"], np.array([0.3, -1.0, 2.0, 0.0, 0.7]), mpmath.mpf(10) ** -100
    with mpmath.workdps(exact.DIGITS):
        up, down = (
            exact.softmax(
                [mpmath.mpf(x) + s * step * mpmath.mpf(t) for x, t in zip(z, tangent, strict=True)],
                temperature,
            )
            for s in (1, -1)
        )
        expected = [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]
    p = probabilities(z, temperature=temperature)
    np.testing.assert_allclose(
        sl.softmax_jvp(p, tangent, temperature=temperature),
        [float(x) for x in expected],
        rtol=0,
        atol=1e-15 / temperature,
    )


@pytest.mark.parametrize("num_classes", [257, 1000])
def test_many_classes(num_classes: int) -> None:
    """These are too many for mpmath's eigensolver.

    The secular function changes its sign within 4 ulp of each value checked.
    """
    rng = np.random.default_rng(0)
    p = probabilities(rng.normal(scale=4.0, size=num_classes).tolist())
    values, eps = sl.softmax_spectrum(p), 4 * 2.0**-52
    poles = [mpmath.mpf(float(x)) for x in p]
    with mpmath.workdps(60):
        for k in [1, 2, num_classes // 2, num_classes - 2, num_classes - 1]:
            below, above = (
                mpmath.fsum(x / (x - mpmath.mpf(float(values[k])) * (1 + s * mpmath.mpf(eps))) for x in poles)
                for s in (-1, 1)
            )
            assert below < 0 < above
    assert sl.softmax_jacobian_norm(p, ord=2) == values[-1]
    np.testing.assert_allclose(values, np.linalg.eigvalsh(sl.softmax_jacobian(p)), rtol=0, atol=1e-14)


def test_confident_row_keeps_its_derivative() -> None:
    """1 - p_0 is 0 in both types; the sum of the others is not."""
    for dtype, gap in ((np.float32, 60.0), (np.float64, 600.0)):
        p = probabilities([gap, 0.0], dtype)
        assert 1 - p[0] == 0
        expected = exact.softmax_jacobian([gap, 0.0])
        assert worst(sl.softmax_jacobian(p), flat(expected)) <= 1
        assert worst(sl.softmax_spectrum(p), [0, 2 * expected[0][0]]) <= 1
        for order in ORDERS:
            assert worst(sl.softmax_jacobian_norm(p, ord=order), [2 * expected[0][0]]) <= 1


def test_frobenius_norm_does_not_underflow() -> None:
    """The squares of the entries, 1e-400, are 0 in float64; the norm is 2e-200."""
    assert sl.softmax_jacobian_norm([1.0, 1e-200]) == pytest.approx(2e-200, rel=1e-15)
    assert sl.softmax_jacobian_norm([1e-200, 1.0, 1e-200]) == pytest.approx(
        mpmath.sqrt(10) * 1e-200, rel=1e-15
    )


# Structure
# ----------------------------------------------------------------------------------------------------------


@given(logits)
def test_jacobian_is_symmetric_with_rows_that_sum_to_zero(z: list[float]) -> None:
    jacobian = sl.softmax_jacobian(probabilities(z))
    np.testing.assert_array_equal(jacobian, jacobian.T)
    np.testing.assert_array_less(
        np.abs(jacobian.sum(axis=1)), 4 * np.finfo(float).eps * np.abs(jacobian).sum(axis=1) + 1e-300
    )


@given(logits, st.floats(-10, 10))
def test_constant_tangent_gives_exactly_zero(z: list[float], constant: float) -> None:
    np.testing.assert_array_equal(
        sl.softmax_jvp(probabilities(z), np.full(len(z), constant)), np.zeros(len(z))
    )


@given(logits, st.data())
def test_vjp_is_jvp(z: list[float], data: st.DataObject) -> None:
    p, vectors = probabilities(z), st.lists(st.floats(-10, 10), min_size=len(z), max_size=len(z))
    u, v = np.array(data.draw(vectors)), np.array(data.draw(vectors))
    assert u @ sl.softmax_jvp(p, v) == pytest.approx(v @ sl.softmax_vjp(p, u), abs=1e-12)
    np.testing.assert_allclose(sl.softmax_vjp(p, u), u @ sl.softmax_jacobian(p), rtol=0, atol=1e-12)


@given(logits, st.sampled_from([np.float32, np.float64]))
def test_spectrum_interlaces_the_sorted_probabilities(z: list[float], dtype: type) -> None:
    p = probabilities(z, dtype)
    values, poles = sl.softmax_spectrum(p), np.sort(p)
    assert values[0] == 0
    assert (poles[:-1] <= values[1:]).all()
    assert (values[1:] <= poles[1:]).all()
    assert float(values.sum(dtype=np.float64)) == pytest.approx(
        float(np.trace(oracle_trace(p))), rel=8 * float(np.finfo(dtype).eps)
    )


def oracle_trace(probs: Array) -> Array:
    return np.diag([float(row[k]) for k, row in enumerate(oracle(probs))])


@pytest.mark.parametrize("top", [1, 2, 3])
def test_ties_are_eigenvalues(top: int) -> None:
    """m equal probabilities give that value m - 1 times, to the bit; the zeros of masked classes likewise."""
    p = probabilities([2.0] * top + [-1.0] * 4 + [-np.inf] * 2)
    values = sl.softmax_spectrum(p)
    assert np.count_nonzero(values == p.max()) == top - 1
    assert np.count_nonzero(values == p[top]) == 3
    assert np.count_nonzero(values == 0) == 1 + 2


def test_one_top_and_equal_others_in_closed_form() -> None:
    p = np.array([0.4] + [0.06] * 10)
    np.testing.assert_allclose(sl.softmax_spectrum(p), [0.0] + [0.06] * 9 + [0.4 * 0.6 * 11 / 10], rtol=1e-15)


@pytest.mark.parametrize("tiny", [1e-30, 1e-300])
def test_tiny_probabilities(tiny: float) -> None:
    """A class of probability t adds the eigenvalue t n / (n - 1), up to O(t^2).

    It stands beside n - 1 others that are equal.
    """
    values = sl.softmax_spectrum([0.25, 0.25, 0.25, 0.25, tiny])
    np.testing.assert_allclose(values[1], tiny * 5 / 4, rtol=1e-15)
    assert (values[2:] == 0.25).all()


@given(logits, temperatures)
def test_norms_agree_with_each_other(z: list[float], temperature: float) -> None:
    p = probabilities(z)
    fro, one, two, inf = (sl.softmax_jacobian_norm(p, ord=order, temperature=temperature) for order in ORDERS)
    slack = 1 + 1e-14
    assert one == inf
    assert two <= one * slack
    assert two <= fro * slack
    assert max(fro, one, two) <= 0.5 / temperature * slack
    top = np.sort(p)[::-1]
    if len(p) > 1:
        assert two <= top[0] * (top[1:].sum() + top[1]) / temperature * slack
        assert (
            two >= (p * np.array([np.delete(p, k).sum() for k in range(len(p))])).max() / temperature / slack
        )


@pytest.mark.parametrize("order", ORDERS)
def test_norm_is_that_of_the_matrix(order: float | str) -> None:
    p = probabilities(HARD["plain"])
    expected = np.linalg.norm(dense(p), order)  # type: ignore[arg-type]
    assert sl.softmax_jacobian_norm(p, ord=order) == pytest.approx(expected, rel=1e-13)
    assert sl.softmax_jacobian_norm([0.5, 0.5], ord=order) == 0.5


# Shapes, types, singular rows
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shapes_and_dtypes(dtype: np.dtype[Any]) -> None:
    p = sl.softmax(np.arange(24.0).reshape(2, 3, 4).astype(dtype))
    assert sl.softmax_jacobian(p).shape == (2, 3, 4, 4)
    assert sl.softmax_spectrum(p).shape == (2, 3, 4)
    assert sl.softmax_jvp(p, p).shape == (2, 3, 4)
    for order in ORDERS:
        assert sl.softmax_jacobian_norm(p, ord=order).shape == (2, 3)
        assert sl.softmax_jacobian_norm(p, ord=order).dtype == dtype
    assert {f(p).dtype for f in (sl.softmax_jacobian, sl.softmax_spectrum)} | {
        sl.softmax_jvp(p, p).dtype
    } == {dtype}


def test_a_single_row_gives_a_scalar_norm_and_integers_are_float64() -> None:
    assert all(isinstance(sl.softmax_jacobian_norm([1, 0], ord=order), np.float64) for order in ORDERS)
    assert sl.softmax_jvp(np.array([0.5, 0.5], np.float32), [1, 2]).dtype == np.float64
    assert sl.softmax_jvp(np.array([0.5, 0.5], np.float32), np.array([1, 2], np.float16)).dtype == np.float32


def test_jvp_broadcasts() -> None:
    rng = np.random.default_rng(0)
    p, tangents = sl.softmax(rng.normal(size=(5, 3))), rng.normal(size=(4, 1, 3))
    products = sl.softmax_jvp(p, tangents)
    assert products.shape == (4, 5, 3)
    np.testing.assert_allclose(
        products,
        np.einsum("nij,mnj->mni", sl.softmax_jacobian(p), np.broadcast_to(tangents, (4, 5, 3))),
        atol=1e-15,
    )
    np.testing.assert_array_equal(
        sl.softmax_jvp(p[0], np.eye(3)), np.stack([sl.softmax_jvp(p[0], e) for e in np.eye(3)])
    )


def test_rows_do_not_depend_on_their_batch() -> None:
    p = sl.softmax(np.random.default_rng(0).normal(scale=5.0, size=(7, 33)))
    for k in range(len(p)):
        np.testing.assert_array_equal(sl.softmax_jacobian(p)[k], sl.softmax_jacobian(p[k]))
        np.testing.assert_array_equal(sl.softmax_spectrum(p)[k], sl.softmax_spectrum(p[k]))
        np.testing.assert_array_equal(sl.softmax_jvp(p, p[::-1])[k], sl.softmax_jvp(p[k], p[-1 - k]))
        for order in ORDERS:
            assert sl.softmax_jacobian_norm(p, ord=order)[k] == sl.softmax_jacobian_norm(p[k], ord=order)


def test_strided_read_only_input_is_left_alone() -> None:
    wide = sl.softmax(np.random.default_rng(0).normal(size=(4, 6)).T)
    p = np.repeat(wide, 2, axis=0)[::2]
    before = p.copy()
    p.setflags(write=False)
    np.testing.assert_array_equal(sl.softmax_spectrum(p), sl.softmax_spectrum(before))
    np.testing.assert_array_equal(sl.softmax_jacobian(p), sl.softmax_jacobian(before))
    np.testing.assert_array_equal(sl.softmax_jacobian_norm(p), sl.softmax_jacobian_norm(before))
    np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize(
    "p", [[1.0], [1.0, 0.0, 0.0], [0.0, 0.0]], ids=["one class", "one-hot", "fully masked"]
)
def test_rows_without_a_derivative(p: list[float]) -> None:
    assert not sl.softmax_jacobian(p).any()
    assert not sl.softmax_spectrum(p).any()
    assert not sl.softmax_jvp(p, np.arange(len(p)) + 1.0).any()
    assert not any(sl.softmax_jacobian_norm(p, ord=order) for order in ORDERS)


def test_nan_stays_in_its_row() -> None:
    p = [[np.nan, 0.5, 0.5], [0.25, 0.25, 0.5]]
    outputs = [sl.softmax_jacobian(p), sl.softmax_spectrum(p), sl.softmax_jvp(p, [1.0, 2.0, 3.0])]
    outputs += [sl.softmax_jacobian_norm(p, ord=order) for order in ORDERS]
    assert all(np.isnan(output[0]).all() and np.isfinite(output[1]).all() for output in outputs)


def test_empty_batch() -> None:
    p = np.zeros((0, 3))
    assert sl.softmax_jacobian(p).shape == (0, 3, 3)
    assert sl.softmax_spectrum(p).shape == sl.softmax_jvp(p, p).shape == (0, 3)
    assert all(sl.softmax_jacobian_norm(p, ord=order).shape == (0,) for order in ORDERS)


# Bad input
# ----------------------------------------------------------------------------------------------------------

FUNCTIONS: list[Callable[..., Any]] = [
    sl.softmax_jacobian,
    sl.softmax_spectrum,
    sl.softmax_jacobian_norm,
    lambda p, **k: sl.softmax_jvp(p, [1.0, 2.0], **k),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=["jacobian", "spectrum", "norm", "jvp"])
@pytest.mark.parametrize(
    ("p", "error", "message"),
    [
        ([0.5, 0.4], ValueError, "must sum to one along the last axis; got .*0.9"),
        ([3.0, -2.0], ValueError, r"must be >= 0; got .*-2.0.* at index \(1,\)"),
        ([np.inf, 0.0], ValueError, "must sum to one"),
        (0.5, ValueError, "at least one axis"),
        (np.zeros((2, 0)), ValueError, r"at least one class along axis -1; got shape \(2, 0\)"),
        ([True, False], TypeError, "got dtype bool"),
        (np.array([0.5, 0.5], np.complex128), TypeError, "got dtype complex128"),
        (["a", "b"], TypeError, "got dtype"),
    ],
)
def test_bad_probabilities(function: Any, p: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(p)


@pytest.mark.parametrize("function", FUNCTIONS, ids=["jacobian", "spectrum", "norm", "jvp"])
@pytest.mark.parametrize(
    ("temperature", "error"),
    [(0.0, ValueError), (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError)],
)
def test_bad_temperature(function: Any, temperature: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"temperature must be .*; got"):
        function([0.5, 0.5], temperature=temperature)


@pytest.mark.parametrize("order", [3, 0, -2, "nuc", None])
def test_bad_order(order: Any) -> None:
    with pytest.raises(ValueError, match="ord must be 'fro', 1, 2 or inf; got"):
        sl.softmax_jacobian_norm([0.5, 0.5], ord=order)


@pytest.mark.parametrize("tangent", [[1.0, 2.0, 3.0], [1.0], 1.0, [[1.0], [2.0]]])
def test_bad_tangent_shape(tangent: Any) -> None:
    with pytest.raises(ValueError, match=r"tangent must have shape \(\.\.\., 2\) as probs \(2,\); got"):
        sl.softmax_jvp([0.5, 0.5], tangent)


def test_batches_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        sl.softmax_jvp(np.full((5, 2), 0.5), np.ones((4, 2)))


def test_bad_tangent_dtype() -> None:
    with pytest.raises(TypeError, match=r"tangent must be .*; got dtype complex128"):
        sl.softmax_jvp([0.5, 0.5], np.array([1j, 0]))


@pytest.mark.parametrize("compiled", [True, False])
def test_the_two_half_types_meet_in_float32(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr("softmax_lab._dispatch.kernels", lambda: None)
    p, t = np.array([0.5, 0.25, 0.25]), np.array([1.0, 0.5, -2.0])
    half = {
        kind: (p.astype(kind), t.astype(kind))
        for kind in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
    }
    for (probs, _), (_, tangent) in (tuple(half.values()), tuple(half.values())[::-1]):
        for product in (sl.softmax_jvp, sl.softmax_vjp):
            result = product(probs, tangent)
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result, sl.softmax_jvp(p, t))  # the numbers are exact in every type
