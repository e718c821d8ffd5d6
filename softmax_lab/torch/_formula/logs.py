r"""The log of the mean loss in plain torch: any device, any order of derivative.

With s the log-sum-exp of the other classes less the target, a row's plain loss is l = softplus(s), and

.. math::

    J = \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}
      = \operatorname{lse}_i (\log \omega_i + \log l_i) - \operatorname{lse}_i \log \omega_i,
    \qquad \log l = \log \operatorname{softplus}(s) = s - e^s / 2 + \dots

Nothing leaves the log domain. The gradient is a softmax over the rows, times sigmoid(s) / softplus(s), times
the softmax of the other classes (-1 at the target): factors of order one, however confident the rows are.

The sums over classes are taken in the type that is computed in. The few numbers of a row are float64, where
the device knows it: the share of a row is an exponential, and has the absolute error of its logarithm.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import exact_dtype, loss_dtype
from .fields import SpecTensors, extreme, is_active
from .rows import before_temperature, of_label, over, take

__all__ = ["LogTerms", "log_softplus", "log_terms", "log_weights", "loss", "value_and_gradient"]


class _Rows(NamedTuple):
    """The arguments as rows (n, K), in the type that is computed in."""

    z: Tensor
    label: Tensor  # (n,), 0 where the row does not count
    log_omega: Tensor  # (n,) log of W_y * sample weight; -inf where the row does not count
    spec: SpecTensors
    shape: torch.Size  # of the rows: the logits' without the class dimension


def _rows(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> _Rows:
    dtype, wide = torch.float64 if extreme(spec) else loss_dtype(logits.dtype), exact_dtype(logits.device)
    moved = logits.movedim(options.dim, -1)
    label, live = labels_of(target.reshape(-1), options.ignore_index)
    weights = None if sample_weight is None else sample_weight.reshape(-1)
    log_omega = log_weights(label, live, spec, weights, wide)
    counts = log_omega > -torch.inf
    # a row that does not count may hold anything: zeros keep NaN times 0 out of its derivative
    z = torch.where(counts[:, None], moved.reshape(-1, moved.shape[-1]).to(dtype), 0.0)
    fields: dict[str, Any] = {
        name: value.to(dtype) if isinstance(value, Tensor) else value
        for name, value in spec._asdict().items()
    }
    return _Rows(z, label, log_omega, SpecTensors(**fields), moved.shape[:-1])


def log_weights(
    label: Tensor, live: Tensor, spec: SpecTensors, sample_weight: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Return log(W_y * sample weight) of rows, (n,); -inf where one is not ``live`` or has the weight 0."""
    log_omega = torch.zeros_like(label, dtype=dtype)
    factors: list[Any] = [] if sample_weight is None else [sample_weight]
    if is_active(spec.class_weight, 1.0):
        factors.append(of_label(spec.class_weight, label))
    for factor in factors:
        weight = factor.to(dtype) if isinstance(factor, Tensor) else torch.full_like(log_omega, factor)
        live = live & (weight != 0)
        log_omega = log_omega + torch.where(weight == 0, 1.0, weight).log()
    return torch.where(live, log_omega, -torch.inf)


