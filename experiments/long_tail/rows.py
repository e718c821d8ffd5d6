"""The stored runs: a row each, keyed by its configuration, and none twice.

The file is only ever replaced as a whole by a longer one. A process that is killed loses the runs it was at
and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments import tables

from .config import Config

__all__ = ["COLUMNS", "RESULTS", "append", "finished", "read"]


RESULTS = tables.RESULTS / "long_tail.csv"
MEASURES = ("balanced_accuracy", "head", "mid", "tail", "ece", "nll", "seconds")
COLUMNS = (
    *("dataset", "protocol", "rho", "loss", "seed"),
    *MEASURES,
    *("part", "rule", "settings", "noise", "absent", "permuted", "epochs"),
    *("versions", "hardware", "commit", "key"),
)


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """Return the rows as they are stored; none where there is no file."""
    return tables.read(path, COLUMNS)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, unless its key is there.

    Many processes may do this at once, and one at a time gets to the file. The lock goes with the process,
    however it ends. It is beside the file, so that it stays where the file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if row["key"] not in finished(path):
            tables.append(path, COLUMNS, [row])


def finished(path: Path = RESULTS) -> set[str]:
    """Return the keys of the runs that are stored."""
    return {row["key"] for row in read(path)}


def row_of(config: Config, measured: dict[str, float], about: dict[str, str]) -> dict[str, Any]:
    """Return the row of a finished run."""
    fields = {name: getattr(config, name) for name in COLUMNS if hasattr(config, name)}
    rounded = {name: f"{value:.6g}" for name, value in measured.items()}
    return (
        fields
        | rounded
        | about
        | {"settings": json.dumps(dict(config.settings)), "epochs": config.length, "key": config.key}
    )
