r"""What crosses rows in the log of the mean loss: a row's logarithm, and each row's share of the sum.

With s the log-sum-exp of the other classes less the target, l = softplus(s), and x = e^s,

.. math::

    \log l &= s + \log \frac{\log (1 + x)}{x}, \qquad
    h' = \frac{d \log l}{ds} = \frac{x}{(1 + x) \log (1 + x)}, \qquad
    \frac{d^2 \log l}{ds^2} = -h'^2 (1 - r), \quad r = \frac{\log (1 + x)}{x}.

h' is near one for every confident row, and 1 - r near x / 2. Of log l as a difference of logarithms, or of
the second derivative as h' (1 - sigma - h'), nothing would be left there.

The logarithms are two-floats: the share of a row is an exponential, and would show their rounding errors.
Rows are summed in an order that depends on their number alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _dispatch
from ._problem import Problem, reduced, rounded
from ._rows import read_only
from ._twofloat import Array, finite_or_zero, row_sum, two_sum
from .calculus import centred
from .spec import active

__all__ = ["LogTerms", "Shares", "counting", "deviations_of", "log_sum", "log_terms", "shares_of"]


class LogTerms(NamedTuple):
    """What log l and its derivatives come to, (n,) each."""

    high: Array  # log l
    low: Array  # and its rounding error
    slope: Array  # h'
    rest: Array  # 1 - r


def log_terms(s: Array, s_low: Array) -> LogTerms:
    """Return the `LogTerms` of rows with s + s_low; the slope is NaN where s is +inf, and 0 where -inf."""
    with np.errstate(all="ignore"):
        below = s <= 0
        power = np.exp(-np.abs(s)) * (1.0 + np.where(below, s_low, -s_low))
        log1p = np.log1p(power)
        # where x = e^s <= 1: t = x / (2 + x), and log(1 + x) = 2 artanh t
        tiny = power == 0
        t = power / (2.0 + power)
        rest = t * (1.0 - (1.0 - t) * t * np.polynomial.polynomial.polyval(t * t, _ODD))
        ratio = np.where(tiny, 1.0, 1.0 - rest)
        high, low = two_sum(s, np.log(ratio))
        slope = 1.0 / ((1.0 + power) * ratio)
        far = s + (log1p + s_low)
        far_ratio = far * power
        far_slope = np.where(s == np.inf, np.nan, 1.0 / ((1.0 + power) * far))
    return LogTerms(
        np.where(below, np.where(np.isinf(s), s, high), np.log(far)),
        np.where(below, finite_or_zero(low + s_low), 0.0),
        np.where(below, np.where(np.isinf(s), 0.0, slope), far_slope),
        np.where(below, rest, 1.0 - far_ratio),
    )


_ODD = 1.0 / np.arange(3.0, 39.0, 2.0)  # artanh t = t + t^3 / 3 + t^5 / 5 + ..., |t| <= 1/3


class Shares(NamedTuple):
    """What the rows come to together."""

    value: Any  # J, or log(omega_i l_i) of each row, as a call returns it
    rho: Array  # (N,) what multiplies a row's gradient: its share of the sum; 0 where it does not count


def shares_of(problem: Problem, high: Array, low: Array) -> Shares:
    """Reduce the logarithms of the rows' losses, (N,) as two-floats."""
    log_omega = _log_omega(problem)
    if log_omega is None:
        values, error = high, low
        if not problem.live.all():
            values, error = np.where(problem.live, high, -np.inf), np.where(problem.live, low, 0.0)
    else:
        counts = log_omega > -np.inf
        with np.errstate(invalid="ignore"):
            values, error = two_sum(high, log_omega)
        values = np.where(counts, values, -np.inf)
        error = np.where(counts & np.isfinite(values), error + low, 0.0)
    if problem.reduction == "none":
        rows = reduced(values + error, problem.logits.dtype, "none", 1.0, problem.empty)
        shape = problem.shape[: problem.axis] + problem.shape[problem.axis + 1 :]
        return Shares(rows.reshape(shape)[()], np.where(values == -np.inf, 0.0, 1.0))
    peak, log_total, rho = log_sum(values, error, narrow=problem.logits.dtype.itemsize < 8)
    if problem.reduction == "mean":
        log_divisor = _log_divisor(problem, log_omega)
        if log_divisor is None:
            return Shares(rounded(0.0, problem.logits.dtype, "mean", 0.0, problem.empty), rho)
        log_total -= log_divisor
    value = peak + log_total if np.isfinite(peak) else peak
    return Shares(rounded(float(value), problem.logits.dtype, "sum", 1.0, problem.empty), rho)


