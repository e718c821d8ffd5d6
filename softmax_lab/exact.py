r"""The oracle: the same functions for one row, in mpmath, as the textbook writes them. Slow, and never tuned.

Nothing here guards against cancellation; :data:`DIGITS` decimal digits do. exp(-900) and 1 - (1 - 1e-390) are
still held exactly enough, so each formula can be checked by eye against the paper. Floats enter exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._extras import load
from ._ulp import ulp_distance
from .spec import LossSpec

__all__ = [
    "DIGITS",
    "LogLoss",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_grad_terms",
    "cross_entropy_hvp",
    "log_cross_entropy",
    "log_cross_entropy_grad",
    "log_cross_entropy_hvp",
    "log_loss",
    "log_softmax",
    "logsumexp",
    "restricted",
    "softmax",
    "softmax_jacobian",
    "two_floats",
    "ulp_error",
]

mpmath = load("mpmath", "exact values are computed by mpmath")

DIGITS = 400  # decimal digits of every calculation: a gap of 900 between logits leaves nothing unseen

Number = Any  # mpmath.mpf; mpmath ships no types
Row = Iterable[Any]


def _row(z: Row) -> list[Number]:
    """One row as mpf; a float's value is kept to the last bit, an mpf passes through."""
    return [x if isinstance(x, mpmath.mpf) else mpmath.mpf(float(x)) for x in z]


def logsumexp(z: Row) -> Number:
    """log sum_j exp(z_j)."""
    with mpmath.workdps(DIGITS):
        return mpmath.log(mpmath.fsum(mpmath.exp(x) for x in _row(z)))


def softmax(z: Row, temperature: float = 1.0) -> list[Number]:
    """exp(z_k / T) / sum_j exp(z_j / T)."""
    with mpmath.workdps(DIGITS):
        powers = [mpmath.exp(x / mpmath.mpf(temperature)) for x in _row(z)]
        total = mpmath.fsum(powers)
        return [power / total for power in powers]


def log_softmax(z: Row, temperature: float = 1.0) -> list[Number]:
    """z_k / T - lse(z / T)."""
    with mpmath.workdps(DIGITS):
        scaled = [x / mpmath.mpf(temperature) for x in _row(z)]
        total = logsumexp(scaled)
        return [x - total for x in scaled]


def softmax_jacobian(z: Row, temperature: float = 1.0) -> list[list[Number]]:
    """p_i (delta_ij - p_j) / T, from logits."""
    with mpmath.workdps(DIGITS):
        p = softmax(z, temperature)
        return [[p_i * ((i == j) - p_j) / temperature for j, p_j in enumerate(p)] for i, p_i in enumerate(p)]


def _at(field: Any, k: int) -> Number:
    """Entry k of a LossSpec field that is a number or an array."""
    return mpmath.mpf(float(field if np.ndim(field) == 0 else field[k]))


def _u(z: list[Number], y: int | None, spec: LossSpec) -> list[Number]:
    """u_k = (a_k c tanh(z_k / c) + b_k - m_y [k = y]) / T."""
    cap = spec.softcap
    v = z if cap is None else [x if x == mpmath.ninf else cap * mpmath.tanh(x / mpmath.mpf(cap)) for x in z]
    bias: Any = spec.bias[y] if np.ndim(spec.bias) == 2 else spec.bias  # type: ignore[index]
    margin = [_at(spec.margin, k) if k == y else 0 for k in range(len(z))]
    return [
        (_at(spec.scale, k) * v[k] + _at(bias, k) - margin[k]) / mpmath.mpf(spec.temperature)
        for k in range(len(z))
    ]


def _s(target: int | Sequence[float], spec: LossSpec, num_classes: int) -> list[Number]:
    """s = (1 - eps) t + eps r, where t is the one-hot or the given target and r sums to one."""
    hard = isinstance(target, (int, np.integer))
    t = [mpmath.mpf(int(k == target)) for k in range(num_classes)] if hard else _row(target)  # type: ignore[arg-type]
    r = [mpmath.mpf(1) if spec.prior is None else _at(spec.prior, k) for k in range(num_classes)]
    eps = _at(spec.smoothing, target if hard else 0)  # type: ignore[arg-type]
    total = mpmath.fsum(r)
    return [(1 - eps) * t[k] + eps * r[k] / total for k in range(num_classes)]


