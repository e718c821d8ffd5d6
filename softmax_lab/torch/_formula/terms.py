r"""The formula of a row: what it comes to once its sums over the classes are done.

A row needs a few numbers beside its probabilities, whatever the member of the family. With o = 1 - q_y
(summed from the other classes), C the smoothed cross-entropy, phi = o^gamma and psi = -gamma o^(gamma-1) q_y:

.. math::

    L &= w \varphi C + \lambda \operatorname{lse}(u)^2, \qquad
    C = -(1 - \varepsilon) \log q_y - \varepsilon \textstyle\sum_k r_k \log q_k + \kappa o \\
    \frac{\partial L}{\partial u_k} &= \alpha q_k - \beta r_k \quad (k \ne y), \qquad
    \alpha = w P + 2 \lambda \operatorname{lse}(u), \quad P = \varphi (1 + \kappa q_y) - \psi C,
        \quad \beta = w \varphi \varepsilon \\
    \frac{\partial L}{\partial u_y} &= \beta (1 - r_y) - w P o + 2 \lambda \operatorname{lse}(u)\, q_y

beta multiplies what is spread over the classes and subtracted: the prior r for a class index, the smoothed
target s for a given distribution. alpha multiplies the probability q here. (The loops in Numba and Triton
divide it by the row's sum first, and multiply the exponential e.)

Who has a row on one process (:mod:`.family`) and who has its columns spread over several
(:mod:`softmax_lab.torch._machinery.shards`) calls the same functions. What crosses rows (the reduction) is
the caller's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .fields import SpecTensors, is_active, only
from .rows import of_label

__all__ = [
    "ProductTerms",
    "RowTerms",
    "SoftSums",
    "SoftTerms",
    "Sums",
    "class_weights",
    "expected_log_q",
    "mean_weight",
    "prior",
    "product_terms",
    "residual_terms",
    "row_terms",
    "smoothed",
    "soft_product_terms",
    "soft_terms",
]


class Sums(NamedTuple):
    """What is known of rows with a class index, all (n,)."""

    log_q_y: Tensor
    others: Tensor  # o = 1 - q_y
    lse: Tensor
    prior_log_q: Tensor | None  # sum_k r_k log q_k; None without smoothing
    num_classes: int  # K, of all shards together


class RowTerms(NamedTuple):
    """A row's value, and its gradient: alpha q_k - beta r_k, but at_target at y. All (n,)."""

    value: Tensor
    alpha: Tensor
    beta: Tensor
    at_target: Tensor


class SoftSums(NamedTuple):
    """What is known of rows with a given distribution, all (n,)."""

    cross: Tensor  # -sum_k s_k log q_k
    mass: Tensor  # sum_k s_k
    lse: Tensor


class SoftTerms(NamedTuple):
    """A row's value, and its gradient: alpha q_k - beta s_k. All (n,)."""

    value: Tensor
    alpha: Tensor
    beta: Tensor


class ProductTerms(NamedTuple):
    """The Hessian's product of a row with w = 1 and no z-loss: straight dq + d_phi (q - s) + tilt (e_y - q).

    All (n,). ``residual_terms`` gives the factor of d_phi. Without a focal factor and PolyLoss's first term
    only the first summand is there, and the others are None.
    """

    straight: Tensor
    d_phi: Tensor | None = None
    tilt: Tensor | None = None


# ---- a class index ----


def row_terms(spec: SpecTensors, label: Tensor, sums: Sums, weight: Tensor | float) -> RowTerms:
    """Return value and gradient of rows with a class index, ``label`` (n,); ``weight`` is w."""
    q_y, zero = torch.exp(sums.log_q_y), torch.zeros_like(sums.log_q_y)
    eps, r_y = of_label(spec.smoothing, label), of_label(prior(spec, sums.num_classes), label)
    cross = _smoothed_cross(eps, sums)
    phi, psi_cross = zero + 1.0, zero
    if spec.gamma:
        phi = _power(sums.others, spec.gamma)
        # where q_y has underflowed C may be infinite: phi's part of the derivative has the limit 0
        phi = torch.where(q_y == 0, phi.detach(), phi)
        psi_cross = -spec.gamma * _power(sums.others, spec.gamma - 1.0) * _q_cross(q_y, cross)
    pull = phi - psi_cross
    if spec.poly:
        rest = _excess(eps, sums)
        cross, pull = (1.0 + spec.poly) * sums.others + rest, _pull(spec, sums.others, q_y, rest, phi)
    beta, base = weight * phi * eps, weight * pull
    value, push = _with_z_loss(weight * phi * cross, sums.lse, spec)
    push = zero if push is None else push
    return RowTerms(value, base + push, beta, beta * (1.0 - r_y) - base * sums.others + push * q_y)


