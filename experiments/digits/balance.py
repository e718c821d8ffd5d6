r"""How hard does each class push? Per-class gradients of a small network on long-tailed digits (chapter 7).

A 64-64-10 tanh network is trained by plain minibatch SGD with momentum on the real digits, cut to the profile
n_c = n_max rho^{-c/9}. Classes are renamed by frequency: class 0 is the most frequent ("head") and class 9
the rarest ("tail"). Which digit becomes which class is drawn from the seed, so that no digit is always the
rare one. For one seed, every rho and every loss starts from the same weights, sees the same test rows, and
trains on nested subsets of the same rows.

``python -m experiments.digits.balance`` trains everything (about half a minute) and prints the head-to-tail
ratios.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

import softmax_lab as sl
from experiments.digits.mlp import Array, Network, forward, initial_network, loss_and_gradient, sgd
from softmax_lab import data

__all__ = [
    "GROUPS",
    "MEASURES",
    "VARIANTS",
    "Config",
    "Split",
    "figures",
    "geometric_mean",
    "grid",
    "head_to_tail",
    "make_split",
    "outcome",
    "outcomes",
    "ratios",
    "run",
    "run_all",
    "spread",
    "tail_mean",
    "tail_recalls",
    "train",
    "train_together",
]

NUM_CLASSES = 10
MEASURES = ("sum", "mean", "sample")
# of classes, by frequency
GROUPS = {"head": slice(0, 3), "middle": slice(3, 7), "tail": slice(7, 10), "all": slice(0, 10)}

# Losses with settings of their own, beside those of the registry. The two take the parts of gradient_balanced
# apart: its prior without the scaling of rows, and the whole of it with smoothing.
VARIANTS: dict[str, Callable[[NDArray[np.int64]], sl.LossSpec]] = {
    "gradient_balanced, prior only": partial(sl.losses.gradient_balanced, strength=0.0),
    "gradient_balanced, smoothed": partial(sl.losses.gradient_balanced, eps=0.05),
}


@dataclass(frozen=True)
class Config:
    """One training run.

    ``n_max`` divides by 10 and by 100, so that the ratio of the counts is exactly rho at both.
    """

    rho: float = 100.0
    loss: str = "plain"  # "plain", a loss of sl.losses that needs only the counts, or one of VARIANTS
    seed: int = 0
    n_max: int = 100
    # rows of each class that are not trained on: all that n_max leaves of the smallest class
    held_out: int = 74
    hidden: int = 64
    steps: int = 2000
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9


class Split(NamedTuple):
    """Images ``(N, 64)`` and labels ``(N,)``, three times.

    The training rows are long-tailed. Those that the probe is fitted on, and those of the test, are balanced.
    """

    train: tuple[Array, NDArray[np.int64]]
    probe: tuple[Array, NDArray[np.int64]]
    test: tuple[Array, NDArray[np.int64]]
    counts: NDArray[np.int64]


def make_split(config: Config) -> Split:
    """Draw the rows of a run; classes are renamed by frequency, 0 the most frequent."""
    images, digit = data.digits()
    labels = np.random.default_rng([config.seed, 0]).permutation(NUM_CLASSES)[digit]
    rows = data.long_tail(
        labels, config.rho, seed=config.seed, test_per_class=config.held_out, n_max=config.n_max
    )
    # class by class, so that every other row halves each class
    held_out = rows.test[np.argsort(labels[rows.test], kind="stable")]
    train, probe, test = (
        (images[part], labels[part]) for part in (rows.train, held_out[0::2], held_out[1::2])
    )
    return Split(train, probe, test, rows.counts)


def make_spec(loss: str, counts: NDArray[np.int64]) -> sl.LossSpec:
    """Return the loss with this name for these class counts."""
    return sl.losses.plain() if loss == "plain" else (VARIANTS | sl.losses.REGISTRY)[loss](counts)


def batches(rng: np.random.Generator, rows: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield row indices without end: each epoch is a new permutation, cut into batches."""
    while True:
        order = rng.permutation(rows)
        yield from (order[start : start + size] for start in range(0, rows, size))


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which a run is measured: 0, then 1, 2, 5, 10, 20, 50 ... and the last."""
    marks = [m * 10**e for e in range(len(str(steps))) for m in (1, 2, 5)]
    return [0, *(m for m in marks if m < steps), *([steps] if steps else [])]


def train(config: Config, split: Split) -> Iterator[tuple[int, Network]]:
    """Train by minibatch SGD with momentum; yield (step, network) at every checkpoint."""
    for step, (network,) in train_together([config], [split]):
        yield step, network


def train_together(configs: Sequence[Config], splits: Sequence[Split]) -> Iterator[tuple[int, list[Network]]]:
    """Train configurations that differ in their seed alone, side by side; each as `train` does it alone.

    Their classes have the same counts, and so the same loss and as many rows in each minibatch.
    """
    config, counts = configs[0], splits[0].counts
    assert all(replace(c, seed=config.seed) == config for c in configs)
    assert all(np.array_equal(split.counts, counts) for split in splits)
    images, labels = (np.stack(parts) for parts in zip(*(split.train for split in splits), strict=True))
    spec, which = make_spec(config.loss, counts), np.arange(len(configs))[:, None]
    starts = [initial_network(c.seed, c.hidden, images.shape[-1]) for c in configs]
    draws = zip(
        *(batches(np.random.default_rng([c.seed, 2]), labels.shape[1], c.batch) for c in configs), strict=True
    )
    marks = set(checkpoints(config.steps))
    yield 0, starts
    trained = sgd(
        Network(*(np.stack(parameters) for parameters in zip(*starts, strict=True))),
        lambda net, rows: loss_and_gradient(net, images[which, rows], labels[which, rows], spec)[1],
        (np.stack(rows) for rows in islice(draws, config.steps)),
        learning_rate=config.learning_rate,
        momentum=config.momentum,
    )
    for step, networks in enumerate(trained, start=1):
        if step in marks:
            yield step, [Network(*parameters) for parameters in zip(*networks, strict=True)]


def measure(network: Network, split: Split, spec: sl.LossSpec, *, probed: bool = True) -> dict[str, Any]:
    """Return columns of K values each: gradient statistics and recall per class.

    The statistics are of the training rows, the recall is of the test rows.

    Fitting the probe takes most of the time; where it is not ``probed``, ``probe_recall`` is NaN.
    """
    features, logits = forward(network, split.train[0])
    _, gradient = sl.cross_entropy_grad(logits, split.train[1], spec, reduction="none")
    by_logit = sl.balance.class_gradients(gradient, split.train[1])
    by_weight = sl.balance.class_gradients(gradient, split.train[1], features)
    test_features, test_logits = forward(network, split.test[0])
    return {
        "class": np.arange(NUM_CLASSES),
        "count": by_logit.counts,
        **{f"logit_{name}": getattr(by_logit, f"{name}_norm") for name in MEASURES},
        **{f"weight_{name}": getattr(by_weight, f"{name}_norm") for name in MEASURES},
        "positive_mass": by_logit.positive_mass,
        "negative_mass": by_logit.negative_mass,
        "bias": network.b2,
        "recall": recall(split.test[1], test_logits.argmax(axis=1)),
        "probe_recall": recall(split.test[1], probe(network, split).predict(test_features))
        if probed
        else np.nan,
    }


def recall(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Array:
    """Return the share of each class's rows that is predicted right, shape ``(K,)``.

    Their mean is the balanced accuracy.
    """
    return np.asarray(np.bincount(labels, weights=labels == predicted) / np.bincount(labels))


def probe(network: Network, split: Split) -> Any:
    """Fit a new linear classifier to the frozen features, on balanced rows.

    It shows what the features hold, whatever the last layer does.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return classifier.fit(forward(network, split.probe[0])[0], split.probe[1])


