"""Rows of logits: their sums, and derivatives that keep the digits of confident rows.

Symbols as in :mod:`softmax_lab.spec`. Rows are (n, K) of float32 or float64. What is computed of a row are
sums of its exponentials in a :class:`Frame`, which nothing differentiates. Each function has a derivative of
its own, whose coefficients are functions of this file again: so every order of derivative has the digits of
the first.

The temperature divides after the shift by the maximum, where a quotient of the logit itself may overflow. The
chain rule through it, and through all that makes u of z, is JAX's own: ``At.x`` is x = u / T, whose value is
never read and whose tangent every derivative reads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .arithmetic import LARGEST_LOW, divide, exponential, log1p, origin, row_sum, two_sum, whole_power

__all__ = [
    "At",
    "Frame",
    "along",
    "at_rows",
    "framed",
    "is_label",
    "log_odds_of_others",
    "log_probabilities",
    "log_probability",
    "log_sum_exp",
    "others",
    "probabilities",
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
_FAR = 2.0**20  # a label whose probability is below 2^-20


class Frame(NamedTuple):
    """What a row's exponentials are counted in: 2^(LIFT - power) exp(u / T - origin)."""

    peak: Array  # (n,) the largest entry of u T
    origin: Array  # (n,)
    power: Array  # (n,) a whole number: 2^power is the exponential at the peak, to a factor of sqrt 2
    temperature: Array | None

    def of(self, per_row: Array) -> Array:
        """Return the exponential of one entry a row, (n,)."""
        d, low = _difference(per_row, self.origin, self.temperature)
        return exponential(d, low, exponent=LIFT - self.power)

    def of_rows(self, u: Array) -> Array:
        """Return the exponentials of whole rows, (n, K)."""
        d, low = _difference(u, along(self.origin), self.temperature)
        return exponential(d, low, exponent=along(LIFT - self.power))


def framed(u: Array, temperature: Array | None, peak: Array | None = None) -> Frame:
    """Return the frame of rows, whose largest entries may be known.

    In that of a row with NaN, with +inf, or with nothing above -inf, a sum of exponentials is NaN.
    """
    peak = jnp.max(u, axis=1) if peak is None else peak
    if temperature is not None:  # it divides differences from the peak: the logit's own quotient may overflow
        return Frame(peak, peak, jnp.zeros_like(peak), temperature)
    base = origin(peak)
    return Frame(peak, base, whole_power(peak - base), None)


def _difference(u: Array, base: Array, temperature: Array | None) -> tuple[Array, Array | None]:
    """Return (u - base) / T for a frame's base, and what the quotient has lost."""
    return (u - base, None) if temperature is None else _distance(u, base, temperature)


