"""Softmax, log-softmax and log-sum-exp on JAX arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from .._checks import number
from . import _checks
from ._formula.losses import mapped

__all__ = ["log_softmax", "logsumexp", "softmax"]


def softmax(
    logits: ArrayLike, axis: int = -1, *, temperature: Any = 1.0, where: ArrayLike | None = None
) -> Array:
    r"""Return the softmax :math:`p_k = e^{z_k/T} / \sum_j e^{z_j/T}` along one axis.

    Differentiable to any order in both modes, and to be mapped, compiled and sharded by rows. It is computed
    in the logits' own type, float32 for the half types: nothing depends on ``jax_enable_x64``. A confident
    row keeps the digits of its derivative: 1 - p is the sum of the other probabilities.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits : array, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64. NumPy's arrays are taken as JAX takes them: float64 is float32
        unless 64-bit types are enabled.
    axis : int
        The class axis.
    temperature : float or scalar array
        T > 0; below 1 sharpens, above 1 flattens. An array may be traced, and has its derivative.
    where : array of bool, optional
        Broadcast to the logits' shape. Entries that are False take no part and get probability 0; a row with
        none left is all 0.

    Returns
    -------
    jax.Array
        Same shape and dtype as the logits. A row with NaN or +inf, or with nothing above -inf, is NaN.

    Raises
    ------
    TypeError, ValueError
        On a dtype, shape, axis or temperature out of range, saying what was expected and what came.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softmax_lab.jax as slj
    >>> [f"{p:.4e}" for p in slj.softmax(jnp.array([40.0, 0.0]))]
    ['1.0000e+00', '4.2484e-18']

    See Also
    --------
    log_softmax : the logarithm, which stays accurate where a probability rounds to 0 or 1.
    """
    return _mapped("softmax", logits, axis, temperature, where)


def log_softmax(
    logits: ArrayLike, axis: int = -1, *, temperature: Any = 1.0, where: ArrayLike | None = None
) -> Array:
    r"""Return :math:`\log p_k = z_k/T - \log \sum_j e^{z_j/T}` along one axis.

    Arguments, derivatives and errors as in :func:`softmax`. Masked entries, and every entry of a fully masked
    row, are -inf. A confident class keeps its true log-probability instead of 0.

    .. versionadded:: 0.2

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softmax_lab.jax as slj
    >>> [f"{p:.4e}" for p in slj.log_softmax(jnp.array([40.0, 0.0]))]
    ['-4.2484e-18', '-4.0000e+01']

    See Also
    --------
    softmax : the probabilities themselves.
    """
    return _mapped("log_softmax", logits, axis, temperature, where)


def logsumexp(
    logits: ArrayLike, axis: int = -1, *, where: ArrayLike | None = None, keepdims: bool = False
) -> Array:
    r"""Return :math:`\log \sum_j e^{z_j}` along one axis.

    Derivatives and errors as in :func:`softmax`.

    .. versionadded:: 0.2

    Parameters
    ----------
    logits, axis, where
        As in :func:`softmax`.
    keepdims : bool
        Keep the class axis, with length one.

    Returns
    -------
    jax.Array
        The logits' shape without the class axis, in their dtype. -inf where nothing is above -inf or all is
        masked; +inf where an entry is +inf.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softmax_lab.jax as slj
    >>> f"{slj.logsumexp(jnp.array([1000.0, 1000.0])):.3f}"
    '1000.693'
    """
    values = _mapped("logsumexp", logits, axis, 1.0, where)
    return jnp.expand_dims(values, axis) if keepdims else values


def _mapped(name: str, logits: Any, axis: Any, temperature: Any, where: Any) -> Array:
    z = _checks.floating("logits", logits)
    axis = _checks.class_axis("logits", z, axis)
    where = _checks.mask(where, z.shape)
    dtype = _checks.computed_in(z)
    divisor: Any = None
    if isinstance(temperature, jax.Array):
        if temperature.ndim or not jnp.issubdtype(temperature.dtype, jnp.floating):
            raise TypeError(
                f"temperature must be a number or a scalar array of floats; got shape {temperature.shape} "
                f"and dtype {temperature.dtype.name}"
            )
        divisor = temperature.astype(dtype)
    elif (value := number("temperature", temperature, low=0.0, open_low=True)) != 1.0:
        divisor = np.asarray(value, dtype)
        if not 1e-30 < divisor < 1e30:
            raise ValueError(f"temperature must lie between 1e-30 and 1e30; got {value!r}")
    result: Array = _compiled(name, z, where, divisor, axis)
    return result


@partial(jax.jit, static_argnames=("name", "axis"))
def _compiled(name: str, z: Array, where: Array | None, temperature: Array | None, axis: int) -> Array:
    moved = jnp.moveaxis(z, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1]).astype(_checks.computed_in(z))
    kept = None
    if where is not None:
        kept = jnp.moveaxis(jnp.broadcast_to(where, z.shape), axis, -1).reshape(rows.shape)
    values = mapped(name, rows, kept, temperature).astype(z.dtype)
    if name == "logsumexp":
        return values.reshape(moved.shape[:-1])
    return jnp.moveaxis(values.reshape(moved.shape), -1, axis)
