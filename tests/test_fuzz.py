r"""Backend against backend: the compiled loops and the NumPy reference, on random problems.

Two results of one type may differ by the rounding to it, and by what each may err before: every formula of
the family is a sum of a few terms, so the bar is counted in the largest of them. With ``rho`` the relative
error of an exponential (the sums, logarithms and powers that follow are of its size),

.. math:: |a - b| \le \operatorname{ulp}(a) + C \rho \cdot \text{largest term} .

The terms are those of the reference's own rows. Exponentials too small for the type of the logits may count
as 0.

The short form runs with all tests; ``python -m pytest tests/test_fuzz.py --hypothesis-profile=fuzz`` is the
long one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab import _dispatch
from softmax_lab._problem import Problem, prepare
from softmax_lab._reference import Reference, Row
from softmax_lab._ulp import float_format

from .fuzz import Kind, Loss, kinds, laid_out, losses, masks, numbers, shapes
from .ulps import dtype_of

pytest.importorskip("numba", reason="without Numba there is only the reference")

Array = NDArray[np.float64]
C = 16.0


@contextmanager
def the_reference() -> Iterator[None]:
    with mock.patch.object(_dispatch, "kernels", return_value=None):
        yield


def assert_close(compiled: Any, reference: Any, tolerance: Any) -> None:
    """Assert equal types, shapes, NaNs and infinities, and small differences.

    A difference may be an ulp of the type and a tolerance.

    Where the tolerance is NaN the results must be equal; where it is infinite nothing is asked.
    """
    assert compiled.dtype == reference.dtype
    assert compiled.shape == reference.shape
    form = float_format(compiled.dtype)
    a, b = np.asarray(compiled, np.float64), np.asarray(reference, np.float64)
    # below the normal numbers every step of a float64 result is rounded at the same place, and tangents in
    # the thousands come after it
    ulp = (
        np.maximum(
            np.maximum(np.abs(a), np.abs(b)), form.smallest * (2**14 if compiled.dtype == np.float64 else 1)
        )
        * form.eps
    )
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = ~(
            (np.abs(a - b) <= ulp + tolerance)
            | (a == b)
            | (np.isnan(a) & np.isnan(b))
            | np.isposinf(tolerance)
        )
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        far = np.abs(a[at] - b[at]) / np.broadcast_to(ulp + tolerance, a.shape)[at]
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} differ; at {at} compiled {a[at]!r}, reference {b[at]!r}: "
            f"{far:.3g} of what is allowed"
        )


def assert_same(a: Any, b: Any) -> None:
    """Assert equal numbers; NumPy's own test does not know bfloat16's NaN."""
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


def rho(dtype: np.dtype[Any]) -> float:
    """Relative error of the exponential that logits of a type get."""
    return 2.0**-52 if dtype == np.float64 else 2.0**-33


def smallest(dtype: np.dtype[Any]) -> float:
    """Exponentials below this may be 0."""
    return 2.0**-1022 if dtype == np.float64 else 2.0**-149


# ---- softmax, log-softmax, log-sum-exp ----


@st.composite
def maps(draw: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    """Logits, and the keywords of a softmax of them."""
    kind: Kind = draw(kinds())
    shape, axis = draw(shapes(kind.rows))
    logits = draw(laid_out(draw(numbers(shape, dtype_of(kind.dtype)))))
    temperature = 0.5 if kind.transformed else draw(st.one_of(st.just(1.0), st.floats(0.05, 20.0)))
    return logits, {"axis": axis, "temperature": temperature, "where": draw(masks(shape))}


@given(maps(), st.data())
def test_softmax(problem: tuple[NDArray[Any], dict[str, Any]], data: Any) -> None:
    z, options = problem
    p = sl.softmax(z, **options)
    with the_reference():
        expected = sl.softmax(z, **options)
    assert_close(p, expected, C * rho(z.dtype) * np.abs(expected.astype(np.float64)) + smallest(z.dtype))
    assert_layouts_agree(lambda z, out: sl.softmax(z, out=out, **options), z, p, data.draw)


@given(maps(), st.data())
def test_log_softmax(problem: tuple[NDArray[Any], dict[str, Any]], data: Any) -> None:
    z, options = problem
    log_p = sl.log_softmax(z, **options)
    with the_reference():
        expected = sl.log_softmax(z, **options)
    finite = np.where(np.isfinite(expected), expected.astype(np.float64), 0.0)
    assert_close(log_p, expected, C * rho(z.dtype) * np.abs(finite) + smallest(z.dtype))
    assert_layouts_agree(lambda z, out: sl.log_softmax(z, out=out, **options), z, log_p, data.draw)


@given(maps())
def test_logsumexp(problem: tuple[NDArray[Any], dict[str, Any]]) -> None:
    z, options = problem
    options.pop("temperature")
    lse = np.asarray(sl.logsumexp(z, **options))
    with the_reference():
        expected = np.asarray(sl.logsumexp(z, **options))
    kept = True if options["where"] is None else options["where"]
    largest = np.abs(np.where(kept & np.isfinite(z), z.astype(np.float64), 0.0)).max(
        axis=options["axis"], initial=0.0
    )
    assert_close(
        lse, expected, 4 * 2.0**-52 * largest + C * rho(z.dtype) * np.log(2.0 * z.shape[options["axis"]])
    )
    assert_same(np.squeeze(np.asarray(sl.logsumexp(z, keepdims=True, **options)), options["axis"]), lse)


def assert_layouts_agree(
    call: Callable[..., Any], z: NDArray[Any], expected: NDArray[Any], draw: Any
) -> None:
    """Assert that no bit depends on where the logits lie and where the result goes."""
    plain = np.array(z, z.dtype.newbyteorder("="), order="C")
    assert_same(call(plain, None), expected)
    out = draw(laid_out(np.full_like(plain, 3.0)))
    if out.flags.writeable and out.dtype.isnative:
        assert call(plain, out) is out
        assert_same(out, expected)
    own = z.copy() if z.dtype.isnative else plain
    call(own, own)
    assert_same(own, expected)


@st.composite
def pullbacks(draw: Any) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Probabilities, tangents that broadcast against them, a temperature."""
    kind: Kind = draw(kinds())
    lead, axis = draw(shapes(kind.rows))
    shape, dtype = (*lead[:axis], *lead[axis + 1 :], lead[axis]), dtype_of(kind.dtype)
    p = sl.softmax(draw(numbers(shape, dtype, special=False)))
    other = draw(st.sampled_from([shape, shape, shape[-1:]]))
    return (
        draw(laid_out(p)),
        draw(laid_out(draw(numbers(other, dtype, special=False)))),
        draw(st.sampled_from([1.0, 0.3])),
    )


