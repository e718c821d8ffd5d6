r"""What does the temperature do for training and for calibration? (chapter 6)

A teacher and a small student learn the real digits.

A *problem* is a seed and a number of rows that the student may see. The teacher, a wider network, sees all
training rows. Students of one seed start from the same weights, and students of one problem see the same
minibatches; only the loss differs. Each loss with a temperature is tried at each temperature of
`Config.temperatures`, and `chosen` picks one on validation rows.

Minibatches are drawn with replacement, so that all problems take the same number of rows a step and are
trained side by side.

``python -m experiments.digits.distillation`` trains everything (about half a minute) and prints the test
errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

import softmax_lab as sl
from experiments.digits.mlp import Array, Network, forward, initial_network, loss_and_gradient, sgd
from softmax_lab import data

__all__ = [
    "METHODS",
    "Config",
    "Rows",
    "Split",
    "Students",
    "against_alone",
    "chosen",
    "fit_temperature",
    "how_often",
    "make_split",
    "overconfident",
    "rescaled",
    "run_all",
    "spread",
    "students",
    "train",
]

Labels = NDArray[np.int64]
METHODS = {
    "alone": "one-hot labels, T = 1",
    "smoothed": "one-hot labels smoothed towards uniform, T = 1",
    "tempered": "one-hot labels, temperature T",
    "distilled": "the teacher's soft labels at temperature T, loss times T^2",
    "distilled, no T^2": "the same without the factor",
}


@dataclass(frozen=True)
class Config:
    """One experiment. Learning rate, momentum and batch are those of `experiments.digits.balance`."""

    seeds: Sequence[int] = (0, 1, 2)
    student_rows: Sequence[int] = (897, 100)  # training rows that the student may see; the teacher sees all
    train: int = 897
    validation: int = 400  # to choose the temperature; what is left of the 1797 rows is the test set
    teacher_hidden: int = 128
    student_hidden: int = 8
    temperatures: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0)
    smoothing: float = 0.1
    steps: int = 800
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9


class Rows(NamedTuple):
    """Images ``(N, 64)`` and labels ``(N,)``."""

    images: Array
    labels: Labels


class Split(NamedTuple):
    """Rows to train on, to choose on, and to test on."""

    train: Rows
    validation: Rows
    test: Rows


class Students(NamedTuple):
    """The problems of a `Config`, side by side: P problems with N training rows each.

    The first ``visible`` rows of each are seen.
    """

    seeds: list[int]
    visible: list[int]  # length P
    splits: list[Split]  # length P
    teacher_logits: Array  # (P, N, K)


def make_split(seed: int, train: int, validation: int) -> Split:
    """Shuffle the digits by the seed and cut them in three.

    There are ``train`` rows, ``validation`` rows, and the rest for the test.
    """
    images, labels = data.digits()
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    parts = np.split(order, [train, train + validation])
    return Split(*(Rows(images[rows], labels[rows]) for rows in parts))


def stacked(networks: Sequence[Network]) -> Network:
    """Return networks of one shape as one `Network` with a leading axis."""
    return Network(*(np.stack(parameters) for parameters in zip(*networks, strict=True)))


def minibatches(config: Config, seeds: Sequence[int], visible: Sequence[int]) -> Iterator[Labels]:
    """Yield row indices ``(P, batch)``, ``config.steps`` times.

    Problem p draws among its first ``visible[p]`` rows.
    """
    generators = [np.random.default_rng([seed, 2]) for seed in seeds]
    for _ in range(config.steps):
        yield np.stack(
            [rng.integers(rows, size=config.batch) for rng, rows in zip(generators, visible, strict=True)]
        )


def train(
    start: Network,
    images: Array,
    targets: NDArray[Any],
    spec: sl.LossSpec,
    draws: Iterator[Labels],
    config: Config,
    *,
    factor: float = 1.0,
    learning_rate: float | Sequence[float] | None = None,
) -> Network:
    """Train P networks side by side on images ``(P, N, 64)`` and targets ``(P, N)`` or ``(P, N, K)``.

    The loss is ``factor`` times that of ``spec``. Four learning rates give W1, b1, W2 and b2 their own; by
    default it is the config's.
    """
    problem = np.arange(len(images))[:, None]

    def gradient(network: Network, rows: Labels) -> Network:
        _, by_parameter = loss_and_gradient(network, images[problem, rows], targets[problem, rows], spec)
        return Network(*(factor * g for g in by_parameter))

    last, rate = start, config.learning_rate if learning_rate is None else learning_rate
    for network in sgd(start, gradient, draws, learning_rate=rate, momentum=config.momentum):
        last = network
    return last


def students(config: Config) -> Students:
    """Split the digits by each seed, train the teachers, and return the problems.

    Every seed meets every number of visible rows.
    """
    splits = [make_split(seed, config.train, config.validation) for seed in config.seeds]
    images, labels = (np.stack(parts) for parts in zip(*(split.train for split in splits), strict=True))
    start = stacked([initial_network(seed, config.teacher_hidden) for seed in config.seeds])
    draws = minibatches(config, config.seeds, [config.train] * len(splits))
    logits = forward(train(start, images, labels, sl.LossSpec(), draws, config), images)[1]
    repeats = len(config.student_rows)
    visible = [rows for rows in config.student_rows for _ in config.seeds]
    return Students(
        list(config.seeds) * repeats, visible, splits * repeats, np.concatenate([logits] * repeats)
    )


def settings(config: Config) -> list[tuple[str, float]]:
    """Return every (method, temperature). At T = 1 "tempered" is "alone", and the factor T^2 is 1."""
    above_one = [temperature for temperature in config.temperatures if temperature != 1.0]
    fixed = [("alone", 1.0), ("smoothed", 1.0), *(("tempered", temperature) for temperature in above_one)]
    soft = [("distilled", temperature) for temperature in config.temperatures]
    return [*fixed, *soft, *(("distilled, no T^2", temperature) for temperature in above_one)]


def objective(
    method: str, temperature: float, problems: Students, config: Config
) -> tuple[NDArray[Any], sl.LossSpec, float]:
    """Return targets, loss and factor of a method.

    Targets are ``(P, N)`` labels, or the teacher's soft labels ``(P, N, K)``.
    """
    if method.startswith("distilled"):
        soft = sl.softmax(problems.teacher_logits, temperature=temperature)
        return soft, sl.LossSpec(temperature=temperature), temperature**2 if method == "distilled" else 1.0
    smoothing = config.smoothing if method == "smoothed" else 0.0
    labels = np.stack([split.train.labels for split in problems.splits])
    return labels, sl.LossSpec(temperature=temperature, smoothing=smoothing), 1.0


def fit(method: str, temperature: float, problems: Students, config: Config) -> pd.DataFrame:
    """Train every problem's student by one method; return a row a problem."""
    targets, spec, factor = objective(method, temperature, problems, config)
    start = stacked([initial_network(seed, config.student_hidden) for seed in problems.seeds])
    images = np.stack([split.train.images for split in problems.splits])
    draws = minibatches(config, problems.seeds, problems.visible)
    network = train(start, images, targets, spec, draws, config, factor=factor)
    # a distilled student is used at T = 1, as in Hinton et al.
    used_at = temperature if method == "tempered" else 1.0
    key = {
        "student_rows": problems.visible,
        "seed": problems.seeds,
        "method": method,
        "temperature": temperature,
    }
    parts = {part: [getattr(split, part) for split in problems.splits] for part in ("validation", "test")}
    return pd.DataFrame(
        {
            **key,
            **{
                f"{part}_{k}": v
                for part, rows in parts.items()
                for k, v in measure(network, rows, used_at).items()
            },
        }
    )


