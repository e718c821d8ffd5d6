"""What is wrong, in words that a user can act on: a diagnosis of computed against exact values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ulp import float_format
from .subject import LOG_LOSSES
from .values import Exact

__all__ = ["Evidence", "diagnose"]

_NEARBY = 1e-2  # a relative error beyond this is no rounding error


@dataclass(frozen=True)
class Evidence:
    """One comparison: what was computed, what is exact, and how far apart they are in ulp."""

    function: str
    dtype: Any
    computed: NDArray[np.float64]
    exact: Exact
    ulps: NDArray[np.float64]
    limit: float
    labels: NDArray[Any] | None = None
    whole: bool = True  # rows are whole: their probabilities may be added up

    @property
    def worst(self) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(self.ulps)), self.ulps.shape))

    @property
    def at_target(self) -> bool:
        """Whether the worst entry is a gradient's component at its own label."""
        if self.function != "cross_entropy_grad" or self.labels is None or self.labels.ndim != 1:
            return False
        row, column = self.worst
        return bool(self.labels[row] == column)


def diagnose(evidence: Evidence) -> str:
    """Say what is wrong with the worst entry, and what to do about it.

    The first rule that fits speaks.
    """
    return next(words for rule in _RULES if (words := rule(evidence)))


def told_apart(one: float, other: float, digits: int) -> tuple[str, str]:
    """Return two numbers in the fewest digits, from ``digits`` on, that tell them apart.

    Unequal numbers never look equal.
    """
    for count in range(digits, 18):
        texts = f"{one:.{count}g}", f"{other:.{count}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _both(e: Evidence, digits: int) -> tuple[str, str]:
    """Return the worst entry's computed and exact value in words.

    They are told apart also where the exact one differs from every float.
    """
    computed, exact, _ = _entry(e)
    low = float(e.exact.low[e.worst])
    if computed != exact or not low:
        return told_apart(computed, exact, digits)
    sign = "+" if low > 0 else "-"
    return f"{computed:.17g}", f"{exact:.17g} {sign} {abs(low):.2g}"


def _entry(e: Evidence) -> tuple[float, float, str]:
    """Return what was computed for the worst entry, its exact value, and where it stands."""
    place = "row " + str(e.worst[0]) + (f", class {e.worst[1]}" if len(e.worst) > 1 else "")
    return float(e.computed[e.worst]), float(e.exact.high[e.worst]), place


