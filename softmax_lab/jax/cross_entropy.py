"""The loss of a LossSpec on JAX arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .._checks import Empty, Reduction
from ..spec import PLAIN, LossSpec
from . import _checks
from ._arguments import call_of
from ._formula import losses
from ._formula.fields import Fields, fields_of
from ._formula.losses import Options

__all__ = ["cross_entropy"]


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = PLAIN,
    *,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    empty: Empty = "nan",
) -> Array:
    r"""Return the loss of a member of the family.

    .. math::

        L &= w (1-q_y)^\gamma \Bigl[-\sum_k s_k \log q_k + \kappa\,(1-q_y)\Bigr] \\
          &\quad + \lambda \operatorname{lse}(u)^2

    Differentiable to any order in both modes, to be mapped, compiled and sharded by rows: plain operations,
    and no callback. It is computed in the logits' own type, float32 for the half types; nothing depends on
    ``jax_enable_x64``. Value and gradient keep the digits of confident rows. The gradient is rounded to a
    half type once, after every factor.

    A :class:`softmax_lab.LossSpec` is a pytree. Its active fields are leaves, may be traced, and have their
    derivatives; which of them are active is structure, and another choice compiles anew. The balancing
    loss is ``spec=losses.gradient_balanced(counts)``, and needs no state.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits : array, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64. NumPy's arrays are taken as JAX takes them.
    target : array
        Integers of the logits' shape without the class axis (class indices), or floats of the logits' own
        shape (a distribution per row, taken as it is), which has its derivative.
    spec : LossSpec
        The member of the family; the default is plain cross-entropy.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the rows' weights, ``w * sample_weight``. Under ``shard_map`` that is the
        mean over one shard.
    sample_weight : array, optional
        One weight >= 0 per row; multiplies the row's whole value.
    ignore_index : int
        Rows with this label do not count and get value and gradient 0.
    where : array of bool, optional
        Broadcast to the logits' shape; classes that are False take no part.
    axis : int
        The class axis.
    empty : {"nan", "zero"}
        What the mean over no rows is: NaN, or 0.

    Returns
    -------
    jax.Array
        A scalar, or with "none" one value per row. float64 for float64 logits, else float32. What cannot
        be looked at (inside transformations, and off the CPU) is no error: a row with a label out of range
        or with a masked target is NaN.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import softmax_lab as sl
    >>> import softmax_lab.jax as slj
    >>> gradient = jax.grad(slj.cross_entropy)(jnp.array([[40.0, 0.0]]), jnp.array([0]))
    >>> [f"{g:.4e}" for g in gradient[0]]
    ['-4.2484e-18', '4.2484e-18']
    >>> float(slj.cross_entropy(jnp.zeros((1, 2)), jnp.array([1]), sl.losses.ldam([100, 1])))
    15.0

    See Also
    --------
    softmax_lab.cross_entropy : the same on NumPy arrays.
    linear_cross_entropy : the same without the logits in memory.
    """
    axis, options = _checks.loss(
        logits,
        target,
        spec,
        sample_weight=sample_weight,
        where=where,
        axis=axis,
        options=Options(reduction, empty, ignore_index),
    )
    fields = fields_of(spec, _checks.computed_in(logits))
    result: Array = _compiled(logits, target, where, sample_weight, fields, axis, options)
    return result


@partial(jax.jit, static_argnames=("axis", "options"))
def _compiled(
    logits: Any, target: Any, where: Any, sample_weight: Any, spec: Fields, axis: int, options: Options
) -> Array:
    value = losses.loss(call_of(logits, target, where, sample_weight, spec, axis), options)
    if options.reduction != "none":
        return value
    return value.reshape(jnp.moveaxis(logits, axis, -1).shape[:-1])
