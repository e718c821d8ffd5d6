r"""What a row comes to, once its exponentials are summed: the formulas of :mod:`softmax_lab._kernels.terms`,
float32, rows (ROWS,).

``rest`` is S - 1, ``ties`` and ``below`` how many entries are largest and the sum over the others, ``d_y``
the target's entry relative to the largest, ``e_y`` its exponential, ``peak`` the largest over T.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .elementary import log1p, power

__all__ = ["cross_of", "factor_of", "product_terms", "row_terms", "soft_terms", "weight_of"]


@triton.jit
def cross_of(ties, below, d_y, e_y):
    """Return (-log q_y, log S, E): E is the sum over the other classes, never 1 less something."""
    rest = below + (ties - 1.0)
    log_total = log1p(rest)
    # below the top at least one other is 1: the difference costs it nothing
    others = tl.where(d_y == 0.0, rest, ties + (below - e_y))
    return log_total - d_y, log_total, others


@triton.jit
def weight_of(class_weight, q_y, gate, GATE: tl.constexpr):
    """w = W_y ^ (q_y ^ g)."""
    if GATE:
        class_weight = power(class_weight, power(q_y, tl.zeros_like(q_y) + gate))
    return class_weight


@triton.jit
def factor_of(sample_weights, total, rows, inside, MEAN: tl.constexpr):
    """What multiplies a row: its sample weight, over the divisor of a mean; 0 where that is 0."""
    factor = tl.where(inside, 1.0, 0.0)
    if sample_weights is not None:
        factor = tl.load(sample_weights + rows, mask=inside, other=0.0).to(tl.float32)
    if MEAN:
        divisor = tl.load(total).to(tl.float32)
        factor = tl.where(divisor == 0.0, 0.0, tl.div_rn(factor, tl.where(divisor == 0.0, 1.0, divisor)))
    return factor


@triton.jit
def smoothed_cross(cross, log_total, eps, r_d, SMOOTHING: tl.constexpr):
    """(1 - eps) (-log q_y) + eps sum r (-log q), where 0 inf = 0."""
    if SMOOTHING:
        own = tl.where(eps == 1.0, 0.0, (1.0 - eps) * tl.where(eps == 1.0, 0.0, cross))
        cross = own + tl.where(eps == 0.0, 0.0, eps * (log_total - tl.where(eps == 0.0, 0.0, r_d)))
    return cross


@triton.jit
def row_terms(ties, below, d_y, e_y, peak, eps, r_y, r_d, weight, gamma, z_loss, SMOOTHING, GAMMA, Z_LOSS):
    """Return (value, alpha, beta, gradient at the target): dL/du_k = alpha e_k - beta r_k elsewhere."""
    cross, log_total, others = cross_of(ties, below, d_y, e_y)
    total = others + e_y
    o, q_y = tl.div_rn(others, total), tl.div_rn(e_y, total)
    cross = smoothed_cross(cross, log_total, eps, r_d, SMOOTHING)
    phi, psi_cross = tl.zeros_like(cross) + 1.0, tl.zeros_like(cross)
    if GAMMA:
        phi = power(o, phi * gamma)
        q_cross = tl.where(q_y == 0.0, 0.0, q_y * tl.where(q_y == 0.0, 0.0, cross))
        psi_cross = -gamma * power(o, tl.zeros_like(cross) + (gamma - 1.0)) * q_cross
    value, push = weight * phi * cross, tl.zeros_like(cross)
    if Z_LOSS:
        lse = peak + log_total
        value += z_loss * lse * lse
        push = 2.0 * z_loss * lse
    base = tl.div_rn(weight * (phi - psi_cross), total)
    beta = weight * phi * eps
    # the other components' sum with its sign reversed: a gradient without z-loss adds up to zero
    return value, base + tl.div_rn(push, total), beta, beta * (1.0 - r_y) - base * others + push * q_y


@triton.jit
def soft_terms(rest, peak, s_sum, s_d, weight, z_loss, Z_LOSS):
    """Return (value, alpha, beta) of a row with a given distribution: the gradient is alpha e_k -
    beta s_k.
    """
    log_total = log1p(rest)
    value, push = weight * (s_sum * log_total - s_d), tl.zeros_like(rest)
    if Z_LOSS:
        lse = peak + log_total
        value += z_loss * lse * lse
        push = 2.0 * z_loss * lse
    return value, tl.div_rn(weight * s_sum + push, 1.0 + rest), weight


@triton.jit
def product_terms(
    ties,
    below,
    d_y,
    e_y,
    peak,
    eps,
    r_y,
    r_d,
    tau_y,
    r_tau,
    mu,
    weight,
    gamma,
    z_loss,
    SMOOTHING,
    GAMMA,
    Z_LOSS,
):
    """Return (a, b, c, component at the target): the product is e_k (a tau_k + b) - c r_k elsewhere.

    ``r_tau`` is sum r_k tau_k.
    """
    cross, log_total, others = cross_of(ties, below, d_y, e_y)
    total = others + e_y
    o, q_y, zero = tl.div_rn(others, total), tl.div_rn(e_y, total), tl.zeros_like(cross)
    phi, psi_cross, d_phi, one_hot = zero + 1.0, zero, zero, zero
    if GAMMA:
        cross = smoothed_cross(cross, log_total, eps, r_d, SMOOTHING)
        q_cross = tl.where(q_y == 0.0, 0.0, q_y * tl.where(q_y == 0.0, 0.0, cross))
        phi, slope, curve = (
            power(o, zero + gamma),
            power(o, zero + (gamma - 1.0)),
            power(o, zero + (gamma - 2.0)),
        )
        d_cross = -((1.0 - eps) * tau_y + eps * r_tau)
        psi_cross = -gamma * slope * q_cross
        d_phi = -gamma * slope * q_y * tau_y
        one_hot = (
            gamma * ((gamma - 1.0) * curve * q_y - slope) * q_cross * tau_y - gamma * slope * q_y * d_cross
        )
    straight, constant = weight * (phi - psi_cross), zero
    if Z_LOSS:
        straight += 2.0 * z_loss * (peak + log_total)
        constant = 2.0 * z_loss * mu
    tilt = weight * (d_phi - one_hot)
    beta = weight * d_phi * eps
    at_target = q_y * (straight * tau_y + constant) - tilt * o + beta * (1.0 - r_y)
    return tl.div_rn(straight, total), tl.div_rn(tilt + constant, total), beta, at_target
