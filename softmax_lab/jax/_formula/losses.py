"""Whole losses in jax.numpy around the formula of a row: differentiable to any order, in every mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from . import rows as of_rows
from . import terms
from .arithmetic import row_sum, sum_of_all
from .fields import Fields
from .rows import At, along, at_rows, is_label
from .terms import of_label

__all__ = ["Call", "Options", "Values", "log_loss", "loss", "mapped", "mean", "reduced", "values_of"]

_UNSEEN = 2.0**-28  # tanh x is x (1 - x^2 / 3 + ...)


class Options(NamedTuple):
    """What a loss is told beside its arrays."""

    reduction: str = "mean"
    empty: str = "nan"
    ignore_index: int = -100


class Call(NamedTuple):
    """The arguments as rows (n, K), in the type that is computed in."""

    z: Array
    target: Array  # (n,) integers, or (n, K)
    kept: Array | None  # (n, K) classes that take part
    sample_weight: Array | None  # (n,)
    spec: Fields


class _Rows(NamedTuple):
    """Checked rows: what may not count is harmless in them."""

    at: At
    live: Array  # (n,) rows that count
    label: Array | None  # (n,), 0 where the row does not count
    soft: Array | None  # (n, K)
    kept: Array | None


class Values(NamedTuple):
    """A value a row, and what a mean divides by."""

    value: Array  # (n,)
    weight: Array  # (n,) w
    live: Array  # (n,) rows that count


# ---- the loss ----


def loss(call: Call, options: Options) -> Array:
    """Return the loss of rows, reduced."""
    return reduced(values_of(call, options), call.sample_weight, options)


def values_of(call: Call, options: Options) -> Values:
    """Return a value and a weight a row."""
    rows = _rows(call, options)
    value, weight = _labelled(rows, call.spec) if rows.soft is None else _distributed(rows, call.spec)
    return Values(value, jnp.broadcast_to(jnp.asarray(weight, value.dtype), value.shape), rows.live)


def reduced(values: Values, sample_weight: Array | None, options: Options) -> Array:
    """Return the values weighted by the samples and reduced."""
    value, weight, live = values
    value, weight = jnp.where(live, value, 0.0), jnp.where(live, weight, 0.0)
    if sample_weight is not None:
        counted = jnp.where(live, sample_weight, 0.0)
        value, weight = value * counted, weight * counted
    if options.reduction == "none":
        return value
    total = sum_of_all(value)
    return total if options.reduction == "sum" else mean(total, weight, options.empty)


def mean(total: Array, weight: Array, empty: str) -> Array:
    """Return a sum over the sum of the weights; a NaN row's weight does not count."""
    divisor = sum_of_all(jnp.where(jnp.isnan(weight), 0.0, weight))
    none = divisor == 0
    found = jnp.where(none, 0.0, total) / jnp.where(none, 1.0, divisor)
    return jnp.where(none, jnp.nan if empty == "nan" else 0.0, found)


def _labelled(rows: _Rows, spec: Fields) -> tuple[Array, Any]:
    at, label = rows.at, rows.label
    assert label is not None
    log_q_y = _counted(rows, of_rows.log_probability(at, label))
    gated = spec.gate is not None and spec.class_weight is not None
    weight = terms.class_weights(spec, label, jnp.exp(lax.stop_gradient(log_q_y)) if gated else None)
    sums = terms.Sums(
        log_q_y,
        _counted(rows, of_rows.others(at, label)) if terms.needs_others(spec) else jnp.zeros_like(log_q_y),
        _lse(rows, spec, log_q_y),
        None if spec.smoothing is None else of_rows.weighted_log_probability(at, _prior(rows, spec)),
    )
    return terms.row_terms(spec, label, sums, weight), weight