@given(pullbacks())
def test_softmax_vjp(problem: tuple[NDArray[Any], NDArray[Any], float]) -> None:
    p, t, temperature = problem
    product = sl.softmax_vjp(p, t, temperature=temperature)
    with the_reference():
        expected = sl.softmax_vjp(p, t, temperature=temperature)
    wide, tangents = p.astype(np.float64), np.broadcast_to(t.astype(np.float64), p.shape)
    spread = np.ptp(tangents, axis=-1, keepdims=True) if p.size else 0.0
    assert_close(product, expected, C * 2.0**-52 * wide * spread / temperature)


# ---- the loss family ----


class Terms:
    """The largest term of each row's value, gradient and product, from the reference's own rows.

    ``tolerances`` in those units.
    """

    def __init__(self, problem: Problem, tangents: Array | None = None) -> None:
        n, k = problem.num_rows, problem.num_classes
        self.value, self.gradient, self.product = np.zeros(n), np.zeros((n, k)), np.zeros((n, k))
        self.problem = problem
        with the_reference(), np.errstate(all="ignore"):
            for block, row in Reference(problem).rows():
                u = _Size(row, problem.logits.dtype)
                self.value[block], self.gradient[block] = u.value, u.gradient
                if tangents is not None:
                    self.product[block] = u.product(tangents[block])


