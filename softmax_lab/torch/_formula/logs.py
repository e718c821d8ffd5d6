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

__all__ = ["log_softplus", "loss"]


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
    label, counts = labels_of(target.reshape(-1), options.ignore_index)
    log_omega = torch.zeros_like(label, dtype=wide)
    factors: list[Any] = [] if sample_weight is None else [sample_weight.reshape(-1)]
    if is_active(spec.class_weight, 1.0):
        factors.append(of_label(spec.class_weight, label))
    for factor in factors:
        weight = factor.to(wide) if isinstance(factor, Tensor) else torch.full_like(log_omega, factor)
        counts = counts & (weight != 0)
        log_omega = log_omega + torch.where(weight == 0, 1.0, weight).log()
    # a row that does not count may hold anything: zeros keep NaN times 0 out of its derivative
    z = torch.where(counts[:, None], moved.reshape(-1, moved.shape[-1]).to(dtype), 0.0)
    fields: dict[str, Any] = {
        name: value.to(dtype) if isinstance(value, Tensor) else value
        for name, value in spec._asdict().items()
    }
    log_omega = torch.where(counts, log_omega, -torch.inf)
    return _Rows(z, label, log_omega, SpecTensors(**fields), moved.shape[:-1])


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
    weighted = torch.where(counts, rows.log_omega + _log_losses(rows), -torch.inf)
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


def _log_losses(rows: _Rows) -> Tensor:
    """Return log l of each row, (n,)."""
    u = before_temperature(rows.z, rows.spec, rows.label).u
    target = take(u, rows.label)
    is_target = torch.arange(u.shape[1], device=u.device) == rows.label[:, None]
    others = torch.where(is_target, -torch.inf, u)
    alone = (others == -torch.inf).all(1)
    others = torch.where(alone[:, None], 0.0, others)
    peak = others.amax(1).detach()
    total = torch.exp(over(others - peak[:, None], rows.spec.temperature)).sum(1)
    wide = rows.log_omega.dtype
    # the target's own distance is exact in float64, where that of float32 has lost digits of the share
    s = over(peak.to(wide) - target.to(wide), rows.spec.temperature) + total.to(wide).log()
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
    series = torch.zeros_like(s)
    near = torch.where(small, x, 0.0)
    for coefficient in _SERIES:
        series = series * near + coefficient
    middle = torch.log1p(torch.where(small, 1.0, x)).log()
    far = torch.where(below, 0.0, s)
    far = (far + torch.log1p(torch.exp(-far))).log()
    found = torch.where(below, torch.where(small, s + series * near, middle), far)
    endless = s == torch.inf
    return torch.where(endless, torch.where(endless, s, 0.0).exp().log(), found)


_SMALL = 1.0 / 64.0


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
