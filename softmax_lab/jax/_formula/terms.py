r"""The formula of a row: what it comes to once its sums over the classes are done.

With o = 1 - q_y (summed from the other classes), C the smoothed cross-entropy and phi = o^gamma:

.. math::

    L = w \varphi C + \lambda \operatorname{lse}(u)^2, \qquad
    C = -(1 - \varepsilon) \log q_y - \varepsilon \textstyle\sum_k r_k \log q_k + \kappa o

Only the value is written here. The sums' own derivatives (:mod:`.rows`) have all their digits, and the chain
rule adds no difference that cancels: the derivatives are multiples of e_y - q, of r - q and of q. So
every field has its derivative too, but what the family holds constant: the gate's exponent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from .fields import Fields

__all__ = [
    "SoftSums",
    "Sums",
    "class_weights",
    "mean_weight",
    "needs_others",
    "of_label",
    "row_terms",
    "smoothed",
    "soft_terms",
]


class Sums(NamedTuple):
    """What is known of rows with a class index, all (n,)."""

    log_q_y: Array
    others: Array  # o = 1 - q_y
    lse: Array
    prior_log_q: Array | None  # sum_k r_k log q_k; None without smoothing


class SoftSums(NamedTuple):
    """What is known of rows with a given distribution, all (n,)."""

    cross: Array  # -sum_k s_k log q_k
    lse: Array


def needs_others(spec: Fields) -> bool:
    """Whether a row's value depends on o, beside log q_y."""
    return spec.gamma is not None or spec.poly is not None


def row_terms(spec: Fields, label: Array, sums: Sums, weight: Array | float) -> Array:
    """Return the value of rows with a class index, (n,); ``weight`` is w."""
    eps = 0.0 if spec.smoothing is None else of_label(spec.smoothing, label)
    cross = _smoothed_cross(eps, sums)
    if spec.poly is not None:
        cross = (1.0 + spec.poly) * sums.others + _excess(eps, sums)
    if spec.gamma is not None:
        phi = _power(sums.others, spec.gamma)
        # where q_y has underflowed C may be infinite: phi's part of the derivative has the limit 0
        impossible = jnp.exp(sums.log_q_y) == 0
        cross = jnp.where(impossible, lax.stop_gradient(phi), phi) * cross
    return _with_z_loss(weight * cross, sums.lse, spec)


def soft_terms(spec: Fields, sums: SoftSums, weight: Array | float) -> Array:
    """Return the value of rows with a given distribution, (n,); ``weight`` is w."""
    return _with_z_loss(weight * sums.cross, sums.lse, spec)


def class_weights(spec: Fields, label: Array, q_y: Array | None) -> Any:
    """Return w = W_y ^ (q_y ^ g), (n,), or one number for all rows; the gate's exponent is a constant."""
    if spec.class_weight is None:
        return 1.0
    weight = of_label(spec.class_weight, label)
    if spec.gate is None:
        return weight
    assert q_y is not None
    return weight ** lax.stop_gradient(q_y**spec.gate)


def mean_weight(spec: Fields, target: Array, mass: Array, weighted: Array) -> Array:
    """Return w = sum_k t_k W_k / sum_k t_k, (n,); 1 where the target is all zero."""
    return jnp.where(mass > 0, weighted / jnp.where(mass > 0, mass, 1.0), 1.0)


def smoothed(spec: Fields, target: Array, prior: Array) -> Array:
    """Return s = (1 - eps) t + eps r, (n, K)."""
    if spec.smoothing is None:
        return target
    mixed: Array = (1.0 - spec.smoothing) * target + spec.smoothing * prior
    return mixed


def of_label(value: Array, label: Array) -> Array:
    """Return a field's entry for each label: (n,), or the one number that it is."""
    return value[label] if jnp.ndim(value) else value


def _smoothed_cross(eps: Any, sums: Sums) -> Array:
    if sums.prior_log_q is None:
        return -sums.log_q_y
    cross: Array = _part(1.0 - eps, -sums.log_q_y) - eps * sums.prior_log_q
    return cross


def _part(share: Array, x: Array) -> Array:
    """Return share x, where 0 inf = 0: a class without mass adds nothing, however impossible it is."""
    return jnp.where(share == 0, 0.0, share * jnp.where(share == 0, 0.0, x))


def _excess(eps: Any, sums: Sums) -> Array:
    """Return C - (1 + kappa) o, (n,)."""
    rest = _plain_excess(sums.others, -sums.log_q_y)
    if sums.prior_log_q is None:
        return rest
    excess: Array = _part(1.0 - eps, rest) + eps * (-sums.prior_log_q - sums.others)
    return excess


def _plain_excess(o: Array, cross: Array) -> Array:
    """Return -log(1 - o) - o, which is o^2 / 2 + ..., from o and -log(1 - o).

    With x = o / (2 - o) the logarithm is 2 artanh x and o is 2 x / (1 + x): a sum of positive terms.
    """
    small = o < 0.5
    near = jnp.where(small, o, 0.0)
    x = near / (2.0 - near)
    series = jnp.zeros_like(o)
    for coefficient in _ARTANH:
        series = series * x * x + coefficient
    return jnp.where(small, 2.0 * x * x * (1.0 / (1.0 + x) + x * series), cross - o)


#: artanh x = x + x^3 (1/3 + x^2 / 5 + ...), the highest power first
_ARTANH = tuple(1.0 / n for n in range(35, 1, -2))


def _with_z_loss(value: Array, lse: Array, spec: Fields) -> Array:
    """Return the value with lambda lse^2 added."""
    return value if spec.z_loss is None else value + (spec.z_loss * lse) * lse


def _power(o: Array, power: Array) -> Array:
    """Return o^power, and 0 where o has underflowed to 0: no NaN in the derivative."""
    none = o == 0
    of_none = jnp.where(power == 0, 1.0, 0.0)
    return jnp.where(none, of_none, jnp.where(none, 1.0, o) ** power)
