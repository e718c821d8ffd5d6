r"""What a row of the loss comes to, once its exponentials are summed: the one formula of all loops.

Let E be the sum of exp(d_k) over the classes other than the target, and e_y that of the target. Every d is
relative to the row's maximum. Let S = E + e_y, o = E / S = 1 - q_y and R = sum_k r_k d_k.

.. math::

    -\log q_y &= \log(1 + x) - d_y, \quad x = E / e_y \text{ and } d_y = 0 \text{ at the maximum,}
        \text{ else } x = (E - 1) + e_y \\
    C &= (1 - \varepsilon) (-\log q_y) + \varepsilon (\log S - R) + \kappa o \\
    \frac{\partial L}{\partial u_k} &= \alpha e_k - \beta r_k \quad (k \ne y), \qquad
    \alpha = \frac{w P + 2 \lambda \operatorname{lse}(u)}{S}, \quad
    P = \varphi (1 + \kappa q_y) - \psi C, \quad \beta = w \varphi \varepsilon \\
    \frac{\partial L}{\partial u_y} &= \beta (1 - r_y) - \frac{w P}{S} E
        + 2 \lambda \operatorname{lse}(u)\, q_y

The family adds nothing else to plain cross-entropy, but for what it does to the logits (``transform.py``). A
given distribution has S_t = sum_k s_k, C = S_t log S - sum_k s_k d_k and the gradient alpha e_k - beta s_k,
with beta = w (``soft_terms``).

**beta** has one meaning in all of them. It multiplies what is spread over the classes and subtracted: the
prior r beside a class index, the smoothed target s of a given distribution.

The Hessian-vector product along t is the derivative of that gradient. With mu = q.t and tau_k = t_k - mu,

.. math::

    (H t)_k = e_k (a \tau_k + b) - \beta\, r_k, \qquad (H t)_y = \text{its own number},

where a, b and beta are again numbers a row (``product_terms``).

At kappa = -1 the first order of C cancels, and that of P. ``excess`` and ``pulled`` compute what is left, and
take no difference.

``lane_terms`` is ``row_terms`` for eight rows at once. With the neutral fields of ``plain_terms`` it shrinks,
as a loop is compiled, to what plain cross-entropy needs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .compiler import helper, inlined
from .exponential import double, log1p, power
from .simd import fma, splat, where_equal, where_less


class ValueFields(NamedTuple):
    """The field that acts on a row's weight, and those that act on its number, in the table's order."""

    gate: float
    gamma: float
    z_loss: float
    poly: float


class Sums(NamedTuple):
    """What the classes of a row with a class index add up to: numbers, or eight lanes of them."""

    others: Any  # E
    d_y: Any  # d at the target
    low: Any  # its rounding error
    shift: Any  # what d is relative to, over T: lse(u) = shift + log S
    eps: Any
    r_y: Any  # the prior at the target
    r_d: Any  # R


class SoftSums(NamedTuple):
    """What the classes of a row with a given distribution add up to."""

    total: float  # S
    log_total: float  # log S
    shift: float  # what d is relative to, over T
    s_sum: float  # sum s_k
    s_d: float  # sum s_k d_k


class Tangent(NamedTuple):
    """What a tangent in u adds up to."""

    tau_y: float  # tau at the target
    r_tau: float  # sum r_k tau_k
    mu: float  # q.t


class Terms(NamedTuple):
    """What a row with a class index comes to: numbers, or eight lanes of them."""

    value: Any
    alpha: Any  # multiplies e_k
    beta: Any  # multiplies r_k, and is subtracted
    at_target: Any  # the gradient's component at the target
    weight: Any  # w


class SoftTerms(NamedTuple):
    """What a row with a given distribution comes to."""

    value: float
    alpha: float  # multiplies e_k
    beta: float  # multiplies s_k, and is subtracted


class ProductTerms(NamedTuple):
    """What a row's Hessian-vector product comes to."""

    tilt: float  # a, which multiplies e_k tau_k
    constant: float  # b, which multiplies e_k
    beta: float  # multiplies r_k, and is subtracted; 0 with a given distribution
    at_target: float  # the product's component at the target


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
def excess(o, cross):
    """Return -log(1 - o) - o, which is o^2 / 2 + ..., from o and -log(1 - o).

    With x = o / (2 - o) the logarithm is 2 artanh x and o is 2 x / (1 + x): a sum of positive terms.
    """
    if o >= 0.5:
        return cross - o
    x = o / (2.0 - o)
    series = 0.0
    for coefficient in ARTANH:
        series = series * x * x + coefficient
    return 2.0 * x * x * (1.0 / (1.0 + x) + x * series)


