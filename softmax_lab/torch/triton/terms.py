r"""What a row comes to, once its exponentials are summed: the family's formula in float32.

Every number is one of a row, (ROWS,). The formula is that of the loops on a processor
(:mod:`softmax_lab._kernels`), where it is derived.

The gradient is alpha e_k - beta s_k, and at a class index a number of its own. ``beta`` has one meaning: it
multiplies s, what is spread over the classes, and is subtracted. That is the prior r for a class
index, and the smoothed target s for a distribution. The Hessian-vector product is e_k (a tau_k + b) - beta
s_k, and again a number of its own at a class index.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import log1p, power
from .tiles import at_label, exponentials

__all__ = [
    "Own",
    "ProductTerms",
    "RowTerms",
    "Sums",
    "Tangent",
    "factor_of",
    "own_of",
    "product_terms",
    "row_terms",
    "soft_product_terms",
    "soft_terms",
    "sums_of",
]


class Sums(NamedTuple):
    """The sums over a row."""

    ties: Any  # how many entries are largest; NaN for a row without finite differences
    below: Any  # the sum of exp(d) over the others
    shift: Any  # the largest entry over T
    d_y: Any  # d of the target
    e_y: Any  # its exponential
    s: Any  # sum s_k
    s_d: Any  # sum s_k d_k
    t: Any  # sum t_k of a distribution
    t_weight: Any  # sum t_k W_k


class Own(NamedTuple):
    """The fields of the spec as they are for a row."""

    weight: Any  # w
    eps: Any
    r_y: Any


class RowTerms(NamedTuple):
    """The numbers of a row's value and gradient."""

    value: Any
    alpha: Any
    beta: Any
    at_target: Any


class Tangent(NamedTuple):
    """The tangent's numbers in a row: tau_y, sum s_k tau_k and mu = q.t."""

    tau_y: Any
    s_tau: Any
    mu: Any


class ProductTerms(NamedTuple):
    """The numbers of a row's Hessian-vector product."""

    a: Any
    b: Any
    beta: Any
    at_target: Any


class Cross(NamedTuple):
    """The row's cross-entropy, and what it is made of."""

    cross: Any  # -log q_y
    log_total: Any  # log S
    others: Any  # E, the sum over the other classes: never 1 less something
    total: Any  # S
    o: Any  # 1 - q_y
    q_y: Any


@triton.jit
def sums_of(ties, below, peak, u_y, shares, spec, CARRY):
    """Return the sums of a row from those over its tiles; ``shares`` are the last four."""
    d, e = exponentials(u_y[:, None], peak, spec.temperature, CARRY)
    s, s_d, t, t_weight = shares
    # a row with nan, with +inf or with nothing above -inf has no finite difference from its peak
    ties = ties + (peak - peak)
    return Sums(ties, below, peak / spec.temperature.number, tl.sum(d, 1), tl.sum(e, 1), s, s_d, t, t_weight)


@triton.jit
def cross_of(sums):
    """Return the cross-entropy of a class index, not yet smoothed."""
    rest = sums.below + (sums.ties - 1.0)
    log_total = log1p(rest)
    # below the top at least one other is 1: the difference costs it nothing
    others = tl.where(sums.d_y == 0.0, rest, sums.ties + (sums.below - sums.e_y))
    total = others + sums.e_y
    o, q_y = tl.div_rn(others, total), tl.div_rn(sums.e_y, total)
    return Cross(log_total - sums.d_y, log_total, others, total, o, q_y)


@triton.jit
def own_of(sums, rows, targets, spec):
    """Return the fields as they are for a row: w = W_y ^ (q_y ^ g), or the mean of W under a distribution."""
    zero = tl.zeros_like(sums.below)
    eps, r_y = zero, zero
    if targets.SOFT:
        some = sums.t > 0.0
        if spec.class_weight.array is None:
            weight = tl.where(some, spec.class_weight.number, 1.0)
        else:
            weight = tl.where(some, tl.div_rn(sums.t_weight, tl.where(some, sums.t, 1.0)), 1.0)
    else:
        weight = at_label(spec.class_weight, rows.label)
        if spec.gate.MODE:
            weight = power(weight, power(cross_of(sums).q_y, zero + spec.gate.number))
        eps = at_label(spec.smoothing, rows.label)
        r_y = zero + 1.0 / rows.k if spec.prior.array is None else at_label(spec.prior, rows.label)
    return Own(weight, eps, r_y)


