r"""What a row of the loss comes to, once its exponentials are summed: the one formula behind all loss loops.

With E the sum of exp(d_k) over the classes other than the target, e_y that of the target, S = E + e_y, o = E
/ S = 1 - q_y and R = sum_k r_k d_k (d relative to the row's maximum):

.. math::

    -\log q_y &= \log(1 + x) - d_y, \quad x = E / e_y \text{ and } d_y = 0 \text{ at the maximum,}
        \text{ else } x = (E - 1) + e_y \\
    C &= (1 - \varepsilon) (-\log q_y) + \varepsilon (\log S - R) \\
    \frac{\partial L}{\partial u_k} &= \alpha e_k - \beta r_k \quad (k \ne y), \qquad
    \alpha = \frac{w\varphi - w\psi C + 2 \lambda \operatorname{lse}(u)}{S},
    \quad \beta = w \varphi \varepsilon \\
    \frac{\partial L}{\partial u_y} &= \beta (1 - r_y) - \frac{w\varphi - w\psi C}{S} E
        + 2 \lambda \operatorname{lse}(u)\, q_y

Everything that the family adds to plain cross-entropy, but what it does to the logits (``affine``), is in
these four numbers a row. A given distribution t (``soft_terms``) has C = S_t log S - sum t_k d_k and the
gradient alpha e_k - w t_k.

The Hessian-vector product along t is the derivative of that gradient: with mu = q.t and tau_k = t_k - mu,

.. math::

    (H t)_k = e_k (a \tau_k + b) - c\, r_k, \qquad (H t)_y = \text{its own number},

where a, b and c are again numbers a row (``product_terms``).
"""

from __future__ import annotations

import math

from .compiler import helper, inlined


@inlined
def two_difference(a, b):
    """a - b and its rounding error; the error is 0 where the difference is not finite."""
    d = a - b
    t = d - a
    low = (a - (d - t)) - (b + t)
    return d, low if math.isfinite(low) else 0.0


@inlined
def exp_difference(a, b):
    """exp(a - b), the rounding error of the difference included."""
    d, low = two_difference(a, b)
    e = math.exp(d)
    return e + e * low


@inlined
def part(share, x):
    """share x, where 0 inf = 0: a class without mass adds nothing, however impossible it is."""
    return share * x if share != 0.0 else 0.0


@inlined
def cross_of(others, d_y, low):
    """Return (-log q_y, log S, e_y) from E and d_y + low."""
    e_y = math.exp(d_y)
    e_y += e_y * low
    if d_y == 0.0:
        cross = math.log1p(others / e_y)
        return cross, cross + low, e_y
    log_total = math.log1p((others - 1.0) + e_y)
    return (log_total - low) - d_y, log_total, e_y


@inlined
def gated(log_weight, cross, power):
    """w = W^(q_y^g), from log W and -log q_y."""
    fit = math.exp(-power * cross)
    return math.exp(fit * log_weight) if fit != 0.0 else 1.0  # also where W is 0


@helper
def row_terms(others, d_y, low, shift, eps, r_y, r_d, weight, power, scale, gamma, z_loss):
    """Return (value, alpha, beta, gradient at the target, w) of one row; ``scale`` multiplies the first four.

    ``others`` is E, ``r_d`` is R, ``shift`` the maximum that d is relative to, over T; ``weight`` is w, or
    log W where there is a gate, whose g is ``power``.
    """
    cross, log_total, e_y = cross_of(others, d_y, low)
    if power != 0.0:
        weight = gated(weight, cross, power)
    total = others + e_y
    o, q_y = others / total, e_y / total
    if eps != 0.0:
        cross = part(1.0 - eps, cross) + eps * (log_total - r_d)
    phi, psi_cross = 1.0, 0.0
    if gamma != 0.0:
        phi = o**gamma
        if q_y > 0.0 and o > 0.0:  # the limits of o^(gamma-1) q_y C at both ends are 0
            psi_cross = -gamma * o ** (gamma - 1.0) * q_y * cross
    push = 0.0
    value = weight * phi * cross
    if z_loss != 0.0:
        lse = shift + log_total
        push = 2.0 * z_loss * lse
        value += z_loss * lse * lse
    base = scale * weight * (phi - psi_cross) / total
    alpha = base + scale * push / total
    beta = scale * weight * phi * eps
    # the other components' sum with its sign reversed: a gradient without z-loss adds up to zero
    at_target = beta * (1.0 - r_y) - base * others + scale * push * q_y
    return scale * value, alpha, beta, at_target, weight


@helper
def soft_terms(total, log_total, shift, s_sum, s_d, weight, scale, z_loss):
    """Return (value, alpha, beta) of a row with a given distribution: the gradient is alpha e_k -
    beta s_k.
    """
    value = weight * (s_sum * log_total - s_d)
    push = 0.0
    if z_loss != 0.0:
        lse = shift + log_total
        push = 2.0 * z_loss * lse
        value += z_loss * lse * lse
    return scale * value, scale * (weight * s_sum + push) / total, scale * weight


@helper
def product_terms(others, d_y, low, shift, eps, r_y, r_d, tau_y, r_tau, mu, weight, scale, gamma, z_loss):
    """Return (a, b, c, component at the target) of a row's Hessian-vector product.

    ``r_tau`` is sum r_k tau_k, ``weight`` is w.
    """
    cross, log_total, e_y = cross_of(others, d_y, low)
    total = others + e_y
    o, q_y = others / total, e_y / total
    phi, psi_cross, d_phi, one_hot = 1.0, 0.0, 0.0, 0.0
    if gamma != 0.0:
        if eps != 0.0:
            cross = part(1.0 - eps, cross) + eps * (log_total - r_d)
        q_cross = q_y * cross if q_y > 0.0 else 0.0
        phi = o**gamma
        slope = o ** (gamma - 1.0) if o > 0.0 or gamma >= 1.0 else 0.0
        # o^(gamma - 2) may overflow where C, of o's size then, takes it back
        cross_over_o = q_cross / o if o > 0.0 else 0.0
        d_cross = -((1.0 - eps) * tau_y + eps * r_tau)
        psi_cross = -gamma * slope * q_cross
        d_phi = -gamma * slope * q_y * tau_y
        one_hot = (
            gamma * ((gamma - 1.0) * slope * q_y * cross_over_o - slope * q_cross) * tau_y
            - gamma * slope * q_y * d_cross
        )
    push = part(2.0 * z_loss, shift + log_total)
    straight = weight * (phi - psi_cross) + push
    constant = part(2.0 * z_loss, mu)
    tilt = weight * (d_phi - one_hot)
    beta = scale * weight * d_phi * eps
    at_target = q_y * (straight * tau_y + constant) - tilt * o + weight * d_phi * eps * (1.0 - r_y)
    return scale * straight / total, scale * (tilt + constant) / total, beta, scale * at_target


@helper
def soft_product_terms(total, log_total, shift, s_sum, mu, weight, scale, z_loss):
    """Return (a, b) of a row with a given distribution: its product is e_k (a tau_k + b)."""
    push = part(2.0 * z_loss, shift + log_total)
    return scale * (weight * s_sum + push) / total, scale * part(2.0 * z_loss, mu) / total
