"""Value, gradient and Hessian-vector product of every member of the loss family.

The formulas stand in :mod:`softmax_lab.spec`, and in readable NumPy in ``_reference.py``. A call is checked
(``_problem.py``) and done by a compiled loop (``_compiled.py``) or by the reference.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch, _plain
from ._checks import Empty, Reduction
from ._compiled import Compiled
from ._problem import Problem, prepare
from ._reference import Reference
from ._rows import detached
from ._twofloat import Array
from .spec import LossSpec

__all__ = ["cross_entropy", "cross_entropy_grad", "cross_entropy_hvp"]


def cross_entropy(
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
    r"""Return the loss of a member of the family.

    .. math::

        L &= w (1-q_y)^\gamma \Bigl[-\sum_k s_k \log q_k + \kappa\,(1-q_y)\Bigr] \\
          &\quad + \lambda \operatorname{lse}(u)^2

    Parameters
    ----------
    logits : array_like, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64; integers are taken as float64.
    target : array_like
        Integers of the logits' shape without the class axis (class indices), or floats of the logits' own
        shape (a distribution per row, taken as it is: it need not sum to one).
    spec : LossSpec
        The member of the family; the default is plain cross-entropy.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the rows' weights, ``w * sample_weight``.
    sample_weight : array_like, optional
        One weight >= 0 per row; multiplies the row's whole value.
    ignore_index : int
        Rows with this label do not count and get value and gradient 0.
    where : array_like of bool, optional
        Broadcast to the logits' shape. Masked classes take no part; the smoothing prior is renormalised over
        the others. A row with none left is ignored; a masked target in any other row raises ``ValueError``.
    axis : int
        The class axis.
    empty : {"nan", "zero"}
        What the mean over no rows (or a total weight of 0) is: NaN as in torch, or 0.

    Returns
    -------
    scalar or ndarray
        A scalar, or with "none" one value per row. float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.cross_entropy([[40.0, 0.0]], [0]))
    4.248354255291589e-18

    See Also
    --------
    cross_entropy_grad : the value together with its gradient, in one pass.
    """
    if sample_weight is None and where is None:
        found = _plain.evaluate(logits, target, spec, reduction, ignore_index, axis, empty, wanted=False)
        if found is not None:
            return found[0]
    problem = prepare(
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


def cross_entropy_grad(
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
    """Return the loss and its gradient with respect to the logits.

    Arguments and errors as in :func:`cross_entropy`, and

    out : ndarray, optional
        Where to write the gradient; shape and dtype of the logits. May be ``logits`` itself.

    Returns
    -------
    (value, gradient)
        The value as :func:`cross_entropy` returns it; the gradient in the logits' shape and dtype. With
        ``reduction="none"`` it is the gradient of each row's own value.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> value, gradient = sl.cross_entropy_grad([[40.0, 0.0]], [0])
    >>> gradient
    array([[-4.24835426e-18,  4.24835426e-18]])
    """
    if sample_weight is None and where is None:
        found = _plain.evaluate(
            logits, target, spec, reduction, ignore_index, axis, empty, wanted=True, out=out
        )
        if found is not None:
            value, gradient = found
            assert gradient is not None
            return value, gradient
    problem = prepare(
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


def cross_entropy_forward(
    logits: ArrayLike, target: ArrayLike, spec: LossSpec = LossSpec(), **options: Any
) -> tuple[Any, Array]:
    """Return the loss, and what :func:`cross_entropy_backward` needs of its rows: ``(N, KEPT)`` float64.

    Arguments as in :func:`cross_entropy`. Five numbers per row take the place of a gradient that would have
    to wait, rounded, for the factors that are known only later.
    """
    return _forward(prepare(logits, target, spec, **options))


def cross_entropy_backward(
    logits: ArrayLike,
    target: ArrayLike,
    kept: Array,
    upstream: Array,
    spec: LossSpec = LossSpec(),
    *,
    out: NDArray[Any] | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Return the gradient of the loss times ``upstream``: (1,) for all rows, or (N,) one a row.

    Rounded once, after every factor.

    Arguments as in :func:`cross_entropy_forward`, which has returned ``kept``, and ``out`` as in
    :func:`cross_entropy_grad`.
    """
    return _backward(prepare(logits, target, spec, out=out, **options), kept, upstream, out)


def cross_entropy_hvp(
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
    """Return the Hessian of the loss times ``tangent``, in closed form and O(K) per row.

    Arguments and errors as in :func:`cross_entropy_grad`; ``tangent`` has the logits' shape. Rows do not
    interact, so with ``reduction="none"`` the result is each row's own product. Row weights and the gate are
    constants.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.cross_entropy_hvp([[0.0, 0.0]], [0], [[1.0, 0.0]])
    array([[ 0.25, -0.25]])

    See Also
    --------
    softmax_lab.softmax_jvp : the same product for plain cross-entropy, from probabilities.
    """
    problem = prepare(
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


# ---- each is done again by the reference where its loop does not compile ----


@_dispatch.falls_back
def _value(problem: Problem) -> Any:
    work = _work(problem)
    return problem.reduce(work.values(), work.factor)


@_dispatch.falls_back
def _value_and_gradient(problem: Problem, out: NDArray[Any] | None) -> tuple[Any, NDArray[Any]]:
    work = _work(problem)
    values, gradient = work.values_and_gradient(out)
    return problem.reduce(values, work.factor), gradient


@_dispatch.falls_back
def _forward(problem: Problem) -> tuple[Any, Array]:
    work = _work(problem)
    values, kept = work.forward()
    return problem.reduce(values, work.factor), kept


@_dispatch.falls_back
def _backward(problem: Problem, kept: Array, upstream: Array, out: NDArray[Any] | None) -> NDArray[Any]:
    return _work(problem).backward(kept, upstream, out)


@_dispatch.falls_back
def _product(problem: Problem, tangents: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    return _work(problem).product(tangents, out)


def _work(problem: Problem) -> Compiled | Reference:
    """Return who does the work.

    At the ends of the fields' domains that is the reference, whose factors come in a safe order.
    """
    by_reference = _dispatch.choose(problem.num_classes) == "reference" or not problem.spec.is_moderate
    return Reference(problem) if by_reference else Compiled(problem)