class _Size:
    """Sizes of the terms of a block of rows.

    Each formula of the reference, with its signs taken away, times its relative error.
    """

    def __init__(self, row: Row, dtype: np.dtype[Any]) -> None:
        self.row, spec = row, row.spec
        u = np.where(np.isfinite(row.u.high), row.u.high, 0.0) / spec.temperature
        # narrow logits' u is rounded in float64, and a cap's tanh is as good as an exponential; float64
        # carries the errors of u, but not those of the tanh, nor of huge logits
        size = np.abs(u).max(axis=1)
        if dtype == np.float64:
            size = np.where(
                size < 2.0**40, (spec.softcap or 0.0) * np.max(spec.scale) / spec.temperature, size
            )
        step = 2.0**-32 if dtype != np.float64 and spec.softcap is not None else 2.0**-52
        self.error = C * (1 + spec.gamma) ** 2 * (rho(dtype) + step * size)
        self.factor = row.scale
        self.lost = smallest(dtype) * u.shape[1] * 2.0**60
        self.lse = np.abs(row.shifted.peak / spec.temperature) + row.shifted.log_normaliser
        self.q, self.s = row.q, np.abs(row.s)
        # a saturated cap's slope 4 e^(-2x) may be 0 where the exponential is
        under = 2.0**-1020 / self.error[:, None] if spec.softcap is not None else 0.0
        self.slope = np.abs(row.u.slope) + under * np.asarray(spec.scale) / spec.temperature

    @property
    def focal(self) -> Array:
        row, gamma = self.row, self.row.spec.gamma
        return row.focal(gamma) if gamma else np.ones(len(self.q))

    @property
    def psi_cross(self) -> Array:
        row, gamma = self.row, self.row.spec.gamma
        return gamma * row.focal(gamma - 1) * row.q_cross if gamma else np.zeros(len(self.q))

    def relative(self) -> Array:
        """The relative error; where 1 - q_y has all but underflowed and stands under a power, all of it."""
        if not self.row.spec.gamma:
            return self.error
        return np.where(self.row.others < self.lost, 1.0, self.error)

    @property
    def value(self) -> Array:
        row, spec = self.row, self.row.spec
        # the square may overflow
        value = row.weight * self.focal * row.cross + (spec.z_loss * self.lse**2 if spec.z_loss else 0.0)
        return self.factor * (self.relative() * value + self.lost * 2.0**-60 * row.weight)

    def residual(self) -> Array:
        row = self.row
        residual = (np.asarray(row.total)[..., None] if row.label is None else 1.0) * self.q + self.s
        if row.label is not None:
            assert row.s_minus_one_hot is not None
            residual[np.arange(len(residual)), row.label] = np.abs(row.s_minus_one_hot) + row.others
        return residual

    def one_hot_minus_q(self) -> Array:
        return np.abs(self.row.one_hot_minus_q())

    def gradient_u(self) -> Array:
        row, spec = self.row, self.row.spec
        gradient = (row.weight * self.focal)[:, None] * self.residual() + (2 * spec.z_loss * self.lse)[
            :, None
        ] * self.q
        if spec.gamma:
            gradient = gradient + (row.weight * self.psi_cross)[:, None] * self.one_hot_minus_q()
        return gradient

    @property
    def gradient(self) -> Array:
        row = self.row
        largest = (
            self.relative()[:, None] * self.gradient_u()
            + (self.lost * 2.0**-60 * (row.weight + row.spec.z_loss * self.lse))[:, None]
        )
        return self.defined(self.factor[:, None] * largest * self.slope)

    def defined(self, tolerance: Array) -> Array:
        """The tolerance, infinite in rows of focal loss whose loss is: no derivative is defined there."""
        row = self.row
        return np.where((np.isposinf(row.cross) & (row.spec.gamma > 0))[:, None], np.inf, tolerance)

    def product(self, tangent: Array) -> Array:
        row, spec = self.row, self.row.spec
        t = tangent * self.slope
        if row.kept is not None:
            t = np.where(row.kept, t, 0.0)
        spread = np.ptp(t, axis=1)[:, None]
        tau = np.broadcast_to(spread, t.shape).copy()
        at_top = np.arange(len(t)), row.shifted.top
        tau[at_top] *= np.minimum(row.shifted.rest, 1.0)
        straight = (
            row.weight * (self.focal * np.asarray(row.total) + self.psi_cross) + 2 * spec.z_loss * self.lse
        )
        product = self.q * (straight[:, None] * tau + 2 * spec.z_loss * np.abs(t).max(axis=1)[:, None])
        if spec.gamma:
            product = product + self._focal(spread[:, 0])
        product = product * self.slope
        if spec.softcap is not None:
            steep = np.abs(row.u.slope)
            bend = np.divide(
                np.abs(row.u.bend), steep, out=np.full_like(steep, 2 / spec.softcap), where=steep > 0
            )
            product = product + self.gradient_u() * self.slope * np.abs(bend * tangent)
        lost = (self.lost * 2.0**-60 * (row.weight + spec.z_loss * self.lse))[:, None] * spread * self.slope
        # a prior without mass on any unmasked class: a loss that is NaN has no second derivative
        defined = self.defined(self.factor[:, None] * (self.relative()[:, None] * product + lost))
        return np.where(np.isnan(row.cross)[:, None], np.inf, defined)

    def _focal(self, spread: Array) -> Array:
        row, gamma = self.row, self.row.spec.gamma
        q_y = row.q[np.arange(len(row.q)), row._label]
        slope, curve = row.focal(gamma - 1), row.focal(gamma - 2)
        d_phi = gamma * slope * q_y * spread
        one_hot = gamma * (abs(gamma - 1) * curve * q_y + slope) * row.q_cross * spread + d_phi
        return (row.weight * d_phi)[:, None] * self.residual() + (row.weight * one_hot)[
            :, None
        ] * self.one_hot_minus_q()


