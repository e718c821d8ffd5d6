"""Rows of logits: their sums, and derivatives that keep the digits of confident rows.

Symbols as in :mod:`softmax_lab.spec`. Rows are (n, K) of float32 or float64. What is computed of a row is
computed by :func:`shifted`, which nothing differentiates. Each function has a derivative of its own, whose
coefficients are functions of this file again: so every order of derivative has the digits of the first.

The temperature divides after the shift by the maximum, where a quotient of the logit itself may overflow. The
chain rule through it, and through all that makes u of z, is JAX's own: ``At.x`` is x = u / T, whose value is
never read and whose tangent every derivative reads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .arithmetic import LARGEST_LOW, divide, exponential, log1p, row_sum, two_sum

__all__ = [
    "At",
    "Shifted",
    "along",
    "at_rows",
    "is_label",
    "log_odds_of_others",
    "log_probabilities",
    "log_probability",
    "log_sum_exp",
    "others",
    "probabilities",
    "shifted",
    "weighted_log_probability",
]


class At(NamedTuple):
    """Where rows are evaluated."""

    u: Array  # (n, K) u T; no derivative goes through it
    temperature: Array | None  # T, a number; None: 1
    x: Array  # (n, K) what is differentiated: u, and by its rounded value nothing


def at_rows(u: Array, temperature: Array | None, x: Array) -> At:
    """Return where rows are evaluated."""
    return At(lax.stop_gradient(u), None if temperature is None else lax.stop_gradient(temperature), x)


#: terms of a sum are raised by this power of two: what is flushed then is 2^-32 of a normal number at most
LIFT = 32


class Shifted(NamedTuple):
    """Rows u = peak + d, the exponentials of all entries at the maximum kept apart from the rest."""

    peak: Array  # (n,) the largest entry of u T
    top: Array  # (n, K) which entries it is
    d: Array  # (n, K) (u - peak), two-float high part
    low: Array  # (n, K) its low part
    e: Array  # (n, K) exp(d + low), exactly 1 at the top
    rest: Array  # (n,) sum of e, less 1

    @property
    def q(self) -> Array:
        """Probabilities, (n, K)."""
        return self.e / along(1.0 + self.rest)

    @property
    def confident(self) -> Array:
        """Entries whose probability is above one half, (n, K)."""
        return self.top & along(self.rest < 1.0)


def shifted(u: Array, temperature: Array | None) -> Shifted:
    """Exponentiate rows about their maximum, the shift's rounding error included.

    A row with NaN, with +inf, or with nothing above -inf comes out NaN.
    """
    peak = jnp.max(u, axis=1)
    d, low = _distance(u, along(peak), temperature)
    top = u == along(peak)
    lifted = exponential(d, low, lift=LIFT)
    e = lifted * 2.0**-LIFT
    # of several maxima one alone is the 1 that log1p adds
    ties = jnp.sum(top, axis=1, dtype=jnp.int32) - 1
    rest = row_sum(jnp.where(top, 0.0, lifted)) * 2.0**-LIFT + ties.astype(u.dtype)
    rest = jnp.where(jnp.isfinite(peak), rest, jnp.nan)
    return Shifted(peak, top, d, low, jnp.where(top, 1.0, e), rest)


def _distance(u: Array, peak: Array, temperature: Array | None) -> tuple[Array, Array]:
    """Return (u - peak) / T as a two-float."""
    d, low = two_sum(u, -peak)
    if temperature is not None:
        d, low = divide(d, low, temperature)
    return d, jnp.where(jnp.abs(low) < LARGEST_LOW, low, 0.0)


def along(per_row: Array) -> Array:
    """Return one number a row, (n, 1), for products with rows."""
    return per_row[:, None]


def is_label(rows: Array, label: Array) -> Array:
    """Return which entries are the label's, (n, K)."""
    return lax.broadcasted_iota(jnp.int32, rows.shape, 1) == along(label)


def _centred(at: At, tangent: Array) -> Array:
    """Return t - q.t.

    In a confident row t is counted from its value at the top, and is a constant 0 there: the difference is
    a sum over the other classes, in the transpose too.
    """
    rows = shifted(*at[:2])
    counted_from = jnp.sum(jnp.where(rows.confident, tangent, 0.0), axis=1)
    moved = jnp.where(rows.confident, 0.0, tangent - along(counted_from))
    return moved - along(jnp.sum(probabilities(at) * moved, axis=1))


# ---- whole rows ----


@jax.custom_jvp
def probabilities(at: At) -> Array:
    """Return q, (n, K)."""
    return shifted(*at[:2]).q


@probabilities.defjvp
def _probabilities_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    q = probabilities(at)
    return q, q * _centred(at, moving.x)