#: artanh x = x + x^3 (1/3 + x^2 / 5 + ...), the highest power first
ARTANH = tuple(1.0 / n for n in range(35, 1, -2))


@inlined
def smoothed_excess(o, cross, log_total, sums):
    """Return C - (1 + kappa) o; ``cross`` is -log q_y."""
    rest = excess(o, cross)
    return rest if sums.eps == 0.0 else part(1.0 - sums.eps, rest) + sums.eps * (log_total - sums.r_d - o)


@inlined
def pulled(o, q_y, rest, phi, fields):
    """Return P = phi (1 + kappa q_y) - psi C, from ``rest`` = C - (1 + kappa) o."""
    gamma, kappa = fields.gamma, fields.poly
    tilt = gamma + (1.0 + gamma) * kappa
    pull = phi * (1.0 + tilt * q_y if q_y < 0.5 else (1.0 + gamma) * (1.0 + kappa) - tilt * o)
    if gamma != 0.0 and q_y > 0.0 and o > 0.0:
        pull += gamma * o ** (gamma - 1.0) * q_y * rest
    return pull


@inlined
def are_plain(fields):
    """Whether no field acts on a row's number."""
    return fields.gamma == 0.0 and fields.z_loss == 0.0 and fields.poly == 0.0


@inlined
def gated(log_weight, cross, gate):
    """w = W^(q_y^g), from log W and -log q_y."""
    fit = math.exp(-gate * cross)
    return math.exp(fit * log_weight) if fit != 0.0 else 1.0  # also where W is 0


@helper
def row_terms(sums, weight, scale, fields):
    """Return the `Terms` of one row with a class index.

    ``weight`` is w, or log W where there is a gate. ``scale`` multiplies all but the weight.
    """
    others, eps = sums.others, sums.eps
    cross, log_total, e_y = cross_of(others, sums.d_y, sums.low)
    if fields.gate != 0.0:
        weight = gated(weight, cross, fields.gate)
    total = others + e_y
    o, q_y = others / total, e_y / total
    rest = smoothed_excess(o, cross, log_total, sums) if fields.poly != 0.0 else 0.0
    if eps != 0.0:
        cross = part(1.0 - eps, cross) + eps * (log_total - sums.r_d)
    gamma, phi, psi_cross = fields.gamma, 1.0, 0.0
    if gamma != 0.0:
        phi = o**gamma
        if q_y > 0.0 and o > 0.0:  # the limits of o^(gamma-1) q_y C at both ends are 0
            psi_cross = -gamma * o ** (gamma - 1.0) * q_y * cross
    pull = phi - psi_cross
    if fields.poly != 0.0:
        cross, pull = (1.0 + fields.poly) * o + rest, pulled(o, q_y, rest, phi, fields)
    push = 0.0
    value = weight * phi * cross
    if fields.z_loss != 0.0:
        lse = sums.shift + log_total
        push = 2.0 * fields.z_loss * lse
        value += fields.z_loss * lse * lse
    base = scale * weight * pull / total
    alpha = base + scale * push / total
    beta = scale * weight * phi * eps
    # the other components' sum with its sign reversed: a gradient without z-loss adds up to zero
    at_target = beta * (1.0 - sums.r_y) - base * others + scale * push * q_y
    return Terms(scale * value, alpha, beta, at_target, weight)


@helper
def soft_terms(sums, weight, scale, fields):
    """Return the `SoftTerms` of a row with a given distribution."""
    value = weight * (sums.s_sum * sums.log_total - sums.s_d)
    push = 0.0
    if fields.z_loss != 0.0:
        lse = sums.shift + sums.log_total
        push = 2.0 * fields.z_loss * lse
        value += fields.z_loss * lse * lse
    return SoftTerms(scale * value, scale * (weight * sums.s_sum + push) / sums.total, scale * weight)


