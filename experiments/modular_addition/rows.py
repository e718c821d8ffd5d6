"""The stored rows: a model after some steps, and what identifies the job that it was part of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import tables

from .losses import LOSSES
from .protocols import Protocol
from .training import MEASURES, Found

__all__ = ["COLUMNS", "RESULTS", "append", "finished", "read", "rows_of"]

RESULTS = tables.RESULTS / "modular_addition.csv"
#: what makes two jobs the same
JOB = ("protocol", "p", "share", "width", "steps", "rates", "loss", "part", "hardware")
#: ``area`` is the mean of the test accuracy over the steps, in the row of the last step alone
COLUMNS = (
    *("protocol", "p", "share", "width", "steps", "rates", "loss", "dtype", "part", "lr", "seed", "step"),
    *("seconds", *MEASURES, "area", "models", "mode", "hardware", "versions", "when"),
)
Row = dict[str, str]


def read(path: Path = RESULTS) -> list[Row]:
    """Return the rows as they are stored; none where there is no file."""
    return tables.read(path, COLUMNS)


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add the rows of a job, all or none."""
    tables.append(path, COLUMNS, rows)


def identity(protocol: Protocol, loss: str, part: str, hardware: str) -> dict[str, str]:
    """Return the columns of `JOB`."""
    rates = " ".join(f"{rate:g}" for rate in protocol.rates)
    values = (protocol.name, protocol.p, protocol.share, protocol.width, protocol.steps, rates)
    return dict(zip(JOB, map(str, (*values, loss, part, hardware)), strict=True))


def finished(rows: Iterable[Row], job: Mapping[str, str]) -> list[Row]:
    """Return the rows of a job; none where it is still to do."""
    return [row for row in rows if all(row[name] == value for name, value in job.items())]


def rows_of(
    job: Mapping[str, str],
    models: Sequence[tuple[int, float]],
    found: Found,
    about: Mapping[str, Any],
    *,
    last_only: bool,
) -> list[dict[str, Any]]:
    """Return the rows of a finished job: of each model all that was seen, or the last of it alone."""
    rows = []
    common = {"dtype": LOSSES[job["loss"]].dtype, "models": len(models), "mode": found.mode}
    for place, (seed, rate) in enumerate(models):
        area = _area(found, place)
        for i, step in enumerate(found.steps):
            last = i == len(found.steps) - 1
            if last_only and not last:
                continue
            values = found.values[i, place].tolist()
            measured = {name: f"{value:.5g}" for name, value in zip(MEASURES, values, strict=True)}
            at = {"seed": seed, "lr": f"{rate:g}", "step": step, "seconds": f"{found.seconds[i]:.5g}"}
            rows.append({**job, **common, **at, **measured, "area": f"{area:.5g}" if last else "", **about})
    return rows


def _area(found: Found, place: int) -> float:
    """Return the mean of a model's test accuracy over the steps, by trapezia from 0 at the start."""
    column = MEASURES.index("test_accuracy")
    steps, heights = [0, *found.steps], [0.0, *found.values[:, place, column].tolist()]
    pieces = zip(steps, steps[1:], heights, heights[1:], strict=False)
    return float(sum((end - begin) * (low + high) / 2 for begin, end, low, high in pieces)) / steps[-1]