def row_weight(z: Row, target: int | Sequence[float], spec: LossSpec = LossSpec()) -> Number:
    """w = W_y ^ (q_y ^ g), or W_y without a gate, or sum_k t_k W_k / sum_k t_k for a distribution."""
    with mpmath.workdps(DIGITS):
        if not isinstance(target, (int, np.integer)):
            t = _row(target)
            total = mpmath.fsum(t)
            return (
                mpmath.fsum(_at(spec.class_weight, k) * t_k for k, t_k in enumerate(t)) / total
                if total
                else mpmath.mpf(1)
            )
        weight = _at(spec.class_weight, int(target))
        if spec.gate == 0:
            return weight
        return weight ** (softmax(_u(_row(z), int(target), spec))[target] ** mpmath.mpf(spec.gate))


def cross_entropy(
    z: Row, target: int | Sequence[float], spec: LossSpec = LossSpec(), *, weight: Number = None
) -> Number:
    """w (1 - q_y)^gamma [-sum_k s_k log q_k + kappa (1 - q_y)] + lambda lse(u)^2; ``weight`` fixes w."""
    with mpmath.workdps(DIGITS):
        z = _row(z)
        y = int(target) if isinstance(target, (int, np.integer)) else None
        w = row_weight(z, target, spec) if weight is None else weight
        u = _u(z, y, spec)
        log_q, s = log_softmax(u), _s(target, spec, len(z))
        cross = -mpmath.fsum(s_k * l_k for s_k, l_k in zip(s, log_q, strict=True) if s_k != 0)
        focal = (1 - mpmath.exp(log_q[y])) ** mpmath.mpf(spec.gamma) if spec.gamma and y is not None else 1
        z_loss = mpmath.mpf(spec.z_loss) * logsumexp(u) ** 2 if spec.z_loss else 0
        poly = mpmath.mpf(spec.poly) * (1 - mpmath.exp(log_q[y])) if spec.poly and y is not None else 0
        return w * focal * (cross + poly) + z_loss


def cross_entropy_grad_terms(
    z: Row, target: int | Sequence[float], spec: LossSpec = LossSpec(), *, weight: Number = None
) -> list[list[Number]]:
    """Return the terms whose sum is dL/dz_k, a list of terms per class.

    Where they cancel, the largest is the yardstick.
    """
    with mpmath.workdps(DIGITS):
        z = _row(z)
        y = int(target) if isinstance(target, (int, np.integer)) else None
        w = row_weight(z, target, spec) if weight is None else weight
        u, s, cap = _u(z, y, spec), _s(target, spec, len(z)), spec.softcap
        q, log_q, total = softmax(u), log_softmax(u), mpmath.fsum(s)
        phi, psi_cross, poly = mpmath.mpf(1), mpmath.mpf(0), mpmath.mpf(spec.poly)
        if (spec.gamma or spec.poly) and y is not None:
            cross = -mpmath.fsum(s_k * l_k for s_k, l_k in zip(s, log_q, strict=True) if s_k != 0)
            gamma, other = mpmath.mpf(spec.gamma), 1 - q[y]
            phi, psi = other**gamma, -gamma * other ** (gamma - 1) * q[y]
            psi_cross = psi * (cross + poly * other) - poly * phi * q[y]
        z_loss = 2 * mpmath.mpf(spec.z_loss) * logsumexp(u) if spec.z_loss else 0
        terms = []
        for k in range(len(z)):
            slope = _at(spec.scale, k) / mpmath.mpf(spec.temperature)
            slope *= 1 if cap is None or z[k] == mpmath.ninf else mpmath.sech(z[k] / mpmath.mpf(cap)) ** 2
            row = [w * phi * total * q[k], -w * phi * s[k], w * psi_cross * ((k == y) - q[k]), z_loss * q[k]]
            if poly:  # what cancels in these three is gone before anything is rounded
                row[:3] = [w * (phi - psi_cross) * (q[k] - (k == y)), w * phi * ((k == y) - s[k])]
            terms.append([slope * term for term in row])
        return terms


def cross_entropy_grad(
    z: Row, target: int | Sequence[float], spec: LossSpec = LossSpec(), *, weight: Number = None
) -> list[Number]:
    """dL/dz_k; ``weight`` holds w fixed."""
    with mpmath.workdps(DIGITS):
        return [mpmath.fsum(terms) for terms in cross_entropy_grad_terms(z, target, spec, weight=weight)]