@jax.custom_jvp
def log_probabilities(at: At) -> Array:
    """Return log q, (n, K)."""
    rows = shifted(*at[:2])
    return rows.d + (rows.low - along(log1p(rows.rest)))


@log_probabilities.defjvp
def _log_probabilities_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    return log_probabilities(at), _centred(at, moving.x)


# ---- numbers of rows ----


@jax.custom_jvp
def log_sum_exp(at: At) -> Array:
    """Return log sum exp u, (n,); an infinite maximum is the result."""
    rows = shifted(*at[:2])
    peak = rows.peak if at.temperature is None else rows.peak / at.temperature
    return jnp.where(jnp.isinf(peak), peak, peak + log1p(rows.rest))


@log_sum_exp.defjvp
def _log_sum_exp_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    return log_sum_exp(at), jnp.sum(probabilities(at) * moving.x, axis=1)


class _OfLabel(NamedTuple):
    log_q_y: Array  # (n,)
    others: Array  # (n,) o = 1 - q_y


def _of_label(at: At, label: Array) -> _OfLabel:
    """Return log q_y, and 1 - q_y as the sum of the others: never as a difference from one."""
    rows = shifted(*at[:2])
    u_y = jnp.take_along_axis(at.u, along(label), axis=1)[:, 0]
    d, low = _distance(u_y, rows.peak, at.temperature)
    at_top = u_y == rows.peak
    without = jnp.where(at_top, rows.rest, 1.0 + (rows.rest - exponential(d, low)))
    return _OfLabel(d + (low - log1p(rows.rest)), without / (1.0 + rows.rest))


@jax.custom_jvp
def log_probability(at: At, label: Array) -> Array:
    """Return log q_y, (n,)."""
    return _of_label(at, label).log_q_y


@log_probability.defjvp
def _log_probability_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    return log_probability(at, label), jnp.sum(_one_hot_less_q(at, label) * moving.x, axis=1)


@jax.custom_jvp
def others(at: At, label: Array) -> Array:
    """Return o = 1 - q_y, (n,)."""
    return _of_label(at, label).others


@others.defjvp
def _others_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    q_y = jnp.exp(log_probability(at, label))
    return others(at, label), -q_y * jnp.sum(_one_hot_less_q(at, label) * moving.x, axis=1)


@jax.custom_jvp
def _one_hot_less_q(at: At, label: Array) -> Array:
    """Return e_y - q, (n, K), which is o at the target."""
    return jnp.where(is_label(at.u, label), along(_of_label(at, label).others), -probabilities(at))


@_one_hot_less_q.defjvp
def _one_hot_less_q_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    return _one_hot_less_q(at, label), -probabilities(at) * _centred(at, moving.x)


@jax.custom_jvp
def weighted_log_probability(at: At, share: Array) -> Array:
    """Return sum_k s_k log q_k for the shares s (n, K), (n,); 0 log 0 = 0."""
    return row_sum(share * _log_q_with(at, share))


@weighted_log_probability.defjvp
def _weighted_log_probability_jvp(
    primals: tuple[At, Array], tangents: tuple[At, Array]
) -> tuple[Array, Array]:
    (at, share), (moving, sharing) = primals, tangents
    slope = share - along(row_sum(share)) * probabilities(at)
    by_rows = jnp.sum(slope * moving.x, axis=1)
    by_shares = jnp.sum(_log_q_with(at, share) * sharing, axis=1)
    return weighted_log_probability(at, share), by_rows + by_shares


def _log_q_with(at: At, share: Array) -> Array:
    """Return log q, and 0 where an impossible class has no share: elsewhere the derivative in s is log q."""
    log_q = log_probabilities(at)
    return jnp.where((share == 0) & (log_q == -jnp.inf), 0.0, log_q)


@jax.custom_jvp
def log_odds_of_others(at: At, label: Array) -> Array:
    """Return s, the log-sum-exp of the classes other than y, less u_y, (n,).

    There must be another class above -inf.
    """
    rest = jnp.where(is_label(at.u, label), -jnp.inf, at.u)
    rows = shifted(rest, at.temperature)
    u_y = jnp.take_along_axis(at.u, along(label), axis=1)[:, 0]
    d, low = _distance(rows.peak, u_y, at.temperature)
    return d + (low + log1p(rows.rest))


@log_odds_of_others.defjvp
def _log_odds_of_others_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    slope = _others_less_one_hot(at, label)
    return log_odds_of_others(at, label), jnp.sum(slope * moving.x, axis=1)


def _others_less_one_hot(at: At, label: Array) -> Array:
    """Return the softmax of the other classes, and -1 at the target, (n, K)."""
    hit = is_label(at.u, label)
    return jnp.where(hit, -1.0, probabilities(at._replace(u=jnp.where(hit, -jnp.inf, at.u))))