def run(config: Config) -> pd.DataFrame:
    """Train once; return a row a checkpoint and class.

    The columns are rho, loss, seed, step and those of `measure`. The probe is fitted at both ends.
    """
    return run_together([config])


def run_together(configs: Sequence[Config]) -> pd.DataFrame:
    """Return the tables of `run` of configurations that differ in their seed alone, one after another."""
    splits = [make_split(config) for config in configs]
    spec = make_spec(configs[0].loss, splits[0].counts)
    tables: list[list[pd.DataFrame]] = [[] for _ in configs]
    for step, networks in train_together(configs, splits):
        for config, split, network, table in zip(configs, splits, networks, tables, strict=True):
            key = {name: asdict(config)[name] for name in ("rho", "loss", "seed")}
            measured = measure(network, split, spec, probed=step in (0, config.steps))
            table.append(pd.DataFrame({**key, "step": step, **measured}))
    return pd.concat([part for table in tables for part in table])


def together(configs: Iterable[Config]) -> list[list[Config]]:
    """Return the configurations in lists of such as differ in their seed alone, in their order."""
    found: dict[Config, list[Config]] = {}
    for config in configs:
        found.setdefault(replace(config, seed=0), []).append(config)
    return list(found.values())


def grid(
    rhos: Iterable[float] = (10.0, 100.0),
    seeds: Iterable[int] = (0, 1, 2),
    losses: Iterable[str] = ("plain", "balanced_softmax"),
    **settings: Any,
) -> list[Config]:
    """Return every combination, the other settings of `Config` being the same."""
    seeds, losses = list(seeds), list(losses)
    return [
        Config(rho=rho, loss=loss, seed=seed, **settings) for rho in rhos for loss in losses for seed in seeds
    ]