def _distributed(rows: _Rows, spec: Fields) -> tuple[Array, Any]:
    at, soft = rows.at, rows.soft
    assert soft is not None
    weight: Any = 1.0
    if spec.class_weight is not None:
        weight = terms.mean_weight(spec, soft, row_sum(soft), row_sum(soft * spec.class_weight))
    share = terms.smoothed(spec, soft, _prior(rows, spec)) if spec.smoothing is not None else soft
    cross = -of_rows.weighted_log_probability(at, share)
    return terms.soft_terms(spec, terms.SoftSums(cross, _lse(rows, spec, cross)), weight), weight


def _lse(rows: _Rows, spec: Fields, like: Array) -> Array:
    return jnp.zeros_like(like) if spec.z_loss is None else _counted(rows, of_rows.log_sum_exp(rows.at))


def _counted(rows: _Rows, value: Array) -> Array:
    """Return a number of each row, 0 where the row does not count: no derivative is asked of it."""
    return jnp.where(rows.live, value, 0.0)


def _prior(rows: _Rows, spec: Fields) -> Array:
    """Return r, (n, K): it sums to one over the classes that take part."""
    shape = rows.at.u.shape
    prior = jnp.ones(shape, rows.at.u.dtype) if spec.prior is None else jnp.broadcast_to(spec.prior, shape)
    if rows.kept is not None:
        prior = jnp.where(rows.kept, prior, 0.0)
    elif spec.prior is None:
        return prior / shape[1]
    return prior / along(row_sum(prior))


# ---- the rows ----


def _rows(call: Call, options: Options) -> _Rows:
    """Return rows of which what does not count is harmless, and with NaN for what no one may ask."""
    z, kept, spec = call.z, call.kept, call.spec
    if kept is None and jnp.issubdtype(call.target.dtype, jnp.integer) and _is_bare(spec):
        return _bare_rows(z, call.target, options)
    count, num_classes = z.shape
    live = jnp.ones(count, bool)
    label = soft = None
    if jnp.issubdtype(call.target.dtype, jnp.integer):
        label, live, wrong = _labels(call.target, num_classes, options.ignore_index)
    else:
        soft, wrong = call.target.astype(z.dtype), jnp.zeros(count, bool)
    if kept is not None:
        live = live & jnp.any(kept, axis=1)
        masked = (is_label(z, label) if label is not None else soft != 0) & ~kept
        wrong = wrong | jnp.any(masked, axis=1)
        if spec.prior is not None:
            nothing = ~jnp.any(kept & (spec.prior > 0), axis=1)
            # towards nothing one cannot smooth
            wrong = wrong | (nothing if label is None else nothing & (of_label(spec.smoothing, label) > 0))
        z = jnp.where(kept & along(live), z, 0.0)
    elif label is not None:
        # a row that does not count may hold anything
        z = jnp.where(along(live), z, 0.0)
    z = z + along(jnp.where(live & wrong, jnp.nan, 0.0))
    if label is not None:
        label = jnp.where(live & ~wrong, label, 0)
    at = _evaluated(z, None if kept is None else kept | ~along(live), label, spec)
    return _Rows(at, live, label, soft, None if kept is None else kept | ~along(live))


_MADE_OF_LOGITS = ("scale", "bias", "margin", "softcap", "temperature")


def _is_bare(spec: Fields) -> bool:
    """Whether only sums of whole rows are made of the logits themselves."""
    return all(getattr(spec, name) is None for name in (*_MADE_OF_LOGITS, "smoothing"))


def _bare_rows(z: Array, target: Array, options: Options) -> _Rows:
    """Return rows as they came, without a copy: a row that does not count has no cotangent.

    A label outside of the classes makes its row's sums NaN.
    """
    label, live, wrong = _labels(target, z.shape[1], options.ignore_index)
    at = at_rows(z, None, jnp.where(along(live), z, 0.0))
    return _Rows(at, live, jnp.where(wrong, z.shape[1], label), None, None)