def _nan_swallowed(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    if not np.isnan(exact):
        return ""
    return (
        f"returns {computed:.3g} at {place}, whose logits hold NaN or +inf or nothing above -inf: "
        "the row must be NaN, or the fault stays unseen"
    )


def _nan_made(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    if not np.isnan(computed):
        return ""
    if np.isnan(e.exact.high).any():
        return (
            f"NaN at {place}, whose own logits are fine (exact: {exact:.4g}): the NaN or infinity of "
            f"another row leaks into it; "
            "reduce along the class axis only"
        )
    return (
        f"NaN at {place}; the exact value is {exact:.4g}: subtract each row's own maximum before exp, "
        "and treat -inf apart (inf - inf, 0 * inf)"
    )


def _log_of_nothing(e: Evidence) -> str:
    """The logarithm of a loss that was computed, and had underflowed."""
    computed, exact, place = _entry(e)
    if e.function not in LOG_LOSSES or np.isfinite(computed) or not np.isfinite(exact):
        return ""
    return (
        f"{computed} at {place}; the exact value is {exact:.6g}: the loss was 0 before its logarithm was "
        f"taken; sum the other classes relative to the largest other logit, and stay with logarithms"
    )


def _infinite(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    if np.isfinite(computed) or np.isinf(exact):
        return ""
    if e.function in ("log_softmax", "cross_entropy"):
        advice = "compute z - logsumexp(z), not the logarithm of a probability that underflowed"
        return f"{computed} at {place}; the exact value is {exact:.6g}: {advice}"
    return (
        f"{computed} at {place}; the exact value is {exact:.6g}: exp overflowed; subtract each row's "
        f"own maximum first"
    )


def _finite_for_infinite(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    if not np.isinf(exact):
        return ""
    return (
        f"{computed:.6g} at {place}; the exact value is {exact}: clipping or an added epsilon hides an "
        f"impossible class"
    )


def _lost_confidence(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    small = abs(exact) < 0.5 and abs(computed - exact) <= 4 * float_format(e.dtype).eps
    if not small:
        return ""
    shown, true = _both(e, 4)
    if e.at_target:
        return (
            f"the gradient at the target, {place}, is returned as {shown}; its true value is {true}: "
            "take minus the sum of the other probabilities, not p_y - 1"
        )
    if e.function in ("log_softmax", "cross_entropy"):
        what = "log p" if e.function == "log_softmax" else "the loss"
        return (
            f"{what} of a confident class, {place}, is returned as {shown}; its true value is {true}: "
            "keep the maximum's term out of the sum and use log1p"
        )
    return ""


def _vanished(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    if computed != 0 or abs(exact) < float_format(e.dtype).smallest:
        return ""
    return (
        f"0 at {place}; the exact value is {exact:.4g}: it was lost to underflow or to a maximum that "
        f"is not the row's own"
    )


def _labels_shifted(e: Evidence) -> str:
    if e.function != "cross_entropy_grad" or e.labels is None or e.labels.ndim != 1:
        return ""
    found, meant = np.argmin(e.computed, axis=1), np.argmin(e.exact.high, axis=1)
    wrong = np.flatnonzero((found != meant) & ~np.isnan(e.exact.high).any(axis=1))
    if len(wrong) == 0 or len(wrong) < 0.5 * len(found):
        return ""
    row = int(wrong[0])
    return (
        f"row {row} with label {int(e.labels[row])} pulls up class {int(found[row])}: labels are "
        f"shifted or the class axis is wrong"
    )


def _factor(e: Evidence) -> str:
    """All entries off by one factor: a sign, a mean, a normalisation."""
    fits = np.isfinite(e.exact.high) & np.isfinite(e.computed) & (np.abs(e.exact.high) > 1e-6)
    if fits.sum() < 2:
        return ""
    ratios = e.computed[fits] / e.exact.high[fits]
    factor = float(np.median(ratios))
    if abs(factor - 1) < _NEARBY or np.abs(ratios - factor).max() > _NEARBY * abs(factor):
        return ""
    if abs(factor + 1) < _NEARBY:
        return "the sign is reversed"
    by_rows = (
        f" (one over the {len(e.computed)} rows: return each row's own, not the mean's)"
        if abs(factor * len(e.computed) - 1) < _NEARBY
        else ""
    )
    return f"every entry is {factor:.4g} times the exact value{by_rows}"


def _unnormalised(e: Evidence) -> str:
    if not e.whole:
        return ""
    if e.function == "softmax":
        p = e.computed
    elif e.function == "log_softmax":
        with np.errstate(over="ignore"):
            p = np.exp(e.computed)
    else:
        return ""
    off = np.where(np.isfinite(p).all(axis=1), np.abs(p.sum(axis=1) - 1), 0.0)
    row = int(np.argmax(off))
    if off[row] < max(_NEARBY, 50 * float_format(e.dtype).eps):
        return ""
    return (
        f"row {row}'s probabilities sum to {p[row].sum():.6g}, not 1: a class is missing or double, the "
        f"sum drifts, or the axis is wrong"
    )


def _inaccurate(e: Evidence) -> str:
    computed, exact, place = _entry(e)
    relative = abs(computed - exact) / abs(exact) if exact else np.inf
    digits = "{} where {} is exact".format(*_both(e, 6))
    if relative > _NEARBY:
        return f"wrong beyond rounding at {place}: {digits}"
    advice = (
        "carry the rounding of z - max(z) as a second float, and sum in a wider type"
        if float_format(e.dtype).bits >= 24
        else "compute in float32 or wider and round once"
    )
    return (
        f"{told_apart(float(e.ulps[e.worst]), e.limit, 3)[0]} ulp off at {place} (relative "
        f"{relative:.1e}): {digits}; {advice}"
    )


_RULES: tuple[Callable[[Evidence], str], ...] = (
    _nan_swallowed,
    _log_of_nothing,
    _nan_made,
    _infinite,
    _finite_for_infinite,
    _lost_confidence,
    _factor,
    _labels_shifted,
    _vanished,
    _unnormalised,
    _inaccurate,
)
