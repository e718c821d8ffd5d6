"""JAX is there, or the error says how it is installed."""

from __future__ import annotations

from .._extras import load

load("jax", "softmax_lab.jax needs JAX")