def _labels(target: Array, num_classes: int, ignore_index: int) -> tuple[Array, Array, Array]:
    """Return labels of 32 bits, which rows count, and which labels are outside of the classes.

    Compared in the target's own type, where the wrapped -100 of an unsigned one is a label like others.
    """
    info = jnp.iinfo(target.dtype)  # type: ignore[no-untyped-call]
    can_ignore = info.min <= ignore_index <= info.max
    live = target != ignore_index if can_ignore else jnp.ones(target.shape, bool)
    most = min(num_classes - 1, int(info.max))
    wrong = live & ((target < 0) | (target > most))
    return jnp.where(live & ~wrong, target, 0).astype(jnp.int32), live, wrong


def _evaluated(z: Array, kept: Array | None, label: Array | None, spec: Fields) -> At:
    """Return u T = a v + b - m e_y with -inf where a class takes no part, and x = u / T.

    -inf stays -inf in u. In x, of which only the derivative matters, it is a harmless number.
    """
    if all(getattr(spec, name) is None for name in _MADE_OF_LOGITS):
        u = x = z
    else:
        x = _transformed(_finite(z), label, spec)
        u = jnp.where(z == -jnp.inf, -jnp.inf, x)
        x = x if spec.temperature is None else x / spec.temperature
    u = u if kept is None else jnp.where(kept, u, -jnp.inf)
    return at_rows(u, spec.temperature, x)


def _transformed(z: Array, label: Array | None, spec: Fields) -> Array:
    v = z if spec.softcap is None else _capped(z, spec.softcap)
    u = v if spec.scale is None else v * spec.scale
    if spec.bias is not None:
        u = u + (spec.bias[label] if jnp.ndim(spec.bias) == 2 else spec.bias)
    if label is not None and spec.margin is not None:
        margin = jnp.broadcast_to(of_label(spec.margin, label), label.shape)
        u = u - jnp.where(is_label(z, label), along(margin), 0.0)
    return u


@jax.custom_jvp
def _finite(z: Array) -> Array:
    """Return z with 0 for -inf, and z's own derivative."""
    return jnp.where(z == -jnp.inf, 0.0, z)


@_finite.defjvp
def _finite_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _finite(primals[0]), tangents[0]


def _capped(z: Array, cap: Array) -> Array:
    """Return c tanh(z / c); a logit far below the cap stays as it is."""
    x = z / cap
    return jnp.where(jnp.abs(x) < _UNSEEN, z, cap * _tanh(x))


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    return jnp.tanh(x)


@_tanh.defjvp
def _tanh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (moving,) = primals, tangents
    # 1 / cosh^2, without the 1 - tanh^2 that a saturated cap would lose
    fall = jnp.exp(-2.0 * jnp.abs(x))
    return _tanh(x), moving * (4.0 * fall / ((1.0 + fall) * (1.0 + fall)))


# ---- the log of the mean loss ----


def log_loss(call: Call, options: Options) -> Array:
    """Return the log of the mean loss, or of the sum, or of each row's."""
    spec, dtype = call.spec, call.z.dtype
    factors: list[Array] = [] if call.sample_weight is None else [call.sample_weight]
    label, live, wrong = _labels(call.target, call.z.shape[1], options.ignore_index)
    if spec.class_weight is not None:
        factors.append(jnp.broadcast_to(of_label(spec.class_weight, label), label.shape))
    log_omega = jnp.zeros(label.shape, dtype)
    for factor in factors:
        live = live & (factor != 0)
        log_omega = log_omega + jnp.log(jnp.where(factor == 0, 1.0, factor))
    # rows without weight are ignored like those without a label
    target = jnp.where(live, label, -1)
    inner = call._replace(target=jnp.where(live & wrong, call.z.shape[1], target))
    rows = _rows(inner, options._replace(ignore_index=-1))
    live = rows.live
    log_omega = jnp.where(live, log_omega, -jnp.inf)
    weighted = jnp.where(live, jnp.where(live, log_omega, 0.0) + _log_losses(rows), -jnp.inf)
    if options.reduction == "none":
        return weighted
    value = _log_sum(weighted)
    if options.reduction == "mean":
        empty = ~jnp.any(live)
        value = jnp.where(empty, 0.0, value - jnp.where(empty, 0.0, _log_sum(log_omega)))
        value = jnp.where(empty, jnp.nan if options.empty == "nan" else 0.0, value)
    return value


