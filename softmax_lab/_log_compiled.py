"""The work of the log of the mean loss by the compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dispatch
from ._log_rows import counting
from ._problem import Problem
from ._rows import KEPT, as_rows, read_only
from ._twofloat import Array

__all__ = ["LogCompiled"]


class LogCompiled:
    """The work of a problem by the loops for its number of classes.

    Few classes in float32 and float64 take one pass, and a multiplication of each row by its share. Else the
    gradient is made from what was kept of the rows, and rounded once.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def logs(self) -> tuple[Array, Array]:
        """Return log l of every row as a two-float, (N,) each."""
        return self._logs(None, np.zeros((0, KEPT)) if self._is_short else self._kept())

    def logs_and_gradient(
        self, out: NDArray[Any] | None
    ) -> tuple[tuple[Array, Array], Callable[[Array], NDArray[Any]]]:
        """Return what :meth:`logs` returns, and what gives the gradient once the rows' shares are known."""
        problem = self.problem
        if self._is_short and problem.logits.dtype.itemsize >= 4:
            gradient = problem.output(out)
            return self._logs(gradient, np.zeros((0, KEPT))), lambda rho: self._scaled(gradient, rho)
        kept = self._kept()
        return self._logs(None, kept), lambda rho: self._from_kept(kept, rho, problem.output(out))

    def logs_and_moments(self, tangents: NDArray[Any]) -> tuple[Array, Array, Array]:
        """Return what :meth:`logs` returns, and h' v.t of every row, (N,)."""
        logs, lows, moments = (np.empty(self.problem.num_rows) for _ in range(3))
        self._multiply(tangents, (logs, lows, moments, _NONE, _NONE), None)
        return logs, lows, moments

    def product(
        self, tangents: NDArray[Any], rho: Array, deviations: Array, out: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Return the Hessian times ``tangents``, as ``LogReference.product`` does."""
        result = self.problem.output(out)
        self._multiply(tangents, (_NONE, _NONE, _NONE, rho, deviations), result)
        return result

    # ---- what the loops take ----

    @property
    def path(self) -> _dispatch.Path:
        """The loop for logarithms and gradient."""
        problem = self.problem
        as_they_are = problem.kept is None and not problem.spec.acts_on_logits
        singles = as_they_are and problem.logits.dtype == np.float32
        short = _dispatch.choose(problem.num_classes, singles=singles) == "short"
        return "short_logs" if short else "logs"

    @property
    def transform(self) -> Any:
        """What acts on the logits of all rows, as the loops take it."""
        return self._transform()(slice(None))

    @property
    def _is_short(self) -> bool:
        return self.path == "short_logs"

    def _kept(self) -> Array:
        return np.empty((self.problem.num_rows, KEPT))

    def _logs(self, gradient: NDArray[Any] | None, kept: Array) -> tuple[Array, Array]:
        problem, labels, transform = self.problem, self._labels, self._transform()
        logs, lows, short = np.empty(problem.num_rows), np.empty(problem.num_rows), self._is_short

        def arguments(some: slice) -> tuple[Any, ...]:
            flat = (kept[some] if len(kept) else kept).reshape(-1)
            wanted = (gradient is not None,) if short else ()
            return (*wanted, logs[some], lows[some], flat, labels[some], _IGNORED, transform(some))

        _dispatch.run(self.path, "log_losses", problem.logits, problem.axis, gradient, arguments)
        return logs, lows

    def _multiply(
        self, tangents: NDArray[Any], across: tuple[Array, ...], result: NDArray[Any] | None
    ) -> None:
        """Run the loop of the product, with what crosses rows: it fills the logarithms, or ``result``."""
        problem, labels, transform = self.problem, self._labels, self._transform()
        rows = as_rows(tangents, problem.axis)

        def arguments(some: slice) -> tuple[Any, ...]:
            stored = _dispatch.as_stored(np.ascontiguousarray(rows[some]))
            parts = tuple(numbers[some] for numbers in across)
            return (read_only(stored.reshape(-1)), parts, labels[some], _IGNORED, transform(some))

        short = _dispatch.choose(problem.num_classes) == "short"
        path: _dispatch.Path = "short_log_products" if short else "log_products"
        _dispatch.run(path, "log_cross_entropy_hvp", problem.logits, problem.axis, result, arguments)

    def _scaled(self, gradient: NDArray[Any], rho: Array) -> NDArray[Any]:
        """Multiply each row by its share, in place."""
        factors, axis = read_only(rho), self.problem.axis
        if (rho == 1.0).all():
            return gradient

        def arguments(some: slice) -> tuple[Any, ...]:
            return (factors[some],)

        try:
            _dispatch.run(
                *("logs", "scale_rows", gradient, axis, gradient, arguments), backward=True, light=_PRODUCTS
            )
        except _dispatch.LoopError:  # what has been computed stays
            rows = np.moveaxis(gradient, axis, -1)
            rows *= rho.reshape(rows.shape[:-1])[..., None]
        return gradient

    def _from_kept(self, kept: Array, rho: Array, gradient: NDArray[Any]) -> NDArray[Any]:
        problem, transform = self.problem, self._transform()
        labels = read_only(
            np.where(rho == 0, _IGNORED, self._labels)
        )  # a share of 0: the row may hold anything
        kept, upstream = read_only(kept), read_only(rho if len(rho) > 1 else np.append(rho, 1.0)[:1])

        def arguments(some: slice) -> tuple[Any, ...]:
            return (kept[some].reshape(-1), upstream[some], labels[some], _IGNORED, transform(some), None)

        path = _dispatch.choose(problem.num_classes)
        _dispatch.run(
            *(path, "cross_entropy_gradient", problem.logits, problem.axis, gradient, arguments),
            backward=True,
        )
        return gradient

    def _transform(self) -> Callable[[slice], Any]:
        problem, loops = self.problem, _dispatch.kernels()
        assert loops is not None
        narrow = problem.logits.dtype != np.float64

        def of_rows(some: slice) -> Any:
            kept = None if problem.kept is None else problem.kept[some]
            return loops.transform.transform_of(problem.spec, kept, narrow=narrow)

        return of_rows

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        """The labels, ``_IGNORED`` where a row does not count."""
        problem = self.problem
        assert problem.given is not None
        counts = counting(problem)
        if counts.all():
            return read_only(problem.given)
        return read_only(np.where(counts, problem.given, _IGNORED))


_IGNORED = -1
_PRODUCTS = 32  # multiplications that cost what a class of a row does
_NONE = np.zeros(0)  # numbers that are not given, or not asked for