def run_all(configs: Iterable[Config], *, progress: bool = True) -> pd.DataFrame:
    """Run every configuration, the seeds of one side by side; return their tables as one."""
    bar = tqdm(together(configs), unit="setting", disable=not progress)
    return pd.concat([run_together(seeds) for seeds in bar], ignore_index=True)


def outcome(config: Config) -> dict[str, Any]:
    """Train once; return rho, loss, seed and the test recall at the end, for each of `GROUPS`.

    The recall of a group is the mean over its classes.
    """
    return _outcomes([config])[0]


def _outcomes(configs: Sequence[Config]) -> list[dict[str, Any]]:
    splits = [make_split(config) for config in configs]
    ((_, networks),) = deque(train_together(configs, splits), maxlen=1)
    return [_outcome(*one) for one in zip(configs, splits, networks, strict=True)]


def _outcome(config: Config, split: Split, network: Network) -> dict[str, Any]:
    by_class = recall(split.test[1], forward(network, split.test[0])[1].argmax(axis=1))
    return {
        "rho": config.rho,
        "loss": config.loss,
        "seed": config.seed,
        **{name: by_class[part].mean() for name, part in GROUPS.items()},
    }


def outcomes(configs: Iterable[Config]) -> pd.DataFrame:
    """Return `outcome` of every configuration, a row each, indexed by rho, loss and seed.

    This takes a fraction of the time of `run_all`.
    """
    rows = [row for seeds in together(configs) for row in _outcomes(seeds)]
    return pd.DataFrame(rows).set_index(["rho", "loss", "seed"])


def head_to_tail(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the value of ``column`` for the most frequent class over that for the rarest.

    The index is rho, loss, seed and step.
    """
    by_class = table.set_index(["rho", "loss", "seed", "step", "class"])[column].unstack("class")
    return by_class[0] / by_class[NUM_CLASSES - 1]


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return `head_to_tail` of every norm, a column each."""
    return pd.DataFrame(
        {
            f"{layer}_{name}": head_to_tail(table, f"{layer}_{name}")
            for layer in ("logit", "weight")
            for name in MEASURES
        }
    )


def geometric_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric mean over the seeds of a table of ratios."""
    return np.exp(np.log(table).groupby(["rho", "loss", "step"]).mean())


def tail_mean(table: pd.DataFrame, column: str, classes: int = 3) -> pd.Series:
    """Return the mean of ``column`` over the rarest ``classes``, by rho, loss, seed and step."""
    tail = table[table["class"] >= NUM_CLASSES - classes]
    return tail.groupby(["rho", "loss", "seed", "step"])[column].mean()


def tail_recalls(table: pd.DataFrame, reference: pd.DataFrame, rho: float) -> pd.DataFrame:
    """Return the recall of the three rarest classes in percent, a row a seed, of plain cross-entropy.

    ``own`` is that of the network's last layer, ``new`` that of the probe on its features, ``untrained`` that
    of the probe before training; those ``balanced`` are of the ``reference``, trained on rho = 1.
    """
    parts = {
        "own": (table, rho, "recall", -1),
        "new": (table, rho, "probe_recall", -1),
        "balanced, own": (reference, 1.0, "recall", -1),
        "balanced, new": (reference, 1.0, "probe_recall", -1),
        "untrained, new": (table, rho, "probe_recall", 0),
    }
    return pd.DataFrame(
        {
            name: 100
            * tail_mean(of, column).xs((at, "plain"), level=("rho", "loss")).unstack("step").iloc[:, step]
            for name, (of, at, column, step) in parts.items()
        }
    )


def figures(ratio: float) -> str:
    """Write a ratio with about two significant figures: ``98``, ``3.4``, ``0.038``."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def spread(ratios: pd.Series) -> str:
    """Write the geometric mean of some ratios, with the smallest and the largest: ``2.8 (1.8 to 3.7)``."""
    return f"{figures(np.exp(np.log(ratios).mean()))} ({figures(ratios.min())} to {figures(ratios.max())})"


def main() -> None:
    """Run the default grid and print the head-to-tail ratio of every norm.

    It is the geometric mean over the seeds.
    """
    table = ratios(run_all(grid()))
    with pd.option_context("display.width", 140, "display.max_rows", None, "display.max_columns", None):
        print(geometric_mean(table).round(2))


if __name__ == "__main__":
    main()
