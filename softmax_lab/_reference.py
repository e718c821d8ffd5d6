r"""The formula of the loss family in readable NumPy, whole rows at a time: what the fast paths are held to.

For one row (symbols as in :mod:`softmax_lab.spec`; S = sum_k s_k, o = 1 - q_y summed from the other classes,
C = -sum_k s_k log q_k + kappa o, phi = o^gamma, psi = d phi / d q_y * q_y = -gamma o^{gamma-1} q_y):

.. math::

    L &= w \varphi C + \lambda \operatorname{lse}(u)^2 \\
    \frac{\partial L}{\partial u_k} &= w \varphi (S q_k - s_k)
        + w (\psi C - \kappa \varphi q_y) (\delta_{ky} - q_k) + 2 \lambda \operatorname{lse}(u)\, q_k \\
    \frac{\partial L}{\partial z_k} &= \frac{\partial L}{\partial u_k} \cdot \frac{a_k}{T \cosh^2(z_k / c)}

At the target S q_k - s_k is computed as eps (1 - r_y) - o and delta - q as o: the gradient of a confident row
is minus the sum of the other probabilities, never p_y - 1.

The Hessian-vector product is the derivative of that gradient along a tangent: with t the tangent in u,
mu = q.t, dq_k = q_k (t_k - mu), dC = S mu - s.t - kappa dq_y, d lse = mu, everything is again O(K).

At kappa = -1 the first order of C cancels, C = o^2/2 + ..., and so do the factors of e_y - q. What is left is
computed as it is (``excess``, ``pull``), and no difference is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._problem import Problem, power_of_two
from ._rows import KEPT, RowWriter, Shifted, as_rows, blocks, shifted_exp, take
from ._twofloat import Array, divide, row_sum, two_product, two_sum
from .calculus import centred
from .spec import LARGEST_POWER, LossSpec, acting_on, active

__all__ = ["Reference", "Row"]


class Reference:
    """The work of a problem by the reference."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def values(self) -> Array:
        """Return the value of every row, (N,)."""
        values = np.empty(self.problem.num_rows)
        for block, row in self.rows():
            values[block] = row.value
        return values

    def values_and_gradient(self, out: NDArray[Any] | None) -> tuple[Array, NDArray[Any]]:
        """Return the value of every row, and the gradient in the logits' shape."""
        values = np.empty(self.problem.num_rows)

        def gradients() -> Iterator[tuple[slice, Array]]:
            for block, row in self.rows():
                values[block] = row.value
                yield block, row.gradient()

        return values, self._written(gradients(), out)

    def forward(self) -> tuple[Array, Array]:
        """Return the value of every row, and nothing that is kept of it: (N, KEPT) zeros."""
        return self.values(), np.zeros((self.problem.num_rows, KEPT))

    def backward(self, kept: Array, upstream: Array, out: NDArray[Any] | None) -> NDArray[Any]:
        """Return the gradient times ``upstream``, one number or one a row."""
        return self._written(((block, row.gradient()) for block, row in self.rows(upstream)), out)

    def product(self, tangents: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
        """Return the Hessian times ``tangents``, both in the logits' shape."""
        tangents = as_rows(tangents, self.problem.axis)
        products = ((block, row.hvp(tangents[block].astype(np.float64))) for block, row in self.rows())
        return self._written(products, out)

    def rows(self, upstream: Array | float = 1.0) -> Iterator[tuple[slice, Row]]:
        """Yield each block of rows with everything about it computed.

        Values and derivatives are scaled for the reduction and by the upstream gradient.
        """
        scale = np.full(self.problem.num_rows, self.factor) * upstream
        if self.problem.sample_weight is not None:
            scale *= self.problem.sample_weight
        with np.errstate(all="ignore"):
            for block in blocks(*self.problem.rows.shape):
                yield block, self._row(block, self.weights[block], scale[block])

    @cached_property
    def factor(self) -> float:
        """What every row is multiplied by: one over the sum of the rows' weights for a mean."""
        problem = self.problem
        return problem.factor(self.weights if problem.gated else None)

    @cached_property
    def weights(self) -> Array:
        """w per row, (N,): the class weight, through any gate; 0 for rows that do not count."""
        return self._gated_weights * self._unit

    @cached_property
    def _gated_weights(self) -> Array:
        weights = self.problem.class_weights
        return np.where(self.problem.live, weights ** self._fit(), 0.0) if self.problem.gated else weights

    @cached_property
    def _unit(self) -> float:
        """What gated weights are multiplied by in a mean, for their sum to be held.

        Others are balanced from the start.
        """
        problem = self.problem
        gated_mean = problem.gated and problem.reduction == "mean" and not problem.spec.is_moderate
        return power_of_two(self._gated_weights) if gated_mean else 1.0

    def _fit(self) -> Array:
        """q_y^g per row: exp(-g L) of the plain loss of u."""
        spec = self.problem.spec
        plain = LossSpec(**{name: getattr(spec, name) for name in acting_on("logits")})
        problem = replace(self.problem, spec=plain, sample_weight=None, reduction="none")
        with np.errstate(over="ignore"):
            return np.exp(-spec.gate * Reference(problem).values())

    def _row(self, block: slice, weight: Array, scale: Array) -> Row:
        problem = self.problem
        label = None if problem.label is None else problem.label[block]
        kept = None if problem.kept is None else problem.kept[block]
        spec = problem.spec
        if self._unit != 1.0:
            spec = replace(spec, z_loss=spec.z_loss * self._unit)
        u = transformed(problem.rows[block].astype(np.float64), label, spec)
        shifted = shifted_exp(u.high, u.low, mask=kept, temperature=spec.temperature)
        soft = None if problem.soft is None else problem.soft[block].astype(np.float64)
        s, s_minus_one_hot = smoothed_target(spec, label, soft, kept, shifted.e.shape)
        return Row(
            spec,
            label,
            problem.live[block],
            kept,
            u,
            shifted,
            shifted.probs,
            s,
            s_minus_one_hot,
            weight,
            scale,
        )

    def _written(self, parts: Iterator[tuple[slice, Array]], out: NDArray[Any] | None) -> NDArray[Any]:
        """Write derivative rows to the output, each entry rounded once."""
        result = self.problem.output(out)
        writer = RowWriter(result, self.problem.axis)
        for block, values in parts:
            writer.write(block, values)
        writer.close()
        return result


class Transformed(NamedTuple):
    """u T = a v + b - m e_y as a two-float, and du/dz over a power of two.

    What may overflow is multiplied by that power last.
    """

    high: Array
    low: Array | None
    slope: Array | float  # a_k / (T cosh^2(z_k / c)) 2^-power
    bend: Array | float  # d slope / dz
    power: int  # 0 but for the largest a over the smallest T


@dataclass(frozen=True)
class Row:
    """A block of rows evaluated: what value, gradient and Hessian-vector product share.

    Arrays are (n, K) or (n,).
    """

    spec: LossSpec
    label: NDArray[np.int64] | None
    live: NDArray[np.bool_]  # rows that count: neither ignored nor fully masked
    kept: NDArray[np.bool_] | None  # classes that take part
    u: Transformed
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
        """C: the cross-entropy of s and q, with PolyLoss's first term."""
        if self.spec.poly:
            return (1.0 + self.spec.poly) * self.others + self.excess
        if self.label is not None and self.plain_target:
            return -take(self.shifted.log_probs, self.label)
        return self._cross_of(self.s)

    @cached_property
    def excess(self) -> Array:
        """-sum_k s_k log q_k - o: of a confident row without smoothing o^2/2 + ..."""
        cross = -take(self.shifted.log_probs, self._label)
        plain = excess(self.others, cross)
        if self.plain_target:
            return plain
        # of an impossible target's loss nothing can be taken off
        whole = self._cross_of(self.s) - self.others
        return np.where(np.isinf(cross), whole, plain + self._cross_of(self.s_less_one_hot))

    def _cross_of(self, s: Array) -> Array:
        """-sum_k s_k log q_k, where 0 log 0 = 0, but 0 NaN = NaN: without a distribution there is no loss."""
        log_q = self.shifted.log_probs
        return -row_sum(np.where((s == 0) & ~np.isnan(log_q), 0.0, s * log_q))

    @property
    def s_less_one_hot(self) -> Array:
        """s - e_y."""
        assert self.s_minus_one_hot is not None
        difference = self.s.copy()
        difference[np.arange(len(difference)), self._label] = self.s_minus_one_hot
        return difference

    @cached_property
    def pull(self) -> Array:
        """phi - psi C + kappa phi q_y: the factor of q - e_y."""
        spec, o, q = self.spec, self.others, take(self.q, self._label)
        phi = self.focal(spec.gamma) if spec.gamma else np.ones_like(o)
        tilt = spec.gamma + (1.0 + spec.gamma) * spec.poly
        pull = phi * np.where(q < 0.5, 1.0 + tilt * q, (1.0 + spec.gamma) * (1.0 + spec.poly) - tilt * o)
        if spec.gamma:
            pull = pull + spec.gamma * self.focal(spec.gamma - 1) * np.where(q == 0, 0.0, q * self.excess)
        return pull

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
        spec = self.spec
        if spec.poly:
            gradient = -_times(self.weight * self.pull, self.one_hot_minus_q())
            if not self.plain_target:
                phi = self.focal(spec.gamma) if spec.gamma else 1.0
                gradient = gradient - _times(self.weight * phi, self.s_less_one_hot)
        else:
            gradient = _times(self.weight, self.residual())
        if spec.gamma and not spec.poly:
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
        return self.finish(np.ldexp(self.gradient_u() * self.u.slope, self.u.power))

    def hvp(self, tangent: Array) -> Array:
        """Differentiate the gradient along ``tangent`` (in z), every weight held constant."""
        spec = self.spec
        t = tangent * self.u.slope
        if self.kept is not None:
            t = np.where(self.kept, t, 0.0)
        t_minus_mu = centred(self.q, t)
        dq = self.q * t_minus_mu
        product = _times(self.weight, _times(self.total, dq))
        if spec.poly:
            product = self._poly_hvp(dq, t_minus_mu)
        elif spec.gamma:
            product = self._focal_hvp(product, dq, t_minus_mu)
        if spec.z_loss:
            mu = take(t, self.shifted.top) - take(t_minus_mu, self.shifted.top)
            product = product + spec.z_loss * (_times(2 * mu, self.q) + _mass(2 * self.lse, dq))
        product = np.ldexp(product, self.u.power) * self.u.slope
        if spec.softcap is not None:
            gradient = self.gradient_u()
            product = product + np.where(
                (gradient == 0) | (tangent == 0), 0.0, gradient * self.u.bend * tangent
            )
        return self.finish(np.ldexp(product, self.u.power))

    def _focal_hvp(self, plain: Array, dq: Array, t_minus_mu: Array) -> Array:
        """The derivative of phi (q - s) + psi C (e_y - q)."""
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

    def _poly_hvp(self, dq: Array, t_minus_mu: Array) -> Array:
        """The derivative of pull (q - e_y) - phi (s - e_y), its factors without the orders that cancel."""
        gamma, kappa, o = self.spec.gamma, self.spec.poly, self.others
        t_y, q_y = take(t_minus_mu, self._label), take(self.q, self._label)
        d_phi, turn = 0.0 * o, (2.0 * gamma + 1.0) * kappa * (self.focal(gamma) if gamma else 1.0) * t_y
        if gamma:
            slope = gamma * self.focal(gamma - 1)
            over_o = np.divide(self.excess, o, out=np.zeros_like(o), where=o != 0)
            first = -(1.0 + kappa) * (1.0 + gamma * q_y) - (gamma - 1.0) * q_y * over_o + self.excess
            d_s = -row_sum(self.s_less_one_hot * t_minus_mu)
            turn = turn + slope * (first * t_y + d_s)
            d_phi = -slope * q_y * t_y
        product = _times(self.pull, dq) - _times(q_y * turn, self.one_hot_minus_q())
        if not self.plain_target:
            product = product - _times(d_phi, self.s_less_one_hot)
        return _times(self.weight, product)

    def finish(self, values: Array) -> Array:
        """Apply the row's factor, and 0 to rows that do not count and classes that take no part."""
        if values.ndim == 1:
            return np.where(self.live, values * self.scale, 0.0)
        values = np.where(self.live[:, None], values * self.scale[:, None], 0.0)
        return values if self.kept is None else np.where(self.kept, values, 0.0)


def excess(o: Array, cross: Array) -> Array:
    """Return -log(1 - o) - o, (n,), from o and -log(1 - o).

    With x = o / (2 - o) the logarithm is 2 artanh x and o is 2 x / (1 + x): a sum of positive terms.
    """
    x = np.where(o < 0.5, o / (2.0 - o), 0.0)
    series = np.polynomial.polynomial.polyval(x * x, ODD)
    return np.where(o < 0.5, 2.0 * x * x * (1.0 / (1.0 + x) + x * series), cross - o)


ODD = 1.0 / np.arange(3.0, 37.0, 2.0)  # artanh x = x + x^3 / 3 + x^5 / 5 + ...


def _times(per_row: Array | float, rows: Array) -> Array:
    """Multiply rows (n, K) by one factor a row."""
    return rows * (per_row[:, None] if isinstance(per_row, np.ndarray) else per_row)


def _mass(per_row: Array, rows: Array) -> Array:
    """Multiply rows by a factor that may be infinite: what has underflowed stays 0."""
    return np.where(rows == 0, 0.0, _times(per_row, rows))


def transformed(z: Array, label: NDArray[np.int64] | None, spec: LossSpec) -> Transformed:
    """Return a v + b - m e_y with its rounding error, and the chain-rule factors of each logit.

    The factors lack a power of two.
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
    return Transformed(v, low, slope, bend, power)


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


def smoothed_target(
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
