r"""The loss family in plain torch: the same formula as :mod:`softmax_lab.cross_entropy`, on tensors of any
device.

Symbols as in :mod:`softmax_lab.spec`. A row needs four numbers beside its probabilities, whatever the member
of the family; with o = 1 - q_y (summed from the other classes), C the smoothed cross-entropy, phi = o^gamma
and psi = -gamma o^(gamma-1) q_y:

.. math::

    L &= w \varphi C + \lambda \operatorname{lse}(u)^2, \qquad
    C = -(1 - \varepsilon) \log q_y - \varepsilon \textstyle\sum_k r_k \log q_k \\
    \frac{\partial L}{\partial u_k} &= \alpha q_k - \beta r_k \quad (k \ne y), \qquad
    \alpha = w\varphi - w\psi C + 2 \lambda \operatorname{lse}(u), \quad \beta = w \varphi \varepsilon \\
    \frac{\partial L}{\partial u_y} &= \beta (1 - r_y) - (w\varphi - w\psi C)\, o
        + 2 \lambda \operatorname{lse}(u)\, q_y

Every function here works on rows (n, K) of float32 or float64 (callers widen half precision first), makes no
in-place change and reads nothing back from the device, so that autograd, forward mode, functorch and the
compiler all go through it. What crosses rows (the reduction) or ranks is the caller's.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..spec import FIELDS, LossSpec, Part, acting_on

__all__ = [
    "Affine",
    "RowTerms",
    "Shifted",
    "SpecTensors",
    "affine",
    "class_weights",
    "expected_log_q",
    "extreme",
    "hvp",
    "only",
    "outside_of_modes",
    "over",
    "prior",
    "row_terms",
    "shard",
    "shifted",
    "smoothed",
    "soft_value",
    "soft_value_and_gradient",
    "soft_weights",
    "spec_tensors",
    "value",
    "value_and_gradient",
]


if TYPE_CHECKING:

    class SpecTensors(tuple[Any, ...]):
        """The fields of a :class:`LossSpec`: its numbers as floats, its arrays as tensors on one device."""

        _fields: ClassVar[tuple[str, ...]]

        def __new__(cls, **fields: Any) -> SpecTensors: ...
        def __getattr__(self, name: str) -> Any: ...
        def _replace(self, **fields: Any) -> SpecTensors: ...
        def _asdict(self) -> dict[str, Any]: ...

else:
    SpecTensors = namedtuple("SpecTensors", FIELDS, defaults=[field.neutral for field in FIELDS.values()])


def spec_tensors(spec: LossSpec, device: torch.device | str, dtype: torch.dtype) -> SpecTensors:
    """Return the fields of ``spec`` with its arrays on ``device``, made once for each spec object, device and
    dtype.

    The cache is the spec's own (by identity, and freed with it): comparing specs by value would read every
    array. Do not write to the tensors.
    """
    cache: dict[tuple[torch.device, torch.dtype], SpecTensors] = spec.__dict__.setdefault("_tensors", {})
    key = torch.device(device), dtype
    if key not in cache:
        tamed = spec if spec.is_moderate else spec.tamed
        values = {name: getattr(tamed, name) for name in FIELDS}
        if spec.prior is not None:
            values["prior"] = spec.prior / np.sum(spec.prior)  # a LossSpec lets the sum miss one by 1e-6
        with outside_of_modes():
            tensors = {
                name: torch.tensor(v, dtype=dtype, device=device)
                for name, v in values.items()
                if isinstance(v, np.ndarray)
            }
        cache[key] = SpecTensors(**(values | tensors))
    return cache[key]


@contextmanager
def outside_of_modes() -> Iterator[None]:
    """Make ordinary tensors, which may be kept: none of inference mode, of a functorch level, or without
    memory (fake).
    """
    with torch.inference_mode(False), torch._C._DisableFuncTorch(), _disable_current_modes():
        yield


def shard(spec: SpecTensors, first: int, last: int) -> SpecTensors:
    """Return the fields for the classes ``first`` to ``last - 1`` alone.

    What is read by column is cut. What is looked up by the (global) label stays whole, and so do the rows of
    a matrix.
    """
    given = {name: getattr(spec, name) for name in _BY_COLUMN}
    cut = {name: value[..., first:last] for name, value in given.items() if isinstance(value, Tensor)}
    return spec._replace(**cut)


_BY_COLUMN = tuple(name for name, field in FIELDS.items() if field.ranks and field.read_by == "column")


def only(spec: SpecTensors, *parts: Part) -> SpecTensors:
    """Return the fields that act on these parts of the formula; the others are neutral."""
    return SpecTensors(**{name: getattr(spec, name) for part in parts for name in acting_on(part)})


class Affine(NamedTuple):
    """u (n, K), and du/dz: a number, (K,) or (n, K)."""

    u: Tensor
    slope: float | Tensor


def affine(z: Tensor, spec: SpecTensors, label: Tensor | None, *, first: int = 0) -> Affine:
    """Return u = (a v + b - m e_y) / T with v the soft-capped z, and du/dz.

    ``label`` (n,) holds valid classes (the caller puts 0 where a row does not count); None for target
    distributions. ``first`` is the class of the first column, where the columns are a shard: labels outside
    it have no margin here.
    """
    u, steepness = _unscaled(z, spec, label, first)
    return Affine(over(u, spec.temperature), steepness / spec.temperature)


def over(x: Tensor, temperature: float) -> Tensor:
    """Return x / T, where T may lie beyond what a tensor of x's type can hold: 0 / T is 0, and never 0 times
    an infinite 1/T.
    """
    if temperature == 1.0:
        return x
    if x.dtype == torch.float64 or _SMALLEST < temperature < _LARGEST:
        return x / temperature
    return (x.double() / temperature).to(x.dtype)


_SMALLEST, _LARGEST = 1e-15, 1e15  # float32 has room for the square of a quotient of such numbers


def extreme(spec: SpecTensors) -> bool:
    """Whether a number among the fields is so large or so small that float32 would lose it on the way."""
    factors, sizes = ([getattr(spec, name) for name in names] for names in (_FACTORS, _SIZES))
    return any(isinstance(x, float) and x != 0 and not _SMALLEST < x < _LARGEST for x in factors) or any(
        isinstance(x, float) and abs(x) > _LARGEST for x in sizes
    )


_FACTORS = tuple(name for name, field in FIELDS.items() if field.size == "factor")
_SIZES = tuple(name for name, field in FIELDS.items() if field.size in ("term", "power"))


def _unscaled(
    z: Tensor, spec: SpecTensors, label: Tensor | None, first: int = 0
) -> tuple[Tensor, float | Tensor]:
    """Return u T = a v + b - m e_y, and its derivative in z."""
    v, slope = z, spec.scale
    if spec.softcap is not None:
        x = z / spec.softcap
        # -inf stays -inf, with tanh's derivative of 0; and of a cap out of sight tanh sees nothing
        capped = spec.softcap * torch.tanh(x) + torch.where(z == -torch.inf, -torch.inf, 0.0)
        v = torch.where(x.abs() < _UNSEEN, z, capped)
        slope = slope * torch.cosh(x).pow(-2.0)
    u = v * spec.scale if _active(spec.scale, 1.0) else v
    if _active(spec.bias):
        if isinstance(spec.bias, Tensor) and spec.bias.ndim == 2:
            assert label is not None
            u = u + spec.bias[label]
        else:
            u = u + spec.bias
    if label is not None and _active(spec.margin):
        column = label - first
        here = (column >= 0) & (column < z.shape[1])
        margin = here.to(z.dtype) * _at(spec.margin, label)
        u = u.scatter_add(1, column.clamp(0, z.shape[1] - 1)[:, None], -margin[:, None])
    return u, slope


_UNSEEN = 2.0**-28  # tanh x is x (1 - x^2 / 3 + ...)


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
        return (
            self.e.scatter(1, self.top[:, None], torch.ones_like(self.peak)[:, None])
            / (1.0 + self.rest)[:, None]
        )

    def log_q(self) -> Tensor:
        """Log-probabilities, (n, K)."""
        return self.d - self.log_normaliser[:, None]

    def others(self, label: Tensor) -> Tensor:
        """Return o = 1 - q_y, (n,): summed from the other classes, never as a difference from one."""
        e = _take(self.e, label)
        return torch.where(label == self.top, self.rest, 1.0 + (self.rest - e)) / (1.0 + self.rest)


def shifted(u: Tensor, temperature: float = 1.0) -> Shifted:
    """Exponentiate rows about their maximum. A row with NaN, with +inf, or with nothing above -inf comes out
    NaN.

    The temperature divides after the shift: u / T may overflow where (u - max) / T only tends to -inf. At the
    maximum d is a constant, so that its derivative is the sum over the others, with no 1 - 1 in it. A NaN
    multiplies, as a constant would not reach the derivative.
    """
    top = u.argmax(1)
    peak = _take(u, top)
    at_top = (peak - peak).detach()  # 0, or NaN
    d = (u - peak[:, None]).scatter(1, top[:, None], at_top[:, None])
    d, peak = over(d, temperature), over(peak, temperature)
    e = torch.exp(d).scatter(1, top[:, None], torch.zeros_like(peak)[:, None])
    rest = e.sum(1)
    return Shifted(top, peak, d, e, rest * (1.0 + at_top))


class RowTerms(NamedTuple):
    """What the gradient of a row needs beside q and r: dL/du_k = alpha q_k - beta r_k, and the target's own.
    All (n,).
    """

    value: Tensor
    alpha: Tensor
    beta: Tensor
    at_target: Tensor


def row_terms(
    spec: SpecTensors,
    label: Tensor,
    num_classes: int,
    *,
    log_q_y: Tensor,
    others: Tensor,
    lse: Tensor,
    prior_log_q: Tensor | None,
    weight: Tensor | float,
) -> RowTerms:
    """Return value and gradient coefficients of rows whose target is a class index: every sum over classes is
    done already.

    ``others`` is o, ``prior_log_q`` is sum_k r_k log q_k (None without smoothing), ``weight`` is w; all (n,).
    ``num_classes`` is K, of all shards together.
    """
    q_y, zero = torch.exp(log_q_y), torch.zeros_like(log_q_y)
    eps, r_y = _at(spec.smoothing, label), _at(prior(spec, num_classes), label)
    cross = -log_q_y if prior_log_q is None else -(1.0 - eps) * log_q_y - eps * prior_log_q
    phi, psi_cross, push = zero + 1.0, zero, zero
    if spec.gamma:
        phi = _power(others, spec.gamma)
        # q_y C, whose limit is 0 where q_y has underflowed and C may be infinite
        psi_cross = -spec.gamma * _power(others, spec.gamma - 1.0) * torch.where(q_y == 0, 0.0, q_y * cross)
    value, base = weight * phi * cross, weight * (phi - psi_cross)
    if spec.z_loss:
        value, push = value + (spec.z_loss * lse) * lse, 2.0 * (spec.z_loss * lse)
    beta = weight * phi * eps
    return RowTerms(value, base + push, beta, beta * (1.0 - r_y) - base * others + push * q_y)


def class_weights(spec: SpecTensors, label: Tensor, q_y: Tensor | None) -> float | Tensor:
    """Return w = W_y ^ (q_y ^ g) per row, a constant in every derivative.

    ``q_y`` is read only where there is a gate.
    """
    weight = _at(spec.class_weight, label)
    if not spec.gate:
        return weight
    assert q_y is not None
    return weight ** (q_y.detach() ** spec.gate)


def prior(spec: SpecTensors, num_classes: int) -> float | Tensor:
    """Return r: (K,), or the one number 1/K where it is uniform."""
    return 1.0 / num_classes if spec.prior is None else spec.prior


def expected_log_q(spec: SpecTensors, log_q: Tensor, num_classes: int) -> Tensor:
    """Return sum_k r_k log q_k over the columns of ``log_q``, (n,); 0 log 0 = 0."""
    r = prior(spec, num_classes)
    return (torch.where(r == 0, 0.0, r * log_q) if isinstance(r, Tensor) else r * log_q).sum(1)


def value_and_gradient(z: Tensor, label: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (n,), dL/dz (n, K) and the rows' weights w (n,), for class-index targets.

    Nothing is reduced.
    """
    u, slope = _unscaled(z, spec, label)
    rows = shifted(u, spec.temperature)
    weight, terms = _terms(rows, label, spec)
    return terms.value, over(_gradient_u(rows.q, terms, label, spec) * slope, spec.temperature), weight