def cross_entropy_hvp(
    z: Row, target: int | Sequence[float], tangent: Row, spec: LossSpec = LossSpec()
) -> list[Number]:
    """Return the gradient's central difference along ``tangent``.

    Its step is 1e-100 of what the function changes over. It is good to about 200 digits.
    """
    with mpmath.workdps(DIGITS):
        step = mpmath.mpf(10) ** -100 * min(
            1, spec.softcap or 1, mpmath.mpf(spec.temperature) / max(1, mpmath.mpf(float(np.max(spec.scale))))
        )
        z, w = _row(z), row_weight(z, target, spec)
        ahead = [x + step * t for x, t in zip(z, _row(tangent), strict=True)]
        behind = [x - step * t for x, t in zip(z, _row(tangent), strict=True)]
        up, down = (cross_entropy_grad(x, target, spec, weight=w) for x in (ahead, behind))
        return [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]


# ---- the log of the mean loss, which crosses rows ----


class LogLoss(NamedTuple):
    """What the log of a row's plain loss is made of."""

    others: Number  # log sum exp(u_k) over the classes other than the target
    target: Number  # u at the target
    value: Number  # log l = log(-log q_y)
    slope: Number  # d log l / ds = sigmoid(s) / softplus(s), with s = others - target
    gradient: list[Number]  # d log l / dz_k


def log_loss(z: Row, target: int, spec: LossSpec = LossSpec()) -> LogLoss:
    """Return log(-log q_y) of a row, its gradient, and the numbers on the way.

    l = -log q_y = log(1 + e^s), where s is the log-sum-exp of the other classes less the target. A sum of
    positive terms: a gap of any size is held. Without another class above -inf l is 0.
    """
    with mpmath.workdps(DIGITS):
        z = _row(z)
        u, cap = _u(z, target, spec), spec.softcap
        powers = [mpmath.mpf(0) if k == target else mpmath.exp(x) for k, x in enumerate(u)]
        total = mpmath.fsum(powers)
        if total == 0:
            return LogLoss(mpmath.ninf, u[target], mpmath.ninf, mpmath.mpf(0), [mpmath.mpf(0)] * len(z))
        others = mpmath.log(total)
        power = mpmath.exp(others - u[target])
        loss = mpmath.log1p(power)
        slope = power / (1 + power) / loss
        gradient = []
        for k in range(len(z)):
            chain = _at(spec.scale, k) / mpmath.mpf(spec.temperature)
            chain *= 1 if cap is None or z[k] == mpmath.ninf else mpmath.sech(z[k] / mpmath.mpf(cap)) ** 2
            gradient.append(chain * slope * (-1 if k == target else powers[k] / total))
        return LogLoss(others, u[target], mpmath.log(loss), slope, gradient)


def row_weights(
    target: Iterable[int], spec: LossSpec = LossSpec(), sample_weight: Iterable[float] | None = None
) -> list[Number]:
    """omega_i = W_y * sample_weight_i."""
    labels = list(target)
    factors = [1.0] * len(labels) if sample_weight is None else sample_weight
    return [_at(spec.class_weight, y) * mpmath.mpf(float(f)) for y, f in zip(labels, factors, strict=True)]


def log_cross_entropy(
    rows: Iterable[Row],
    target: Iterable[int],
    spec: LossSpec = LossSpec(),
    *,
    reduction: str = "mean",
    sample_weight: Iterable[float] | None = None,
) -> Any:
    """log(sum_i omega_i l_i / sum_i omega_i); no divisor with "sum", each log(omega_i l_i) with "none"."""
    with mpmath.workdps(DIGITS):
        omega = row_weights(target, spec, sample_weight)
        weighted = [
            w * mpmath.exp(log_loss(z, y, spec).value) for w, z, y in zip(omega, rows, target, strict=True)
        ]
        if reduction == "none":
            return [mpmath.log(x) if x else mpmath.ninf for x in weighted]
        total = mpmath.fsum(weighted) / (mpmath.fsum(omega) if reduction == "mean" else 1)
        return mpmath.log(total) if total else mpmath.ninf