def residual_terms(spec: SpecTensors, label: Tensor, sums: Sums) -> RowTerms:
    """Return C and q - s: value and gradient of a row that no field but the target's act on.

    With PolyLoss's first term it is e_y - s, which is 0 without smoothing.
    """
    found = row_terms(only(spec, "target"), label, sums, 1.0)
    if not spec.poly:
        return found
    r_y = of_label(prior(spec, sums.num_classes), label)
    return found._replace(alpha=torch.zeros_like(found.alpha), at_target=found.beta * (1.0 - r_y))


def product_terms(
    spec: SpecTensors, label: Tensor, sums: Sums, q_y: Tensor, tangent_y: Tensor, prior_tangent: Any
) -> ProductTerms:
    """Return the terms of the Hessian's product with a tangent t that has q.t = 0.

    ``tangent_y`` is t_y, and ``prior_tangent`` is sum_k r_k t_k, which only smoothing reads; both (n,).
    """
    if spec.poly:
        return _poly_product_terms(spec, label, sums, q_y, tangent_y, prior_tangent)
    if not spec.gamma:
        return ProductTerms(torch.ones_like(sums.log_q_y))
    gamma, o = spec.gamma, sums.others
    eps, slope, curve = of_label(spec.smoothing, label), _power(o, gamma - 1.0), _power(o, gamma - 2.0)
    q_cross = _q_cross(q_y, _smoothed_cross(eps, sums))
    d_cross = -(1.0 - eps) * tangent_y - eps * prior_tangent
    tilt = gamma * ((gamma - 1.0) * curve * q_y - slope) * q_cross * tangent_y - gamma * slope * q_y * d_cross
    return ProductTerms(_power(o, gamma) + gamma * slope * q_cross, -gamma * slope * q_y * tangent_y, tilt)


def _poly_product_terms(
    spec: SpecTensors, label: Tensor, sums: Sums, q_y: Tensor, tangent_y: Tensor, prior_tangent: Any
) -> ProductTerms:
    """Return the terms with kappa != 0, without the orders that cancel at kappa = -1."""
    gamma, kappa, o, eps = spec.gamma, spec.poly, sums.others, of_label(spec.smoothing, label)
    phi, rest = _power(o, gamma), _excess(eps, sums)
    d_phi, turn = torch.zeros_like(o), (2.0 * gamma + 1.0) * kappa * phi * tangent_y
    if gamma:
        slope = gamma * _power(o, gamma - 1.0)
        over_o = torch.where(o == 0, 0.0, rest / torch.where(o == 0, 1.0, o))
        first = -(1.0 + kappa) * (1.0 + gamma * q_y) - (gamma - 1.0) * q_y * over_o + rest
        turn = turn + slope * (first * tangent_y + eps * (tangent_y - prior_tangent))
        d_phi = -slope * q_y * tangent_y
    return ProductTerms(_pull(spec, o, q_y, rest, phi), d_phi, -q_y * turn)


def class_weights(spec: SpecTensors, label: Tensor, q_y: Tensor | None) -> Any:
    """Return w = W_y ^ (q_y ^ g), a constant in every derivative: (n,), or one number for all rows.

    ``q_y`` is read only where there is a gate.
    """
    weight = of_label(spec.class_weight, label)
    if not spec.gate:
        return weight
    assert q_y is not None
    return weight ** (q_y.detach() ** spec.gate)


def expected_log_q(spec: SpecTensors, log_q: Tensor, num_classes: int) -> Tensor:
    """Return sum_k r_k log q_k over the columns of ``log_q``, (n,); 0 log 0 = 0."""
    r = prior(spec, num_classes)
    return (torch.where(r == 0, 0.0, r * log_q) if isinstance(r, Tensor) else r * log_q).sum(1)


# ---- a given distribution ----


def soft_terms(spec: SpecTensors, sums: SoftSums, weight: Tensor) -> SoftTerms:
    """Return value and gradient of rows with a given distribution; ``weight`` is w (n,)."""
    value, push = _with_z_loss(weight * sums.cross, sums.lse, spec)
    alpha = weight * sums.mass
    return SoftTerms(value, alpha if push is None else alpha + push, weight)