def _terms(loss: Loss, tangent: NDArray[Any] | None = None) -> Terms:
    with the_reference():
        problem = prepare(loss.logits, loss.target, loss.spec, **loss.options)
        if tangent is None:
            return Terms(problem)
        return Terms(
            problem,
            np.moveaxis(tangent, problem.axis, -1).reshape(-1, problem.num_classes).astype(np.float64),
        )


def _as_logits(terms: Terms, rows: Array) -> Array:
    moved = np.moveaxis(np.empty(terms.problem.shape), terms.problem.axis, -1)
    return np.moveaxis(rows.reshape(moved.shape), -1, terms.problem.axis)


@given(losses(), st.data())
def test_loss_and_gradient(loss: Loss, data: Any) -> None:
    arguments, options = (loss.logits, loss.target, loss.spec), loss.options
    value, gradient = sl.cross_entropy_grad(*arguments, **options)
    with the_reference():
        expected, expected_gradient = sl.cross_entropy_grad(*arguments, **options)
    terms = _terms(loss)
    tolerance = (
        terms.value.reshape(value.shape)
        if options["reduction"] == "none"
        else terms.value.sum() + C * 2.0**-52 * np.abs(value)
    )
    # huge logits: the tolerance overflows before the value does
    tolerance = np.where(np.isposinf(tolerance), C * 2.0**-52 * np.abs(expected), tolerance)
    assert_close(np.asarray(value), np.asarray(expected), tolerance)
    assert_close(gradient, expected_gradient, _as_logits(terms, terms.gradient))
    assert_same(sl.cross_entropy(*arguments, **options), value)  # the value alone, no bit different

    def call(z: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
        return sl.cross_entropy_grad(z, loss.target, loss.spec, out=out, **options)[1]

    assert_layouts_agree(call, loss.logits, gradient, data.draw)


@given(losses(), st.data())
def test_hvp(loss: Loss, data: Any) -> None:
    dtype = loss.logits.dtype.newbyteorder("=")
    tangent = data.draw(laid_out(data.draw(numbers(loss.logits.shape, dtype, special=False))))
    arguments, options = (loss.logits, loss.target, tangent, loss.spec), loss.options
    product = sl.cross_entropy_hvp(*arguments, **options)
    with the_reference():
        expected = sl.cross_entropy_hvp(*arguments, **options)
    terms = _terms(loss, tangent)
    assert_close(product, expected, _as_logits(terms, terms.product))

    def call(z: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
        return sl.cross_entropy_hvp(z, loss.target, tangent, loss.spec, out=out, **options)

    assert_layouts_agree(call, loss.logits, product, data.draw)
