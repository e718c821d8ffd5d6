"""One training run, and what is measured of it.

For one seed every loss starts from the same weights and sees the same rows in the same order, and what a
larger rho trains on is a subset of what a smaller one does. Differences between losses are paired.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import calibration

from .config import Config, Protocol
from .features import Array
from .losses import COSINE, Context, Loss, make_loss
from .networks import make_network
from .problem import Problem, make_problem

__all__ = ["after_epoch", "batches", "measure", "measured", "rate", "run", "scaled", "train"]


def scaled(inputs: Array, like: Array) -> Tensor:
    """Return inputs as float32, each column or colour of mean 0 and deviation 1 over ``like``.

    Images become (N, C, H, W), and stay NHWC in memory.
    """
    axes = tuple(range(like.ndim - 1))
    wide = like.astype(np.float32)
    mean, deviation = wide.mean(axes), wide.std(axes)
    out = torch.from_numpy((inputs.astype(np.float32) - mean) / np.where(deviation > 0, deviation, 1.0))
    return out.permute(0, 3, 1, 2) if inputs.ndim == 4 else out


def _augmented(images: Tensor, random: torch.Generator, *, mirror: bool) -> Tensor:
    """Shift each image by up to an eighth of its side, and mirror half of them."""
    n, _, height, width = images.shape
    reach = height // 8
    padded = nn.functional.pad(images, (reach,) * 4)
    down, right = (
        torch.randint(0, 2 * reach + 1, (n, 1), generator=random).to(images.device) for _ in range(2)
    )
    rows, columns = (
        offset + torch.arange(side, device=images.device) for offset, side in ((down, height), (right, width))
    )
    first = torch.arange(n, device=images.device)[:, None, None]
    shifted = padded[first, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if not mirror:
        return shifted
    turned = torch.rand(n, generator=random).to(images.device) < 0.5
    return torch.where(turned[:, None, None, None], shifted.flip(3), shifted)


def rate(how: Protocol, epochs: int, done: float) -> float:
    """Return the learning rate after ``done`` epochs."""
    warm = min(1.0, (done + 1.0) / (how.warm_up + 1.0))
    if how.decay_at:
        return how.learning_rate * warm * 0.01 ** sum(done >= share * epochs for share in how.decay_at)
    return how.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * done / epochs))


def train(
    config: Config, problem: Problem, *, watch: Callable[[nn.Module, Loss], Any] | None = None
) -> tuple[nn.Module, Loss, Tensor]:
    """Train; return the network in evaluation mode, the loss, and the test inputs as the network takes them.

    ``watch`` is called once with network and loss before training, for example to attach a
    ``GradientMonitor``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    how, classes, (inputs, labels) = config.how, len(problem.counts), problem.train
    network = make_network(how.network, inputs.shape[-1], classes, cosine=config.loss in COSINE).to(device)
    loss = make_loss(config.loss, Context(problem.counts, config.length), config.settings).to(device)
    x, steer, test = (scaled(part, inputs).to(device) for part in (inputs, problem.steer[0], problem.test[0]))
    y, steer_y = (torch.from_numpy(part).to(device) for part in (labels, problem.steer[1]))
    if watch is not None:
        watch(network, loss)
    forward = torch.compile(network) if device.type == "cuda" else network
    optimizer = torch.optim.SGD(
        network.parameters(), lr=how.learning_rate, momentum=0.9, nesterov=True, weight_decay=how.weight_decay
    )
    random = torch.Generator().manual_seed(config.seed)
    for epoch in range(config.length):
        network.train()
        for done, rows in batches(len(y), how.batch, random):
            optimizer.param_groups[0]["lr"] = rate(how, config.length, epoch + done)
            batch = x[rows.to(device)]
            batch = _augmented(batch, random, mirror=config.family == "cifar") if how.augment else batch
            optimizer.zero_grad(set_to_none=True)
            loss(forward(batch), y[rows.to(device)]).backward()
            optimizer.step()
        after_epoch(network.eval(), loss, steer, steer_y)
    return network.eval(), loss, test


def batches(rows: int, size: int, random: torch.Generator) -> Iterator[tuple[float, Tensor]]:
    """Yield the share of the epoch that is done and a batch.

    A last batch of a single row, which cannot be normalised, is left out.
    """
    order = torch.randperm(rows, generator=random)
    for start in range(0, rows, size):
        if start == 0 or rows - start > 1:
            yield start / rows, order[start : start + size]


@torch.no_grad()
def after_epoch(network: nn.Module, loss: Loss, steer: Tensor, steer_y: Tensor) -> None:
    if isinstance(loss, slt.DeferredReweighting):
        loss.step()
    if isinstance(loss, slt.GradientBalancedLoss) and len(steer):
        loss.observe(_outputs(network, steer), steer_y)


@torch.no_grad()
def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([network(part) for part in inputs.split(1000)])


def measure(
    logits: NDArray[np.float64], labels: NDArray[np.int64], rank: NDArray[np.int64]
) -> dict[str, float]:
    """Return balanced accuracy, its means over the frequent, middle and rare classes, ECE and NLL.

    All but the NLL are in percent.

    Classes without test rows do not count. A third of the classes, rounded down, are head and tail each.
    """
    classes = len(rank)
    count = np.bincount(labels, minlength=classes)
    hit = np.bincount(labels, weights=logits.argmax(axis=1) == labels, minlength=classes)
    recall = np.divide(hit, count, out=np.full(classes, np.nan), where=count > 0)[np.argsort(rank)]
    third = classes // 3
    parts = {
        "balanced_accuracy": recall,
        "head": recall[:third],
        "mid": recall[third : classes - third],
        "tail": recall[classes - third :],
    }
    confidence, correct = calibration.top_label(sl.softmax(logits), labels)
    return {
        **{
            name: 100 * float(np.mean(part[~np.isnan(part)])) if (~np.isnan(part)).any() else math.nan
            for name, part in parts.items()
        },
        "ece": 100 * calibration.expected_calibration_error(confidence, correct),
        "nll": float(sl.cross_entropy(logits, labels)),
    }


def measured(network: nn.Module, loss: Loss, test: Tensor, problem: Problem) -> dict[str, float]:
    """Return what `measure` does of a trained network."""
    spec = loss.loss.spec if isinstance(loss, slt.SeesawLoss) else loss.spec
    assert isinstance(spec, sl.LossSpec)
    # a temperature of the loss is part of the model; its prior, margins and scales are of training alone
    logits = _outputs(network, test).double().cpu().numpy() / spec.temperature
    return measure(logits, problem.test[1], problem.rank)


def run(config: Config, path: str | None = None) -> dict[str, float]:
    """Train once and return what `measure` does, and the seconds that it took."""
    start = time.perf_counter()
    problem = make_problem(config, path)
    network, loss, test = train(config, problem)
    return {**measured(network, loss, test, problem), "seconds": time.perf_counter() - start}
