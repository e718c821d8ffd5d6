"""The article's advice on training: smoothing, weights, half precision, and free logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import softmax_lab as sl
from experiments.calibration import expected_calibration_error, top_label
from experiments.digits.mlp import Network, forward, initial_network, loss_and_gradient, sgd
from softmax_lab import data
from softmax_lab.audit import adapters

__all__ = [
    "Digits",
    "Trained",
    "WeightedOptimum",
    "free_logits",
    "half_precision",
    "smoothing_runs",
    "weighted_optimum",
]


Rows = NDArray[Any]
Array = NDArray[np.float64]


# the training advice
class Trained(NamedTuple):
    """Networks trained on digits with smoothing ``eps``: means over the seeds.

    They are measured on rows that they have not seen.
    """

    eps: float
    accuracy: float
    confidence: float  # mean largest probability
    ece: float
    gap: float  # of logits: largest less the mean of the others


class Digits(NamedTuple):
    """A small network on few digits: the setting in which it becomes sure of what it has seen.

    A share ``noise`` of the training labels is replaced by labels drawn at random; the test labels are left
    as they are.
    """

    train_rows: int = 300
    noise: float = 0.0
    hidden: int = 64
    steps: int = 1000
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)


def smoothing_runs(epsilons: Sequence[float], setting: Digits) -> list[Trained]:
    """Train with each smoothing.

    The networks of a seed share their start, their rows and their minibatches.
    """
    runs = [[_trained(eps, seed, setting) for seed in setting.seeds] for eps in epsilons]
    return [
        Trained(eps, *(float(np.mean(values)) for values in zip(*own, strict=True)))
        for eps, own in zip(epsilons, runs, strict=True)
    ]


def _trained(eps: float, seed: int, setting: Digits) -> tuple[float, float, float, float]:
    images, labels = data.digits()
    rng = np.random.default_rng([seed, 7])
    order = rng.permutation(len(images))
    seen, unseen = order[: setting.train_rows], order[setting.train_rows :]
    given = np.where(rng.random(len(labels)) < setting.noise, rng.integers(0, 10, len(labels)), labels)
    draws = (rng.choice(seen, setting.batch) for _ in range(setting.steps))
    logits = forward(
        _fitted(images, given, draws, initial_network(seed, setting.hidden), eps), images[unseen]
    )[1]
    confidence, correct = top_label(sl.softmax(logits), labels[unseen])
    top = logits.max(axis=1)
    gap = top - (logits.sum(axis=1) - top) / (logits.shape[1] - 1)
    return (
        float(correct.mean()),
        float(confidence.mean()),
        expected_calibration_error(confidence, correct),
        float(gap.mean()),
    )


def _fitted(images: Array, labels: Rows, draws: Iterable[Rows], start: Network, eps: float) -> Network:
    spec = sl.losses.label_smoothing(eps)
    steps = sgd(
        start,
        lambda network, rows: loss_and_gradient(network, images[rows], labels[rows], spec)[1],
        draws,
        learning_rate=0.1,
        momentum=0.9,
    )
    return deque(steps, maxlen=1)[0]


class WeightedOptimum(NamedTuple):
    """Where the loss of a smoothed label with class weights is least, as probabilities (K,)."""

    ours: Array
    torch: Array


def weighted_optimum(weight: Array, label: int, eps: float) -> WeightedOptimum:
    r"""Return the minimisers in q of the two ways to weight a smoothed label s.

    A weight of the row leaves it at q = s. A weight of each term, -\sum_k W_k s_k \log q_k, moves it to q = W
    s / \sum_j W_j s_j.
    """
    s = np.full(len(weight), eps / len(weight))
    s[label] += 1 - eps
    return WeightedOptimum(s, weight * s / (weight * s).sum())


def half_precision(offset: float, *, rows: int = 200, classes: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return the largest relative error of p, a row a way to use half precision.

    Either the logits are half and the arithmetic after is exact, or the arithmetic is half throughout.

    Logits are normal with standard deviation 3 around ``offset``; p below 1e-4 is left out, near the end of
    float16's range.
    """
    wide = offset + np.random.default_rng(seed).normal(0.0, 3.0, (rows, classes))
    true = sl.softmax(wide)
    textbook = adapters.make("numpy")
    table = {}
    for dtype in ("float16", "bfloat16"):
        z = wide.astype(dtype)
        kept = sl.softmax(z.astype(np.float64))
        found = {
            "logits stored in it": (kept, true),
            "computed in float32 from them": (
                textbook.softmax(z.astype(np.float32)).astype(np.float64),
                kept,
            ),
            "computed in it from them": (textbook.softmax(z).astype(np.float64), kept),
        }
        table[dtype] = {way: _largest_error(p, against) for way, (p, against) in found.items()}
    return pd.DataFrame(table)


def _largest_error(p: Array, true: Array) -> float:
    seen = true > 1e-4
    return float((np.abs(p - true)[seen] / true[seen]).max())


def free_logits(start: Array, label: int, spec: sl.LossSpec, *, steps: int, learning_rate: float) -> Array:
    """Return logits (steps + 1, K) under gradient descent on the loss of one row.

    The logits themselves are the parameters.
    """
    path = [np.asarray(start, dtype=np.float64)]
    for _ in range(steps):
        path.append(
            path[-1] - learning_rate * sl.cross_entropy_grad(path[-1][None], np.array([label]), spec)[1][0]
        )
    return np.stack(path)
