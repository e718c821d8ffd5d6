"""The plain call, with as little ado as it can have: most calls of small batches are of this kind.

It is one of rows that lie one after the other in float32 or float64, with class indices, no mask and no
sample weights. What a loop takes of a spec is then the same for every batch, and is made once (`Plan`).
Nothing is refused here. A call that is not plain in every respect, or wrong in any, is left to the ordinary
way, which says what is wrong. Numbers and the order of operations are the ordinary way's: so are the bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _checks, _dispatch
from ._checks import Empty, Reduction
from ._compiled import NOTHING_KEPT, Compiled
from ._problem import Problem, prepare, reduced, rounded
from ._rows import KEPT
from ._threads import WORTH_SHARING
from ._twofloat import Array
from .spec import LossSpec

__all__ = ["Found", "evaluate", "live_rows", "mapped"]

#: a value, and a gradient where one is wanted
Found = tuple[Any, NDArray[Any] | None]

_INDEX, _UNSIGNED = np.dtype(np.int64), np.dtype(np.uint64)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_KEPT = NOTHING_KEPT.reshape(-1)
_MOST_PLANS = 64  # of a spec: one for each type and number of classes


class OtherPlan(Protocol):
    """What a loop of another function takes of a spec: it does the rest of the work by itself."""

    def evaluate(
        self,
        logits: NDArray[Any],
        target: NDArray[np.int64],
        out: NDArray[Any] | None,
        reduction: Reduction,
        ignore_index: int,
        empty: Empty,
    ) -> Found | None:
        """Return what :func:`evaluate` does, of arguments that it has looked at."""


Maker = Callable[[LossSpec, np.dtype[Any], int], OtherPlan | None]


class Plan:
    """What a loop takes of a spec, whatever the rows hold."""

    def __init__(self, problem: Problem) -> None:
        compiled = Compiled(problem)
        (weights, _, *rest), transform, smooth = compiled.taken[2:]
        self.weights: Array = weights  # by class
        self.rest = tuple(rest)  # of the numbers, what comes after the factor
        self.transform, self.smooth = transform, smooth
        self.class_weight: Any = problem.spec.class_weight
        #: whether the divisor of a mean is known only after the last row
        self.waits = problem.gated
        self.below_one = compiled.below_one if self.waits else 1.0  # what stands in for it until then
        #: and whether it is known before the labels are
        self.is_even = type(self.class_weight) is float and not self.waits
        self.loop = _dispatch.Loop(compiled.path, "cross_entropy")


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
    other: Maker | None = None,
) -> Found | None:
    """Return the loss, and its gradient where that is ``wanted``; None where the call is not plain.

    ``other`` makes the plan of another function than the family's loss.
    """
    if not (
        _dispatch.is_plain(logits)
        and logits.ndim == 2
        and type(target) is np.ndarray
        and target.dtype == _INDEX
        and target.shape == logits.shape[:1]
        and target.flags.c_contiguous
        and target.flags.aligned
        and type(spec) is LossSpec
        and type(ignore_index) is int
        and _LOWEST <= ignore_index <= _HIGHEST
        and type(axis) is int
        and (axis == -1 or axis == 1)
        and reduction in _checks.REDUCTIONS
        and empty in _checks.EMPTY_RULES
        and (out is None or _is_apart(out, logits))
    ):
        return None
    num_rows, num_classes = logits.shape
    if _dispatch.choose(num_classes) == "reference":
        return None
    plan = _plan(spec, logits.dtype, num_classes, other)
    if plan is None:
        return None
    if out is None and wanted:
        out = np.empty(logits.shape, logits.dtype)
    if other is not None:
        found: Found | None = plan.evaluate(logits, target, out, reduction, ignore_index, empty)
        return found
    code, factor = plan.loop.code, 1.0
    if code is None or logits.size >= WORTH_SHARING or (reduction == "mean" and not plan.is_even):
        return _with_a_look(plan, logits, target, out, reduction, ignore_index, empty)
    # the loop looks at the labels first, and sums the values. What follows is all in one place: where other
    # work has been done in between, as in training, a call of a small function costs a microsecond
    if reduction == "mean":
        total = num_rows * plan.class_weight
        factor = 1.0 / total if total else 0.0
    values, source = np.empty(num_rows + 1), logits.reshape(-1)
    wrong = code(
        *(source, source if out is None else out.reshape(-1), False, wanted, values, _KEPT, target),
        *(ignore_index, (plan.weights, factor, *plan.rest), plan.transform, plan.smooth),
        *(num_classes, 0, num_rows),
    )
    if wrong >= 0:  # a row has no class, and nothing has been written
        return _with_a_look(plan, logits, target, out, reduction, ignore_index, empty)
    if reduction == "none":
        return reduced(values[:-1], logits.dtype, reduction, factor, empty), out
    return rounded(values.item(num_rows), logits.dtype, reduction, factor, empty), out


def _with_a_look(
    plan: Plan,
    logits: NDArray[Any],
    target: NDArray[np.int64],
    gradient: NDArray[Any] | None,
    reduction: Reduction,
    ignore_index: int,
    empty: Empty,
) -> Found | None:
    """Look at the labels before; None where one is out of range, or would have to be looked up."""
    live, factor = live_rows(target, logits.shape[1], ignore_index), 1.0
    if live is None:
        return None
    waits, kept = reduction == "mean" and plan.waits, _KEPT
    if waits:
        factor, kept = plan.below_one, np.empty(len(target) * KEPT)
    elif reduction == "mean":
        if plan.is_even:
            total = live * plan.class_weight
        elif live == len(target):
            total = float(np.add.reduce(plan.class_weight[target]))
        else:
            return None
        factor = 1.0 / total if total else 0.0
    values, labels, numbers = np.empty(len(target)), target.view(), (plan.weights, factor, *plan.rest)
    labels.flags.writeable = False  # as of all that the loops only read
    given = gradient is not None, values, kept, labels, ignore_index, numbers, plan.transform, plan.smooth
    try:
        plan.loop(logits, gradient, given)
    except _dispatch.LoopError:  # nothing has been written
        return None
    if waits:
        total = float(np.nansum(kept[KEPT - 1 :: KEPT]))
        factor = 1.0 / total if total else 0.0
        values *= factor / plan.below_one
        if gradient is not None:
            _dispatch.rescale(gradient, factor / plan.below_one)
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
    path = _dispatch.choose(logits.shape[-1], singles=logits.dtype == np.float32)
    if path == "reference":
        return None
    loop = _MAPS.get((name, path, logits.dtype))
    if loop is None:
        loop = _MAPS[name, path, logits.dtype] = _dispatch.Loop(path, name)
    result: NDArray[Any] = np.empty(logits.shape, logits.dtype) if out is None else out
    try:
        loop(logits, result, _NO_TRANSFORM)
    except _dispatch.LoopError:
        return None
    return result


_MAPS: dict[tuple[str, _dispatch.Path, np.dtype[Any]], _dispatch.Loop] = {}
_NO_TRANSFORM = (None,)


def _is_apart(out: Any, logits: NDArray[Any]) -> bool:
    """Whether a result can be written while the logits are read: to the same places, or to none of theirs."""
    if out is not logits:
        fits = _dispatch.is_plain(out) and out.dtype == logits.dtype and out.shape == logits.shape
        if not fits or np.may_share_memory(out, logits):
            return False
    return bool(logits.flags.writeable if out is logits else out.flags.writeable)


def live_rows(target: NDArray[np.int64], num_classes: int, ignore_index: int) -> int | None:
    """Return how many rows count; None where a label is out of range."""
    # a negative label, read without its sign, is beyond all classes: one look finds both
    if target.view(_UNSIGNED).max() < num_classes:
        if 0 <= ignore_index < num_classes:
            return len(target) - int(np.count_nonzero(target == ignore_index))
        return len(target)
    ignored = target == ignore_index
    others = target[~ignored]
    fit = len(others) == 0 or others.view(_UNSIGNED).max() < num_classes
    return len(others) if fit else None


def _plan(spec: LossSpec, dtype: np.dtype[Any], num_classes: int, other: Maker | None) -> Any:
    """Return the plan, made once for each function, spec object, type and number of classes.

    The cache is the spec's own (by identity, and freed with it), as in ``torch/_formula/fields.py``.
    """
    plans: dict[Any, Any] | None = spec.__dict__.get("_plans")
    if plans is None:
        plans = spec.__dict__.setdefault("_plans", {})
    key = other, dtype, num_classes
    try:
        return plans[key]
    except KeyError:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plans[key] = plan = (other or _made)(spec, dtype, num_classes)
        return plan


def _made(spec: LossSpec, dtype: np.dtype[Any], num_classes: int) -> Plan | None:
    """Make a plan from what the ordinary way prepares of a row; None where it refuses, or needs care."""
    if not spec.is_moderate or spec.num_classes not in (None, num_classes):
        return None
    return Plan(prepare(np.zeros((1, num_classes), dtype), np.zeros(1, _INDEX), spec))
