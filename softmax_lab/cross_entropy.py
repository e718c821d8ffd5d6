r"""Value, gradient and Hessian-vector product of every member of the loss family, in readable NumPy.

The formulas, for one row (symbols as in :mod:`softmax_lab.spec`; S = sum_k s_k, C = -sum_k s_k log q_k,
o = 1 - q_y summed from the other classes, phi = o^gamma, psi = d phi / d q_y * q_y = -gamma o^{gamma-1} q_y):

.. math::

    L &= w \varphi C + \lambda \operatorname{lse}(u)^2 \\
    \frac{\partial L}{\partial u_k} &= w \varphi (S q_k - s_k) + w \psi C (\delta_{ky} - q_k)
        + 2 \lambda \operatorname{lse}(u)\, q_k \\
    \frac{\partial L}{\partial z_k} &= \frac{\partial L}{\partial u_k} \cdot \frac{a_k}{T \cosh^2(z_k / c)}

At the target S q_k - s_k is computed as eps (1 - r_y) - o and delta - q as o: the gradient of a confident row
is minus the sum of the other probabilities, never p_y - 1.

The Hessian-vector product is the derivative of that gradient along a tangent: with t the tangent in u,
mu = q.t, dq_k = q_k (t_k - mu), dC = S mu - s.t, d lse = mu, everything is again O(K).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch
from ._checks import Empty, Reduction
from ._rows import KEPT, RowWriter, Shifted, as_rows, blocks, detached, read_only, shifted_exp, take
from ._twofloat import Array, divide, round_once, row_sum, two_product, two_sum
from .calculus import centred
from .spec import LARGEST_POWER, LossSpec, active

__all__ = ["cross_entropy", "cross_entropy_grad", "cross_entropy_hvp"]


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
) -> Any:
    r"""Return the loss :math:`L = w (1-q_y)^\gamma (-\sum_k s_k \log q_k) + \lambda \operatorname{lse}(u)^2`.

    Parameters
    ----------
    logits : array_like, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64; integers are taken as float64.
    target : array_like
        Integers of the logits' shape without the class axis (class indices), or floats of the logits' own
        shape (a distribution a row, taken as it is: it need not sum to one).
    spec : LossSpec
        The member of the family; the default is plain cross-entropy.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the rows' weights, ``w * sample_weight``.
    sample_weight : array_like, optional
        One weight >= 0 a row; multiplies the row's whole value.
    ignore_index : int
        Rows with this label do not count and get value and gradient 0.
    where : array_like of bool, optional
        Broadcast to the logits' shape. Masked classes take no part; the smoothing prior is renormalised over
        the others. A row with none left is ignored; a masked target in any other row raises ``ValueError``.
    axis : int
        The class axis.
    empty : {"nan", "zero"}
        What the mean over no rows (or a total weight of 0) is: NaN as in torch, or 0.

    Returns
    -------
    scalar or ndarray
        A scalar, or with "none" one value a row. float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.cross_entropy([[40.0, 0.0]], [0]))
    4.248354255291589e-18

    See Also
    --------
    cross_entropy_grad : the value together with its gradient, in one pass.
    """
    problem = _prepare(logits, target, spec, reduction, sample_weight, ignore_index, where, axis, empty)
    return problem.reduce(problem.values())


def cross_entropy_grad(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Return the loss and its gradient with respect to the logits.

    Arguments and errors as in :func:`cross_entropy`, and

    out : ndarray, optional
        Where to write the gradient; shape and dtype of the logits. May be ``logits`` itself.

    Returns
    -------
    (value, gradient)
        The value as :func:`cross_entropy` returns it; the gradient in the logits' shape and dtype. With
        ``reduction="none"`` it is the gradient of each row's own value.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> value, gradient = sl.cross_entropy_grad([[40.0, 0.0]], [0])
    >>> gradient
    array([[-4.24835426e-18,  4.24835426e-18]])
    """
    problem = _prepare(
        logits, target, spec, reduction, sample_weight, ignore_index, where, axis, empty, out=out
    )
    values, gradient = _values_and_gradient(problem, out)
    return problem.reduce(values), gradient


@_dispatch.falls_back
def _values(problem: _Problem) -> Array:
    values = np.empty(problem.num_rows)
    if problem.path != "reference":
        problem.run_compiled(None, values)
    else:
        for block, row in problem.evaluate():
            values[block] = row.value
    return values


@_dispatch.falls_back
def _values_and_gradient(problem: _Problem, out: NDArray[Any] | None) -> tuple[Array, NDArray[Any]]:
    values = np.empty(problem.num_rows)
    if problem.path != "reference":
        result = _checks.output(out, problem.shape, problem.logits.dtype)
        problem.run_compiled(result, values)
        return values, result

    def gradients() -> Iterator[tuple[slice, Array]]:
        for block, row in problem.evaluate():
            values[block] = row.value
            yield block, row.gradient()

    gradient = problem.write(gradients(), out)
    return values, gradient


