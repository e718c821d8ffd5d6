"""Run the checks, stop and go on, and keep what they have found."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import softmax_lab as sl
from experiments import machine, tables

from .exponential import EXPONENTIALS
from .pairs import PAIRS
from .tally import Check, Tally

__all__ = ["CHECKS", "PARTS", "RESULTS", "read", "run", "summary", "trial"]


RESULTS = tables.RESULTS / "exhaustive.csv"
CHECKS: dict[str, Check] = EXPONENTIALS | PAIRS
PARTS = tuple(dict.fromkeys(check.part for check in CHECKS.values()))


def run(names: Iterable[str], threads: int, out: Path = RESULTS) -> pd.DataFrame:
    """Run checks to their end, from where an earlier run stopped, and write a row a result.

    Return all rows of the file.
    """
    for name in names:
        state = _State.load(out.with_suffix(".partial.json"), name)
        for batch, done in _tried(CHECKS[name], range(state.done, CHECKS[name].pieces), threads, name):
            state.add(batch, done)
        _write(state.rows(threads), out)
        state.path.unlink()
    return read(out)


def trial(names: Iterable[str], threads: int, pieces: int) -> pd.DataFrame:
    """Try a few pieces of each check, spread over all.

    Return what they found, and the seconds of processor time that all would take.
    """
    rows = []
    for name in names:
        check = CHECKS[name]
        some = np.unique(np.linspace(0, check.pieces - 1, pieces).astype(int)).tolist()
        check.run(some[0])  # compiled
        state = _State(Path(), name)
        for batch, done in _tried(check, some, threads, name):
            state.tally(batch, done)
        rows += [row | {"seconds": row["seconds"] * check.pieces / len(some)} for row in state.rows(threads)]
    return pd.DataFrame(rows)


def _tried(
    check: Check, pieces: Sequence[int], threads: int, name: str
) -> Iterator[tuple[list[dict[str, Tally]], int]]:
    """Yield the tallies of some pieces at a time, tried on several threads, and how many these were."""
    before = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        with (
            ThreadPoolExecutor(threads) as pool,
            tqdm(total=len(pieces), desc=name, unit="piece", disable=None) as bar,
        ):
            for start in range(0, len(pieces), 8 * threads):
                batch = list(pool.map(check.run, pieces[start : start + 8 * threads]))
                bar.update(len(batch))
                yield batch, len(batch)
    finally:
        sl.set_num_threads(before)


class _State:
    """A check that is under way, kept on disk."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.done, self.seconds = 0, 0.0
        self.tallies: dict[str, Tally] = {}
        self._started = time.process_time()  # of all threads: other jobs do not count

    @classmethod
    def load(cls, path: Path, name: str) -> _State:
        """Return what an earlier run left of this check by these kernels, or an empty state."""
        state = cls(path, name)
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["name"] == name and kept["versions"] == versions():
                state.done, state.seconds = kept["done"], kept["seconds"]
                state.tallies = {key: Tally(**tally) for key, tally in kept["tallies"].items()}
        return state

    def tally(self, batch: Sequence[dict[str, Tally]], done: int) -> None:
        for tallies in batch:
            for key, tally in tallies.items():
                self.tallies[key] = self.tallies.get(key, Tally()) + tally
        now = time.process_time()
        self.done, self.seconds, self._started = self.done + done, self.seconds + now - self._started, now

    def add(self, batch: Sequence[dict[str, Tally]], done: int) -> None:
        """Count a batch in, and keep the state."""
        self.tally(batch, done)
        kept = {"name": self.name, "versions": versions(), "done": self.done, "seconds": self.seconds}
        tables.write(
            self.path,
            json.dumps(kept | {"tallies": {key: asdict(tally) for key, tally in self.tallies.items()}}),
        )

    def rows(self, threads: int) -> list[dict[str, Any]]:
        """A row a result, as the file has them."""
        check = CHECKS[self.name]
        common = {"part": check.part, "check": self.name, "tried": check.arguments, "unit": check.unit}
        circumstances = {
            "seconds": round(self.seconds, 1),
            "threads": threads,
            "processor": machine.processor(),
            "versions": versions(),
            "when": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        return [
            common | {"result": key} | asdict(tally) | circumstances for key, tally in self.tallies.items()
        ]


def versions() -> str:
    """Versions of what was tried: of the compiled loops the first digits of the digest of their sources."""
    from softmax_lab._kernels.compiler import STAMP

    known = ", ".join(f"{name} {metadata.version(name)}" for name in ("softmax-lab", "numpy", "numba"))
    return f"{known}, kernels {STAMP[:12]}"


def _write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Put rows in place of those of the same check; a reader never sees half of the file."""
    table = pd.DataFrame(rows)
    if path.is_file():
        old = read(path)
        table = pd.concat([old[~old["check"].isin(table["check"])], table], ignore_index=True)
    table = table.sort_values("check", key=lambda column: column.map(list(CHECKS).index), kind="stable")
    tables.write(path, table.to_csv(index=False, lineterminator="\n"))


def read(path: Path = RESULTS) -> pd.DataFrame:
    """Return the stored rows: a row a check and result."""
    return pd.read_csv(path, keep_default_na=False)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as the book shows it, numbers as text."""
    exponential_rows = table["part"] == "exponential"
    error = [
        (f"2^{math.log2(x):.2f}" if x else "0") if relative else f"{max(x, 0.5):.7g} ulp"
        for x, relative in zip(table["worst"], exponential_rows, strict=True)
    ]
    return pd.DataFrame(
        {
            "result": table["result"],
            "tried on": table["tried"],
            "arguments": [f"{n:,}" for n in table["arguments"]],
            "results": [f"{n:,}" for n in table["results"]],
            "not the nearest float": [f"{n:,}" for n in table["misrounded"]],
            "of them ties": [f"{n:,}" for n in table["ties"]],
            "largest error": error,
            "seconds": [f"{s:.0f}" for s in table["seconds"]],
        }
    ).set_index("result")
