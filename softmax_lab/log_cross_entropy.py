"""The log of the mean loss, its gradient and its Hessian-vector product: a loss that cannot underflow.

The loops are those of :mod:`softmax_lab.cross_entropy`; what crosses rows stands in ``_log_rows.py``, and all
of it in readable NumPy in ``_log_reference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch, _log_plain, _plain
from ._checks import Empty, Reduction
from ._log_compiled import LogCompiled
from ._log_reference import LogReference
from ._log_rows import counting, deviations_of, is_distribution, shares_of
from ._problem import Problem, prepare
from ._rows import detached
from ._twofloat import Array
from .spec import LossSpec, refuse_in_log

__all__ = ["log_cross_entropy", "log_cross_entropy_grad", "log_cross_entropy_hvp"]


def log_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
) -> Any:
    r"""Return the logarithm of the mean cross-entropy, computed without leaving the log domain.

    .. math::

        J &= \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}, \qquad l_i = -\log q_{y_i}, \\
        \omega_i &= W_{y_i} \cdot \text{sample weight}_i

    The other classes are summed relative to the largest other logit. So the value is held for a gap of any
    size, where the mean loss itself underflows.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits, target, sample_weight, ignore_index, where, axis, empty
        As in :func:`softmax_lab.cross_entropy`, but the target holds class indices.
    spec : LossSpec
        What acts on the logits (temperature, scale, bias, margin, softcap), and class_weight. What bounds the
        loss away from zero (smoothing, prior, z_loss) or acts on it (gate, gamma, poly) is refused.
    reduction : {"mean", "sum", "none"}
        "sum" leaves the divisor out; "none" gives log(omega_i l_i) of each row.

    Returns
    -------
    scalar or ndarray
        A scalar, or with "none" one value per row, of the types of :func:`softmax_lab.cross_entropy`. A row
        without other classes has l = 0: its logarithm is -inf, and so is that of a row that does not count.
        That of a target of -inf is +inf. A row that is no distribution makes J NaN.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`softmax_lab.cross_entropy`, and on a field or a target that is refused.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.log_cross_entropy([[1000.0, 0.0]], [0]))
    -1000.0

    See Also
    --------
    softmax_lab.cross_entropy : the mean loss itself.
    softmax_lab.balance.combine_log : J and the gradients' factors of several parts of a batch.

    References
    ----------
    M. S. Nacson et al., "Convergence of gradient descent on separable data", AISTATS 2019: steps over the
    loss, whose gradient is that of its logarithm. The formulas that do not underflow are derived in chapter
    11 of the book.
    """
    if sample_weight is None and where is None:
        found = _plain.evaluate(
            *(logits, target, spec, reduction, ignore_index, axis, empty),
            wanted=False,
            other=_log_plain.plan_of,
        )
        if found is not None:
            return found[0]
    problem = _prepared(
        logits,
        target,
        spec,
        reduction=reduction,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        where=where,
        axis=axis,
        empty=empty,
    )
    return _value(problem)


def log_cross_entropy_grad(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Return the log of the mean loss and its gradient with respect to the logits.

    The gradient is a softmax over the rows of log(omega_i l_i), times a factor near one, times the softmax of
    the other classes (-1 at the target).

    What cannot underflow is the sum of the gradient's magnitudes, over all rows and classes. A row far below
    the hardest one still counts nothing, and so do classes far below the largest other one.

    Arguments and errors as in :func:`log_cross_entropy`, and

    out : ndarray, optional
        Where to write the gradient; shape and dtype of the logits. May be ``logits`` itself.

    Returns
    -------
    (value, gradient)
        The gradient in the logits' shape and dtype. With ``reduction="none"`` it is the gradient of each
        row's own value, which does not depend on the row's weight. Rows that do not count, and rows without
        other classes, get 0; a target of -inf gets NaN.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> value, gradient = sl.log_cross_entropy_grad([[1000.0, 0.0], [1002.0, 0.0]], [0, 0])
    >>> gradient.round(4)
    array([[-0.8808,  0.8808],
           [-0.1192,  0.1192]])
    """
    if sample_weight is None and where is None:
        found = _plain.evaluate(
            *(logits, target, spec, reduction, ignore_index, axis, empty),
            wanted=True,
            out=out,
            other=_log_plain.plan_of,
        )
        if found is not None:
            value, gradient = found
            assert gradient is not None
            return value, gradient
    problem = _prepared(
        logits,
        target,
        spec,
        reduction=reduction,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        where=where,
        axis=axis,
        empty=empty,
        out=out,
    )
    return _value_and_gradient(problem, out)