@helper
def product_terms(sums, tangent, weight, scale, fields):
    """Return the `ProductTerms` of a row with a class index; ``weight`` is w, behind any gate."""
    others, eps, tau_y = sums.others, sums.eps, tangent.tau_y
    cross, log_total, e_y = cross_of(others, sums.d_y, sums.low)
    total = others + e_y
    o, q_y = others / total, e_y / total
    gamma, phi, psi_cross, d_phi, one_hot = fields.gamma, 1.0, 0.0, 0.0, 0.0
    if gamma != 0.0:
        if eps != 0.0:
            cross = part(1.0 - eps, cross) + eps * (log_total - sums.r_d)
        q_cross = q_y * cross if q_y > 0.0 else 0.0
        phi = o**gamma
        slope = o ** (gamma - 1.0) if o > 0.0 or gamma >= 1.0 else 0.0
        # o^(gamma - 2) may overflow where C, of o's size then, takes it back
        cross_over_o = q_cross / o if o > 0.0 else 0.0
        d_cross = -((1.0 - eps) * tau_y + eps * tangent.r_tau)
        psi_cross = -gamma * slope * q_cross
        d_phi = -gamma * slope * q_y * tau_y
        one_hot = (
            gamma * ((gamma - 1.0) * slope * q_y * cross_over_o - slope * q_cross) * tau_y
            - gamma * slope * q_y * d_cross
        )
    pull, turn = phi - psi_cross, d_phi - one_hot
    if fields.poly != 0.0:
        rest = smoothed_excess(o, cross_of(others, sums.d_y, sums.low)[0], log_total, sums)
        pull, turn = pulled(o, q_y, rest, phi, fields), q_y * turned(o, q_y, rest, phi, sums, tangent, fields)
    push = part(2.0 * fields.z_loss, sums.shift + log_total)
    straight = weight * pull + push
    constant = part(2.0 * fields.z_loss, tangent.mu)
    tilt = weight * turn
    beta = scale * weight * d_phi * eps
    at_target = q_y * (straight * tau_y + constant) - tilt * o + weight * d_phi * eps * (1.0 - sums.r_y)
    return ProductTerms(scale * straight / total, scale * (tilt + constant) / total, beta, scale * at_target)


@inlined
def turned(o, q_y, rest, phi, sums, tangent, fields):
    """Return d(phi - P) / q_y along a tangent, plus what the smoothed target adds, with kappa != 0.

    The orders that cancel at kappa = -1 are taken out beforehand.
    """
    gamma, kappa, tau_y = fields.gamma, fields.poly, tangent.tau_y
    turn = (2.0 * gamma + 1.0) * kappa * phi * tau_y
    if gamma != 0.0 and o > 0.0:
        first = -(1.0 + kappa) * (1.0 + gamma * q_y) - (gamma - 1.0) * q_y * (rest / o) + rest
        d_s = sums.eps * (tau_y - tangent.r_tau)
        turn += gamma * o ** (gamma - 1.0) * (first * tau_y + d_s)
    return turn


@helper
def soft_product_terms(sums, mu, weight, scale, fields):
    """Return the `ProductTerms` of a row with a given distribution: its product is e_k (a tau_k + b)."""
    push = part(2.0 * fields.z_loss, sums.shift + sums.log_total)
    tilt = scale * (weight * sums.s_sum + push) / sums.total
    return ProductTerms(tilt, scale * part(2.0 * fields.z_loss, mu) / sums.total, 0.0, 0.0)


# ---- the same for eight rows at once ----


@inlined
def lane_terms(sums, e_y, weight, scale, fields):
    """Return the `Terms` of eight rows with a class index, as ``row_terms`` does of one.

    ``e_y`` is exp(d_y + low), of the caller's own exponential. ``weight`` and ``scale`` are lanes.
    """
    zero, one = splat(0.0), splat(1.0)
    others, eps, total = sums.others, sums.eps, sums.others + e_y
    sharp, log_total = _cross_lanes(sums, e_y)
    if fields.gate != 0.0:
        weight = _gated_lanes(weight, sharp, fields.gate)
    cross = _smoothed_lanes(sharp, log_total, sums)
    factor, pull, beta = weight * scale, one, eps
    o, q_y = others / total, e_y / total
    slope, phi = _focal_lanes(o, fields.gamma)
    if fields.poly != 0.0:
        rest = _smoothed_excess_lanes(o, sharp, log_total, sums)
        cross, pull = fma(splat(1.0 + fields.poly), o, rest), _pulled_lanes(o, q_y, rest, phi, slope, fields)
    elif fields.gamma != 0.0:
        pull = phi + _times_or_zero(splat(fields.gamma) * slope * q_y, cross)
    if fields.gamma != 0.0:
        cross, beta = phi * cross, phi * eps
    value, base, beta = factor * cross, factor * pull / total, factor * beta
    at_target = where_equal(eps, zero, zero, beta * (one - sums.r_y)) - base * others
    if fields.z_loss == 0.0:
        return Terms(value, base, beta, at_target, weight)
    lse = sums.shift + log_total
    push = splat(fields.z_loss) * lse * scale
    value, push = value + push * lse, push + push
    return Terms(value, base + push / total, beta, at_target + push * q_y, weight)


