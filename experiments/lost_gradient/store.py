"""A table of rows a part: jobs are found again by some of its columns, and a stored one is not run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments import machine, tables

__all__ = ["Table", "frame", "run_all"]

Job = Mapping[str, Any]
_ABOUT = ("processor", "versions", "when")


class Table(NamedTuple):
    """A file of results: what identifies a job, what tells its rows apart, and what was measured.

    ``job`` and ``place`` are the settings as text; a measure is a number.
    """

    name: str
    job: tuple[str, ...]
    place: tuple[str, ...]
    measures: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the file."""
        return (*self.job, *self.place, *self.measures, *_ABOUT)

    def path(self, folder: Path = tables.RESULTS) -> Path:
        """Return the file of the table."""
        return folder / f"lost_gradient_{self.name}.csv"

    def identity(self, job: Job) -> tuple[str, ...]:
        """Return what a job is known by."""
        return tuple(_text(job[name]) for name in self.job)


def run_all(
    table: Table,
    jobs: Sequence[Job],
    work: Callable[[Job], Iterable[Mapping[str, Any]]],
    folder: Path = tables.RESULTS,
    *,
    limit: float = float("inf"),
    say: Callable[[str], object] = print,
) -> list[Job]:
    """Run the jobs that are not stored; return those that the limit in seconds left, which begins here."""
    begin, path = time.perf_counter(), table.path(folder)
    for place, job in enumerate(jobs):
        stored = {tuple(row[name] for name in table.job) for row in tables.read(path, table.columns)}
        if table.identity(job) in stored:
            continue
        if time.perf_counter() - begin > limit:
            return list(jobs[place:])
        since = time.perf_counter()
        about = dict(zip(_ABOUT, (machine.processor(), machine.versions(), machine.now()), strict=True))
        rows = [{**job, **row, **about} for row in work(job)]
        tables.append(
            path, table.columns, ({name: _text(value) for name, value in row.items()} for row in rows)
        )
        say(f"{table.name} {' '.join(table.identity(job))}: {time.perf_counter() - since:.1f} s")
    return []


def _text(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def frame(table: Table, folder: Path = tables.RESULTS) -> pd.DataFrame:
    """Return the stored rows with numbers where every cell of a column is one."""
    found = pd.DataFrame(tables.read(table.path(folder), table.columns), columns=list(table.columns))
    for name in (*table.job, *table.place, *table.measures):
        numbers = pd.to_numeric(found[name], errors="coerce")
        if name in table.measures or numbers.notna().all():
            found[name] = numbers
    return found