@triton.jit
def factor_of(weights, rows):
    """What multiplies a row: its sample weight, over the divisor of a mean; 0 where that is 0."""
    factor = tl.where(rows.inside, 1.0, 0.0)
    if weights.sample_weight is not None:
        factor = tl.load(weights.sample_weight + rows.index, mask=rows.inside, other=0.0).to(tl.float32)
    if weights.total is not None:
        divisor = tl.load(weights.total).to(tl.float32)
        factor = tl.where(divisor == 0.0, 0.0, tl.div_rn(factor, tl.where(divisor == 0.0, 1.0, divisor)))
    return factor


@triton.jit
def smoothed(c, sums, own, spec):
    """C = (1 - eps) (-log q_y) + eps sum r (-log q), where 0 inf = 0."""
    cross, eps = c.cross, own.eps
    if spec.smoothing.MODE:
        straight = tl.where(eps == 1.0, 0.0, (1.0 - eps) * tl.where(eps == 1.0, 0.0, cross))
        spread = eps * (c.log_total - tl.where(eps == 0.0, 0.0, sums.s_d))
        cross = straight + tl.where(eps == 0.0, 0.0, spread)
    return cross


@triton.jit
def focal_of(c, cross, gamma):
    """Return phi = o^gamma, its slope o^(gamma - 1), and q_y C."""
    zero = tl.zeros_like(cross)
    phi, slope = power(c.o, zero + gamma), power(c.o, zero + (gamma - 1.0))
    return phi, slope, tl.where(c.q_y == 0.0, 0.0, c.q_y * tl.where(c.q_y == 0.0, 0.0, cross))


@triton.jit
def excess_of(c, sums, own, spec):
    """C - (1 + kappa) o: without smoothing -log(1 - o) - o, which is o^2 / 2 + ...

    With x = o / (2 - o) the logarithm is 2 artanh x and o is 2 x / (1 + x): a sum of positive terms.
    """
    x = tl.div_rn(c.o, 2.0 - c.o)
    series = tl.zeros_like(x)
    for n in tl.static_range(19, 1, -2):
        series = series * x * x + 1.0 / n
    rest = tl.where(c.o < 0.5, 2.0 * x * x * (tl.div_rn(1.0, 1.0 + x) + x * series), c.cross - c.o)
    if spec.smoothing.MODE:
        straight = tl.where(own.eps == 1.0, 0.0, (1.0 - own.eps) * tl.where(own.eps == 1.0, 0.0, rest))
        spread = own.eps * (c.log_total - tl.where(own.eps == 0.0, 0.0, sums.s_d) - c.o)
        rest = straight + tl.where(own.eps == 0.0, 0.0, spread)
    return rest


@triton.jit
def pull_of(c, rest, phi, slope, spec):
    """P = phi (1 + kappa q_y) - psi C, from ``rest`` = C - (1 + kappa) o."""
    gamma, kappa = spec.gamma.number, spec.poly.number
    tilt = gamma + (1.0 + gamma) * kappa
    pull = phi * tl.where(c.q_y < 0.5, 1.0 + tilt * c.q_y, (1.0 + gamma) * (1.0 + kappa) - tilt * c.o)
    if spec.gamma.MODE:
        pull += gamma * slope * tl.where(c.q_y == 0.0, 0.0, c.q_y * tl.where(c.q_y == 0.0, 0.0, rest))
    return pull


@triton.jit
def turn_of(c, rest, phi, slope, own, tangent, spec):
    """d(phi - P) / q_y along a tangent, plus what the smoothed target adds, with kappa != 0."""
    gamma, kappa = spec.gamma.number, spec.poly.number
    turn = (2.0 * gamma + 1.0) * kappa * phi * tangent.tau_y
    if spec.gamma.MODE:
        over_o = tl.where(c.o == 0.0, 0.0, tl.div_rn(rest, tl.where(c.o == 0.0, 1.0, c.o)))
        first = -(1.0 + kappa) * (1.0 + gamma * c.q_y) - (gamma - 1.0) * c.q_y * over_o + rest
        turn += gamma * slope * (first * tangent.tau_y + own.eps * (tangent.tau_y - tangent.s_tau))
    return turn


