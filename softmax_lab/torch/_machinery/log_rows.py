r"""What crosses rows in the log of the mean loss, where rows come in chunks or their classes in shards.

With w_i = log(omega_i l_i), the value and a row's share of the gradient are

.. math::

    J = \operatorname{lse}_i w_i - \operatorname{lse}_i \log \omega_i, \qquad
    \rho_i = e^{w_i - \operatorname{lse}_j w_j} .

They are known after the last row. A sum over rows that has to be taken before, as that of a weight's
gradient, is taken relative to a :class:`Reference` R that no row so far is above: factors e^(w_i - R). Where
a later row is above R, R rises by a multiple of log 2, and what was summed is multiplied by a power of two,
without a rounding error. At the end e^R / sum_i e^(w_i) multiplies it.

Logarithms are two-floats here: a share is an exponential, and would show their rounding errors. All numbers
are float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._twofloat import two_sum
from ...spec import LossSpec
from .._formula.fields import spec_tensors
from .._formula.logs import log_weights
from .arguments import Rows

__all__ = ["Reference", "Shares", "WeightedLogs", "shares_of", "weigh", "weighted_logs"]


class WeightedLogs(NamedTuple):
    """log(omega_i l_i) of rows as two-floats, (n,) each; -inf where a row does not count."""

    high: Tensor
    low: Tensor


class Shares(NamedTuple):
    """What the rows come to together."""

    value: Tensor  # J, a scalar
    rho: Tensor  # (n,) a row's share; 0 where it does not count


def weigh(rows: Rows, spec: LossSpec) -> tuple[Rows, Tensor]:
    """Return log omega of all rows, (N,), and the rows, of which those of the weight 0 count no more."""
    live = torch.ones_like(rows.target, dtype=torch.bool)
    if rows.live is not None:
        live = torch.zeros_like(live).index_fill(0, rows.live, True)
    label = torch.where(live, rows.target, 0)
    fields = spec_tensors(spec, label.device, torch.float64)
    log_omega = log_weights(label, live, fields, rows.factor, torch.float64)
    counts = log_omega > -torch.inf
    return rows._replace(live=None if bool(counts.all()) else counts.nonzero()[:, 0]), log_omega


def weighted_logs(high: Tensor, low: Tensor, log_omega: Tensor) -> WeightedLogs:
    """Return what rows with log l as a two-float add to the sum."""
    values, error = two_sum(high, log_omega)
    counts = log_omega > -torch.inf
    return WeightedLogs(
        torch.where(counts, values, -torch.inf), torch.where(counts, _finite_or_zero(error + low), 0.0)
    )


def shares_of(logs: WeightedLogs, log_omega: Tensor, empty: str) -> Shares:
    """Return J and the shares of rows, all of them."""
    high, low, rho = _log_sum(logs)
    divisor = _log_sum(WeightedLogs(log_omega, torch.zeros_like(log_omega)))
    none = ~(log_omega > -torch.inf).any()
    value = torch.where(high.isfinite(), high + (low - divisor[1] - divisor[0]), high)
    return Shares(torch.where(none, torch.nan if empty == "nan" else 0.0, value), rho)


def _log_sum(logs: WeightedLogs) -> tuple[Tensor, Tensor, Tensor]:
    """Return two numbers whose sum is log sum exp, and the shares; of nothing -inf, and 0."""
    if not len(logs.high):
        return logs.high.new_full((), -torch.inf), logs.high.new_zeros(()), logs.high
    peak = logs.high.amax()
    exponent, rest = _distance(logs, _finite_or_zero(peak), 0.0)
    # beside logarithms of 1e38 rows may differ by their rounding errors alone
    beyond = _finite_or_zero(exponent.amax())
    y, y_low = two_sum(exponent, -beyond)
    powers = torch.exp(y) * (1.0 + _finite_or_zero(rest + y_low))
    total = powers.sum()
    nothing = (total == 0) | (logs.high == -torch.inf)
    return peak, beyond + total.log(), torch.where(nothing, 0.0, powers / total)


def _distance(logs: WeightedLogs, high: Any, low: float) -> tuple[Tensor, Tensor]:
    """Return how far rows are above a two-float, as two-floats."""
    d, d_low = two_sum(logs.high, -high)
    exponent, rest = two_sum(d, (logs.low - low) + _finite_or_zero(d_low))
    return exponent, _finite_or_zero(rest)


def _finite_or_zero(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0.0)


class Reference(NamedTuple):
    """A number R that no row so far is above, as a two-float; -inf before any row."""

    high: float = -math.inf
    low: float = 0.0

    def raised(self, logs: WeightedLogs) -> tuple[Reference, float]:
        """Return a reference that no row of ``logs`` is above either, and what multiplies the sums so far.

        Rows at infinity and NaN are no reference: they make NaN of the sums by themselves. Waits for the
        device: on a GPU the multiplication of every sum at every chunk would cost more.
        """
        finite = logs.high.isfinite()
        base = self.high
        if base == -math.inf:
            base = float(torch.where(finite, logs.high, -torch.inf).amax())
        exponent, _ = _distance(logs, base, self.low)
        at = torch.where(finite, exponent, -torch.inf).argmax()
        high, low, rise = torch.stack([logs.high[at], logs.low[at], exponent[at]]).tolist()
        if not math.isfinite(high):
            return self, 1.0
        if self.high == -math.inf:
            return Reference(high, low), 1.0
        if rise <= 0.0:
            return self, 1.0
        power = math.ceil(rise / math.log(2.0))
        if power > _FARTHEST or abs(self.high) > _LARGEST:
            return Reference(high, low), math.exp(-rise)
        moved, error = two_sum(self.high, power * _LOG2_HIGH)
        return Reference(moved, (error + power * _LOG2_LOW) + self.low), math.ldexp(1.0, -power)

    def factors(self, logs: WeightedLogs) -> Tensor:
        """Return e^(w_i - R), (n,)."""
        if self.high == -math.inf:
            return torch.where(logs.high == -torch.inf, 0.0, torch.nan)
        exponent, rest = _distance(logs, self.high, self.low)
        return torch.exp(exponent) * (1.0 + rest)


# log 2 in two parts; the first has 32 bits, so that its multiples by integers below 2^21 are exact
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_FARTHEST = 1 << 11  # powers of two: beyond it nothing is left of what was summed
_LARGEST = 2.0**40  # where the rounding error of the reference may exceed its low part's digits
