"""What the JAX functions check before any work.

Of arrays only what can be known without waiting for a device is checked. Values are looked at where they are
at hand: NumPy's, and JAX's own on the CPU outside of transformations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ..spec import LossSpec
from ._formula.fields import log_refuses, needs_labels, number_of_classes
from ._formula.losses import Options

__all__ = [
    "Checked",
    "array",
    "at_hand",
    "checked_rows",
    "class_axis",
    "computed_in",
    "floating",
    "layer",
    "log_loss",
    "loss",
    "mask",
]


class Checked(NamedTuple):
    """A loss's arguments in their forms."""

    axis: int
    options: Options


def at_hand(value: Any) -> NDArray[Any] | None:
    """Return the values where they can be read without waiting, else None."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
        return None
    if any(device.platform != "cpu" for device in value.devices()):
        return None
    return np.asarray(value)


def array(name: str, value: Any) -> Any:
    """Refuse what is neither JAX's array nor NumPy's; a number of NumPy's is an array of no axes."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be a jax.Array or a numpy.ndarray; got {type(value).__name__}")
    return _checks.array(name, value) if isinstance(value, np.ndarray) else value


def floating(name: str, value: Any) -> Any:
    """Refuse what is not an array of one of the four floating types."""
    value = array(name, value)
    if value.dtype.name not in _checks.FLOAT_DTYPES:
        raise TypeError(f"{name} must be {', '.join(_checks.FLOAT_DTYPES)}; got dtype {value.dtype.name}")
    return value


def computed_in(value: Any) -> Any:
    """Return the type that is computed in: float64 for float64 where JAX has it, else float32."""
    return jnp.promote_types(jax.dtypes.canonicalize_dtype(value.dtype), jnp.float32)


def class_axis(name: str, value: Any, axis: Any) -> int:
    """Return ``axis`` as a non-negative index, and refuse an array without classes."""
    stand_in: NDArray[Any] = np.broadcast_to(np.zeros(()), value.shape)
    return _checks.class_axis(name, stand_in, axis)


def mask(where: Any, shape: tuple[int, ...]) -> Any:
    """Refuse a mask that is not boolean, or does not broadcast to the logits."""
    if where is None:
        return None
    where = array("where", where)
    if where.dtype != np.bool_:
        raise TypeError(f"where must be boolean; got dtype {where.dtype.name}")
    _checks.mask(np.broadcast_to(np.zeros((), bool), where.shape), shape)
    return where


def loss(
    logits: Any,
    target: Any,
    spec: Any,
    *,
    sample_weight: Any,
    where: Any,
    axis: Any,
    options: Options,
) -> Checked:
    """Check a loss's arguments."""
    floating("logits", logits)
    axis = class_axis("logits", logits, axis)
    return checked_rows(
        logits.shape, axis, target, spec, sample_weight=sample_weight, where=where, options=options
    )


def checked_rows(
    shape: tuple[int, ...],
    axis: int,
    target: Any,
    spec: Any,
    *,
    sample_weight: Any,
    where: Any,
    options: Options,
) -> Checked:
    """Check all but the logits, of which the shape is enough."""
    _checks.choice("reduction", options.reduction, _checks.REDUCTIONS)
    _checks.choice("empty", options.empty, _checks.EMPTY_RULES)
    options = options._replace(ignore_index=_checks.ignored_label(options.ignore_index))
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    classes = number_of_classes(spec)
    if classes not in (None, shape[axis]):
        raise ValueError(f"spec is made for {classes} classes; the logits have {shape[axis]}")
    kept = mask(where, shape)
    row_shape = shape[:axis] + shape[axis + 1 :]
    _target(target, spec, shape, axis, row_shape, options)
    if sample_weight is not None:
        _sample_weight(sample_weight, row_shape)
    if kept is not None:
        _masked_target(target, kept, shape, axis, options)
    return Checked(axis, options)


def log_loss(spec: Any, target: Any) -> None:
    """Refuse what the log of the mean loss does not take."""
    if isinstance(spec, LossSpec):
        log_refuses(spec, jnp.issubdtype(array("target", target).dtype, jnp.floating))


def layer(hidden: Any, weight: Any, bias: Any) -> None:
    """Check the arrays of a linear layer against each other."""
    floating("hidden", hidden)
    floating("weight", weight)
    if hidden.ndim == 0 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden must have shape (..., D) and weight (V, D); got {hidden.shape} and {weight.shape}"
        )
    class_axis("weight", weight, 0)
    given = [("weight", weight)]
    if bias is not None:
        given.append(("bias", floating("bias", bias)))
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must have shape {weight.shape[:1]} (one entry a class); got {bias.shape}")
    for name, value in given:
        if value.dtype != hidden.dtype:
            raise TypeError(f"{name} must have hidden's dtype {hidden.dtype.name}; got {value.dtype.name}")


def _target(
    target: Any,
    spec: LossSpec,
    shape: tuple[int, ...],
    axis: int,
    row_shape: tuple[int, ...],
    options: Options,
) -> None:
    target = array("target", target)
    values = at_hand(target)
    if jnp.issubdtype(target.dtype, jnp.integer):
        if values is None and target.shape != row_shape:
            values = _nothing(target, np.int64)  # the shape is wrong, and so no value is looked at
        if values is not None:
            _checks.labels(values, shape[axis], options.ignore_index, row_shape)
        return
    if target.dtype.name not in _checks.FLOAT_DTYPES:
        raise TypeError(
            f"target must hold integers (class indices) or floats (distributions); got dtype "
            f"{target.dtype.name}"
        )
    needs = needs_labels(spec)
    if needs:
        raise ValueError(f"{', '.join(needs)} needs class-index targets; got a distribution per row")
    if values is None and target.shape != shape:
        values = _nothing(target, np.float64)
    if values is not None:
        _checks.soft_target(values, shape)


def _nothing(array: Any, dtype: Any) -> NDArray[Any]:
    """Return an array of the same shape, without memory for its entries."""
    return np.broadcast_to(np.zeros((), dtype), array.shape)


def _sample_weight(value: Any, row_shape: tuple[int, ...]) -> None:
    value = array("sample_weight", value)
    if value.dtype == np.bool_ or jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"sample_weight must hold real numbers; got dtype {value.dtype.name}")
    values = at_hand(value)
    _checks.sample_weights(_nothing(value, np.float64) if values is None else values, row_shape)


def _masked_target(target: Any, where: Any, shape: tuple[int, ...], axis: int, options: Options) -> None:
    """Refuse a row that counts and whose target takes no part, where both can be looked at."""
    values, kept = at_hand(target), at_hand(where)
    if values is None or kept is None:
        return
    rows = np.moveaxis(np.broadcast_to(kept, shape), axis, -1).reshape(-1, shape[axis])
    if values.dtype.kind in "iu":
        label = values.reshape(-1).astype(np.int64)
        live = (label != options.ignore_index) & rows.any(axis=1)
        bad = live & ~rows[np.arange(len(label)), np.where(live, label, 0)]
    else:
        soft = np.moveaxis(values, axis, -1).reshape(rows.shape)
        bad = rows.any(axis=1) & ((soft != 0) & ~rows).any(axis=1)
    if bad.any():
        raise ValueError(
            f"the target of row {int(np.argmax(bad))} is masked by where; unmask it, or ignore the row"
        )
