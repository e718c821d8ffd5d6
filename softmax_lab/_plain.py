"""The plain call, with as little ado as it can have: most calls of small batches are of this kind.

It is one of rows that lie one after the other in float32 or float64, with class indices, no mask and no
sample weights. What a loop takes of a spec is then the same for every batch, and is made once (`Plan`).
Nothing is refused here. A call that is not plain in every respect, or wrong in any, is left to the ordinary
way, which says what is wrong. Numbers and the order of operations are the ordinary way's: so are the bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks, _dispatch
from ._checks import Empty, Reduction
from ._compiled import NOTHING_KEPT, Compiled
from ._problem import prepare, reduced
from ._twofloat import Array
from .spec import LossSpec

__all__ = ["evaluate", "mapped"]

_INDEX = np.dtype(np.int64)
_KEPT = NOTHING_KEPT.reshape(-1)
_MOST_PLANS = 64  # of a spec: one for each type and number of classes


class Plan(NamedTuple):
    """What a loop takes of a spec, whatever the rows hold."""

    weights: Array  # by class
    rest: tuple[Any, ...]  # of the numbers, what comes after the factor
    transform: Any
    smooth: Any
    class_weight: float | Array
    waits: bool  # whether the divisor of a mean is known only after the last row


def evaluate(
    logits: Any,
    target: Any,
    spec: Any,
    reduction: Reduction,
    ignore_index: Any,
    axis: Any,
    empty: Empty,
    *,
    wanted: bool,
    out: Any = None,
) -> tuple[Any, NDArray[Any] | None] | None:
    """Return the loss, and its gradient where that is ``wanted``; None where the call is not plain."""
    if not (
        _dispatch.is_plain(logits)
        and logits.ndim == 2
        and type(target) is np.ndarray
        and target.dtype == _INDEX
        and target.ndim == 1
        and len(target) == len(logits)
        and type(spec) is LossSpec
        and type(ignore_index) is int
        and type(axis) is int
        and (axis == -1 or axis == 1)
        and reduction in _checks.REDUCTIONS
        and empty in _checks.EMPTY_RULES
        and (out is None or _is_apart(out, logits))
    ):
        return None
    num_rows, num_classes = logits.shape
    live = _live(target, num_classes, ignore_index)
    path = _dispatch.choose(num_classes)
    if live is None or path == "reference":
        return None
    plan = _plan(spec, logits.dtype, num_classes)
    if plan is None:
        return None
    factor = 1.0
    if reduction == "mean":
        if plan.waits or (live != num_rows and type(plan.class_weight) is not float):
            return None
        weight = plan.class_weight
        total = live * weight if type(weight) is float else float(np.add.reduce(weight[target]))  # type: ignore[index]
        factor = 1.0 / total if total else 0.0
    values, gradient = np.empty(num_rows), out
    if wanted and out is None:
        gradient = np.empty(logits.shape, logits.dtype)
    labels = target.view()
    labels.flags.writeable = False
    numbers = (plan.weights, factor, *plan.rest)
    given = (wanted, values, _KEPT, labels, ignore_index, numbers, plan.transform, plan.smooth)
    try:
        _dispatch.run_plain(path, "cross_entropy", logits, gradient, given)
    except _dispatch.LoopError:  # nothing has been written
        return None
    return reduced(values, logits.dtype, reduction, factor, empty), gradient


def mapped(name: str, logits: Any, axis: Any, temperature: Any, where: Any, out: Any) -> NDArray[Any] | None:
    """Return the softmax or its logarithm; None where the call is not plain."""
    if not (
        where is None
        and temperature == 1.0
        and type(temperature) is float
        and _dispatch.is_plain(logits)
        and type(axis) is int
        and (axis == -1 or axis == logits.ndim - 1)
        and (out is None or _is_apart(out, logits))
    ):
        return None
    path = _dispatch.choose(logits.shape[-1])
    if path == "reference":
        return None
    result: NDArray[Any] = np.empty(logits.shape, logits.dtype) if out is None else out
    try:
        _dispatch.run_plain(path, name, logits, result, _NO_TRANSFORM)
    except _dispatch.LoopError:
        return None
    return result


_NO_TRANSFORM = (None,)


def _is_apart(out: Any, logits: NDArray[Any]) -> bool:
    """Whether a result can be written while the logits are read: to the same places, or to none of theirs."""
    if out is not logits:
        fits = _dispatch.is_plain(out) and out.dtype == logits.dtype and out.shape == logits.shape
        if not fits or np.may_share_memory(out, logits):
            return False
    return bool(logits.flags.writeable if out is logits else out.flags.writeable)


def _live(target: NDArray[np.int64], num_classes: int, ignore_index: int) -> int | None:
    """Return how many rows count; None where a label is out of range."""
    # a negative label, read without its sign, is beyond all classes: one look finds both
    if target.view(np.uint64).max() < num_classes:
        if 0 <= ignore_index < num_classes:
            return len(target) - int(np.count_nonzero(target == ignore_index))
        return len(target)
    if not -(2**63) <= ignore_index < 2**63:
        return None
    ignored = target == ignore_index
    others = target[~ignored]
    fit = len(others) == 0 or others.view(np.uint64).max() < num_classes
    return len(others) if fit else None


def _plan(spec: LossSpec, dtype: np.dtype[Any], num_classes: int) -> Plan | None:
    """Return the plan, made once for each spec object, type and number of classes.

    The cache is the spec's own (by identity, and freed with it), as in ``torch/_formula/fields.py``.
    """
    plans: dict[Any, Plan | None] | None = spec.__dict__.get("_plans")
    if plans is None:
        plans = spec.__dict__.setdefault("_plans", {})
    key = dtype, num_classes
    try:
        return plans[key]
    except KeyError:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plans[key] = plan = _made(spec, dtype, num_classes)
        return plan


def _made(spec: LossSpec, dtype: np.dtype[Any], num_classes: int) -> Plan | None:
    """Make a plan from what the ordinary way prepares of a row; None where it refuses, or needs care."""
    if not spec.is_moderate or spec.num_classes not in (None, num_classes):
        return None
    problem = prepare(np.zeros((1, num_classes), dtype), np.zeros(1, _INDEX), spec)
    (weights, _, *rest), transform, smooth = Compiled(problem).taken[2:]
    weight = problem.spec.class_weight
    return Plan(weights, tuple(rest), transform, smooth, weight, problem.gated)  # type: ignore[arg-type]
