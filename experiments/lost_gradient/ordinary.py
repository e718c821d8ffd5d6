"""Ordinary training, where the lost gradient need not matter, with the log of the loss beside it.

The data are scikit-learn's digits, or features of CIFAR-10.

Every rate of a fixed grid is trained and stored: nothing is chosen. Labels may be noisy: a share of the
training rows gets a label drawn evenly from all ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import calibration

from .networks import Recipe, Rows, cifar10, digits, fit, gaps, make_network, zero_share
from .store import Table

__all__ = ["DATASETS", "LABELS", "LOSSES", "RATES", "SEEDS", "TABLE", "jobs", "measure", "noisy", "work"]

TABLE = Table(
    "ordinary",
    ("dataset", "optimizer", "schedule", "noise", "epochs", "loss", "rate"),
    ("seed",),
    ("train_accuracy", "test_accuracy", "test_loss", "ece", "zero_share", "gap"),
)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "torch": nn.functional.cross_entropy,
    "exact": slt.cross_entropy,
    "log": slt.log_cross_entropy,
}
LABELS = {"torch": "torch", "exact": "exact", "log": "log of the mean"}
RATES = {"sgd": (0.03, 0.3), "adam": (1e-3,)}
DATASETS = ("digits", "cifar10", "cifar10-jpeg")
SEEDS = tuple(range(20))
CIFAR_SEEDS = SEEDS[:5]  # a run takes seconds there
EPOCHS = 8


def noisy(labels: Tensor, share: float, seed: int) -> Tensor:
    """Return the labels with a share of them drawn anew, evenly from ten."""
    random = np.random.default_rng([seed, 9])
    place = random.permutation(len(labels))[: round(share * len(labels))]
    found = labels.clone()
    found[torch.from_numpy(place)] = torch.from_numpy(random.integers(10, size=len(place)))
    return found


@torch.no_grad()
def measure(network: nn.Module, data: Rows, labels: Tensor) -> dict[str, float]:
    """Return accuracies, loss in nats and ECE on test rows, and how sure the training rows are.

    ``zero_share`` is that of the training rows whose target's gradient is 0 in torch's float32 loss,
    whatever the network was trained with. Where logits are not finite, nothing but accuracies is a number.
    """
    known, tested = network(data.images), network(data.test_images)
    found = {
        "train_accuracy": float((known.argmax(-1) == labels).double().mean()),
        "test_accuracy": float((tested.argmax(-1) == data.test_labels).double().mean()),
    }
    if not (known.isfinite().all() and tested.isfinite().all()):
        return found | dict.fromkeys(("test_loss", "ece", "zero_share", "gap"), float("nan"))
    z, y = tested.double().numpy(), data.test_labels.numpy()
    return found | {
        "test_loss": float(sl.cross_entropy(z, y)),
        "ece": calibration.expected_calibration_error(*calibration.top_label(sl.softmax(z), y)),
        "zero_share": zero_share(known, labels),
        "gap": float(gaps(known.double(), labels).median()),
    }


def jobs(dataset: str = "digits", epochs: int = EPOCHS) -> list[dict[str, Any]]:
    """Return the jobs of one of the `DATASETS`, each of all seeds."""
    return [
        {
            "dataset": dataset,
            "optimizer": optimizer,
            "schedule": schedule,
            "noise": noise,
            "epochs": epochs,
            "loss": loss,
            "rate": rate,
        }
        for noise in (0.0, 0.2)
        for optimizer, rates in RATES.items()
        for schedule in ("constant", "decaying")
        for loss in LOSSES
        for rate in rates
    ]


def work(
    job: Mapping[str, Any], seeds: tuple[int, ...] | None = None, path: str | None = None
) -> Iterator[dict[str, Any]]:
    """Train a network a seed: twenty on digits, five on CIFAR-10, which is read from ``path``."""
    recipe = Recipe(
        optimizer=job["optimizer"],
        rate=job["rate"],
        decay=job["schedule"] == "decaying",
        epochs=job["epochs"],
    )
    for seed in seeds or (SEEDS if job["dataset"] == "digits" else CIFAR_SEEDS):
        data = _rows(job["dataset"], seed, path)
        labels, network = noisy(data.labels, job["noise"], seed), make_network(seed, data.images.shape[1])
        for _ in fit(network, data.images, labels, LOSSES[job["loss"]], recipe, seed):
            pass
        yield {"seed": seed, **measure(network, data, labels)}


def _rows(dataset: str, seed: int, path: str | None) -> Rows:
    if dataset not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}; got {dataset!r}")
    if dataset == "digits":
        return digits(seed)
    if path is None:
        raise ValueError(f"{dataset} is read from a file or a folder: say where, with --data PATH")
    return cifar10(seed, dataset, path)