def log_cross_entropy_grad(
    rows: Iterable[Row],
    target: Iterable[int],
    spec: LossSpec = LossSpec(),
    *,
    reduction: str = "mean",
    sample_weight: Iterable[float] | None = None,
) -> list[list[Number]]:
    """Return the gradient: that of each row's own value, but for "none" times its share of the sum."""
    with mpmath.workdps(DIGITS):
        omega = row_weights(target, spec, sample_weight)
        found = [log_loss(z, y, spec) for z, y in zip(rows, target, strict=True)]
        weighted = [w * mpmath.exp(row.value) for w, row in zip(omega, found, strict=True)]
        total = mpmath.fsum(weighted)
        if reduction == "none":
            shares = [mpmath.mpf(int(x != 0)) for x in weighted]
        else:
            shares = [x / total if total else mpmath.mpf(0) for x in weighted]
        return [[share * g for g in row.gradient] for share, row in zip(shares, found, strict=True)]


def log_cross_entropy_hvp(
    rows: Iterable[Row],
    target: Iterable[int],
    tangent: Iterable[Row],
    spec: LossSpec = LossSpec(),
    *,
    reduction: str = "mean",
    sample_weight: Iterable[float] | None = None,
) -> list[list[Number]]:
    """Return the gradient's central difference along ``tangent``, as :func:`cross_entropy_hvp` does."""
    with mpmath.workdps(DIGITS):
        step = mpmath.mpf(10) ** -100 * min(
            1, spec.softcap or 1, mpmath.mpf(spec.temperature) / max(1, mpmath.mpf(float(np.max(spec.scale))))
        )
        moved = [
            [
                [x + sign * step * t for x, t in zip(_row(z), _row(along), strict=True)]
                for z, along in zip(rows, tangent, strict=True)
            ]
            for sign in (1, -1)
        ]
        options: dict[str, Any] = {"reduction": reduction, "sample_weight": sample_weight}
        up, down = (log_cross_entropy_grad(z, target, spec, **options) for z in moved)
        return [
            [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
            for ahead, behind in zip(up, down, strict=True)
        ]


def restricted(
    z: Row, target: int, spec: LossSpec, where: Sequence[bool]
) -> tuple[list[Number], int, LossSpec]:
    """Return the row over the classes that take part: logits, target and spec.

    The prior is made to sum to one again.
    """
    kept = np.flatnonzero(where)
    if target not in kept:
        raise ValueError(f"the target {target} is masked by where")
    fields: dict[str, Any] = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    cut = {name: value[..., kept] for name, value in fields.items() if isinstance(value, np.ndarray)}
    if np.ndim(spec.bias) == 2:
        cut["bias"] = cut["bias"][kept]
    if spec.prior is not None:
        total = float(cut["prior"].sum())
        if total == 0:
            raise ValueError("where masks every class of the prior: nothing is left to smooth towards")
        cut["prior"] = cut["prior"] / total
    rows = _row(z)
    return [rows[k] for k in kept], int(np.searchsorted(kept, target)), LossSpec(**(fields | cut))


def two_floats(values: Iterable[Number]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split mpf values into (high, low) float64 arrays whose sum holds about 106 bits."""
    with mpmath.workdps(DIGITS):
        pairs = [
            (float(x), float(x - float(x)) if mpmath.isfinite(x) and abs(x) < _LARGEST else 0.0)
            for x in values
        ]
    high, low = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return high, low


_LARGEST = mpmath.mpf(2) ** 1023  # beyond it float() may overflow, and the high part alone says so


def ulp_error(
    computed: Any, exact: Iterable[Number], *, dtype: Any = None, scale: Iterable[Number] | None = None
) -> NDArray[np.float64]:
    """Return the distance of computed and exact per component, in ulps of ``dtype``.

    By default that is the computed array's own type. What one ulp is, and the conventions at flushes, NaN and
    infinities: ``softmax_lab._ulp.ulp_distance``. ``scale`` is the largest term of a sum that truly cancels.
    """
    array = np.atleast_1d(np.asarray(computed))
    high, low = two_floats(exact)
    largest = None if scale is None else two_floats(scale)[0].reshape(array.shape)
    kind = array.dtype if dtype is None else dtype
    return ulp_distance(array, high.reshape(array.shape), low.reshape(array.shape), kind, largest)