def _framed_with_rest(u: Array, temperature: Array | None) -> tuple[Frame, Array]:
    """Return the frame of rows, and (n,) the sum of all but one of the largest exponentials, in units of it.

    The largest one is left out of the sum: a difference would have lost the others in a confident row. It is
    known by its logit, since a compiler need not round one exponential twice alike. Left out of a whole row
    it would take another array as large as the rows, and two passes over that: it is left out of its block.
    """
    count = blocks_of(u.shape[1])
    blocks = u.reshape(len(u), count, u.shape[1] // count)
    # a compiler would make one maximum of both, and read the rows again for the blocks'
    peaks = _once(jnp.max(blocks, axis=2))
    frame = framed(u, temperature, jnp.max(peaks, axis=1))
    if count == 1:
        others, ties = _below_the_peak(frame, u)
    else:
        place = jnp.argmax(peaks, axis=1)
        block = jnp.take_along_axis(blocks, place[:, None, None], axis=1, mode="promise_in_bounds")
        others, ties = _below_the_peak(frame, block[:, 0])
        sums = jnp.sum(frame.of_rows(u).reshape(blocks.shape), axis=2)
        others = others + row_sum(jnp.where(is_label(sums, place), 0.0, sums))
    return frame, others / frame.of(frame.peak) + (ties - 1.0)


def _below_the_peak(frame: Frame, u: Array) -> tuple[Array, Array]:
    """Return the sum of the exponentials below the peak, and how many entries are the peak, (n,)."""
    e, is_peak = frame.of_rows(u), u == along(frame.peak)
    return row_sum(jnp.where(is_peak, 0.0, e)), jnp.sum(is_peak, axis=1, dtype=jnp.int32).astype(e.dtype)


def blocks_of(num_classes: int) -> int:
    """Return in how many blocks of one size a row is summed without its peak: many, but not of few entries.

    One, where K has no divisor for that.
    """
    most = min(math.isqrt(num_classes), num_classes // SHORTEST_BLOCK)
    return next((count for count in range(most, FEWEST_BLOCKS - 1, -1) if num_classes % count == 0), 1)


#: measured on a CPU: shorter blocks take longer than what they save
SHORTEST_BLOCK, FEWEST_BLOCKS = 128, 4


def _shares(e: Array, total: Array) -> Array:
    """Return e / total, (n, K).

    A compiler multiplies by the reciprocal of each row's total: here with what its rounding has lost.
    """
    inverse, low = divide(jnp.ones_like(total), jnp.zeros_like(total), total)
    return e * along(inverse) + e * along(low)


def _distance(u: Array, peak: Array, temperature: Array | None) -> tuple[Array, Array]:
    """Return (u - peak) / T as a two-float."""
    d, low = two_sum(u, -peak)
    if temperature is not None:
        d, low = divide(d, low, temperature)
    return d, jnp.where(jnp.abs(low) < LARGEST_LOW, low, 0.0)


def along(per_row: Array) -> Array:
    """Return one number a row, (n, 1), for products with rows."""
    return per_row[:, None]


def _once(x: Array) -> Array:
    """Return x, which a compiler neither merges with what it is used for nor computes there again."""
    held: Array = lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return held


def is_label(rows: Array, label: Array) -> Array:
    """Return which entries are the label's, (n, K)."""
    return lax.broadcasted_iota(jnp.int32, rows.shape, 1) == along(label)


def _centred(at: At, tangent: Array) -> Array:
    """Return t - q.t.

    In a confident row t is counted from its value at the top, and is a constant 0 there: the difference is
    a sum over the other classes, in the transpose too.
    """
    frame, rest = _framed_with_rest(*at[:2])
    confident = (at.u == along(frame.peak)) & along(rest < 1.0)
    counted_from = jnp.sum(jnp.where(confident, tangent, 0.0), axis=1)
    moved = jnp.where(confident, 0.0, tangent - along(counted_from))
    return moved - along(jnp.sum(probabilities(at) * moved, axis=1))


# ---- whole rows ----


@jax.custom_jvp
def probabilities(at: At) -> Array:
    """Return q, (n, K)."""
    e = framed(*at[:2]).of_rows(at.u)
    return _shares(e, row_sum(e))


@probabilities.defjvp
def _probabilities_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    q = probabilities(at)
    return q, q * _centred(at, moving.x)


@jax.custom_jvp
def log_probabilities(at: At) -> Array:
    """Return log q, (n, K)."""
    frame, rest = _framed_with_rest(*at[:2])
    # both are negative: without a temperature no digit is lost between them, and none in the difference
    d, low = _difference(at.u, along(frame.peak), at.temperature)
    # a compiler would compute it for each entry of short rows
    log_total = along(_once(log1p(rest)))
    return d - log_total if low is None else d + (low - log_total)


@log_probabilities.defjvp
def _log_probabilities_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    return log_probabilities(at), _centred(at, moving.x)


# ---- numbers of rows ----


@jax.custom_jvp
def log_sum_exp(at: At) -> Array:
    """Return log sum exp u, (n,); an infinite maximum is the result."""
    frame, rest = _framed_with_rest(*at[:2])
    peak = frame.peak if at.temperature is None else frame.peak / at.temperature
    return jnp.where(jnp.isinf(peak), peak, peak + log1p(rest))


@log_sum_exp.defjvp
def _log_sum_exp_jvp(primals: tuple[At], tangents: tuple[At]) -> tuple[Array, Array]:
    (at,), (moving,) = primals, tangents
    return log_sum_exp(at), jnp.sum(probabilities(at) * moving.x, axis=1)


class _OfLabel(NamedTuple):
    """Rows about their label: a label outside of the classes makes a row NaN."""

    frame: Frame
    u_y: Array  # (n,)
    others: Array  # (n, K) exponentials, 0 at the label
    rest: Array  # (n,) their sum
    own: Array  # (n,) the label's exponential

    @property
    def total(self) -> Array:
        """The sum of all exponentials, (n,)."""
        return self.rest + self.own


def _of_label(at: At, label: Array) -> _OfLabel:
    """Return what the sum of the others and the label's own exponential are: never a difference from one."""
    frame = framed(*at[:2])
    u_y = jnp.take_along_axis(at.u, along(label), axis=1, mode="fill")[:, 0]
    others = jnp.where(is_label(at.u, label), 0.0, frame.of_rows(at.u))
    return _OfLabel(frame, u_y, others, row_sum(others), frame.of(u_y))


@jax.custom_jvp
def log_probability(at: At, label: Array) -> Array:
    """Return log q_y, (n,).

    It is -log(1 + rest / own), and far below the peak, where the label's exponential may be 0, the distance
    from there less the logarithm of the sum in units of the peak.
    """
    rows = _of_label(at, label)
    top = rows.frame.of(rows.frame.peak)
    far = rows.rest > _FAR * rows.own
    ratio = jnp.where(far, jnp.maximum(rows.total - top, 0.0), rows.rest) / jnp.where(far, top, rows.own)
    d, low = _distance(rows.u_y, rows.frame.peak, at.temperature)
    return jnp.where(far, d, 0.0) + (jnp.where(far, low, 0.0) - log1p(ratio))


@log_probability.defjvp
def _log_probability_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    return log_probability(at, label), jnp.sum(_one_hot_less_q(at, label) * moving.x, axis=1)


@jax.custom_jvp
def others(at: At, label: Array) -> Array:
    """Return o = 1 - q_y, (n,)."""
    rows = _of_label(at, label)
    return rows.rest / rows.total


@others.defjvp
def _others_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    q_y = jnp.exp(log_probability(at, label))
    return others(at, label), -q_y * jnp.sum(_one_hot_less_q(at, label) * moving.x, axis=1)


@jax.custom_jvp
def _one_hot_less_q(at: At, label: Array) -> Array:
    """Return e_y - q, (n, K), which is o at the target."""
    rows = _of_label(at, label)
    return _shares(jnp.where(is_label(at.u, label), along(rows.rest), -rows.others), rows.total)


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
    frame, rest = _framed_with_rest(jnp.where(is_label(at.u, label), -jnp.inf, at.u), at.temperature)
    u_y = jnp.take_along_axis(at.u, along(label), axis=1, mode="fill")[:, 0]
    d, low = _distance(frame.peak, u_y, at.temperature)
    return d + (low + log1p(rest))


@log_odds_of_others.defjvp
def _log_odds_of_others_jvp(primals: tuple[At, Array], tangents: tuple[At, Any]) -> tuple[Array, Array]:
    (at, label), (moving, _) = primals, tangents
    slope = _others_less_one_hot(at, label)
    return log_odds_of_others(at, label), jnp.sum(slope * moving.x, axis=1)


def _others_less_one_hot(at: At, label: Array) -> Array:
    """Return the softmax of the other classes, and -1 at the target, (n, K)."""
    hit = is_label(at.u, label)
    return jnp.where(hit, -1.0, probabilities(at._replace(u=jnp.where(hit, -jnp.inf, at.u))))