@inlined
def plain_terms(sums, e_y, weight, scale, gate):
    """Return the `Terms` of eight rows with ``are_plain`` fields."""
    return lane_terms(sums, e_y, weight, scale, ValueFields(gate, 0.0, 0.0, 0.0))


@helper
def family_terms(sums, e_y, weight, scale, fields):
    """Return the `Terms` of eight rows with any fields: not copied into the loop, which plain rows need."""
    return lane_terms(sums, e_y, weight, scale, fields)


@inlined
def _cross_lanes(sums, e_y):
    """Return -log q_y and log S of eight rows: see ``cross_of``."""
    zero, one, others = splat(0.0), splat(1.0), sums.others
    at_top = where_equal(sums.d_y, zero, one, zero)
    log_x = log1p(where_equal(at_top, one, others / e_y, (others - one) + e_y))
    cross = where_equal(at_top, one, log_x, (log_x - sums.low) - sums.d_y)
    return cross, log_x + where_equal(at_top, one, sums.low, zero)


@inlined
def _smoothed_lanes(sharp, log_total, sums):
    """(1 - eps) (-log q_y) + eps (log S - R) of eight rows, where 0 inf = 0."""
    zero, one, eps = splat(0.0), splat(1.0), sums.eps
    sharp = where_equal(eps, one, zero, (one - eps) * sharp)
    return sharp + where_equal(eps, zero, zero, eps * (log_total - sums.r_d))


@inlined
def _times_or_zero(a, x):
    """a x of eight rows, and 0 where a is 0: a limit, where x may be infinite."""
    zero = splat(0.0)
    return where_equal(a, zero, zero, a * x)


@inlined
def _focal_lanes(o, gamma):
    """Return o^(gamma - 1) and o^gamma of eight rows; 0 where o is 0. Without gamma they are not used."""
    zero, one = splat(0.0), splat(1.0)
    if gamma == 0.0:
        return zero, one
    p, p_low = two_difference(gamma, 1.0)
    slope = where_equal(o, zero, zero, power(o, splat(p), splat(p_low)))
    return slope, o * slope


@inlined
def _excess_lanes(o, cross):
    """-log(1 - o) - o of eight rows: see ``excess``."""
    one, two = splat(1.0), splat(2.0)
    x = o / (two - o)
    square, series = x * x, splat(0.0)
    for coefficient in ARTANH:
        series = fma(series, square, splat(coefficient))
    small = two * square * (one / (one + x) + x * series)
    return where_less(o, splat(0.5), small, cross - o)


@inlined
def _smoothed_excess_lanes(o, cross, log_total, sums):
    """C - (1 + kappa) o of eight rows: see ``smoothed_excess``."""
    zero, one, eps = splat(0.0), splat(1.0), sums.eps
    rest = where_equal(eps, one, zero, (one - eps) * _excess_lanes(o, cross))
    return rest + where_equal(eps, zero, zero, eps * ((log_total - sums.r_d) - o))


@inlined
def _pulled_lanes(o, q_y, rest, phi, slope, fields):
    """P of eight rows with kappa != 0: see ``pulled``."""
    gamma, kappa = fields.gamma, fields.poly
    tilt, end = gamma + (1.0 + gamma) * kappa, (1.0 + gamma) * (1.0 + kappa)
    near = fma(splat(tilt), q_y, splat(1.0))
    pull = phi * where_less(q_y, splat(0.5), near, fma(splat(-tilt), o, splat(end)))
    if gamma == 0.0:
        return pull
    return pull + _times_or_zero(splat(gamma) * slope * q_y, rest)


