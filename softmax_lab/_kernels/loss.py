r"""What a row of the loss comes to, once its exponentials are summed: the one formula behind both loss loops.

With E the sum of exp(d_k) over the classes other than the target, e_y that of the target, S = E + e_y, o = E / S = 1 - q_y
and R = sum_k r_k d_k (d relative to the row's maximum):

.. math::

    -\log q_y &= \log(1 + x) - d_y, \quad x = E \text{ if } d_y = 0, \text{ else } (E - 1) + e_y \\
    C &= (1 - \varepsilon) (-\log q_y) + \varepsilon (\log S - R) \\
    \frac{\partial L}{\partial u_k} &= \alpha e_k - \beta r_k \quad (k \ne y), \qquad
    \alpha = \frac{w\varphi - w\psi C + 2 \lambda \operatorname{lse}(u)}{S}, \quad \beta = w \varphi \varepsilon \\
    \frac{\partial L}{\partial u_y} &= \beta (1 - r_y) - \frac{w\varphi - w\psi C}{S} E + 2 \lambda \operatorname{lse}(u)\, q_y

Everything that the family adds to plain cross-entropy, but what it does to the logits, is in these four numbers a row.
"""

from __future__ import annotations

import math

from numba import njit


@njit(forceinline=True)
def two_difference(a, b):
    """a - b and its rounding error; the error is 0 where the difference is not finite."""
    d = a - b
    t = d - a
    low = (a - (d - t)) - (b + t)
    return d, low if math.isfinite(low) else 0.0


@njit(forceinline=True)
def exp_difference(a, b):
    """exp(a - b), the rounding error of the difference included."""
    d, low = two_difference(a, b)
    e = math.exp(d)
    return e + e * low


@njit(forceinline=True)
def row_terms(others, z_y, peak, eps, r_y, r_d, weight, scale, gamma, z_loss):
    """Return (value, alpha, beta, gradient at the target) of one row; ``scale`` multiplies all four.

    ``others`` is E, ``r_d`` is R; ``weight`` is w.
    """
    d_y, low = two_difference(z_y, peak)
    e_y = math.exp(d_y)
    e_y += e_y * low
    total = others + e_y
    log_total = math.log1p(others if d_y == 0.0 else (others - 1.0) + e_y)
    o, q_y = others / total, e_y / total
    cross = (log_total - low) - d_y
    if eps != 0.0:
        cross = (1.0 - eps) * cross + eps * (log_total - r_d)
    phi, psi_cross = 1.0, 0.0
    if gamma != 0.0:
        phi = o**gamma
        if q_y > 0.0 and o > 0.0:  # the limits of o^(gamma-1) q_y C at both ends are 0
            psi_cross = -gamma * o ** (gamma - 1.0) * q_y * cross
    push = 0.0
    value = weight * phi * cross
    if z_loss != 0.0:
        lse = peak + log_total
        push = 2.0 * z_loss * lse
        value += z_loss * lse * lse
    base = scale * weight * (phi - psi_cross) / total
    alpha = base + scale * push / total
    beta = scale * weight * phi * eps
    # the other components' sum with its sign reversed: a gradient without z-loss adds up to zero
    at_target = beta * (1.0 - r_y) - base * others + scale * push * q_y
    return scale * value, alpha, beta, at_target