@triton.jit
def row_terms(sums, own, spec):
    """Return the terms of a row with a class index."""
    c = cross_of(sums)
    cross, zero, gamma = smoothed(c, sums, own, spec), tl.zeros_like(c.cross), spec.gamma.number
    phi, psi_cross, slope = zero + 1.0, zero, zero
    if spec.gamma.MODE:
        phi, slope, q_cross = focal_of(c, cross, gamma)
        psi_cross = -gamma * slope * q_cross
    pull = phi - psi_cross
    if spec.poly.MODE:
        rest = excess_of(c, sums, own, spec)
        cross, pull = (1.0 + spec.poly.number) * c.o + rest, pull_of(c, rest, phi, slope, spec)
    value, push = own.weight * phi * cross, zero
    if spec.z_loss.MODE:
        lse = sums.shift + c.log_total
        value += spec.z_loss.number * lse * lse
        push = 2.0 * spec.z_loss.number * lse
    base = tl.div_rn(own.weight * pull, c.total)
    beta = own.weight * phi * own.eps
    # the other components' sum with its sign reversed: a gradient without z-loss adds up to zero
    at_target = beta * (1.0 - own.r_y) - base * c.others + push * c.q_y
    return RowTerms(value, base + tl.div_rn(push, c.total), beta, at_target)


@triton.jit
def soft_terms(sums, own, spec):
    """Return the terms of a row with a distribution, which has no component of its own."""
    rest = sums.below + (sums.ties - 1.0)
    log_total, zero = log1p(rest), tl.zeros_like(rest)
    value, push = own.weight * (sums.s * log_total - sums.s_d), zero
    if spec.z_loss.MODE:
        lse = sums.shift + log_total
        value += spec.z_loss.number * lse * lse
        push = 2.0 * spec.z_loss.number * lse
    return RowTerms(value, tl.div_rn(own.weight * sums.s + push, 1.0 + rest), own.weight, zero)


@triton.jit
def product_terms(sums, own, tangent, spec):
    """Return the terms of the Hessian-vector product of a row with a class index."""
    c = cross_of(sums)
    zero, gamma = tl.zeros_like(c.cross), spec.gamma.number
    phi, psi_cross, d_phi, one_hot, slope = zero + 1.0, zero, zero, zero, zero
    if spec.gamma.MODE:
        phi, slope, q_cross = focal_of(c, smoothed(c, sums, own, spec), gamma)
        curve = power(c.o, zero + (gamma - 2.0))
        d_cross = -((1.0 - own.eps) * tangent.tau_y + own.eps * tangent.s_tau)
        psi_cross = -gamma * slope * q_cross
        d_phi = -gamma * slope * c.q_y * tangent.tau_y
        bent = gamma * ((gamma - 1.0) * curve * c.q_y - slope)
        one_hot = bent * q_cross * tangent.tau_y - gamma * slope * c.q_y * d_cross
    pull, turn = phi - psi_cross, d_phi - one_hot
    if spec.poly.MODE:
        rest = excess_of(c, sums, own, spec)
        pull = pull_of(c, rest, phi, slope, spec)
        turn = c.q_y * turn_of(c, rest, phi, slope, own, tangent, spec)
    straight, constant = own.weight * pull, zero
    if spec.z_loss.MODE:
        straight += 2.0 * spec.z_loss.number * (sums.shift + c.log_total)
        constant = 2.0 * spec.z_loss.number * tangent.mu
    tilt = own.weight * turn
    beta = own.weight * d_phi * own.eps
    at_target = c.q_y * (straight * tangent.tau_y + constant) - tilt * c.o + beta * (1.0 - own.r_y)
    return ProductTerms(tl.div_rn(straight, c.total), tl.div_rn(tilt + constant, c.total), beta, at_target)


@triton.jit
def soft_product_terms(sums, own, tangent, spec):
    """Return the terms of the Hessian-vector product of a row with a distribution: beta is 0."""
    rest = sums.below + (sums.ties - 1.0)
    zero = tl.zeros_like(rest)
    straight, constant = own.weight * sums.s, zero
    if spec.z_loss.MODE:
        straight += 2.0 * spec.z_loss.number * (sums.shift + log1p(rest))
        constant = 2.0 * spec.z_loss.number * tangent.mu
    total = 1.0 + rest
    return ProductTerms(tl.div_rn(straight, total), tl.div_rn(constant, total), zero, zero)