@inlined
def _gated_lanes(log_weight, cross, gate):
    """w = W^(q_y^g) of eight rows: see ``gated``."""
    zero = splat(0.0)
    fit = double(splat(-gate) * cross, zero)
    # beyond e^709 there is no number; a weight so large is its own trouble
    exponent = where_less(splat(709.0), fit * log_weight, splat(709.0), fit * log_weight)
    return double(where_equal(fit, zero, zero, exponent), zero)


@inlined
def lane_product_terms(sums, e_y, tangent, weight, scale, fields):
    """Return the `ProductTerms` of eight rows with a class index, as ``product_terms`` does of one.

    The prior's sums are 0 in the lanes of rows that are not smoothed.
    """
    zero, one, eps, tau_y = splat(0.0), splat(1.0), sums.eps, tangent.tau_y
    total = sums.others + e_y
    o, q_y = sums.others / total, e_y / total
    sharp, log_total = _cross_lanes(sums, e_y)
    slope, phi = _focal_lanes(o, fields.gamma)
    steep, pull, turn, d_phi = splat(fields.gamma) * slope, one, zero, zero
    if fields.gamma != 0.0:
        q_cross = _times_or_zero(q_y, _smoothed_lanes(sharp, log_total, sums))
        d_cross = zero - ((one - eps) * tau_y + eps * tangent.r_tau)
        pull, d_phi = phi + _times_or_zero(steep, q_cross), zero - steep * q_y * tau_y
        curve = splat(fields.gamma - 1.0) * q_y * _over_or_zero(q_cross, o) - q_cross
        turn = d_phi - steep * (curve * tau_y - q_y * d_cross)
    if fields.poly != 0.0:
        rest = _smoothed_excess_lanes(o, sharp, log_total, sums)
        pull = _pulled_lanes(o, q_y, rest, phi, slope, fields)
        turn = q_y * _turned_lanes(o, q_y, rest, phi, steep, eps, tangent, fields)
    straight, constant = weight * pull, zero
    if fields.z_loss != 0.0:
        straight = straight + splat(2.0 * fields.z_loss) * (sums.shift + log_total)
        constant = splat(2.0 * fields.z_loss) * tangent.mu
    tilt, beta, factor = weight * turn, weight * d_phi * eps, scale / total
    at_target = q_y * (straight * tau_y + constant) - tilt * o + beta * (one - sums.r_y)
    return ProductTerms(factor * straight, factor * (tilt + constant), scale * beta, scale * at_target)


@inlined
def plain_product_terms(sums, e_y, tangent, weight, scale):
    """Return the `ProductTerms` of eight rows with ``are_plain`` fields."""
    return lane_product_terms(sums, e_y, tangent, weight, scale, ValueFields(0.0, 0.0, 0.0, 0.0))


@helper
def family_product_terms(sums, e_y, tangent, weight, scale, fields):
    """Return the `ProductTerms` of eight rows with any fields: see ``family_terms``."""
    return lane_product_terms(sums, e_y, tangent, weight, scale, fields)


@inlined
def _over_or_zero(x, o):
    """x / o of eight rows, and 0 where o is 0."""
    zero = splat(0.0)
    return where_equal(o, zero, zero, x / o)


@inlined
def _turned_lanes(o, q_y, rest, phi, steep, eps, tangent, fields):
    """What ``turned`` returns, of eight rows; ``steep`` is gamma o^(gamma - 1)."""
    gamma, kappa, tau_y = fields.gamma, fields.poly, tangent.tau_y
    turn = splat((2.0 * gamma + 1.0) * kappa) * phi * tau_y
    if gamma == 0.0:
        return turn
    first = rest - splat(1.0 + kappa) * (splat(1.0) + splat(gamma) * q_y)
    first = first - splat(gamma - 1.0) * q_y * _over_or_zero(rest, o)
    return turn + steep * (first * tau_y + eps * (tau_y - tangent.r_tau))


@inlined
def lane_soft_product_terms(sums, mu, weight, scale, fields):
    """Return the `ProductTerms` of eight rows with given distributions: see ``soft_product_terms``.

    The first of them is also the gradient's alpha.
    """
    zero, factor, straight = splat(0.0), scale / sums.total, weight * sums.s_sum
    if fields.z_loss == 0.0:
        return ProductTerms(factor * straight, zero, zero, zero)
    twice = splat(2.0 * fields.z_loss)
    straight = straight + twice * (sums.shift + sums.log_total)
    return ProductTerms(factor * straight, factor * (twice * mu), zero, zero)
