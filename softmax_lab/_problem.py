"""A call of the loss: its arguments checked, and seen as rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._checks import Empty, Reduction
from ._rows import as_rows, blocks, detached
from ._twofloat import Array, round_once, row_sum
from .spec import LossSpec, active

__all__ = ["Problem", "power_of_two", "prepare", "reduced", "rounded"]

_LARGE = 1e38  # within the range of float32
_NARROW, _WIDE = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Problem:
    """Checked arguments, as rows."""

    logits: NDArray[Any]  # (..., K, ...) in their own dtype
    axis: int
    given: NDArray[np.int64] | None  # (N,) labels, ignore_index among them
    ignore_index: int
    soft: NDArray[Any] | None  # (N, K), float32 or float64
    kept: NDArray[np.bool_] | None  # (N, K)
    sample_weight: Array | None  # (N,)
    spec: LossSpec
    reduction: Reduction
    empty: Empty

    @property
    def shape(self) -> tuple[int, ...]:
        return self.logits.shape

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[self.axis])

    @property
    def num_rows(self) -> int:
        return self.logits.size // self.num_classes

    @cached_property
    def rows(self) -> NDArray[Any]:
        """The logits as (N, K): a copy where the memory order demands one."""
        return as_rows(self.logits, self.axis)

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Rows that count: neither ignored nor fully masked."""
        live = np.ones(self.num_rows, bool) if self.given is None else self.given != self.ignore_index
        return live if self.kept is None else live & self.kept.any(axis=1)

    @cached_property
    def label(self) -> NDArray[np.int64] | None:
        """Class indices, 0 where the row does not count."""
        return None if self.given is None else np.where(self.live, self.given, 0)

    @property
    def gated(self) -> bool:
        """Whether the rows' weights depend on the logits."""
        return self.spec.gate != 0 and active(self.spec.class_weight, 1.0)

    @cached_property
    def class_weights(self) -> Array:
        """W per row, (N,), before any gate; 0 for rows that do not count."""
        class_weight = np.asarray(self.spec.class_weight)
        if self.soft is not None:
            weights = _mean_weight(self.soft, class_weight)
        else:
            weights = np.broadcast_to(class_weight, (self.num_classes,))[self.label]
        return np.where(self.live, weights, 0.0)

    def factor(self, weights: Array | None = None) -> float:
        """Return one over the sum of the rows' weights w for a mean, 0 where there is none; else 1.

        ``weights`` are the class weights by default. A NaN row's weight does not count.
        """
        if self.reduction != "mean":
            return 1.0
        class_weight, alike = self.spec.class_weight, weights is None and self.sample_weight is None
        if alike and self.given is not None and isinstance(class_weight, float):
            total = float(np.count_nonzero(self.live)) * class_weight
        else:
            weights = self.class_weights if weights is None else weights
            total = float(np.nansum(weights if self.sample_weight is None else weights * self.sample_weight))
        return 1.0 / total if total else 0.0

    def reduce(self, values: Array, factor: float) -> Any:
        """Reduce row values, which carry the factor already."""
        with np.errstate(invalid="ignore"):  # inf - inf, of targets that nobody looked at
            result = reduced(values, self.logits.dtype, self.reduction, factor, self.empty)
        shape = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return result.reshape(shape)[()] if self.reduction == "none" else result

    def output(self, out: NDArray[Any] | None) -> NDArray[Any]:
        """Return the array for a derivative, of the logits' shape and type: a new one, or ``out``."""
        return _checks.output(out, self.shape, self.logits.dtype)


def reduced(values: Array, dtype: np.dtype[Any], reduction: Reduction, factor: float, empty: Empty) -> Any:
    """Return row values as a call returns them: their sum, or each, in the loss's type for the logits'.

    They carry the factor already; that of a mean over no weight is 0.
    """
    if reduction == "none":
        return round_once(values, _WIDE if dtype == np.float64 else _NARROW)
    return rounded(float(np.add.reduce(values)), dtype, reduction, factor, empty)


def rounded(total: float, dtype: np.dtype[Any], reduction: Reduction, factor: float, empty: Empty) -> Any:
    """Return the sum of row values in the loss's type for the logits'; a mean over no weight by rule."""
    wide = _WIDE if dtype == np.float64 else _NARROW
    if factor == 0 and reduction == "mean" and empty == "nan":
        total = math.nan
    if abs(total) < _LARGE:
        # round_once guards against what cannot happen here, and takes as long as a small kernel
        return wide.type(total)
    return round_once(np.asarray(total), wide)[()]


