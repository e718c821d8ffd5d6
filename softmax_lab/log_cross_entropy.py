"""The log of the mean loss, its gradient and its Hessian-vector product: a loss that cannot underflow.

The loops are those of :mod:`softmax_lab.cross_entropy`; what crosses rows stands in ``_log_rows.py``, and all
of it in readable NumPy in ``_log_reference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch
from ._checks import Empty, Reduction
from ._log_compiled import LogCompiled
from ._log_reference import LogReference
from ._log_rows import is_distribution, shares_of
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

        J = \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}, \qquad l_i = -\log q_{y_i},
        \quad \omega_i = W_{y_i} \cdot \text{sample weight}_i

    The other classes are summed relative to the largest other logit, so the value is held for a gap of any
    size, where the mean loss itself underflows.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits : array_like, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64; integers are taken as float64.
    target : array_like of int
        Class indices, of the logits' shape without the class axis.
    spec : LossSpec
        What acts on the logits (temperature, scale, bias, margin, softcap), and class_weight. What bounds the
        loss away from zero (smoothing, prior, z_loss) or acts on it (gate, gamma, poly) is refused.
    reduction : {"mean", "sum", "none"}
        "sum" leaves the divisor out; "none" gives log(omega_i l_i) of each row.
    sample_weight : array_like, optional
        One weight >= 0 a row.
    ignore_index : int
        Rows with this label do not count. They, fully masked rows and rows with the weight 0 get -inf with
        "none".
    where : array_like of bool, optional
        As in :func:`softmax_lab.cross_entropy`.
    axis : int
        The class axis.
    empty : {"nan", "zero"}
        What the mean is where no row counts: NaN, or 0.

    Returns
    -------
    scalar or ndarray
        A scalar, or with "none" one value a row. float64 for float64 logits, else float32. A row without
        other classes has l = 0: its logarithm is -inf. That of a target of -inf is +inf. A row that is no
        distribution makes J NaN.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, a field that is refused, or a label outside the classes.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.log_cross_entropy([[1000.0, 0.0]], [0]))
    -1000.0

    See Also
    --------
    softmax_lab.cross_entropy : the mean loss itself.
    softmax_lab.balance.combine_log : J and the gradients' factors of several parts of a batch.
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
    the other classes (-1 at the target). So the sum of its magnitudes cannot underflow. A row far below the
    hardest one still gets nothing, and so do classes far below the largest other one.

    Arguments and errors as in :func:`log_cross_entropy`, and

    out : ndarray, optional
        Where to write the gradient; shape and dtype of the logits. May be ``logits`` itself.

    Returns
    -------
    (value, gradient)
        The gradient in the logits' shape and dtype, rounded once. With ``reduction="none"`` it is the
        gradient of each row's own value, which does not depend on the row's weight. Rows that do not count,
        and rows without other classes, get 0; a target of -inf gets NaN.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> value, gradient = sl.log_cross_entropy_grad([[1000.0, 0.0], [1002.0, 0.0]], [0, 0])
    >>> gradient.round(4)
    array([[-0.8808,  0.8808],
           [-0.1192,  0.1192]])
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
    """Return the Hessian of the log of the mean loss times ``tangent``, in closed form and O(K) a row.

    Arguments and errors as in :func:`log_cross_entropy_grad`; ``tangent`` has the logits' shape. But with
    ``reduction="none"`` rows interact, by one number. The function is not convex.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.log_cross_entropy_hvp([[0.0, 0.0]], [0], [[1.0, 0.0]]).round(4)
    array([[-0.1597,  0.1597]])
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
    return work.product(tangents, shares_of(problem, *work.logs()).rho, out)


def _work(problem: Problem) -> LogCompiled | LogReference:
    """Return who does the work: at the ends of the fields' domains the reference."""
    by_reference = _dispatch.choose(problem.num_classes) == "reference" or not problem.spec.is_moderate
    return LogReference(problem) if by_reference else LogCompiled(problem)
