"""optax: its cross-entropy of labels or distributions, and in the mode "safe" the one for masked classes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from answering import options, serve

OPTIONS = options("safe")


def one_hot(y, classes):
    """Return distributions: those of labels, of which one out of range is refused here."""
    if y.ndim == 2:
        return y
    if ((y < 0) | (y >= classes)).any():
        raise IndexError("a label is out of range")
    return jax.nn.one_hot(y, classes)


def loss(z, y):
    if OPTIONS.mode == "safe":
        labels = one_hot(y, z.shape[1]).astype(z.dtype)
        return optax.losses.safe_softmax_cross_entropy(z, labels)
    if y.ndim == 2:
        return optax.losses.softmax_cross_entropy(z, y)
    return optax.losses.softmax_cross_entropy_with_integer_labels(z, y)


def cross_entropy(z, y):
    return np.asarray(loss(jnp.asarray(z), jnp.asarray(y)))


def cross_entropy_grad(z, y):
    labels = jnp.asarray(y)
    return np.asarray(jax.grad(lambda z: loss(z, labels).sum())(jnp.asarray(z)))


serve(
    "optax",
    {},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
    dtypes=("float16", "bfloat16", "float32"),
)