def counting(problem: Problem) -> NDArray[np.bool_]:
    """Return which rows count: neither ignored nor fully masked, and of a weight above 0; (N,)."""
    counts = problem.live
    if problem.sample_weight is not None:
        counts = counts & (problem.sample_weight != 0)
    if (np.asarray(problem.spec.class_weight) == 0).any():
        counts = counts & (problem.class_weights != 0)
    return counts


def deviations_of(rho: Array, moments: Array) -> Array:
    """Return m_i - sum_j rho_j m_j, (N,): what rows have to do with each other in the Hessian.

    Each moment h' v.t is taken relative to that of the row with the largest share. Of a row that alone
    matters nothing but the others' part is left.
    """
    counted = np.where(rho == 0, 0.0, moments)  # a row that does not count may hold anything
    with np.errstate(invalid="ignore"):
        return centred(rho[None], counted[None])[0] if len(rho) else counted


def _log_omega(problem: Problem) -> Array | None:
    """Return log(W_y * sample weight), (N,), -inf where a row does not count; None where all are 1."""
    factors = problem.sample_weight
    if factors is None and not active(problem.spec.class_weight, 1.0):
        return None
    weights = problem.class_weights
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        if factors is None:
            return np.log(weights)
        product = weights * factors
        usual = (product > _LEAST) & (product < np.inf)
        return np.where(usual, np.log(product), np.log(weights) + np.log(factors))


_LEAST = 2.0**-900  # a smaller product has lost digits by underflow, or tells of it


def _log_divisor(problem: Problem, log_omega: Array | None) -> float | None:
    """Return log sum_i omega_i over the rows that count; None where none does."""
    if log_omega is None:
        count = int(np.count_nonzero(problem.live))
        return math.log(count) if count else None
    if not (log_omega > -np.inf).any():
        return None
    peak, log_total, _ = log_sum(log_omega, np.zeros_like(log_omega))
    return peak + log_total


def log_sum(values: Array, error: Array, *, narrow: bool = False) -> tuple[float, float, Array]:
    """Return two numbers whose sum is log sum exp(values + error), and the shares; of nothing -inf and 0.

    For results ``narrow``er than float64 the shares need no more digits than those show.
    """
    peak = float(values.max(initial=-np.inf))  # NaN where there is one
    if peak == -np.inf:
        return -np.inf, -np.inf, np.zeros_like(values)
    if peak == np.inf:
        return peak, 0.0, np.where(values == peak, np.nan, 0.0)
    if math.isnan(peak):
        return peak, peak, np.where(values == -np.inf, 0.0, np.nan)
    loops = None if _dispatch.choose(2) == "reference" else _dispatch.kernels()
    if loops is None:
        return _log_sum_by_reference(values, error, peak)
    shares = np.empty_like(values)
    first, second = loops.logs.log_sum(read_only(values), read_only(error), shares, narrow, 0, len(values))
    return first, second, shares


def _log_sum_by_reference(values: Array, error: Array, peak: float) -> tuple[float, float, Array]:
    """Return what :func:`log_sum` does, of something that is finite and nothing above.

    The errors may be any number beside logarithms of 1e38, where rows may differ by nothing else.
    """
    with np.errstate(under="ignore", invalid="ignore"):
        d, d_low = two_sum(values, np.full_like(values, -peak))
        exponent, rest = two_sum(d, error + finite_or_zero(d_low))
        beyond = float(exponent.max())
        y, y_low = two_sum(exponent, np.full_like(values, -beyond))
        powers = np.exp(y)
        powers += powers * finite_or_zero(rest + y_low)
        total = row_sum(powers[None])[0]
        return peak, beyond + float(np.log(total)), powers / total


def is_distribution(target: NDArray[Any]) -> bool:
    """Whether a target is one a row: an empty list of labels comes as floats, too."""
    return target.dtype.kind not in "iu" and target.size > 0
