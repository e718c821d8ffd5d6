"""The loss of a linear layer without all its logits, on JAX arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .._checks import Empty, Reduction, whole
from ..spec import PLAIN, LossSpec
from . import _checks
from ._formula import losses
from ._formula.fields import Fields, fields_of
from ._formula.losses import Call, Options, Values

__all__ = ["linear_cross_entropy"]

_CHUNK_BYTES = 48 << 20


def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    spec: LossSpec = PLAIN,
    *,
    bias: ArrayLike | None = None,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    empty: Empty = "nan",
    chunk_bytes: int = _CHUNK_BYTES,
    precision: Any = None,
) -> Array:
    """Return ``slj.cross_entropy(hidden @ weight.T + bias, target, spec)`` without holding all the logits.

    Rows are taken chunk by chunk, and each chunk's logits are computed a second time in the backward pass. So
    memory beside the arguments is their gradients and ``chunk_bytes``, a few times over. It is a scan of
    rematerialised chunks: both modes and every order of derivative, ``vmap`` and ``jit`` go through it. The
    products are computed, and the weight's gradient is summed, in float32 for the half types. The gradients
    are rounded once.

    .. versionadded:: 0.2

    Parameters
    ----------
    hidden : array, shape ``(..., D)``
        float16, bfloat16, float32 or float64.
    weight : array, shape ``(V, D)``
        One row a class; hidden's dtype. (Flax keeps a Dense layer's kernel as (D, V): pass ``kernel.T``.)
    target : array
        Class indices of shape ``(...)``, or a distribution per row, ``(..., V)``.
    spec : LossSpec
        The member of the family.
    bias : array, shape ``(V,)``, optional
    reduction, sample_weight, ignore_index, empty
        As in :func:`cross_entropy`.
    chunk_bytes : int
        Budget of a chunk of logits in bytes; at least one row is taken. 48 MiB by default.
    precision : optional
        Of the matrix products, as in ``jax.numpy.matmul``: what the device does by default may have fewer
        digits than the type.

    Returns
    -------
    jax.Array
        A scalar, or with "none" one value per row; float64 for float64, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import softmax_lab.jax as slj
    >>> hidden, weight, target = jnp.array([[40.0, 0.0, 0.0]]), jnp.eye(3), jnp.array([0])
    >>> loss, gradient = jax.value_and_grad(slj.linear_cross_entropy, argnums=1)(hidden, weight, target)
    >>> f"{loss:.3g}", f"{gradient[1, 0]:.3g}"
    ('8.5e-18', '1.7e-16')

    See Also
    --------
    cross_entropy : the same from logits that exist.
    """
    _checks.layer(hidden, weight, bias)
    shape = (*jnp.shape(hidden)[:-1], jnp.shape(weight)[0])
    _, options = _checks.checked_rows(
        shape,
        len(shape) - 1,
        target,
        spec,
        sample_weight=sample_weight,
        where=None,
        options=Options(reduction, empty, ignore_index),
    )
    dtype = _checks.computed_in(hidden)
    budget = whole("chunk_bytes", chunk_bytes, low=1)
    step = max(1, budget // (shape[-1] * jnp.dtype(dtype).itemsize))
    result: Array = _compiled(
        hidden, weight, bias, target, sample_weight, fields_of(spec, dtype), options, step, precision
    )
    return result


@partial(jax.jit, static_argnames=("options", "step", "precision"))
def _compiled(
    hidden: Any,
    weight: Any,
    bias: Any,
    target: Any,
    sample_weight: Any,
    spec: Fields,
    options: Options,
    step: int,
    precision: Any,
) -> Array:
    dtype, row_shape = _checks.computed_in(hidden), hidden.shape[:-1]
    rows = hidden.reshape(-1, hidden.shape[-1])
    # widened before the scan, so that what the chunks add to the gradient is added in the wide type
    wide, offset = weight.astype(dtype), None if bias is None else bias.astype(dtype)
    target = target.reshape(-1, *target.shape[len(row_shape) :])
    count = len(rows)
    step = min(step, max(count, 1))
    chunks = -(-count // step)

    @jax.checkpoint
    def values(chunk: tuple[Array, Array]) -> Values:
        logits = jnp.matmul(chunk[0].astype(dtype), wide.T, precision=precision)
        logits = logits if offset is None else logits + offset
        return losses.values_of(Call(logits, chunk[1], None, None, spec), options)

    found = jax.lax.map(values, (_chunked(rows, chunks, step), _chunked(target, chunks, step)))
    # what fills up the last chunk is cut off
    found = Values(*(each.reshape(-1)[:count] for each in found))
    weights = None if sample_weight is None else sample_weight.reshape(-1).astype(dtype)
    value = losses.reduced(found, weights, options)
    return value.reshape(row_shape) if options.reduction == "none" else value


def _chunked(rows: Array, chunks: int, step: int) -> Array:
    """Return rows as (chunks, step, ...), the last chunk filled up with zeros."""
    missing = chunks * step - len(rows)
    filled = jnp.pad(rows, ((0, missing), *((0, 0) for _ in rows.shape[1:])))
    return filled.reshape(chunks, step, *rows.shape[1:])