def measure(network: Network, rows: Sequence[Rows], temperature: float = 1.0) -> dict[str, Array]:
    """Return error and mean loss of P networks, each on its own rows: ``(P,)`` each.

    The error is the share of rows predicted wrong. The loss is in nats.
    """
    images, labels = (np.stack(parts) for parts in zip(*rows, strict=True))
    logits = forward(network, images)[1]
    loss = sl.cross_entropy(logits, labels, sl.LossSpec(temperature=temperature), reduction="none")
    return {"error": np.mean(logits.argmax(axis=-1) != labels, axis=-1), "loss": loss.mean(axis=-1)}


def run_all(
    config: Config = Config(), problems: Students | None = None, methods: Iterable[str] = tuple(METHODS)
) -> pd.DataFrame:
    """Train every student; return a row a student.

    The columns are student_rows, seed, method and temperature, and error and loss on validation and test
    rows.
    """
    wanted = set(methods)
    problems = students(config) if problems is None else problems
    tables = [
        fit(method, temperature, problems, config)
        for method, temperature in settings(config)
        if method in wanted
    ]
    return pd.concat(tables, ignore_index=True)


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each problem and method, the row whose temperature has the lowest validation loss."""
    key = ["student_rows", "method", "seed"]
    return table.loc[table.groupby(key)["validation_loss"].idxmin()].set_index(key).sort_index()


def against_alone(picked: pd.DataFrame, column: str, rows: int, method: str) -> pd.Series:
    """Return, by seed, ``column`` of a method less that of the student alone, both from `chosen`."""
    return picked.loc[(rows, method), column] - picked.loc[(rows, "alone"), column]


def spread(values: Any, digits: int = 1) -> str:
    """Write the mean of some values with the smallest and the largest: ``5.0 (4.1 to 6.2)``."""
    return f"{np.mean(values):.{digits}f} ({np.min(values):.{digits}f} to {np.max(values):.{digits}f})"


def how_often(temperatures: Iterable[float]) -> str:
    """Write which temperatures occur and how often: ``8 (5), 16 (15)``."""
    counts = Counter(temperatures)
    return ", ".join(f"{temperature:g} ({counts[temperature]})" for temperature in sorted(counts))


def rescaled(network: Network, temperature: float) -> Network:
    """Return the network with its last layer divided by T: its logits are z / T."""
    return network._replace(w2=network.w2 / temperature, b2=network.b2 / temperature)


def fit_temperature(logits: Array, labels: Labels, bounds: tuple[float, float] = (0.01, 100.0)) -> float:
    """Return the T > 0 with the lowest mean cross-entropy of softmax(logits / T).

    The loss is convex in 1/T, so there is one minimum. If every row is right the loss has none, and the
    answer is at the lower bound.
    """
    result: Any = minimize_scalar(
        lambda log_t: float(sl.cross_entropy(logits, labels, sl.LossSpec(temperature=float(np.exp(log_t))))),
        bounds=tuple(np.log(bounds)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(result.x))


def overconfident(config: Config, *, hidden: int = 64) -> tuple[list[Split], Array, Array]:
    """Train a network a seed on ``config.train`` rows.

    Return the splits, and logits ``(S, N, K)`` of the validation and the test rows.
    """
    splits = [make_split(seed, config.train, config.validation) for seed in config.seeds]
    images, labels = (np.stack(parts) for parts in zip(*(split.train for split in splits), strict=True))
    start = stacked([initial_network(seed, hidden) for seed in config.seeds])
    draws = minibatches(config, config.seeds, [config.train] * len(splits))
    network = train(start, images, labels, sl.LossSpec(), draws, config)
    validation, test = (
        np.stack([getattr(split, part).images for split in splits]) for part in ("validation", "test")
    )
    return splits, forward(network, validation)[1], forward(network, test)[1]


def main() -> None:
    """Train everything and print the test error in percent.

    It is the mean over the seeds, with the smallest and the largest.
    """
    picked = chosen(run_all())
    for (rows, method), group in picked.groupby(level=["student_rows", "method"]):
        print(
            f"{rows:4d} rows, {method:18s} {spread(100 * group['test_error'])}   T: "
            f"{group['temperature'].tolist()}"
        )


if __name__ == "__main__":
    main()
