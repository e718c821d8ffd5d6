"""A small network with one hidden layer, and plain SGD: what the experiments on digits share.

Parameters may have leading axes ``...``: then as many networks are trained side by side, each on its own
rows, in one NumPy call a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl

__all__ = ["Array", "Network", "forward", "initial_network", "loss_and_gradient", "sgd"]

Array = NDArray[np.float64]


class Network(NamedTuple):
    """Parameters of z = tanh(x W1 + b1) W2 + b2, or a gradient with respect to them.

    The shapes are (..., D, H), (..., H), (..., H, K) and (..., K).
    """

    w1: Array
    b1: Array
    w2: Array
    b2: Array


def initial_network(seed: int, hidden: int, inputs: int = 64, classes: int = 10) -> Network:
    """Draw weights of variance 1/fan-in and zero biases."""
    rng = np.random.default_rng([seed, 1])
    w1 = rng.normal(size=(inputs, hidden)) / np.sqrt(inputs)
    w2 = rng.normal(size=(hidden, classes)) / np.sqrt(hidden)
    return Network(w1, np.zeros(hidden), w2, np.zeros(classes))


def forward(network: Network, images: Array) -> tuple[Array, Array]:
    """Return the hidden features ``(..., N, H)`` and the logits ``(..., N, K)`` of images ``(..., N, D)``."""
    features = np.tanh(images @ network.w1 + network.b1[..., None, :])
    return features, features @ network.w2 + network.b2[..., None, :]


def loss_and_gradient(
    network: Network, images: Array, targets: NDArray[Any], spec: sl.LossSpec
) -> tuple[float, Network]:
    """Return the mean loss over the rows, summed over the networks, and its gradient by every parameter.

    Targets are class indices ``(..., N)`` or distributions ``(..., N, K)``. Each network's mean is that of
    its own rows and their weights.
    """
    features, logits = forward(network, images)
    value, dz = _means(logits, targets, spec)
    da = (dz @ network.w2.swapaxes(-1, -2)) * (1.0 - features**2)  # (..., N, H), before the tanh
    by_w1, by_w2 = images.swapaxes(-1, -2) @ da, features.swapaxes(-1, -2) @ dz
    return value, Network(by_w1, da.sum(axis=-2), by_w2, dz.sum(axis=-2))


def _means(logits: Array, targets: NDArray[Any], spec: sl.LossSpec) -> tuple[float, Array]:
    """Return the sum of the networks' mean losses, and its gradient by the logits ``(..., N, K)``."""
    networks = np.prod(logits.shape[:-2], dtype=int)
    if networks == 1 or np.ndim(spec.class_weight) == 0:  # all rows count alike: one call for all networks
        value, dz = sl.cross_entropy_grad(logits, targets, spec)
        return float(value * networks), dz * networks
    own_logits = logits.reshape(-1, *logits.shape[-2:])
    own_targets = targets.reshape(len(own_logits), -1, *targets.shape[logits.ndim - 1 :])
    means = [sl.cross_entropy_grad(z, y, spec) for z, y in zip(own_logits, own_targets, strict=True)]
    values, slopes = zip(*means, strict=True)
    return float(sum(values)), np.stack(slopes).reshape(logits.shape)


def sgd(
    network: Network,
    gradient: Callable[[Network, NDArray[np.int64]], Network],
    draws: Iterable[NDArray[np.int64]],
    *,
    learning_rate: float | Sequence[float],
    momentum: float,
) -> Iterator[Network]:
    """Yield the network after every step of SGD with momentum.

    A step asks ``gradient(network, rows)`` for each minibatch ``rows`` drawn.

    A sequence of four learning rates gives W1, b1, W2 and b2 their own.
    """
    rates = [learning_rate] * len(network) if isinstance(learning_rate, int | float) else list(learning_rate)
    velocity = [np.zeros_like(p) for p in network]
    for rows in draws:
        slopes = gradient(network, rows)
        velocity = [momentum * v - rate * g for v, rate, g in zip(velocity, rates, slopes, strict=True)]
        network = Network(*(p + v for p, v in zip(network, velocity, strict=True)))
        yield network
