"""Arguments of any class axis, as rows."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ._checks import computed_in
from ._formula.fields import Fields
from ._formula.losses import Call

__all__ = ["call_of"]


def call_of(logits: Any, target: Any, where: Any, sample_weight: Any, spec: Fields, axis: int) -> Call:
    """Return a loss's arguments as rows (n, K), in the type that is computed in."""
    dtype = computed_in(logits)
    moved = jnp.moveaxis(logits, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    if jnp.issubdtype(target.dtype, jnp.integer):
        target = target.reshape(-1)
    else:
        target = jnp.moveaxis(target, axis, -1).reshape(rows.shape)
    kept = None
    if where is not None:
        kept = jnp.moveaxis(jnp.broadcast_to(where, logits.shape), axis, -1).reshape(rows.shape)
    weights = None if sample_weight is None else sample_weight.reshape(-1).astype(dtype)
    return Call(rows.astype(dtype), target, kept, weights, spec)
