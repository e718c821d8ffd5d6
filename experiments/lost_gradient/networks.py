"""Small networks on scikit-learn's digits and on features of CIFAR-10, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.digits import distillation
from experiments.long_tail import features, problem

__all__ = [
    "SEEDS",
    "Recipe",
    "Rows",
    "cifar10",
    "digits",
    "distilled",
    "fit",
    "gaps",
    "make_network",
    "plain",
    "zero_share",
]

SEEDS = (0, 1, 2)
_TRAIN = 1197  # of 1,797 rows; the other 600 are the test set
_CIFAR_TRAIN = 10_000  # of 50,000, so that a network trains in seconds; the test set is whole


class Rows(NamedTuple):
    """Images or their features (N, D) and labels (N,) of the rows to train and to test on."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Recipe:
    """How to train: minibatches without replacement, Adam or SGD with momentum 0.9.

    The rate is constant, or falls linearly to 0 (``decay``).
    """

    optimizer: str = "adam"
    rate: float = 1e-3
    decay: bool = False
    epochs: int = 25
    batch: int = 64


def digits(seed: int) -> Rows:
    """Return the digits (64 pixels in [0, 1]) as the seed splits them, in float32."""
    split = distillation.make_split(seed, _TRAIN, 0)
    parts = (split.train.images, split.train.labels, split.test.images, split.test.labels)
    images, labels, test_images, test_labels = map(torch.from_numpy, parts)
    return Rows(images.float(), labels, test_images.float(), test_labels)


def cifar10(seed: int, dataset: str, path: str) -> Rows:
    """Return the features of Coates, Ng and Lee (2011) of CIFAR-10, in float32.

    The seed draws 10,000 rows to train on, as many of each class. The test set is whole. A feature has a mean
    of 0 and a variance of 1 over the rows to train on. ``dataset`` and ``path`` are those of
    `experiments.long_tail.problem.load`.
    """
    whole = _cifar10_features(dataset, path)
    random, classes = np.random.default_rng([seed, 31]), int(whole.labels.max()) + 1
    drawn = np.concatenate(
        [
            random.permutation(np.flatnonzero(whole.labels.numpy() == c))[: _CIFAR_TRAIN // classes]
            for c in range(classes)
        ]
    )
    rows = torch.from_numpy(np.sort(drawn))
    train = whole.images[rows]
    mean, deviation = train.mean(0), train.std(0).clamp(min=1e-6)
    return Rows(
        (train - mean) / deviation,
        whole.labels[rows],
        (whole.test_images - mean) / deviation,
        whole.test_labels,
    )


@cache
def _cifar10_features(dataset: str, path: str) -> Rows:
    """Return the features of all rows, which every seed draws from."""
    source = problem.load(dataset, path)
    if source.test_inputs is None or source.test_labels is None:
        raise ValueError(f"the set must have a test set of its own; got {dataset}")
    known, tested = features.kept_features(source.inputs, source.test_inputs)
    train, test = (torch.from_numpy(np.array(part, np.float32)) for part in (known, tested))
    return Rows(train, torch.from_numpy(source.labels), test, torch.from_numpy(source.test_labels))


def make_network(seed: int, inputs: int = 64, hidden: int = 128) -> nn.Sequential:
    """Return inputs -> hidden -> hidden -> 10 with ReLU, its start drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        )


def fit(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    seed: int,
) -> Iterator[int]:
    """Train a network where it is; yield the epoch's number after each. Networks of a seed see one order."""
    steps = recipe.epochs * -(-len(images) // recipe.batch)
    optimizer = _optimizer(network, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1.0 - step / steps if recipe.decay else 1.0
    )
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, recipe.epochs + 1):
        for rows in torch.randperm(len(images), generator=order).split(recipe.batch):
            optimizer.zero_grad()
            loss(network(images[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
        yield epoch


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=recipe.rate)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=recipe.rate, momentum=0.9)
    raise ValueError(f"the optimizer must be adam or sgd; got {recipe.optimizer}")


def plain(data: Rows, recipe: Recipe, seed: int) -> nn.Sequential:
    """Return a network that was trained with torch's cross-entropy."""
    network = make_network(seed)
    for _ in fit(network, data.images, data.labels, nn.functional.cross_entropy, recipe, seed):
        pass
    return network


def distilled(data: Rows, recipe: Recipe, seed: int, temperature: float) -> nn.Sequential:
    """Return a defensively distilled network: the teacher and the student train at T, and T is 1 in use.

    The student learns the teacher's probabilities at T. In use its logits are about T times as large as those
    of a plain network (Papernot et al. 2016, "Distillation as a Defense to Adversarial Perturbations against
    Deep Neural Networks").
    """

    def tempered(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits / temperature, targets)

    teacher, student = make_network(seed + 1000), make_network(seed)
    for _ in fit(teacher, data.images, data.labels, tempered, recipe, seed):
        pass
    with torch.no_grad():
        soft = (teacher(data.images) / temperature).softmax(-1)
    for _ in fit(student, data.images, soft, tempered, recipe, seed):
        pass
    return student


def gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y less the largest other logit (...), in the type of the logits (..., K)."""
    place = labels[..., None]
    return logits.gather(-1, place)[..., 0] - logits.scatter(-1, place, -torch.inf).amax(-1)


def zero_share(logits: Tensor, labels: Tensor) -> float:
    """Return the share of the rows whose target's gradient is exactly 0 with torch's loss."""
    with torch.enable_grad():
        own = logits.detach().requires_grad_()
        (found,) = torch.autograd.grad(nn.functional.cross_entropy(own, labels, reduction="sum"), own)
    return float((found.gather(-1, labels[:, None]) == 0).double().mean())