def _gradient_u(q: Tensor, terms: RowTerms, label: Tensor, spec: SpecTensors) -> Tensor:
    gradient = _row(terms.alpha) * q
    if _active(spec.smoothing):
        gradient = gradient - _row(terms.beta) * prior(spec, q.shape[1])
    return gradient.scatter(1, label[:, None], _row(terms.at_target))


def value(z: Tensor, label: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor]:
    """Return values (n,) and the rows' weights w (n,), for class-index targets.

    Differentiable to any order.
    """
    weight, terms = _terms(shifted(_unscaled(z, spec, label)[0], spec.temperature), label, spec)
    return terms.value, weight


def _terms(rows: Shifted, label: Tensor, spec: SpecTensors) -> tuple[Tensor, RowTerms]:
    """Return the weights and the terms of rows."""
    num_classes, log_normaliser = rows.d.shape[1], rows.log_normaliser
    log_q_y = _take(rows.d, label) - log_normaliser
    weight = class_weights(spec, label, torch.exp(log_q_y)) + torch.zeros_like(log_q_y)
    prior_log_q = expected_log_q(spec, rows.log_q(), num_classes) if _active(spec.smoothing) else None
    others = rows.others(label)
    return weight, row_terms(
        spec,
        label,
        num_classes,
        log_q_y=log_q_y,
        others=others,
        lse=rows.lse,
        prior_log_q=prior_log_q,
        weight=weight,
    )