def log_cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    tangent: ArrayLike,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the Hessian of the log of the mean loss times ``tangent``, in closed form and O(K) per row.

    Arguments and errors as in :func:`log_cross_entropy_grad`; ``tangent`` has the logits' shape. The result
    has their type, and is rounded once. But with ``reduction="none"`` rows interact, by one number. The
    function is not convex: by its target's logit the second derivative of a confident row's log l is near
    -e^s / 2, with s the log-sum-exp of the others less the target. It keeps its digits.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.log_cross_entropy_hvp([[0.0, 0.0]], [0], [[1.0, 0.0]]).round(4)
    array([[-0.1597,  0.1597]])

    See Also
    --------
    softmax_lab.cross_entropy_hvp : the same product for the mean loss, whose rows do not interact.
    """
    problem = _prepared(
        logits,
        target,
        spec,
        reduction=reduction,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        where=where,
        axis=axis,
        empty=empty,
        out=out,
    )
    t = _checks.floating("tangent", tangent)
    if t.shape != problem.shape:
        raise ValueError(f"tangent must have the logits' shape {problem.shape}; got {t.shape}")
    return _product(problem, detached(t, out), out)


def log_losses(
    logits: NDArray[Any], target: ArrayLike, spec: LossSpec, *, out: NDArray[Any] | None = None
) -> tuple[Array, Array]:
    """Return log l of each row, as two float64 whose sum is the number: (N,) each.

    Arguments as in :func:`log_cross_entropy_grad`; the class weights are not in it. ``out`` gets the gradient
    of each row's own logarithm. A row's share of a mean that other rows belong to is the caller's to find,
    and wants the rounding error of the logarithm.
    """
    problem = _prepared(logits, target, spec, reduction="none", out=out)
    return _logs(problem) if out is None else _logs_and_gradient(problem, out)


def _prepared(logits: ArrayLike, target: ArrayLike, spec: LossSpec, **options: Any) -> Problem:
    if isinstance(spec, LossSpec):
        refuse_in_log(spec, is_distribution(_checks.array("target", target)))
    problem = prepare(logits, target, spec, **options)
    if problem.soft is not None:
        refuse_in_log(spec, True)
    return problem


# ---- each is done again by the reference where its loop does not compile ----


@_dispatch.falls_back
def _value(problem: Problem) -> Any:
    return shares_of(problem, *_work(problem).logs()).value


@_dispatch.falls_back
def _value_and_gradient(problem: Problem, out: NDArray[Any] | None) -> tuple[Any, NDArray[Any]]:
    logs, gradient = _work(problem).logs_and_gradient(out)
    found = shares_of(problem, *logs)
    return found.value, gradient(found.rho)


@_dispatch.falls_back
def _logs(problem: Problem) -> tuple[Array, Array]:
    return _work(problem).logs()


@_dispatch.falls_back
def _logs_and_gradient(problem: Problem, out: NDArray[Any]) -> tuple[Array, Array]:
    logs, gradient = _work(problem).logs_and_gradient(out)
    gradient(np.where(logs[0] == -np.inf, 0.0, 1.0))
    return logs


@_dispatch.falls_back
def _product(problem: Problem, tangents: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    work = _work(problem)
    if problem.reduction == "none":  # rows do not meet
        rho, deviations = counting(problem).astype(np.float64), np.zeros(problem.num_rows)
    else:
        *logs, moments = work.logs_and_moments(tangents)
        rho = shares_of(problem, *logs).rho
        deviations = deviations_of(rho, moments)
    return work.product(tangents, rho, deviations, out)


def _work(problem: Problem) -> LogCompiled | LogReference:
    """Return who does the work: at the ends of the fields' domains the reference."""
    by_reference = _dispatch.choose(problem.num_classes) == "reference" or not problem.spec.is_moderate
    return LogReference(problem) if by_reference else LogCompiled(problem)
