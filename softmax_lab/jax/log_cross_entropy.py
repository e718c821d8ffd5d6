"""The log of the mean loss, on JAX arrays."""

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

__all__ = ["log_cross_entropy"]


def log_cross_entropy(
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
    r"""Return the logarithm of the mean cross-entropy, computed without leaving the log domain.

    .. math::

        J &= \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}, \qquad l_i = -\log q_{y_i}, \\
        \omega_i &= W_{y_i} \cdot \text{sample weight}_i

    Its gradient is a softmax over the rows of :math:`\log \omega_i l_i`, times factors of order one. It never
    underflows, however confident all rows are. Rows depend on each other in it, so over shards the log of the
    mean is not the mean of the logs: ``reduction="none"`` and ``jax.scipy.special.logsumexp`` over all rows
    join them.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits : array, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64.
    target : array
        Class indices: integers of the logits' shape without the class axis.
    spec : LossSpec
        What acts on the logits (temperature, scale, bias, margin, softcap), and class_weight. What bounds the
        loss away from zero (smoothing, prior, z_loss) or acts on it (gate, gamma, poly) is refused.
    reduction : {"mean", "sum", "none"}
        "sum" leaves the divisor out; "none" gives log(omega_i l_i) of each row.
    sample_weight, ignore_index, where, axis
        As in :func:`cross_entropy`. Rows that do not count get -inf with "none", and the gradient 0.
    empty : {"nan", "zero"}
        What the value is where no row counts: NaN, or 0.

    Returns
    -------
    jax.Array
        A scalar, or with "none" one value per row; float64 for float64 logits, else float32. A row without
        another class has no loss: its value is -inf, and its gradient 0.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, a field that is refused, or a label outside the classes.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import softmax_lab.jax as slj
    >>> logits = jnp.array([[1000.0, 0.0], [1002.0, 0.0]])
    >>> gradient = jax.grad(slj.log_cross_entropy)(logits, jnp.array([0, 0]))
    >>> [[f"{g:.4f}" for g in row] for row in gradient]
    [['-0.8808', '0.8808'], ['-0.1192', '0.1192']]

    See Also
    --------
    cross_entropy : the mean loss itself, whose gradient shrinks with the loss.
    """
    _checks.log_loss(spec, target)
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
    value = losses.log_loss(call_of(logits, target, where, sample_weight, spec, axis), options)
    if options.reduction != "none":
        return value
    return value.reshape(jnp.moveaxis(logits, axis, -1).shape[:-1])
