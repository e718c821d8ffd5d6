"""Rows of logits, transformed and exponentiated: what stands before the loss family's formula of a row.

Symbols as in :mod:`softmax_lab.spec`. Every function works on rows (n, K) of float32 or float64; callers
widen half precision first. Nothing is changed in place and nothing is read back from the device, so that
autograd, forward mode, functorch and the compiler all go through it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .fields import LARGEST, SMALLEST, SpecTensors, is_active

__all__ = [
    "Shifted",
    "Transformed",
    "along",
    "before_temperature",
    "of_label",
    "over",
    "shifted",
    "take",
    "transformed",
]

_UNSEEN = 2.0**-28  # tanh x is x (1 - x^2 / 3 + ...)


class Transformed(NamedTuple):
    """u (n, K), and du/dz: a number, (K,) or (n, K)."""

    u: Tensor
    slope: float | Tensor


def transformed(z: Tensor, spec: SpecTensors, label: Tensor | None, *, first: int = 0) -> Transformed:
    """Return u = (a v + b - m e_y) / T with v the soft-capped z, and du/dz.

    ``label`` (n,) holds valid classes (the caller puts 0 where a row does not count); None for target
    distributions. ``first`` is the class of the first column, where the columns are a shard: labels outside
    it have no margin here.
    """
    u, slope = before_temperature(z, spec, label, first=first)
    return Transformed(over(u, spec.temperature), slope / spec.temperature)


def before_temperature(z: Tensor, spec: SpecTensors, label: Tensor | None, *, first: int = 0) -> Transformed:
    """Return u T = a v + b - m e_y, and its derivative in z."""
    v, slope = z, spec.scale
    if spec.softcap is not None:
        x = z / spec.softcap
        # -inf stays -inf, and the derivative there is tanh's: 0. A logit far below the cap stays as it is
        capped = spec.softcap * torch.tanh(x) + torch.where(z == -torch.inf, -torch.inf, 0.0)
        v = torch.where(x.abs() < _UNSEEN, z, capped)
        slope = slope * torch.cosh(x).pow(-2.0)
    u = v * spec.scale if is_active(spec.scale, 1.0) else v
    if is_active(spec.bias):
        by_label = isinstance(spec.bias, Tensor) and spec.bias.ndim == 2
        u = u + (spec.bias[label] if by_label else spec.bias)
    if label is not None and is_active(spec.margin):
        column = label - first
        here = (column >= 0) & (column < z.shape[1])
        margin = here.to(z.dtype) * of_label(spec.margin, label)
        wide = torch.promote_types(u.dtype, margin.dtype)  # as adding a bias does
        at = column.clamp(0, z.shape[1] - 1)[:, None]
        u = u.to(wide).scatter_add(1, at, -margin[:, None].to(wide))
    return Transformed(u, slope)


def over(x: Tensor, temperature: float) -> Tensor:
    """Return x / T, where T may lie beyond what a tensor of x's type can hold.

    0 / T is 0, and never 0 times an infinite 1 / T.
    """
    if temperature == 1.0:
        return x
    if x.dtype == torch.float64 or SMALLEST < temperature < LARGEST:
        return x / temperature
    return (x.double() / temperature).to(x.dtype)


class Shifted(NamedTuple):
    """Rows u = peak + d with the largest entry's exponential, exactly 1, kept apart from the rest."""

    top: Tensor  # (n,) index of the largest entry
    peak: Tensor  # (n,) its value
    d: Tensor  # (n, K) u - peak
    e: Tensor  # (n, K) exp(d), but 0 at top
    rest: Tensor  # (n,) sum of e

    @property
    def log_normaliser(self) -> Tensor:
        """log sum exp(d), (n,): log1p keeps a confident row's 1e-18 that log(1 + 1e-18) would lose."""
        return torch.log1p(self.rest)

    @property
    def lse(self) -> Tensor:
        return self.peak + self.log_normaliser

    @property
    def q(self) -> Tensor:
        """Probabilities, (n, K)."""
        whole = self.e.scatter(1, self.top[:, None], torch.ones_like(self.peak)[:, None])
        return whole / (1.0 + self.rest)[:, None]

    def log_q(self) -> Tensor:
        """Log-probabilities, (n, K)."""
        return self.d - self.log_normaliser[:, None]

    @property
    def mean_gap(self) -> Tensor:
        """m = -sum q_k d_k, (n,), a sum of positive terms; the entropy is log sum exp(d) + m."""
        q = self.q
        return -(q * torch.where(q == 0, 0.0, self.d)).sum(1)  # 0 log 0 = 0

    def others(self, label: Tensor) -> Tensor:
        """Return o = 1 - q_y, (n,): summed from the other classes, never as a difference from one."""
        e = take(self.e, label)
        return torch.where(label == self.top, self.rest, 1.0 + (self.rest - e)) / (1.0 + self.rest)


def shifted(u: Tensor, temperature: float = 1.0) -> Shifted:
    """Exponentiate rows about their maximum.

    A row with NaN, with +inf, or with nothing above -inf comes out NaN.

    The temperature divides after the shift: u / T may overflow where (u - max) / T only tends to -inf. At the
    maximum d is a constant. So its derivative is the sum over the others, with no 1 - 1 in it. A NaN
    multiplies, as a constant would not reach the derivative.
    """
    top = u.argmax(1)
    peak = take(u, top)
    at_top = (peak - peak).detach()  # 0, or NaN
    d = (u - peak[:, None]).scatter(1, top[:, None], at_top[:, None])
    d, peak = over(d, temperature), over(peak, temperature)
    e = torch.exp(d).scatter(1, top[:, None], torch.zeros_like(peak)[:, None])
    rest = e.sum(1)
    return Shifted(top, peak, d, e, rest * (1.0 + at_top))


def of_label(value: float | Tensor, label: Tensor) -> float | Tensor:
    """Return a field's entry for each label: (n,), or the one number that it is."""
    return value[label] if isinstance(value, Tensor) else value


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Return rows[i, index[i]], (n,)."""
    return rows.gather(1, index[:, None])[:, 0]


def along(per_row: Tensor) -> Tensor:
    """Return one number a row, (n, 1), for products with rows."""
    return per_row[:, None]
