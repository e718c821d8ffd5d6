"""The stored rows: a run after some epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import tables

from .config import Config
from .training import Seen

__all__ = ["COLUMNS", "MEASURES", "RESULTS", "append", "finished", "identity", "read", "rows_of"]

RESULTS = tables.RESULTS / "long_tail_resnet.csv"
MEASURES = ("balanced_accuracy", "many", "medium", "few", "nll")
#: what makes two runs the same
RUN = ("network", "rho", "epochs", "batch", "learning_rate", "weight_decay", "loss", "seed", "hardware")
COLUMNS = (
    *("dataset", "network", "rho", "epochs", "batch", "learning_rate", "weight_decay", "loss", "seed"),
    *("epoch", "seconds", *MEASURES, "runs", "mode", "hardware", "versions", "when"),
)
MANY, FEW = 100, 20  # training images: more than, and fewer than (Liu et al. 2019)
Row = dict[str, str]


def read(path: Path = RESULTS) -> list[Row]:
    """Return the rows as they are stored; none where there is no file."""
    return tables.read(path, COLUMNS)


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add the rows of runs, all or none."""
    tables.append(path, COLUMNS, rows)


def identity(config: Config, hardware: str) -> dict[str, str]:
    """Return the columns of `RUN`."""
    numbers = (config.rho, config.epochs, config.batch, config.learning_rate, config.weight_decay)
    values = ("resnet32", *(f"{number:g}" for number in numbers), config.loss, str(config.seed), hardware)
    return dict(zip(RUN, values, strict=True))


def finished(rows: Iterable[Row], config: Config, hardware: str) -> bool:
    """Whether the last epoch of a run is stored."""
    wanted = {**identity(config, hardware), "epoch": str(config.epochs)}
    return any(all(row[name] == value for name, value in wanted.items()) for row in rows)


def rows_of(
    config: Config,
    seen: Sequence[Seen],
    seconds: Sequence[float],
    counts: NDArray[np.int64],
    about: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the rows of a finished run; accuracies in percent, seconds from the start of training."""
    rows = []
    for epoch, at, found in zip(config.evaluated, seconds, seen, strict=True):
        measured = measures(found.recall.cpu().numpy(), counts) | {"nll": float(found.nll)}
        text = {name: f"{value:.5g}" for name, value in measured.items()}
        rows.append({"dataset": "cifar100", "epoch": epoch, "seconds": f"{at:.4g}", **text, **about})
    return rows


def measures(recall: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the mean accuracy of all classes, and of those with many, medium and few training images."""
    parts = {
        "balanced_accuracy": counts >= 0,
        "many": counts > MANY,
        "medium": (counts <= MANY) & (counts >= FEW),
        "few": counts < FEW,
    }
    return {
        name: 100 * float(recall[part].mean()) if part.any() else float("nan") for name, part in parts.items()
    }