def soft_value_and_gradient(z: Tensor, target: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (n,), dL/dz (n, K) and the rows' weights (n,) for target distributions (n, K), taken as
    they are.
    """
    u, slope = _unscaled(z, spec, None)
    rows = shifted(u, spec.temperature)
    weight = soft_weights(target, spec)
    values = _soft_value(rows, smoothed(target, spec), weight, spec)
    return values, over(_soft_gradient_u(rows, target, spec) * slope, spec.temperature), weight


def _soft_gradient_u(rows: Shifted, target: Tensor, spec: SpecTensors) -> Tensor:
    s, weight = smoothed(target, spec), soft_weights(target, spec)
    alpha = weight * s.sum(1)
    if spec.z_loss:
        alpha = alpha + 2.0 * spec.z_loss * rows.lse
    return _row(alpha) * rows.q - _row(weight) * s


def soft_value(z: Tensor, target: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor]:
    """Return values (n,) and the rows' weights w (n,) for target distributions (n, K).

    Differentiable to any order.
    """
    rows, weight = shifted(_unscaled(z, spec, None)[0], spec.temperature), soft_weights(target, spec)
    return _soft_value(rows, smoothed(target, spec), weight, spec), weight


def hvp(
    z: Tensor, tangent: Tensor, spec: SpecTensors, *, label: Tensor | None, soft: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the Hessian of each row's value times ``tangent``, (n, K), and the rows' weights w (n,).

    One target of the two.

    As in :mod:`softmax_lab.cross_entropy`: with t the tangent in u and mu = q.t, dq = q (t - mu), and the
    rest is O(K).
    """
    u, slope = _unscaled(z, spec, label)
    rows = shifted(u, spec.temperature)
    q, t = rows.q, tangent * slope  # T divides at the end
    t = t - _row(_take(t, rows.top))  # a confident row's t - mu would cancel
    mu = (q * t).sum(1)
    moved = t - _row(mu)
    dq = q * moved
    if soft is not None:
        weight, gradient_u = soft_weights(soft, spec), _soft_gradient_u(rows, soft, spec)
        product = _row(weight * smoothed(soft, spec).sum(1)) * dq
    else:
        assert label is not None
        weight, terms = _terms(rows, label, spec)
        gradient_u = _gradient_u(q, terms, label, spec)
        product = _row(weight) * (_focal_hvp(rows, moved, label, spec) if spec.gamma else dq)
    if spec.z_loss:
        mean = mu + _take(tangent * slope, rows.top)
        product = product + 2.0 * spec.z_loss * (_row(mean) * q + _row(rows.lse) * dq)
    product = over(product, spec.temperature) * slope
    if spec.softcap is not None:
        # in this order 0, where the cap is saturated
        bend = -2.0 * torch.tanh(z / spec.softcap) * slope / spec.softcap
        product = product + gradient_u * bend * tangent
    return over(product, spec.temperature), weight


def _focal_hvp(rows: Shifted, moved: Tensor, label: Tensor, spec: SpecTensors) -> Tensor:
    """The terms of phi and psi: d(phi) (q - s) + phi dq + d(psi C) (e_y - q) - psi C dq, for w = 1."""
    gamma, eps, r = spec.gamma, _at(spec.smoothing, label), prior(spec, moved.shape[1])
    q, o, t_y = rows.q, rows.others(label), _take(moved, label)
    q_y, slope, curve = _take(q, label), _power(o, gamma - 1.0), _power(o, gamma - 2.0)
    plain = only(spec, "logits", "target")
    _, terms = _terms(rows, label, plain)  # its value is C, its gradient q - s
    q_cross = torch.where(q_y == 0, 0.0, q_y * terms.value)
    d_cross = -(1.0 - eps) * t_y - eps * (moved * r).sum(1)
    d_psi_cross = (
        gamma * ((gamma - 1.0) * curve * q_y - slope) * q_cross * t_y - gamma * slope * q_y * d_cross
    )
    one_hot_minus_q = (-q).scatter(1, label[:, None], _row(o))
    return (
        _row(-gamma * slope * q_y * t_y) * _gradient_u(q, terms, label, plain)
        + _row(_power(o, gamma) + gamma * slope * q_cross) * q * moved
        + _row(d_psi_cross) * one_hot_minus_q
    )


def _soft_value(rows: Shifted, s: Tensor, weight: Tensor, spec: SpecTensors) -> Tensor:
    log_q = rows.log_q()
    # 0 log 0 = 0, with -log q for derivative in s elsewhere
    log_q = torch.where((s == 0) & (log_q == -torch.inf), 0.0, log_q)
    values = -weight * (s * log_q).sum(1)
    return values + (spec.z_loss * rows.lse) * rows.lse if spec.z_loss else values


def smoothed(target: Tensor, spec: SpecTensors) -> Tensor:
    """Return s = (1 - eps) t + eps r for target distributions (n, K)."""
    if not _active(spec.smoothing):
        return target
    return (1.0 - spec.smoothing) * target + spec.smoothing * prior(spec, target.shape[1])


def soft_weights(target: Tensor, spec: SpecTensors) -> Tensor:
    """Return w = sum_k t_k W_k / sum_k t_k, (n,); 1 where the target is all zero."""
    total = target.sum(1)
    if not isinstance(spec.class_weight, Tensor):
        return torch.where(total > 0, torch.full_like(total, spec.class_weight), 1.0)
    return torch.where(
        total > 0, (target * spec.class_weight).sum(1) / torch.where(total > 0, total, 1.0), 1.0
    )


def _active(value: float | Tensor, neutral: float = 0.0) -> bool:
    """Whether a field can differ from its neutral value.

    Of a tensor that is not asked, it would have to be read back.
    """
    return isinstance(value, Tensor) or value != neutral


def _at(value: float | Tensor, label: Tensor) -> float | Tensor:
    return value[label] if isinstance(value, Tensor) else value


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Return rows[i, index[i]], (n,)."""
    return rows.gather(1, index[:, None])[:, 0]


def _row(per_row: Tensor) -> Tensor:
    return per_row[:, None]


def _power(o: Tensor, power: float) -> Tensor:
    """Return o^power, and 0 where o has underflowed to 0, for a negative power too.

    No NaN in the derivative.
    """
    none = o == 0
    return torch.where(none, 1.0 if power == 0 else 0.0, torch.where(none, 1.0, o) ** power)
