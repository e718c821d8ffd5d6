"""The rows of a run: to train on, to steer by, and to measure on.

The rows of the part ``tune`` are split off the *training* rows of seeds of their own. Hyper-parameters are
chosen there, and the test rows are seen by the part ``final`` alone. (Each seed draws its rows from the same
digits, so one seed's training row may be another's test row: for every loss alike.)

Of each class a fifth is held out, and at least one row: of two to seven rows that is leave-one-out. A class
with one training row would be trained on or measured, never both. It is drawn with one row more, which is
held out. So every class is trained on, and every class is measured.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softmax_lab import data

from .config import PROTOCOLS, RULE, Config
from .features import Array, kept_features
from .losses import STEERED

__all__ = ["Problem", "load", "make_problem", "prepare"]


DIGITS_TEST = 74  # rows of each class of the digits: what 100 training rows leave of the smallest class
HELD_OUT = 0.2  # share of each class's training rows that the part "tune" is measured on
SLACK = 0.02  # counts are whole: how far their ratio may be from rho, relatively
STEERING = 0.1  # share that a loss with a controller holds out of its own training rows


class Problem(NamedTuple):
    """Inputs and labels: to train on, to steer by, and to measure on.

    Those to steer by are empty, but for a loss with a controller.

    Inputs are uint8 images ``(N, H, W, C)`` or float features ``(N, D)``. ``rank`` is each class's place by
    frequency, 0 the most frequent.
    """

    train: tuple[Array, NDArray[np.int64]]
    steer: tuple[Array, NDArray[np.int64]]
    test: tuple[Array, NDArray[np.int64]]
    counts: NDArray[np.int64]
    rank: NDArray[np.int64]


class _Source(NamedTuple):
    """A whole set: rows to draw from, and where it has one, its own test set."""

    inputs: Array
    labels: NDArray[np.int64]
    test_inputs: Array | None
    test_labels: NDArray[np.int64] | None


@cache
def load(dataset: str, path: str | None) -> _Source:
    """Return the images of a set; ``path`` is CIFAR's archive or folder.

    A folder with ``train.tar.xz`` and ``test.tar.xz`` is read as `experiments.long_tail_resnet` does: its
    training part may have a long tail already, of which every steeper one can be drawn.
    """
    if dataset == "digits":
        images, labels = data.digits()
        return _Source(np.rint(images * 16).astype(np.uint8).reshape(-1, 8, 8, 1) * 15, labels, None, None)
    if path is None:
        raise ValueError(
            f"{dataset} is read from its binary archive or a folder of images: say where, with --data PATH"
        )
    if (Path(path) / "train.tar.xz").is_file():
        from experiments.long_tail_resnet import packing

        suffix = ".jpg" if dataset.endswith("-jpeg") else ".png"
        train, test = (
            packing.read(Path(path), part, suffix=suffix, progress=False) for part in ("train", "test")
        )
        return _Source(train.pixels, train.labels, test.pixels, test.labels)
    found = (data.cifar100 if dataset.startswith("cifar100") else data.cifar10)(path, progress=False)
    if found.lossy != dataset.endswith("-jpeg"):
        kind = "JPEG files: call the set" if found.lossy else "lossless images: call the set"
        raise ValueError(
            f"{path} holds {kind} {dataset.split('-')[0]}{'-jpeg' if found.lossy else ''}; got dataset "
            f"{dataset}"
        )
    return _Source(found.train_images, found.train_labels, found.test_images, found.test_labels)


@cache
def _inputs(dataset: str, path: str | None, protocol: str) -> _Source:
    """Return a set as a protocol takes it in."""
    source = load(dataset, path)
    if PROTOCOLS[dataset.split("1")[0]][protocol].network != "mlp":
        return source
    if dataset == "digits":
        return source._replace(inputs=source.inputs.reshape(len(source.inputs), -1).astype(np.float32))
    assert source.test_inputs is not None
    train, test = kept_features(source.inputs, source.test_inputs)
    return source._replace(inputs=train, test_inputs=test)


def prepare(config: Config, path: str | None) -> None:
    """Compute what runs share and find in the cache, before many processes look for it at once."""
    _inputs(config.dataset, path, config.protocol)


def make_problem(config: Config, path: str | None = None) -> Problem:
    """Draw the rows of a run.

    For one seed they do not depend on the loss, but for what a controller holds out.
    """
    source = _inputs(config.dataset, path, config.protocol)
    classes = int(source.labels.max()) + 1
    rng = np.random.default_rng([config.seed, 17])
    order = rng.permutation(classes) if config.permuted else np.arange(classes)
    digits = config.dataset == "digits"
    # digits: what divides by 10 and by 100, so that the ratio of the counts is exactly rho
    n_max = 100 if digits else int(np.bincount(source.labels).max())
    drawn = data.long_tail(
        source.labels,
        config.rho,
        seed=config.seed,
        test_per_class=DIGITS_TEST if digits else 0,
        order=order,
        n_max=n_max,
    )
    _check_ratio(drawn.counts, config)
    rank = np.argsort(order)
    rows = drawn.train[rank[source.labels[drawn.train]] < classes - config.absent]
    test = (source.inputs, source.labels, drawn.test)
    if not digits:
        assert source.test_inputs is not None
        assert source.test_labels is not None
        test = (source.test_inputs, source.test_labels, np.arange(len(source.test_labels)))
    if config.part == "tune":
        if config.rule == RULE:
            rows = _with_seconds(
                rows, source.labels, np.setdiff1d(np.arange(len(source.labels)), drawn.test), config.seed
            )
        rows, held = _split(rows, source.labels, HELD_OUT, config.seed)
        test = (source.inputs, source.labels, held)
    steer = rows[:0]
    if config.loss in STEERED:
        rows, steer = _split(rows, source.labels, STEERING, config.seed + 1)
    labels = _noisy(source.labels[rows], classes, config.noise, rng)
    return Problem(
        train=(source.inputs[rows], labels),
        steer=(source.inputs[steer], source.labels[steer]),
        test=(test[0][test[2]], test[1][test[2]]),
        counts=np.bincount(labels, minlength=classes),
        rank=rank,
    )


def _check_ratio(counts: NDArray[np.int64], config: Config) -> None:
    """Raise ``ValueError`` where the counts do not have the ratio that the configuration says."""
    ratio = counts.max() / counts.min()
    if abs(ratio / config.rho - 1.0) > SLACK:
        raise ValueError(
            f"rho must be the ratio of the counts: those of {config.dataset} are {counts.max()} to "
            f"{counts.min()}, so {ratio:g}; got {config.rho:g}"
        )


def _with_seconds(
    rows: NDArray[np.int64], labels: NDArray[np.int64], pool: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Add a row of the pool to each class with a single row."""
    spare = np.setdiff1d(pool, rows)
    added = [
        np.random.default_rng([seed, 29, int(c)]).choice(spare[labels[spare] == c])
        for c in np.flatnonzero(np.bincount(labels[rows]) == 1)
    ]
    return np.sort(np.append(rows, added).astype(np.int64))


def _split(
    rows: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a share of each class's rows: at least one of a class that has two or more, and never all."""
    kept, held = [], []
    for c in np.unique(labels[rows]):
        own = np.random.default_rng([seed, 23, int(c)]).permutation(rows[labels[rows] == c])
        cut = min(max(round(share * len(own)), 1), len(own) - 1)
        held.append(own[:cut])
        kept.append(own[cut:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _noisy(
    labels: NDArray[np.int64], classes: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give a share of the rows one of the other labels, each as likely."""
    wrong = rng.random(len(labels)) < share
    return np.where(wrong, (labels + rng.integers(1, classes, len(labels))) % classes, labels)
