"""The work of a problem by the compiled loops, and what of a problem a loop takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dispatch
from ._problem import Problem
from ._rows import KEPT, read_only
from ._twofloat import Array
from .spec import acting_on, active

__all__ = ["NOTHING_KEPT", "Compiled"]

_NONE = read_only(np.zeros(0))  # every row's is 1
#: the numbers that the row's formula takes, in the table's order
_OF_VALUE = attrgetter(*acting_on("value"))
NOTHING_KEPT = np.zeros((0, KEPT))  # a loop need not say what its rows came to


class Compiled:
    """The work of a problem by the loops for its number of classes."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def values(self) -> Array:
        """Return the value of every row, (N,)."""
        values = np.empty(self.problem.num_rows)
        self._evaluate(None, values)
        return values

    def values_and_gradient(self, out: NDArray[Any] | None) -> tuple[Array, NDArray[Any]]:
        """Return the value of every row, and the gradient in the logits' shape."""
        values, gradient = np.empty(self.problem.num_rows), self.problem.output(out)
        self._evaluate(gradient, values)
        return values, gradient

    def forward(self) -> tuple[Array, Array]:
        """Return the value of every row, and what :meth:`backward` needs of it, (N, KEPT)."""
        values, kept = np.empty(self.problem.num_rows), np.zeros((self.problem.num_rows, KEPT))
        self._run(None, values, 1.0 if self._is_late else self.factor, kept)
        if self._is_late:
            ratio = self._divide(kept)
            values *= ratio
            kept[:, 1:-1] *= ratio
        return values, kept

    def backward(self, kept: Array, upstream: Array, out: NDArray[Any] | None) -> NDArray[Any]:
        """Return the gradient times ``upstream``, one number or one a row."""
        gradient = self.problem.output(out)
        self._backward(kept, upstream, gradient)
        return gradient

    def product(self, tangents: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
        """Return the Hessian times ``tangents``, both in the logits' shape."""
        problem, result = self.problem, self.problem.output(out)
        common = self._common(self.factor)
        rows = np.moveaxis(tangents, problem.axis, -1).reshape(-1, problem.num_classes)

        def arguments(some: slice) -> tuple[Any, ...]:
            stored = _dispatch.as_stored(np.ascontiguousarray(rows[some]))
            return (read_only(stored.reshape(-1)), *common(some))

        path = _dispatch.choose(problem.num_classes, product=True)
        _dispatch.run(path, "cross_entropy_hvp", problem.logits, problem.axis, result, arguments)
        return result

    @cached_property
    def factor(self) -> float:
        """What every row is multiplied by: one over the sum of the rows' weights for a mean."""
        problem = self.problem
        if not problem.gated or problem.reduction != "mean":
            return problem.factor()
        kept = np.empty((problem.num_rows, KEPT))
        self._run(None, np.empty(problem.num_rows), 1.0, kept)
        return problem.factor(kept[:, -1])

    @property
    def taken(self) -> tuple[Any, ...]:
        """What a loop takes of all rows: labels and the ignored one, numbers, transform, smoothing."""
        return self._common(1.0)(slice(None))

    @property
    def _is_late(self) -> bool:
        """Whether the divisor is known only after the last row: that of a mean over gated weights."""
        return self.problem.reduction == "mean" and self.problem.gated

    def _evaluate(self, gradient: NDArray[Any] | None, values: Array) -> None:
        """Fill ``values`` (N,), and the gradient in the logits' shape where one is wanted.

        A divisor that is known only after the last row rescales the gradient at the end. For float32 and
        float64 that costs a second rounding, and spares a pass that takes every exponential twice. Half
        precision is rounded once, and takes that pass.
        """
        if not self._is_late:
            self._run(gradient, values, self.factor, NOTHING_KEPT)
            return
        if gradient is not None and gradient.itemsize < 4:
            values[:], kept = self.forward()
            self._backward(kept, np.ones(1), gradient)
            return
        kept, at_first = np.empty((self.problem.num_rows, KEPT)), self.below_one
        self._run(gradient, values, at_first, kept)
        ratio = self._divide(kept) / at_first
        values *= ratio
        if gradient is not None:
            _dispatch.rescale(gradient, ratio)

    def _divide(self, kept: Array) -> float:
        """Return the factor, from the weights that a loop has kept."""
        # for the cached property: a pass of its own would find the same
        self.__dict__["factor"] = self.problem.factor(kept[:, -1])
        return self.factor

    @property
    def below_one(self) -> float:
        """A power of two that takes every row's weight below one.

        No gradient overflows by it, and none is rounded by it.
        """
        largest = max(1.0, float(np.max(self.problem.spec.class_weight)))
        if self.problem.sample_weight is not None:
            largest *= max(1.0, float(np.max(self.problem.sample_weight, initial=0.0)))
        return 2.0 ** -math.frexp(largest)[1]

    @property
    def path(self) -> _dispatch.Path:
        """The loop for value and gradient."""
        return _dispatch.choose(self.problem.num_classes, singles=self._in_singles)

    @property
    def _in_singles(self) -> bool:
        """Whether sixteen lanes do: the target is one class, and at most a bias acts on the logits."""
        problem, spec, loops = self.problem, self.problem.spec, _dispatch.kernels()
        one_class = problem.soft is None and not active(spec.smoothing)
        if problem.logits.dtype != np.float32 or problem.kept is not None or not one_class or loops is None:
            return False
        return not spec.acts_on_logits or loops.transform.factors_of(spec) is not None

    # ---- what the loops take ----

    def _run(self, gradient: NDArray[Any] | None, values: Array, factor: float, kept: Array) -> None:
        problem, common = self.problem, self._common(factor)

        def arguments(some: slice) -> tuple[Any, ...]:
            flat = (kept[some] if len(kept) else kept).reshape(-1)
            return (gradient is not None, values[some], flat, *common(some))

        _dispatch.run(self.path, "cross_entropy", problem.logits, problem.axis, gradient, arguments)

    def _backward(self, kept: Array, upstream: Array, gradient: NDArray[Any]) -> None:
        problem, (labels, ignore) = self.problem, self._labels()
        fields, per_row = self._fields(), len(upstream) > 1
        labels, kept, upstream = read_only(labels), read_only(kept), read_only(upstream)

        def arguments(some: slice) -> tuple[Any, ...]:
            factors = upstream[some] if per_row else upstream
            return (kept[some].reshape(-1), factors, labels[some], ignore, *fields(some))

        path = _dispatch.choose(problem.num_classes)
        _dispatch.run(path, "cross_entropy_gradient", problem.logits, problem.axis, gradient, arguments)

    def _common(self, factor: float) -> Callable[[slice], tuple[Any, ...]]:
        """Return what gives, for a slice of rows, what every loop takes, all multiplied by ``factor``."""
        problem, spec = self.problem, self.problem.spec
        labels, ignore = self._labels()
        labels, fields = read_only(labels), self._fields()
        gate, of_value = spec.gate if problem.gated else 0.0, _OF_VALUE(spec)
        weights, by_row = self._weights(), problem.soft is not None
        factors = _NONE if problem.sample_weight is None else read_only(problem.sample_weight)

        def arguments(some: slice) -> tuple[Any, ...]:
            some_weights = weights[some] if by_row and len(weights) else weights
            some_factors = factors[some] if len(factors) else factors
            return (
                labels[some],
                ignore,
                (some_weights, factor, some_factors, gate, *of_value),
                *fields(some),
            )

        return arguments

    def _fields(self) -> Callable[[slice], tuple[Any, Any]]:
        """Return what gives, for a slice of rows, what acts on their logits and what their targets are."""
        problem, loops = self.problem, _dispatch.kernels()
        assert loops is not None
        narrow, singles = problem.logits.dtype != np.float64, self._in_singles

        def fields(some: slice) -> tuple[Any, Any]:
            kept = None if problem.kept is None else problem.kept[some]
            soft = None if problem.soft is None else problem.soft[some]
            transform = loops.transform.transform_of(problem.spec, kept, narrow=narrow, singles=singles)
            return transform, loops.target.smooth_of(problem.spec, soft)

        return fields

    def _weights(self) -> Array:
        """Return W by class, its logarithm where there is a gate, or with a given distribution w by row.

        Empty where all are one.
        """
        problem = self.problem
        if not active(problem.spec.class_weight, 1.0):
            return _NONE
        if problem.soft is not None:
            return read_only(problem.class_weights)
        weights = np.broadcast_to(np.asarray(problem.spec.class_weight), (problem.num_classes,))
        if problem.gated:
            with np.errstate(divide="ignore"):
                weights = np.log(weights)
        return read_only(np.ascontiguousarray(weights))

    def _labels(self) -> tuple[NDArray[np.int64], int]:
        """Return labels per row, and the one that marks a row that does not count.

        A given distribution has the label 0.
        """
        problem = self.problem
        if problem.given is None:
            return np.where(problem.live, 0, -1), -1
        if problem.kept is None:
            return problem.given, problem.ignore_index
        return np.where(problem.live, problem.given, problem.ignore_index), problem.ignore_index
