"""One training run with plain cross-entropy, and the gradients of its classes on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import softmax_lab as sl
from experiments.long_tail import Config, make_problem, train
from experiments.long_tail.training import scaled

__all__ = ["DATASETS", "MEASURES", "SEEDS", "STEPS", "classes_of", "run"]

DATASETS = ("digits", "cifar10", "cifar10-jpeg", "cifar100", "cifar100-jpeg")
SEEDS = (0, 1, 2, 3, 4)
#: a network is measured before these steps, and after its last
STEPS = (0, 10, 30, 100, 300, 1000, 3000)
MEASURES = ("logit_sum", "logit_sample", "weight_sum", "weight_sample", "residual")


@dataclass(frozen=True, eq=False)
class Classes:
    """Measures of each class's training rows, each of shape ``(K,)``.

    The norm of a mean is that of the sum over ``count``. ``residual`` is the mean probability that a row
    gives to the other classes.
    """

    count: NDArray[np.int64]
    logit_sum: NDArray[np.float64]
    logit_sample: NDArray[np.float64]
    weight_sum: NDArray[np.float64]
    weight_sample: NDArray[np.float64]
    residual: NDArray[np.float64]


@torch.no_grad()
def classes_of(network: nn.Module, inputs: Tensor, labels: NDArray[np.int64]) -> Classes:
    """Measure the gradient of plain cross-entropy, by the logits and by the weights of the last layer.

    Parameters
    ----------
    network : nn.Sequential
        Its last layer is linear.
    inputs : Tensor, shape ``(N, D)``
    labels : ndarray of int, shape ``(N,)``
    """
    assert isinstance(network, nn.Sequential)
    hidden = network[:-1](inputs.to(next(network.parameters()).device))
    features, logits = (part.double().cpu().numpy() for part in (hidden, network[-1](hidden)))
    _, gradient = sl.cross_entropy_grad(logits, labels, reduction="none")
    by_logit = sl.balance.class_gradients(gradient, labels)
    by_weight = sl.balance.class_gradients(gradient, labels, features)
    return Classes(
        by_logit.counts,
        by_logit.sum_norm,
        by_logit.sample_norm,
        by_weight.sum_norm,
        by_weight.sample_norm,
        by_logit.positive_mass / by_logit.counts,
    )


def run(config: Config, path: str | None = None) -> list[dict[str, Any]]:
    """Train once; return a row a class for each of `STEPS` and for the end of training.

    Training is that of `experiments.long_tail.train`, to the last bit: measuring changes nothing of it.
    """
    problem = make_problem(config, path)
    found: list[dict[str, Any]] = []
    inputs, labels = scaled(problem.train[0], problem.train[0]), problem.train[1]
    done = 0

    def keep(network: nn.Module) -> None:
        measured = classes_of(network, inputs, labels)
        found.extend({"step": done, "class": c, **_of(measured, c)} for c in range(len(measured.count)))

    def watch(network: nn.Module, loss: nn.Module) -> None:
        def before(*_: Any) -> None:
            nonlocal done
            if done in STEPS:
                keep(network)
            done += 1

        loss.register_forward_pre_hook(before)

    network, _, _ = train(config, problem, watch=watch)
    keep(network)
    return found


def _of(measured: Classes, c: int) -> dict[str, float]:
    """Return the measures of a class."""
    return {name: values[c].item() for name, values in vars(measured).items()}
