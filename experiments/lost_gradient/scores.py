"""Losses as scores: how many rows can float32's cross-entropy still rank?

Mining of hard rows, pruning of data and membership inference rank rows by their loss. Torch's float32 loss is
a multiple of the spacing of numbers near 1, and 0 for rows that are sure enough: confident rows share a few
values. The references are the exact losses of the same float32 logits, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import softmax_lab as sl
import softmax_lab.torch as slt

from .networks import SEEDS, Recipe, digits, fit, make_network
from .store import Table

__all__ = ["CONFIDENT", "EPOCHS", "TABLE", "jobs", "membership", "rank_correlation", "scores", "work"]

TABLE = Table(
    "scores",
    ("seed",),
    ("epochs", "rows", "loss"),
    ("count", "confident", "zero_share", "distinct", "rank_correlation", "membership"),
)
EPOCHS = (5, 20, 80)
CONFIDENT = 1e-3  # a true loss below it: a probability over 99.9 %

Array = NDArray[np.float64]


def rank_correlation(values: Array, truth: Array) -> float:
    """Return Spearman's: NaN where all values are equal."""
    from scipy import stats

    if len(set(values.tolist())) < 2 or len(set(truth.tolist())) < 2:
        return float("nan")
    return float(stats.spearmanr(values, truth).statistic)


def membership(train: Array, test: Array) -> float:
    """Return the chance that a row of the training set has a smaller loss than one of the test set.

    Equal ones count a half: the area under the ROC curve of the simplest membership inference.
    """
    from scipy import stats

    return float(stats.mannwhitneyu(test, train).statistic / (len(train) * len(test)))


def scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Array]:
    """Return each row's loss (N,) as float64 numbers: torch's and the exact one in float32, and the truth."""
    exact = sl.cross_entropy(logits.double().numpy(), labels.numpy(), reduction="none")
    return {
        "torch": nn.functional.cross_entropy(logits, labels, reduction="none").double().numpy(),
        "exact": slt.cross_entropy(logits, labels, reduction="none").double().numpy(),
        "truth": np.asarray(exact),
    }


def compare(train: dict[str, Array], test: dict[str, Array]) -> Iterator[dict[str, Any]]:
    """Yield a row for each loss and part of the rows, of which the confident ones are looked at."""
    for part, found in (("train", train), ("test", test)):
        sure = found["truth"] < CONFIDENT
        for name in ("torch", "exact"):
            own = found[name][sure]
            yield {
                "rows": part,
                "loss": name,
                "count": len(sure),
                "confident": int(sure.sum()),
                "zero_share": float((own == 0).mean()) if len(own) else float("nan"),
                "distinct": len(np.unique(own)),
                "rank_correlation": rank_correlation(own, found["truth"][sure]),
                "membership": membership(train[name], test[name]),
            }


def jobs() -> list[dict[str, Any]]:
    """Return the jobs, a seed each."""
    return [{"seed": seed} for seed in SEEDS]


def work(job: Mapping[str, Any], epochs: tuple[int, ...] = EPOCHS) -> Iterator[dict[str, Any]]:
    """Train a network with torch's loss, and look at its rows' losses after so many epochs."""
    seed, data = job["seed"], digits(job["seed"])
    network, recipe = make_network(seed), Recipe(epochs=max(epochs))
    for epoch in fit(network, data.images, data.labels, nn.functional.cross_entropy, recipe, seed):
        if epoch not in epochs:
            continue
        with torch.no_grad():
            train = scores(network(data.images), data.labels)
            test = scores(network(data.test_images), data.test_labels)
        for row in compare(train, test):
            yield {"epochs": epoch, **row}
