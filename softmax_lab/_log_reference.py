r"""The log of the mean loss in readable NumPy, whole rows at a time: what the fast path is held to.

The others are summed relative to the largest *other* logit, so that a gap of any size leaves them as they
are. With pi their softmax, v = pi on the others and -1 at the target, and rho the softmax over the rows (1
with "none"),

.. math::

    \frac{\partial J}{\partial u_i} &= \rho_i h'_i v_i \\
    (H t)_i &= \rho_i h'_i \bigl[ a_i v_i + \pi_i \odot (t_i - \pi_i \cdot t_i) \bigr], \qquad
    a_i = \Bigl(m_i - \sum_j \rho_j m_j\Bigr) - h'_i (1 - r_i) (v_i \cdot t_i), \quad
    m_i = h'_i (v_i \cdot t_i) .

The difference in brackets is what crosses rows, and 0 with "none". The rest is the second derivative of the
row's own log l: near -e^s / 2 where the row is confident, and computed as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._log_rows import LogTerms, log_terms
from ._problem import Problem
from ._reference import Transformed, transformed
from ._rows import RowWriter, Shifted, as_rows, blocks, shifted_exp, take
from ._twofloat import Array, divide, finite_or_zero, two_sum
from .calculus import centred
from .spec import LossSpec

__all__ = ["LogReference"]


class LogReference:
    """The work of a problem by the reference."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def logs(self) -> tuple[Array, Array]:
        """Return log l of every row as a two-float, (N,) each."""
        high, low = np.empty(self.problem.num_rows), np.empty(self.problem.num_rows)
        for block, row in self._rows():
            high[block], low[block] = row.terms.high, row.terms.low
        return high, low

    def logs_and_gradient(
        self, out: NDArray[Any] | None
    ) -> tuple[tuple[Array, Array], Callable[[Array], NDArray[Any]]]:
        """Return what :meth:`logs` returns, and what gives the gradient once the rows' shares are known."""

        def gradient(rho: Array) -> NDArray[Any]:
            return self._written(((b, row.gradient(rho[b])) for b, row in self._rows()), out)

        return self.logs(), gradient

    def logs_and_moments(self, tangents: NDArray[Any]) -> tuple[Array, Array, Array]:
        """Return what :meth:`logs` returns, and h' v.t of every row, (N,)."""
        t, moments = as_rows(tangents, self.problem.axis), np.empty(self.problem.num_rows)
        for block, row in self._rows():
            moments[block] = row.moment(t[block].astype(np.float64))
        return (*self.logs(), moments)

    def product(
        self, tangents: NDArray[Any], rho: Array, deviations: Array, out: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Return the Hessian times ``tangents``, both in the logits' shape.

        ``deviations`` are what ``deviations_of`` returns, (N,), or 0 where rows do not meet.
        """
        t = as_rows(tangents, self.problem.axis)
        parts = ((b, row.product(t[b].astype(np.float64), rho[b], deviations[b])) for b, row in self._rows())
        return self._written(parts, out)

    def _rows(self) -> Iterator[tuple[slice, _Row]]:
        problem = self.problem
        assert problem.label is not None
        with np.errstate(all="ignore"):
            for block in blocks(*problem.rows.shape):
                kept = None if problem.kept is None else problem.kept[block]
                z = problem.rows[block].astype(np.float64)
                yield block, _row_of(z, problem.label[block], problem.live[block], kept, problem.spec)

    def _written(self, parts: Iterator[tuple[slice, Array]], out: NDArray[Any] | None) -> NDArray[Any]:
        result = self.problem.output(out)
        writer = RowWriter(result, self.problem.axis)
        for block, values in parts:
            writer.write(block, values)
        writer.close()
        return result


@dataclass(frozen=True)
class _Row:
    """A block of rows evaluated. Arrays are (n, K) or (n,)."""

    label: NDArray[np.int64]
    spec: LossSpec
    u: Transformed
    shifted: Shifted  # of the others
    pi: Array  # 0 at the target
    terms: LogTerms

    def gradient_u(self) -> Array:
        """h' v."""
        gradient = self.terms.slope[:, None] * self.pi
        gradient[np.arange(len(gradient)), self.label] = -self.terms.slope
        return gradient

    def gradient(self, rho: Array) -> Array:
        return _shared(rho, np.ldexp(self.gradient_u() * self.u.slope, self.u.power))

    def moment(self, tangent: Array) -> Array:
        """h' (v.t), over 2^power."""
        _, along = self._moved(tangent)
        return self.terms.slope * along

    def _moved(self, tangent: Array) -> tuple[Array, Array]:
        """Return t - pi.t, and v.t = pi.t - t_y, of the tangent in u."""
        t = np.where(self.pi == 0, 0.0, tangent * self.u.slope)
        tau = centred(self.pi, t)  # relative to the tangent at the largest other logit
        mean = take(t, self.shifted.top) - take(tau, self.shifted.top)
        return tau, mean - take(tangent * self.u.slope, self.label)

    def product(self, tangent: Array, rho: Array, deviation: Array) -> Array:
        """The Hessian's product; ``deviation`` is what crosses rows."""
        terms, (tau, along) = self.terms, self._moved(tangent)
        a = deviation - terms.slope * terms.rest * along
        product = terms.slope[:, None] * self.pi * (tau + a[:, None])
        product[np.arange(len(product)), self.label] = -terms.slope * a
        product = np.ldexp(product, self.u.power) * self.u.slope
        if self.spec.softcap is not None:
            gradient = self.gradient_u()
            product = product + np.where(
                (gradient == 0) | (tangent == 0), 0.0, gradient * self.u.bend * tangent
            )
        return _shared(rho, np.ldexp(product, self.u.power))


def _row_of(
    z: Array,
    label: NDArray[np.int64],
    live: NDArray[np.bool_],
    kept: NDArray[np.bool_] | None,
    spec: LossSpec,
) -> _Row:
    u = transformed(np.where(live[:, None], z, 0.0), label, spec)
    mask = np.ones(z.shape, bool) if kept is None else kept.copy()
    mask[np.arange(len(label)), label] = False
    others = np.where(mask, u.high, -np.inf)
    alone = (others == -np.inf).all(axis=1)
    shifted = shifted_exp(others, u.low, temperature=spec.temperature)
    pi = np.where(alone[:, None], 0.0, shifted.probs)
    target = take(u.high, label)
    d, d_low = two_sum(shifted.peak, -target)
    if u.low is not None:
        d_low = d_low + (take(u.low, shifted.top) - take(u.low, label))
    d_low = finite_or_zero(d_low)
    if spec.temperature != 1.0:
        d, d_low = divide(d, d_low, spec.temperature)
    s, error = two_sum(d, shifted.log_normaliser)
    s = np.where(alone, -np.inf, s)
    # +inf at the target is no number, as everywhere, and nor is a row without anything above -inf
    s = np.where((target == np.inf) | (alone & ~np.isfinite(target)), np.nan, s)
    return _Row(label, spec, u, shifted, pi, log_terms(s, finite_or_zero(error + d_low)))


def _shared(rho: Array, rows: Array) -> Array:
    """Multiply rows by their shares: a row that does not count may hold anything."""
    return np.where(rho[:, None] == 0, 0.0, rho[:, None] * rows)