def _log_sum(x: Array) -> Array:
    """Return log sum exp(x); -inf, with the derivative 0, where nothing is above -inf."""
    if x.size == 0:
        return jnp.full((), -jnp.inf, x.dtype)
    some = jnp.any(x > -jnp.inf) | jnp.any(jnp.isnan(x))
    safe = jnp.where(some, x, 0.0)[None, :]
    return jnp.where(some, of_rows.log_sum_exp(at_rows(safe, None, safe))[0], -jnp.inf)


def _log_losses(rows: _Rows) -> Array:
    """Return log l of each row, (n,): -inf where there is no other class."""
    at, label = rows.at, rows.label
    assert label is not None
    rest = jnp.where(is_label(at.u, label), -jnp.inf, at.u)
    u_y = jnp.take_along_axis(at.u, along(label), axis=1)[:, 0]
    alone = jnp.all(rest == -jnp.inf, axis=1)
    s = of_rows.log_odds_of_others(at._replace(u=jnp.where(along(alone), 0.0, at.u)), label)
    # +inf at the target is no number, as everywhere: it would pass for a row without any loss
    s = s * jnp.where(u_y == jnp.inf, jnp.nan, 1.0)
    nothing = jnp.where(jnp.isfinite(u_y), -jnp.inf, jnp.nan)
    return jnp.where(alone, nothing, _log_softplus(s))


def _log_softplus(s: Array) -> Array:
    """Return log log(1 + e^s): s - e^s / 2 + ... far below 0, log s far above."""
    below = s <= 0
    x = jnp.exp(jnp.where(below, s, 0.0))
    small = x < _SMALL
    # each form where it holds; elsewhere a harmless argument, so that no derivative of it is infinite
    near = jnp.where(small, x, 0.0)
    series = jnp.zeros_like(s)
    for coefficient in _SERIES:
        series = series * near + coefficient
    middle = jnp.log(jnp.log1p(jnp.where(small, 1.0, x)))
    far = jnp.where(below, 0.0, s)
    far = jnp.log(far + jnp.log1p(jnp.exp(-far)))
    return jnp.where(below, jnp.where(small, s + series * near, middle), far)


_SMALL = 1.0 / 64.0


def _log_of_series(count: int) -> tuple[float, ...]:
    """Return the coefficients of x, x^2, ... in log(log(1 + x) / x), the highest power first.

    With a_n = (-1)^n / (n + 1), those of log(1 + x) / x, it is n c_n = n a_n - sum_j j c_j a_(n - j).
    """
    a = [(-1.0) ** n / (n + 1) for n in range(count + 1)]
    c = [0.0]
    for n in range(1, count + 1):
        c.append(a[n] - sum(j * c[j] * a[n - j] for j in range(1, n)) / n)
    return tuple(c[:0:-1])


_SERIES = _log_of_series(10)  # the next is below 2^-66 where x < 1/64


# ---- softmax, its logarithm, and the logarithm of the sum ----

_MAPS = {"softmax": (of_rows.probabilities, 0.0), "log_softmax": (of_rows.log_probabilities, -jnp.inf)}


def mapped(name: str, z: Array, kept: Array | None, temperature: Array | None) -> Array:
    """Return a map of rows (n, K), or with "logsumexp" their numbers (n,)."""
    spec = Fields(temperature=temperature)
    alive = None
    if kept is not None:
        alive = jnp.any(kept, axis=1)
        z = jnp.where(kept, z, 0.0)
    at = _evaluated(z, None if kept is None or alive is None else kept | ~along(alive), None, spec)
    if name == "logsumexp":
        value = of_rows.log_sum_exp(at)
        return value if alive is None else jnp.where(alive, value, -jnp.inf)
    function, masked = _MAPS[name]
    values = function(at)
    return values if kept is None else jnp.where(kept, values, masked)