def cross_entropy_forward(
    logits: ArrayLike, target: ArrayLike, spec: LossSpec = LossSpec(), **options: Any
) -> tuple[Any, Array]:
    """Return the loss, and what :func:`cross_entropy_backward` needs of its rows: ``(N, KEPT)`` float64.

    Arguments as in :func:`cross_entropy`. Five numbers a row take the place of a gradient that would have to
    wait, rounded, for the factors that are known only later.
    """
    problem = _prepared(logits, target, spec, options)
    values, kept = _forward(problem)
    return problem.reduce(values), kept


@_dispatch.falls_back
def _forward(problem: _Problem) -> tuple[Array, Array]:
    return problem.forward()


def cross_entropy_backward(
    logits: ArrayLike,
    target: ArrayLike,
    kept: Array,
    upstream: Array,
    spec: LossSpec = LossSpec(),
    *,
    out: NDArray[Any] | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Return the gradient of the loss times ``upstream``: (1,) for all rows, or (N,) one a row.

    Rounded once, after every factor.

    Arguments as in :func:`cross_entropy_forward`, which has returned ``kept``, and ``out`` as in
    :func:`cross_entropy_grad`.
    """
    return _backward(_prepared(logits, target, spec, options, out=out), kept, upstream, out)


@_dispatch.falls_back
def _backward(problem: _Problem, kept: Array, upstream: Array, out: NDArray[Any] | None) -> NDArray[Any]:
    if problem.path == "reference":
        return problem.write(((block, row.gradient()) for block, row in problem.evaluate(upstream)), out)
    result = _checks.output(out, problem.shape, problem.logits.dtype)
    problem.backward(kept, upstream, result)
    return result


def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    tangent: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the Hessian of the loss times ``tangent``, in closed form and O(K) a row.

    Arguments and errors as in :func:`cross_entropy_grad`; ``tangent`` has the logits' shape. Rows do not
    interact, so with ``reduction="none"`` the result is each row's own product. Row weights and the gate are
    constants.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.cross_entropy_hvp([[0.0, 0.0]], [0], [[1.0, 0.0]])
    array([[ 0.25, -0.25]])

    See Also
    --------
    softmax_lab.softmax_jvp : the same product for plain cross-entropy, from probabilities.
    """
    problem = _prepare(
        logits, target, spec, reduction, sample_weight, ignore_index, where, axis, empty, out=out
    )
    t = _checks.floating("tangent", tangent)
    if t.shape != problem.shape:
        raise ValueError(f"tangent must have the logits' shape {problem.shape}; got {t.shape}")
    return _product(problem, detached(t, out), out)


@_dispatch.falls_back
def _product(problem: _Problem, tangents: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if problem.choose(product=True) != "reference":
        result = _checks.output(out, problem.shape, problem.logits.dtype)
        problem.run_compiled_hvp(tangents, result)
        return result
    rows = as_rows(tangents, problem.axis)
    products = ((block, row.hvp(rows[block].astype(np.float64))) for block, row in problem.evaluate())
    return problem.write(products, out)


class _Affine(NamedTuple):
    """u T = a v + b - m e_y as a two-float, and du/dz over a power of two: what may overflow is multiplied by
    it last.
    """

    high: Array
    low: Array | None
    slope: Array | float  # a_k / (T cosh^2(z_k / c)) 2^-power
    bend: Array | float  # d slope / dz
    power: int  # 0 but for the largest a over the smallest T


@dataclass(frozen=True)
class _Row:
    """A block of rows evaluated: what value, gradient and Hessian-vector product share. Arrays are (n, K) or
    (n,).
    """

    spec: LossSpec
    label: NDArray[np.int64] | None
    live: NDArray[np.bool_]  # rows that count: neither ignored nor fully masked
    kept: NDArray[np.bool_] | None  # classes that take part
    affine: _Affine
    shifted: Shifted
    q: Array
    s: Array
    s_minus_one_hot: Array | None  # s_y - 1 per row, where the target is a class index
    weight: Array  # w, without the sample weight
    scale: Array  # sample weight over the reduction's divisor: multiplies values and derivatives

    @cached_property
    def total(self) -> Array | float:
        """S, one by construction where the target is a class index."""
        return row_sum(self.s) if self.label is None else 1.0

    @cached_property
    def lse(self) -> Array:
        return self.shifted.peak / self.spec.temperature + self.shifted.log_normaliser

    @cached_property
    def cross(self) -> Array:
        """C = -sum_k s_k log q_k, where 0 log 0 = 0, but 0 NaN = NaN: a row without a distribution has no
        loss.
        """
        log_q = self.shifted.log_probs
        if self.label is not None and self.plain_target:
            return -take(log_q, self.label)
        return -row_sum(np.where((self.s == 0) & ~np.isnan(log_q), 0.0, self.s * log_q))

    @property
    def plain_target(self) -> bool:
        return not active(self.spec.smoothing)

    def focal(self, power: float) -> Array:
        """o^power for the focal factor and its derivative.

        0 where o underflowed and the power is negative.
        """
        o = self.others
        if power <= 1.0:
            return np.where((o == 0) & (power < 0), 0.0, o**power)
        q = take(self.q, self._label)
        # a large power magnifies the rounding of o = 1 - q near one
        return np.where((q < 0.5) & (power > LARGEST_POWER), np.exp(power * np.log1p(-q)), o**power)

    @cached_property
    def others(self) -> Array:
        assert self.label is not None
        return self.shifted.others(self.label)

    @property
    def value(self) -> Array:
        value = self.weight * self.cross
        if self.spec.gamma:
            value = value * self.focal(self.spec.gamma)
        if self.spec.z_loss:
            value = value + (self.spec.z_loss * self.lse) * self.lse
        return self.finish(value)

    def residual(self) -> Array:
        """S q - s, with the target's component taken as (1 - s_y) - sum of the others."""
        if self.label is None:
            return _times(self.total, self.q) - self.s
        assert self.s_minus_one_hot is not None
        residual = self.q - self.s
        residual[np.arange(len(residual)), self.label] = -self.s_minus_one_hot - self.others
        return residual

    def one_hot_minus_q(self) -> Array:
        assert self.label is not None
        difference = -self.q
        difference[np.arange(len(difference)), self.label] = self.others
        return difference

    def gradient_u(self) -> Array:
        """dL/du, without the sample weight."""
        spec, gradient = self.spec, _times(self.weight, self.residual())
        if spec.gamma:
            psi_cross = -spec.gamma * self.focal(spec.gamma - 1) * self.q_cross
            gradient = _times(self.focal(spec.gamma), gradient) + _times(
                self.weight * psi_cross, self.one_hot_minus_q()
            )
        if spec.z_loss:
            gradient = gradient + spec.z_loss * _mass(2 * self.lse, self.q)
        return gradient

    @cached_property
    def q_cross(self) -> Array:
        """q_y C, whose limit is 0 where q_y has underflowed and C may be infinite."""
        q_y = take(self.q, self._label)
        return np.where(q_y == 0, 0.0, q_y * self.cross)

    @property
    def _label(self) -> NDArray[np.int64]:
        assert self.label is not None
        return self.label

    def gradient(self) -> Array:
        return self.finish(np.ldexp(self.gradient_u() * self.affine.slope, self.affine.power))

    def hvp(self, tangent: Array) -> Array:
        """Differentiate the gradient along ``tangent`` (in z), every weight held constant."""
        spec = self.spec
        t = tangent * self.affine.slope
        if self.kept is not None:
            t = np.where(self.kept, t, 0.0)
        t_minus_mu = centred(self.q, t)
        dq = self.q * t_minus_mu
        product = _times(self.weight, _times(self.total, dq))
        if spec.gamma:
            product = self._focal_hvp(product, dq, t_minus_mu)
        if spec.z_loss:
            mu = take(t, self.shifted.top) - take(t_minus_mu, self.shifted.top)
            product = product + spec.z_loss * (_times(2 * mu, self.q) + _mass(2 * self.lse, dq))
        product = np.ldexp(product, self.affine.power) * self.affine.slope
        if spec.softcap is not None:
            gradient = self.gradient_u()
            product = product + np.where(
                (gradient == 0) | (tangent == 0), 0.0, gradient * self.affine.bend * tangent
            )
        return self.finish(np.ldexp(product, self.affine.power))

    def _focal_hvp(self, plain: Array, dq: Array, t_minus_mu: Array) -> Array:
        """The terms of phi and psi: d(phi) (q - s) + phi dq + d(psi C) (e_y - q) - psi C dq."""
        gamma, t_y = self.spec.gamma, take(t_minus_mu, self._label)  # dq_y = q_y t_y
        q_y, phi, slope = take(self.q, self._label), self.focal(gamma), self.focal(gamma - 1)
        psi_cross, d_phi = -gamma * slope * self.q_cross, -gamma * slope * q_y * t_y
        # o^(gamma - 2) may overflow where C, which is of o's size then, takes it back
        cross_over_o = np.divide(self.q_cross, self.others, out=np.zeros_like(q_y), where=self.others != 0)
        d_psi_cross = gamma * ((gamma - 1) * slope * q_y * cross_over_o - slope * self.q_cross) * t_y
        d_cross = -row_sum(self.s * t_minus_mu)  # S mu - s.t, with S = 1
        return (
            _times(phi, plain)
            + _times(self.weight * d_phi, self.residual())
            + _times(self.weight * (d_psi_cross - gamma * slope * q_y * d_cross), self.one_hot_minus_q())
            - _times(self.weight * psi_cross, dq)
        )

    def finish(self, values: Array) -> Array:
        """Apply the row's factor, and 0 to rows that do not count and classes that take no part."""
        if values.ndim == 1:
            return np.where(self.live, values * self.scale, 0.0)
        values = np.where(self.live[:, None], values * self.scale[:, None], 0.0)
        return values if self.kept is None else np.where(self.kept, values, 0.0)


def _times(per_row: Array | float, rows: Array) -> Array:
    """Multiply rows (n, K) by one factor a row."""
    return rows * (per_row[:, None] if isinstance(per_row, np.ndarray) else per_row)


def _mass(per_row: Array, rows: Array) -> Array:
    """Multiply rows by a factor that may be infinite: what has underflowed stays 0."""
    return np.where(rows == 0, 0.0, _times(per_row, rows))


_LARGE = 1e38  # within the range of float32
_NONE = read_only(np.zeros(0))  # in a compiled loop's arguments: every row's is 1
_NOTHING_KEPT = np.zeros((0, KEPT))  # where a compiled loop need not say what its rows came to


def _mean_weight(soft: NDArray[Any], class_weight: Array) -> Array:
    """Return the mean of W under each target: sum_k s_k W_k where that sums to one, and 1 for W = 1 whatever
    it sums to.
    """
    weights = np.ones(len(soft))
    if not active(class_weight, 1.0):
        return weights
    unit = _power_of_two(class_weight)
    for block in blocks(*soft.shape):
        rows = soft[block].astype(np.float64)
        total = row_sum(rows)
        np.divide(row_sum(rows * (class_weight * unit)), total, out=weights[block], where=total > 0)
        np.divide(weights[block], unit, out=weights[block], where=total > 0)
    return weights


def _power_of_two(weights: ArrayLike) -> float:
    """Return 1, or for weights so large or so small that their sum is not held the power of two that brings
    the largest near one.
    """
    largest = float(np.max(weights, initial=0.0))
    return (
        1.0
        if largest == 0 or _checks.moderate(largest)
        else 2.0 ** -max(-1022, min(math.frexp(largest)[1], 1022))
    )


@dataclass(frozen=True)
class _Problem:
    """Checked arguments, as rows."""

    logits: NDArray[Any]  # (..., K, ...) in their own dtype
    axis: int
    given: NDArray[np.int64] | None  # (N,) labels, ignore_index among them
    ignore_index: int
    soft: NDArray[Any] | None  # (N, K), float32 or float64
    kept: NDArray[np.bool_] | None  # (N, K)
    sample_weight: Array | None  # (N,)
    spec: LossSpec
    reduction: Reduction
    empty: Empty

    @property
    def shape(self) -> tuple[int, ...]:
        return self.logits.shape

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[self.axis])

    @property
    def num_rows(self) -> int:
        return self.logits.size // self.num_classes

    @cached_property
    def rows(self) -> NDArray[Any]:
        """The logits as (N, K), for the reference: a copy where the memory order demands one."""
        return as_rows(self.logits, self.axis)

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Rows that count: neither ignored nor fully masked."""
        live = np.ones(self.num_rows, bool) if self.given is None else self.given != self.ignore_index
        return live if self.kept is None else live & self.kept.any(axis=1)

    @cached_property
    def label(self) -> NDArray[np.int64] | None:
        """Class indices, 0 where the row does not count."""
        return None if self.given is None else np.where(self.live, self.given, 0)

    @property
    def path(self) -> _dispatch.Path:
        return self.choose()

    def choose(self, *, product: bool = False) -> _dispatch.Path:
        """Return the loop: at the ends of the fields' domains the reference, whose factors come in a safe
        order.
        """
        return _dispatch.choose(self.num_classes, product=product) if self.spec.is_moderate else "reference"

    def values(self) -> Array:
        """Return the value of every row."""
        return _values(self)

    @property
    def gated(self) -> bool:
        """Whether the rows' weights depend on the logits."""
        return self.spec.gate != 0 and active(self.spec.class_weight, 1.0)

    def run_compiled(self, gradient: NDArray[Any] | None, values: Array) -> None:
        """Fill ``values`` (N,), and the gradient in the logits' shape where one is wanted, by a compiled
        loop.

        What divides a mean over gated weights is known when all rows are done, and what has been written is
        multiplied then: for float32 and float64 that costs a second rounding and spares a pass that takes
        every exponential twice. Half precision, which is rounded once, takes that pass.
        """
        if self.reduction != "mean" or not self.gated:
            self._run(gradient, values, self._factor, _NOTHING_KEPT)
            return
        if gradient is not None and gradient.itemsize < 4:
            values[:], kept = self.forward()
            self.backward(kept, np.ones(1), gradient)
            return
        kept, at_first = np.empty((self.num_rows, KEPT)), self._below_one
        self._run(gradient, values, at_first, kept)
        ratio = self._divide(kept) / at_first
        values *= ratio
        if gradient is not None:
            _dispatch.rescale(gradient, ratio)

    def forward(self) -> tuple[Array, Array]:
        """Return the values of all rows (N,), and what is kept of them for :meth:`backward`: nothing by the
        reference.
        """
        values, kept = np.empty(self.num_rows), np.zeros((self.num_rows, KEPT))
        if self.path == "reference":
            return self.values(), kept
        late = self.reduction == "mean" and self.gated
        self._run(None, values, 1.0 if late else self._factor, kept)
        if late:
            ratio = self._divide(kept)
            values *= ratio
            kept[:, 1:-1] *= ratio
        return values, kept

    def backward(self, kept: Array, upstream: Array, gradient: NDArray[Any]) -> None:
        """Fill the gradient times ``upstream``, one number or one a row, by a compiled loop."""
        labels, ignore = self._compiled_labels()
        fields, per_row = self._compiled_fields(), len(upstream) > 1
        labels, kept, upstream = read_only(labels), read_only(kept), read_only(upstream)

        def arguments(some: slice) -> tuple[Any, ...]:
            return (
                kept[some].reshape(-1),
                upstream[some] if per_row else upstream,
                labels[some],
                ignore,
                *fields(some),
            )

        _dispatch.run(self.path, "cross_entropy_gradient", self.logits, self.axis, gradient, arguments)

    def _divide(self, kept: Array) -> float:
        """Return what a mean over gated weights multiplies rows by, from the weights that a loop has kept."""
        # for the cached property: a pass of its own would find the same
        self.__dict__["weights"] = kept[:, -1]
        return self._factor

    def _run(self, gradient: NDArray[Any] | None, values: Array, factor: float, kept: Array) -> None:
        common = self._compiled_arguments(factor)

        def arguments(some: slice) -> tuple[Any, ...]:
            return (
                gradient is not None,
                values[some],
                kept[some].reshape(-1) if len(kept) else kept.reshape(-1),
                *common(some),
            )

        _dispatch.run(self.path, "cross_entropy", self.logits, self.axis, gradient, arguments)

    @property
    def _below_one(self) -> float:
        """A power of two that takes every row's weight below one: no gradient overflows, and none gets a
        rounding error from it.
        """
        largest = max(1.0, float(np.max(self.spec.class_weight)))
        if self.sample_weight is not None:
            largest *= max(1.0, float(np.max(self.sample_weight, initial=0.0)))
        return 2.0 ** -math.frexp(largest)[1]

    def run_compiled_hvp(self, tangents: NDArray[Any], result: NDArray[Any]) -> None:
        """Fill ``result`` with the Hessian times ``tangents``, both in the logits' shape, by a
        compiled loop.
        """
        common, rows = (
            self._compiled_arguments(self._factor),
            np.moveaxis(tangents, self.axis, -1).reshape(-1, self.num_classes),
        )

        def arguments(some: slice) -> tuple[Any, ...]:
            return (
                read_only(_dispatch.as_stored(np.ascontiguousarray(rows[some])).reshape(-1)),
                *common(some),
            )

        _dispatch.run("products", "cross_entropy_hvp", self.logits, self.axis, result, arguments)

    def _compiled_arguments(self, factor: float) -> Callable[[slice], tuple[Any, ...]]:
        """Return what gives a slice of rows as the compiled loops take them, all multiplied by ``factor``."""
        spec = self.spec
        labels, ignore = self._compiled_labels()
        labels, fields = read_only(labels), self._compiled_fields()
        power = spec.gate if self.gated else 0.0
        weights, by_row = self._compiled_weights(), self.soft is not None
        factors = _NONE if self.sample_weight is None else read_only(self.sample_weight)

        def arguments(some: slice) -> tuple[Any, ...]:
            some_weights = weights[some] if by_row and len(weights) else weights
            some_factors = factors[some] if len(factors) else factors
            return (
                labels[some],
                ignore,
                some_weights,
                power,
                factor,
                some_factors,
                *fields(some),
                spec.gamma,
                spec.z_loss,
            )

        return arguments

    def _compiled_fields(self) -> Callable[[slice], tuple[Any, Any]]:
        """Return what gives, for a slice of rows, what acts on their logits and what their targets are."""
        loops, narrow = _dispatch.kernels(), self.logits.dtype != np.float64
        assert loops is not None

        def fields(some: slice) -> tuple[Any, Any]:
            affine = loops.affine.affine_of(
                self.spec, None if self.kept is None else self.kept[some], narrow=narrow
            )
            return affine, loops.target.smooth_of(self.spec, None if self.soft is None else self.soft[some])

        return fields

    def _compiled_weights(self) -> Array:
        """Return W by class, its logarithm where there is a gate, or with a given distribution w by row.

        Empty where all are one.
        """
        if not active(self.spec.class_weight, 1.0):
            return _NONE
        if self.soft is not None:
            return read_only(self.weights)
        weights = np.broadcast_to(np.asarray(self.spec.class_weight), (self.num_classes,))
        if self.gated:
            with np.errstate(divide="ignore"):
                weights = np.log(weights)
        return read_only(np.ascontiguousarray(weights))

    def _compiled_labels(self) -> tuple[NDArray[np.int64], int]:
        """Return labels per row and the one that marks a row that does not count.

        A given distribution has the label 0.
        """
        if self.given is None:
            return np.where(self.live, 0, -1), -1
        if self.kept is None:
            return self.given, self.ignore_index
        return np.where(self.live, self.given, self.ignore_index), self.ignore_index

    def evaluate(self, upstream: Array | float = 1.0) -> Iterator[tuple[slice, _Row]]:
        """Yield each block of rows with everything about it computed, scaled for the reduction and by the
        upstream gradient.
        """
        scale = np.full(self.num_rows, self._factor) * upstream
        if self.sample_weight is not None:
            scale *= self.sample_weight
        with np.errstate(all="ignore"):
            for block in blocks(*self.rows.shape):
                yield block, self._row(block, self.weights[block], scale[block])

    @cached_property
    def _factor(self) -> float:
        """One over the sum of the rows' weights for a mean, 0 where there is none.

        A NaN row's weight does not count.
        """
        if self.reduction != "mean":
            return 1.0
        class_weight = self.spec.class_weight
        if (
            self.sample_weight is None
            and self.given is not None
            and isinstance(class_weight, float)
            and not self.gated
        ):
            total = float(np.count_nonzero(self.live)) * class_weight
        else:
            total = float(
                np.nansum(self.weights if self.sample_weight is None else self.weights * self.sample_weight)
            )
        return 1.0 / total if total else 0.0

    @cached_property
    def weights(self) -> Array:
        """w per row, 0 for rows that do not count: the class weight, through the gate where there is one."""
        if self.gated and self.path != "reference":
            kept = np.empty((self.num_rows, KEPT))
            self._run(None, np.empty(self.num_rows), 1.0, kept)
            return kept[:, -1]
        return self._reference_weights * self._unit

    @cached_property
    def _reference_weights(self) -> Array:
        class_weight = np.asarray(self.spec.class_weight)
        if self.soft is not None:
            weights = _mean_weight(self.soft, class_weight)
        else:
            weights = np.broadcast_to(class_weight, (self.num_classes,))[self.label]
            if self.gated:
                weights = weights ** self._fit()
        return np.where(self.live, weights, 0.0)

    @cached_property
    def _unit(self) -> float:
        """What gated weights are multiplied by in a mean, for their sum to be held.

        Others are balanced from the start.
        """
        gated_mean = self.gated and self.reduction == "mean" and not self.spec.is_moderate
        return _power_of_two(self._reference_weights) if gated_mean else 1.0

    def _fit(self) -> Array:
        """q_y^g per row, for the reference: exp(-g L) of the plain loss of u."""
        spec = self.spec
        plain = LossSpec(
            temperature=spec.temperature,
            scale=spec.scale,
            bias=spec.bias,
            margin=spec.margin,
            softcap=spec.softcap,
        )
        with np.errstate(over="ignore"):
            return np.exp(
                -spec.gate * replace(self, spec=plain, sample_weight=None, reduction="none").values()
            )

    def _row(self, block: slice, weight: Array, scale: Array) -> _Row:
        label = None if self.label is None else self.label[block]
        kept = None if self.kept is None else self.kept[block]
        spec = self.spec if self._unit == 1.0 else replace(self.spec, z_loss=self.spec.z_loss * self._unit)
        affine = _affine(self.rows[block].astype(np.float64), label, spec)
        shifted = shifted_exp(affine.high, affine.low, mask=kept, temperature=spec.temperature)
        soft = None if self.soft is None else self.soft[block].astype(np.float64)
        s, s_minus_one_hot = _smoothed(spec, label, soft, kept, shifted.e.shape)
        return _Row(
            spec,
            label,
            self.live[block],
            kept,
            affine,
            shifted,
            shifted.probs,
            s,
            s_minus_one_hot,
            weight,
            scale,
        )

    def reduce(self, values: Array) -> Any:
        """Reduce row values, which already carry the divisor of the mean."""
        dtype = np.dtype(np.float64 if self.logits.dtype == np.float64 else np.float32)
        if self.reduction == "none":
            shape = self.shape[: self.axis] + self.shape[self.axis + 1 :]
            return round_once(values, dtype).reshape(shape)[()]
        with np.errstate(invalid="ignore"):  # inf - inf, of targets that nobody looked at
            total = float(values.sum())
        if self.reduction == "mean" and self._factor == 0 and self.empty == "nan":
            total = np.nan
        if abs(total) < _LARGE:
            # round_once guards against what cannot happen here, and takes as long as a small kernel
            return dtype.type(total)
        return round_once(np.asarray(total), dtype)[()]

    def write(self, blocks_of_rows: Iterator[tuple[slice, Array]], out: NDArray[Any] | None) -> NDArray[Any]:
        """Write derivative rows to the output, each entry rounded once."""
        result = _checks.output(out, self.shape, self.logits.dtype)
        writer = RowWriter(result, self.axis)
        for block, values in blocks_of_rows:
            writer.write(block, values)
        writer.close()
        return result


def _affine(z: Array, label: NDArray[np.int64] | None, spec: LossSpec) -> _Affine:
    """Return a v + b - m e_y with its rounding error, and the chain-rule factors of each logit, but for a
    power of two.
    """
    slope, power = _steepness(spec)
    bend: Array | float = 0.0
    low: Array | None = None
    v = z
    if spec.softcap is not None:
        v, low, slope_of_v, bend = _soft_cap(z, spec.softcap)
        slope, bend = slope * slope_of_v, slope * bend
    scale = np.asarray(spec.scale)
    if active(spec.scale, 1.0):
        v, error = two_product(v, scale)
        low = error if low is None else scale * low + error
    bias = np.asarray(spec.bias)
    if bias.any():
        v, low = _add(v, low, bias[label] if bias.ndim == 2 else bias)
    margin = np.asarray(spec.margin)
    if label is not None and margin.any():
        m = np.zeros_like(v)
        m[np.arange(len(label)), label] = -(margin[label] if margin.ndim else margin)
        v, low = _add(v, low, m)
    return _Affine(v, low, slope, bend, power)


def _steepness(spec: LossSpec) -> tuple[Array | float, int]:
    """Return a / T as (factor, power of two), the power 0 where the square of the quotient is held."""
    scale = np.asarray(spec.scale)
    exponents = math.frexp(float(scale.max()))[1], math.frexp(spec.temperature)[1]
    power = exponents[0] - exponents[1] - 400
    if power <= 0:
        return scale / spec.temperature, 0
    mantissas = np.ldexp(scale, -exponents[0]) / math.ldexp(spec.temperature, -exponents[1])
    return np.ldexp(mantissas, 400), power


def _soft_cap(z: Array, cap: float) -> tuple[Array, Array, Array, Array]:
    """Return v = c tanh(z/c) as a two-float, dv/dz and d^2 v/dz^2; -inf stays -inf.

    The rounding of z/c is carried to first order: where the cap saturates, cosh^-2 magnifies it by 2 z/c.
    Where the cap is out of sight, v is z to the last digit, whatever z/c loses by underflow.
    """
    x, x_low = divide(z, np.zeros_like(z), cap)
    t, slope = np.tanh(x), np.cosh(x) ** -2.0
    v, error = two_product(t, cap)
    unseen = (np.abs(x) < _UNSEEN) | (z == -np.inf)
    low = np.where(unseen, 0.0, error + cap * slope * x_low)
    return np.where(unseen, z, v), low, slope * (1.0 - 2.0 * t * x_low), -2.0 * t * slope / cap


_UNSEEN = 2.0**-28  # tanh x is x (1 - x^2 / 3 + ...): of that float64 sees nothing


def _add(high: Array, low: Array | None, term: Array) -> tuple[Array, Array]:
    high, error = two_sum(high, np.broadcast_to(term, high.shape))
    return high, error if low is None else low + error


def _smoothed(
    spec: LossSpec,
    label: NDArray[np.int64] | None,
    soft: Array | None,
    kept: NDArray[np.bool_] | None,
    shape: tuple[int, ...],
) -> tuple[Array, Array | None]:
    """Return the smoothed target s (n, K), and s_y - 1 where there is a class index y."""
    eps: Array | float = np.asarray(spec.smoothing)
    if label is not None and np.ndim(eps):
        eps = np.asarray(eps)[label][:, None]
    prior = _prior(spec, kept, shape) if active(spec.smoothing) else np.zeros(shape)
    if label is None:
        assert soft is not None
        return (1.0 - eps) * soft + eps * prior, None
    s = eps * prior
    at_label = np.arange(len(label)), label
    s_minus_one_hot = np.broadcast_to(eps, (shape[0], 1))[:, 0] * (prior[at_label] - 1.0)
    s[at_label] = 1.0 + s_minus_one_hot
    return s, s_minus_one_hot


def _prior(spec: LossSpec, kept: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> Array:
    """Return the smoothing prior r (n, K), summing to one over the classes that take part."""
    prior = np.broadcast_to(np.ones(shape[1]) if spec.prior is None else np.asarray(spec.prior), shape)
    if kept is not None:
        prior = np.where(kept, prior, 0.0)
    total = row_sum(np.ascontiguousarray(prior))[:, None]
    # nothing left: no row that is smoothed
    share: Array = np.divide(prior, total, out=np.zeros(shape), where=total > 0)
    return share


def _prepared(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec,
    options: Mapping[str, Any],
    *,
    out: NDArray[Any] | None = None,
) -> _Problem:
    """Do what :func:`_prepare` does, for options by name."""
    given: dict[str, Any] = {**_DEFAULTS, **options}
    return _prepare(logits, target, spec, *(given[name] for name in _DEFAULTS), out=out)


_DEFAULTS = {
    "reduction": "mean",
    "sample_weight": None,
    "ignore_index": -100,
    "where": None,
    "axis": -1,
    "empty": "nan",
}


def _prepare(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec,
    reduction: Reduction,
    sample_weight: ArrayLike | None,
    ignore_index: int,
    where: ArrayLike | None,
    axis: int,
    empty: Empty,
    *,
    out: NDArray[Any] | None = None,
) -> _Problem:
    """Check every argument and bring it to rows."""
    z = _checks.floating("logits", logits)
    axis = _checks.class_axis("logits", z, axis)
    _checks.choice("reduction", reduction, _checks.REDUCTIONS)
    _checks.choice("empty", empty, _checks.EMPTY_RULES)
    _check_spec(spec, z.shape[axis])
    row_shape = z.shape[:axis] + z.shape[axis + 1 :]
    mask = _checks.mask(where, z.shape)
    kept = None if mask is None else as_rows(mask, axis)
    label, soft = _target(target, spec, z.shape, axis, row_shape, _checks.ignored_label(ignore_index))
    weights = None if sample_weight is None else _checks.sample_weights(sample_weight, row_shape).reshape(-1)
    if out is not None:
        _checks.output(out, z.shape, z.dtype)
    if isinstance(spec.bias, float) and spec.bias and not spec.z_loss:
        spec = replace(spec, bias=0.0)  # the same for all classes: it would only cost digits
    if reduction == "mean":
        spec, weights = _balanced(spec, weights)
    spec = spec if spec.is_moderate else spec.tamed
    problem = _Problem(
        detached(z, out), axis, label, ignore_index, soft, kept, weights, spec, reduction, empty
    )
    _check_masked_target(problem)
    _check_masked_prior(problem)
    return problem


def _balanced(spec: LossSpec, sample_weight: Array | None) -> tuple[LossSpec, Array | None]:
    """Return both with weights whose sum is held: a mean stays the same when all weights are multiplied by a
    power of two.
    """
    unit = 1.0 if spec.gate or spec.is_moderate else _power_of_two(spec.class_weight)
    if unit != 1.0:
        spec = replace(spec, class_weight=np.asarray(spec.class_weight) * unit, z_loss=spec.z_loss * unit)
    if sample_weight is not None and (unit := _power_of_two(sample_weight)) != 1.0:
        sample_weight = sample_weight * unit
    return spec, sample_weight


def _check_spec(spec: LossSpec, num_classes: int) -> None:
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    if spec.num_classes not in (None, num_classes):
        raise ValueError(f"spec is made for {spec.num_classes} classes; the logits have {num_classes}")


def _target(
    target: ArrayLike,
    spec: LossSpec,
    shape: tuple[int, ...],
    axis: int,
    row_shape: tuple[int, ...],
    ignore_index: int,
) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Return (labels, None) for class indices, (None, rows) for distributions."""
    array = _checks.array("target", target)
    if array.dtype.kind in "iu" or (array.size == 0 and array.shape == row_shape):
        return _checks.labels(array, shape[axis], ignore_index, row_shape).reshape(-1), None
    if array.dtype.name not in _checks.FLOAT_DTYPES:
        raise TypeError(
            f"target must hold integers (class indices) or floats (distributions); got dtype "
            f"{array.dtype.name}"
        )
    if spec.needs_class_index:
        raise ValueError(
            f"{', '.join(spec.needs_class_index)} needs class-index targets; got a distribution per row"
        )
    return None, as_rows(_checks.soft_target(array, shape, signed=isinstance(target, _checks.AnySign)), axis)


def _check_masked_target(problem: _Problem) -> None:
    """Refuse a row that counts and whose target takes no part."""
    if problem.kept is None:
        return
    if problem.label is not None:
        bad = problem.live & ~problem.kept[np.arange(len(problem.label)), problem.label]
    else:
        assert problem.soft is not None
        bad = problem.live & ((problem.soft != 0) & ~problem.kept).any(axis=1)
    if bad.any():
        raise ValueError(
            f"the target of row {int(np.argmax(bad))} is masked by where; unmask it, or ignore the row"
        )


def _check_masked_prior(problem: _Problem) -> None:
    """Refuse a row that is smoothed towards classes that take no part, all of them."""
    prior, eps = problem.spec.prior, np.asarray(problem.spec.smoothing)
    if problem.kept is None or prior is None or not eps.any():
        return
    smoothed = eps[problem.label] > 0 if eps.ndim else True
    bad = problem.live & smoothed & ~problem.kept[:, np.asarray(prior) > 0].any(axis=1)
    if bad.any():
        raise ValueError(
            f"where masks every class of the prior in row {int(np.argmax(bad))}: nothing is left to smooth "
            f"towards"
        )
