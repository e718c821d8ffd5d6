"""JAX and optax: a jitted training step whose loss is a member of the family.

python examples/jax_optax.py
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import softmax_lab as sl
import softmax_lab.jax as slj

Params = dict[str, jax.Array]


def logits_of(params: Params, x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["first"])
    return hidden @ params["second"]


def main(spec: sl.LossSpec = sl.losses.label_smoothing(0.05), epochs: int = 40) -> tuple[list[float], float]:
    """Return the losses by epoch, and the accuracy on rows that were not trained on."""
    images, labels = sl.data.digits()
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = jnp.asarray(images[order], jnp.float32), jnp.asarray(labels[order])
    first, second = jax.random.split(jax.random.key(0))
    params = {
        "first": jax.random.normal(first, (64, 64)) / 8.0,
        "second": jax.random.normal(second, (64, 10)) / 8.0,
    }
    optimizer = optax.adam(3e-3)
    state = optimizer.init(params)

    def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return slj.cross_entropy(logits_of(params, x), y, spec)

    @jax.jit
    def step(params: Params, state: Any, x: jax.Array, y: jax.Array) -> tuple[Params, Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for _ in range(epochs):
        for start in range(0, 1200, 100):
            params, state, value = step(params, state, x[start : start + 100], y[start : start + 100])
        losses.append(float(value))
    accuracy = float((logits_of(params, x[1200:]).argmax(1) == y[1200:]).mean())
    print(f"loss {losses[0]:.3g} -> {losses[-1]:.3g}, accuracy {accuracy:.3f}")
    return losses, accuracy


if __name__ == "__main__":
    main()