def loss(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> Tensor:
    """Return the log of the mean loss, or of the sum, or of each row's, differentiable to any order."""
    if 1.0 / spec.temperature == math.inf:
        raise ValueError(
            f"temperature must be at least 5.6e-309 for derivatives in plain torch; got {spec.temperature!r}"
        )
    rows = _rows(logits, target, spec, sample_weight, options)
    counts = rows.log_omega > -torch.inf
    log_l = _log_losses(rows.z, rows.label, rows.spec, rows.log_omega.dtype)
    weighted = torch.where(counts, rows.log_omega + log_l, -torch.inf)
    if options.reduction == "none":
        return weighted.reshape(rows.shape).to(loss_dtype(logits.dtype))
    value = _log_sum(weighted)
    if options.reduction == "mean":
        empty = ~counts.any()
        value = torch.where(empty, 0.0, value - torch.where(empty, 0.0, _log_sum(rows.log_omega)))
        value = torch.where(empty, torch.nan if options.empty == "nan" else 0.0, value)
    return value.to(loss_dtype(logits.dtype))


def _log_sum(x: Tensor) -> Tensor:
    """Return log sum exp(x); -inf, with the derivative 0, where nothing is above -inf."""
    some = (x > -torch.inf).any() | x.isnan().any()
    # one entry more: without a row there would be no largest entry
    safe = torch.cat([torch.where(some, x, 0.0), x.new_full((1,), -torch.inf)])
    return torch.where(some, torch.logsumexp(safe, 0), -torch.inf)


def value_and_gradient(z: Tensor, label: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor]:
    """Return log l of rows (n, K) whose labels count, (n,), and its gradient in z, without a graph."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = _log_losses(leaf, label, spec, exact_dtype(z.device))
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _log_losses(z: Tensor, label: Tensor, spec: SpecTensors, wide: torch.dtype) -> Tensor:
    """Return log l of rows (n, K) in the type ``wide``, (n,)."""
    u = before_temperature(z, spec, label).u
    target = take(u, label)
    is_target = torch.arange(u.shape[1], device=u.device) == label[:, None]
    others = torch.where(is_target, -torch.inf, u)
    alone = (others == -torch.inf).all(1)
    others = torch.where(alone[:, None], 0.0, others)
    peak = others.amax(1).detach()
    total = torch.exp(over(others - peak[:, None], spec.temperature)).sum(1)
    # the target's own distance is exact in float64, where that of float32 has lost digits of the share
    s = over(peak.to(wide) - target.to(wide), spec.temperature) + total.to(wide).log()
    # +inf at the target is no number, as everywhere: it would pass for a row without any loss
    s = s * torch.where(target == torch.inf, torch.nan, 1.0).to(wide)
    nothing = torch.where(target.isfinite(), -torch.inf, torch.nan).to(wide)
    return torch.where(alone, nothing, log_softplus(s))


def log_softplus(s: Tensor) -> Tensor:
    """Return log log(1 + e^s): s - e^s / 2 + ... far below 0, log s far above.

    The derivative at +inf, an impossible target's, is NaN.
    """
    below = s <= 0
    x = torch.exp(torch.where(below, s, 0.0))
    small = x < _SMALL
    # each form where it holds; elsewhere a harmless argument, so that no derivative of it is infinite
    series = _series(torch.where(small, x, 0.0))
    middle = torch.log1p(torch.where(small, 1.0, x)).log()
    far = torch.where(below, 0.0, s)
    far = (far + torch.log1p(torch.exp(-far))).log()
    found = torch.where(below, torch.where(small, s + series, middle), far)
    endless = s == torch.inf
    return torch.where(endless, torch.where(endless, s, 0.0).exp().log(), found)


class LogTerms(NamedTuple):
    """What log l and its derivative come to, (n,) each."""

    high: Tensor  # log l
    low: Tensor  # and its rounding error
    slope: Tensor  # h' = d log l / ds


def log_terms(s: Tensor, s_low: Tensor) -> LogTerms:
    """Return the `LogTerms` of rows with s + s_low, without a graph."""
    with torch.enable_grad():
        leaf = s.detach().requires_grad_()
        value = log_softplus(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    high = value.detach()
    # far below 0 log l is a sum, whose rounding error is known; elsewhere it is a number of order one
    x = torch.exp(s)
    lost = torch.where(x < _SMALL, (s - high) + _series(torch.where(x < _SMALL, x, 0.0)), 0.0)
    low = lost + slope * s_low
    return LogTerms(high, torch.where(low.isfinite(), low, 0.0), slope)


_SMALL = 1.0 / 64.0


def _series(x: Tensor) -> Tensor:
    """Return log(log(1 + x) / x), which is -x / 2 + ..., for 0 <= x < 1/64."""
    found = torch.zeros_like(x)
    for coefficient in _SERIES:
        found = found * x + coefficient
    return found * x


def _log_of_series(count: int) -> tuple[float, ...]:
    """Return the coefficients of x, x^2, ... in log(log(1 + x) / x), the highest power first.

    With a_n = (-1)^n / (n + 1), those of log(1 + x) / x, it is n c_n = n a_n - sum_j j c_j a_(n - j).
    """
    a = [(-1.0) ** n / (n + 1) for n in range(count + 1)]
    c = [0.0]
    for n in range(1, count + 1):
        c.append(a[n] - sum(j * c[j] * a[n - j] for j in range(1, n)) / n)
    return tuple(c[:0:-1])


_SERIES = _log_of_series(10)  # the next is below 2^-66 where x < 1/64