def prepare(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec,
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
    out: NDArray[Any] | None = None,
) -> Problem:
    """Check every argument and bring it to rows."""
    z = _checks.floating("logits", logits)
    axis = _checks.class_axis("logits", z, axis)
    _checks.choice("reduction", reduction, _checks.REDUCTIONS)
    _checks.choice("empty", empty, _checks.EMPTY_RULES)
    _check_spec(spec, z.shape[axis])
    row_shape = z.shape[:axis] + z.shape[axis + 1 :]
    mask = _checks.mask(where, z.shape)
    kept = None if mask is None else as_rows(mask, axis)
    label, soft = _target(target, spec, z.shape, axis, row_shape, _checks.ignored_label(ignore_index))
    weights = None if sample_weight is None else _checks.sample_weights(sample_weight, row_shape).reshape(-1)
    if out is not None:
        _checks.output(out, z.shape, z.dtype)
    if isinstance(spec.bias, float) and spec.bias and not spec.z_loss:
        spec = replace(spec, bias=0.0)  # the same for all classes: it would only cost digits
    if reduction == "mean":
        spec, weights = _balanced(spec, weights)
    spec = spec if spec.is_moderate else spec.tamed
    problem = Problem(
        detached(z, out), axis, label, ignore_index, soft, kept, weights, spec, reduction, empty
    )
    _check_masked_target(problem)
    _check_masked_prior(problem)
    return problem


def _balanced(spec: LossSpec, sample_weight: Array | None) -> tuple[LossSpec, Array | None]:
    """Return both with weights whose sum is held.

    A mean stays the same when all weights are multiplied by a power of two.
    """
    unit = 1.0 if spec.gate or spec.is_moderate else power_of_two(spec.class_weight)
    if unit != 1.0:
        spec = replace(spec, class_weight=np.asarray(spec.class_weight) * unit, z_loss=spec.z_loss * unit)
    if sample_weight is not None and (unit := power_of_two(sample_weight)) != 1.0:
        sample_weight = sample_weight * unit
    return spec, sample_weight


def _check_spec(spec: LossSpec, num_classes: int) -> None:
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    if spec.num_classes not in (None, num_classes):
        raise ValueError(f"spec is made for {spec.num_classes} classes; the logits have {num_classes}")


def _target(
    target: ArrayLike,
    spec: LossSpec,
    shape: tuple[int, ...],
    axis: int,
    row_shape: tuple[int, ...],
    ignore_index: int,
) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Return (labels, None) for class indices, (None, rows) for distributions."""
    array = _checks.array("target", _checks.ours("target", target))
    if array.dtype.kind in "iu" or (array.size == 0 and array.shape == row_shape):
        return _checks.labels(array, shape[axis], ignore_index, row_shape).reshape(-1), None
    if array.dtype.name not in _checks.FLOAT_DTYPES:
        raise TypeError(
            f"target must hold integers (class indices) or floats (distributions); got dtype "
            f"{array.dtype.name}"
        )
    if spec.needs_class_index:
        raise ValueError(
            f"{', '.join(spec.needs_class_index)} needs class-index targets; got a distribution per row"
        )
    return None, as_rows(_checks.soft_target(array, shape, signed=isinstance(target, _checks.AnySign)), axis)


def _check_masked_target(problem: Problem) -> None:
    """Refuse a row that counts and whose target takes no part."""
    if problem.kept is None:
        return
    if problem.label is not None:
        bad = problem.live & ~problem.kept[np.arange(len(problem.label)), problem.label]
    else:
        assert problem.soft is not None
        bad = problem.live & ((problem.soft != 0) & ~problem.kept).any(axis=1)
    if bad.any():
        raise ValueError(
            f"the target of row {int(np.argmax(bad))} is masked by where; unmask it, or ignore the row"
        )


def _check_masked_prior(problem: Problem) -> None:
    """Refuse a row that is smoothed towards classes that take no part, all of them."""
    prior, eps = problem.spec.prior, np.asarray(problem.spec.smoothing)
    if problem.kept is None or prior is None or not eps.any():
        return
    smoothed = eps[problem.label] > 0 if eps.ndim else True
    bad = problem.live & smoothed & ~problem.kept[:, np.asarray(prior) > 0].any(axis=1)
    if bad.any():
        raise ValueError(
            f"where masks every class of the prior in row {int(np.argmax(bad))}: nothing is left to smooth "
            f"towards"
        )


def _mean_weight(soft: NDArray[Any], class_weight: Array) -> Array:
    """Return the mean of W under each target, sum_k t_k W_k / sum_k t_k.

    It is 1 where W = 1, whatever the target sums to.
    """
    weights = np.ones(len(soft))
    if not active(class_weight, 1.0):
        return weights
    unit = power_of_two(class_weight)
    for block in blocks(*soft.shape):
        rows = soft[block].astype(np.float64)
        total = row_sum(rows)
        np.divide(row_sum(rows * (class_weight * unit)), total, out=weights[block], where=total > 0)
        np.divide(weights[block], unit, out=weights[block], where=total > 0)
    return weights


def power_of_two(weights: ArrayLike) -> float:
    """Return the power of two that brings the largest weight near one.

    It is 1 where the sum of the weights is held as they are.
    """
    largest = float(np.max(weights, initial=0.0))
    return (
        1.0
        if largest == 0 or _checks.moderate(largest)
        else 2.0 ** -max(-1022, min(math.frexp(largest)[1], 1022))
    )