def soft_product_terms(mass: Tensor, weight: Tensor) -> ProductTerms:
    """Return the terms of the Hessian's product for a given distribution, its weight included."""
    return ProductTerms(weight * mass)


def mean_weight(weighted: Tensor, mass: Tensor) -> Tensor:
    """Return w = sum_k t_k W_k / sum_k t_k, (n,); 1 where the target is all zero."""
    return torch.where(mass > 0, weighted / torch.where(mass > 0, mass, 1.0), 1.0)


def smoothed(spec: SpecTensors, target: Tensor, num_classes: int) -> Tensor:
    """Return s = (1 - eps) t + eps r for the columns (n, K_r) of a target, of K classes in all."""
    if not is_active(spec.smoothing):
        return target
    mixed: Tensor = (1.0 - spec.smoothing) * target + spec.smoothing * prior(spec, num_classes)
    return mixed


# ---- both ----


def prior(spec: SpecTensors, num_classes: int) -> Any:
    """Return r: (K,), or the one number 1/K where it is uniform."""
    return 1.0 / num_classes if spec.prior is None else spec.prior


def _smoothed_cross(eps: float | Tensor, sums: Sums) -> Tensor:
    if sums.prior_log_q is None:
        return -sums.log_q_y
    return _part(1.0 - eps, -sums.log_q_y) - eps * sums.prior_log_q


def _part(share: float | Tensor, x: Tensor) -> Tensor:
    """Return share x, where 0 inf = 0: a class without mass adds nothing, however impossible it is."""
    if isinstance(share, Tensor):
        return torch.where(share == 0, 0.0, share * x)
    return share * x if share != 0 else torch.zeros_like(x)


def _excess(eps: float | Tensor, sums: Sums) -> Tensor:
    """Return C - (1 + kappa) o, (n,)."""
    rest = _plain_excess(sums.others, -sums.log_q_y)
    if sums.prior_log_q is None:
        return rest
    return _part(1.0 - eps, rest) + eps * (-sums.prior_log_q - sums.others)


def _plain_excess(o: Tensor, cross: Tensor) -> Tensor:
    """Return -log(1 - o) - o, which is o^2 / 2 + ..., from o and -log(1 - o).

    With x = o / (2 - o) the logarithm is 2 artanh x and o is 2 x / (1 + x): a sum of positive terms.
    """
    small = o < 0.5
    x = torch.where(small, o, 0.0) / (2.0 - o)
    series = torch.zeros_like(o)
    for coefficient in _ARTANH:
        series = series * x * x + coefficient
    return torch.where(small, 2.0 * x * x * (1.0 / (1.0 + x) + x * series), cross - o)


#: artanh x = x + x^3 (1/3 + x^2 / 5 + ...), the highest power first
_ARTANH = tuple(1.0 / n for n in range(35, 1, -2))


def _pull(spec: SpecTensors, o: Tensor, q_y: Tensor, rest: Tensor, phi: Tensor) -> Tensor:
    """Return P = phi (1 + kappa q_y) - psi C, from ``rest`` = C - (1 + kappa) o."""
    gamma, kappa = spec.gamma, spec.poly
    tilt = gamma + (1.0 + gamma) * kappa
    pull = phi * torch.where(q_y < 0.5, 1.0 + tilt * q_y, (1.0 + gamma) * (1.0 + kappa) - tilt * o)
    return pull + gamma * _power(o, gamma - 1.0) * _q_cross(q_y, rest) if gamma else pull


def _with_z_loss(value: Tensor, lse: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor | None]:
    """Return the value with lambda lse^2 added, and that summand's derivative 2 lambda lse."""
    if not spec.z_loss:
        return value, None
    return value + (spec.z_loss * lse) * lse, 2.0 * (spec.z_loss * lse)


def _q_cross(q_y: Tensor, cross: Tensor) -> Tensor:
    """Return q_y C, whose limit is 0 where q_y has underflowed and C may be infinite."""
    return torch.where(q_y == 0, 0.0, q_y * cross)


def _power(o: Tensor, power: float) -> Tensor:
    """Return o^power, and 0 where o has underflowed to 0, for a negative power too.

    No NaN in the derivative.
    """
    none = o == 0
    return torch.where(none, 1.0 if power == 0 else 0.0, torch.where(none, 1.0, o) ** power)
