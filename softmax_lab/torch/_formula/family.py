"""The loss family on rows (n, K) in plain torch: values, gradients and Hessian products.

The formula of a row stands in :mod:`.terms`. Nothing is reduced here. Every function is made of operations
that can be differentiated, mapped and compiled; :mod:`.rows` says how.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import terms
from .fields import SpecTensors, is_active
from .rows import Shifted, along, before_temperature, over, shifted, take
from .terms import RowTerms, SoftTerms, Sums

__all__ = ["hvp", "soft_value", "soft_value_and_gradient", "soft_weights", "value", "value_and_gradient"]


def value(z: Tensor, label: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor]:
    """Return values (n,) and the rows' weights w (n,), for class indices.

    Differentiable to any order.
    """
    rows = shifted(before_temperature(z, spec, label).u, spec.temperature)
    found = _of_labels(rows, label, spec)
    return found.terms.value, found.weight


def value_and_gradient(z: Tensor, label: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (n,), dL/dz (n, K) and the rows' weights w (n,), for class indices."""
    u, slope = before_temperature(z, spec, label)
    rows = shifted(u, spec.temperature)
    found = _of_labels(rows, label, spec)
    gradient = _gradient_u(rows.q, found.terms, label, spec)
    return found.terms.value, over(gradient * slope, spec.temperature), found.weight


def soft_value(z: Tensor, target: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor]:
    """Return values (n,) and the rows' weights w (n,), for target distributions (n, K).

    Differentiable to any order.
    """
    rows = shifted(before_temperature(z, spec, None).u, spec.temperature)
    found = _of_distributions(rows, target, spec)
    return found.terms.value, found.weight


def soft_value_and_gradient(z: Tensor, target: Tensor, spec: SpecTensors) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (n,), dL/dz (n, K) and the rows' weights w (n,), for target distributions (n, K).

    A distribution is taken as it is.
    """
    u, slope = before_temperature(z, spec, None)
    rows = shifted(u, spec.temperature)
    found = _of_distributions(rows, target, spec)
    return found.terms.value, over(found.gradient_u(rows.q) * slope, spec.temperature), found.weight


def hvp(
    z: Tensor, tangent: Tensor, spec: SpecTensors, *, label: Tensor | None, soft: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the Hessian of each row's value times ``tangent``, (n, K), and the rows' weights w (n,).

    The target is one of the two. With t the tangent in u and mu = q.t, dq = q (t - mu), and the rest is O(K).
    """
    u, slope = before_temperature(z, spec, label)
    rows = shifted(u, spec.temperature)
    q, t = rows.q, tangent * slope  # T divides at the end
    at_top = take(t, rows.top)
    t = t - along(at_top)  # a confident row's t - mu would cancel
    mu = (q * t).sum(1)
    moved = t - along(mu)
    dq = q * moved
    if soft is not None:
        found = _of_distributions(rows, soft, spec)
        weight, gradient_u = found.weight, found.gradient_u(q)
        product = along(terms.soft_product_terms(found.mass, weight).straight) * dq
    else:
        assert label is not None
        of_label = _of_labels(rows, label, spec)
        weight, gradient_u = of_label.weight, _gradient_u(q, of_label.terms, label, spec)
        product = along(weight) * _product(rows, moved, label, spec, of_label.sums)
    if spec.z_loss:
        mean = mu + at_top
        product = product + 2.0 * spec.z_loss * (along(mean) * q + along(rows.lse) * dq)
    product = over(product, spec.temperature) * slope
    if spec.softcap is not None:
        # this order gives 0 where the cap is saturated
        bend = -2.0 * torch.tanh(z / spec.softcap) * slope / spec.softcap
        product = product + gradient_u * bend * tangent
    return over(product, spec.temperature), weight


def soft_weights(target: Tensor, spec: SpecTensors) -> Tensor:
    """Return w = sum_k t_k W_k / sum_k t_k, (n,); 1 where the target is all zero."""
    mass = target.sum(1)
    if isinstance(spec.class_weight, Tensor):
        return terms.mean_weight((target * spec.class_weight).sum(1), mass)
    return torch.where(mass > 0, torch.full_like(mass, spec.class_weight), 1.0)


# ---- a class index ----


class _OfLabels(NamedTuple):
    weight: Tensor  # w (n,)
    sums: Sums
    terms: RowTerms


def _of_labels(rows: Shifted, label: Tensor, spec: SpecTensors) -> _OfLabels:
    num_classes, log_normaliser = rows.d.shape[1], rows.log_normaliser
    log_q_y = take(rows.d, label) - log_normaliser
    weight = terms.class_weights(spec, label, torch.exp(log_q_y)) + torch.zeros_like(log_q_y)
    prior_log_q = terms.expected_log_q(spec, rows.log_q(), num_classes) if is_active(spec.smoothing) else None
    sums = Sums(log_q_y, rows.others(label), rows.lse, prior_log_q, num_classes)
    return _OfLabels(weight, sums, terms.row_terms(spec, label, sums, weight))


def _gradient_u(q: Tensor, of: RowTerms, label: Tensor, spec: SpecTensors) -> Tensor:
    gradient = along(of.alpha) * q
    if is_active(spec.smoothing):
        gradient = gradient - along(of.beta) * terms.prior(spec, q.shape[1])
    return gradient.scatter(1, label[:, None], along(of.at_target))


def _product(rows: Shifted, moved: Tensor, label: Tensor, spec: SpecTensors, sums: Sums) -> Tensor:
    """Return the product for w = 1 and no z-loss; ``moved`` is t - mu."""
    q = rows.q
    smoothed = is_active(spec.smoothing)
    prior_moved = (moved * terms.prior(spec, sums.num_classes)).sum(1) if smoothed else 0.0
    of = terms.product_terms(spec, label, sums, take(q, label), take(moved, label), prior_moved)
    straight = along(of.straight) * q * moved
    if of.d_phi is None or of.tilt is None:
        return straight
    residual = _gradient_u(q, terms.residual_terms(spec, label, sums), label, spec)
    one_hot_minus_q = (-q).scatter(1, label[:, None], along(sums.others))
    return along(of.d_phi) * residual + straight + along(of.tilt) * one_hot_minus_q


# ---- a given distribution ----


class _OfDistributions(NamedTuple):
    weight: Tensor  # w (n,)
    smoothed: Tensor  # s (n, K)
    mass: Tensor  # (n,)
    terms: SoftTerms

    def gradient_u(self, q: Tensor) -> Tensor:
        return along(self.terms.alpha) * q - along(self.terms.beta) * self.smoothed


def _of_distributions(rows: Shifted, target: Tensor, spec: SpecTensors) -> _OfDistributions:
    s, weight = terms.smoothed(spec, target, target.shape[1]), soft_weights(target, spec)
    log_q = rows.log_q()
    # 0 log 0 = 0; elsewhere the derivative in s is -log q
    log_q = torch.where((s == 0) & (log_q == -torch.inf), 0.0, log_q)
    sums = terms.SoftSums(-(s * log_q).sum(1), s.sum(1), rows.lse)
    return _OfDistributions(weight, s, sums.mass, terms.soft_terms(spec, sums, weight))
