"""The sweep on one thread and on two: who is ahead on each, and what the second thread brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.benchmarks import cpu

from .comparisons import comparison
from .pictures import scaling_panels
from .stored import FLOOR, KEY, OURS, PEERS, TASKS, at_shapes, read

__all__ = ["scaling", "scaling_picture", "scaling_words", "sweeps", "thread_table"]

COUNTS = (1, 2)
WORDS = {1: "one thread", 2: "two threads"}


def sweeps(path: Path = cpu.RESULTS) -> dict[int, pd.DataFrame]:
    """Return the stored sweep by number of threads, each as `read` gives it.

    All are from the processor on which a sweep was measured last, and with the same versions: other times do
    not tell what a thread brings. A number of threads that was not measured so is left out.
    """
    table = pd.read_csv(path)
    shapes = pd.MultiIndex.from_tuples(cpu.SWEEP)
    swept = table[pd.MultiIndex.from_frame(table[["n", "k"]]).isin(shapes) & table["threads"].isin(COUNTS)]
    if swept.empty:
        return {}
    swept = swept.sort_values("when", kind="stable")
    last = swept.iloc[-1]
    here = swept[(swept["processor"] == last["processor"]) & (swept["versions"] == last["versions"])]
    found = {}
    for count in sorted(set(here["threads"])):
        own = at_shapes(read(path, threads=count, processor=last["processor"]), cpu.SWEEP)
        found[count] = own[own["versions"] == last["versions"]]
    return found


def thread_table(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return in how many cases of the sweep the package is the fastest, level and slower.

    There is a row a task and number of threads, as far as it is stored. The last columns are the fastest
    peer's time over the package's: smallest to largest, and the median.
    """
    rows = {}
    for task, words in TASKS.items():
        for count, table in tables.items():
            if not table.loc[table["task"] == task, "provider"].isin(PEERS).any():
                continue  # nobody to compare with
            compared = comparison(table, task, cpu.SWEEP)
            sides, best = compared[f"{OURS} is"], compared["best"]
            rows[words, count] = {
                "cases": len(compared),
                **{side: int((sides == side).sum()) for side in ("fastest", "level", "slower")},
                "fastest peer / package": f"{best.min():.2f} to {best.max():.2f}",
                "median": f"{best.median():.2f}",
            }
    index = pd.MultiIndex.from_tuples(rows, names=["of", "threads"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index)


def scaling(tables: Mapping[int, pd.DataFrame]) -> pd.Series:
    """Return the time on one thread over the time on two; two is as much as a second thread can bring.

    The index is task, type, N, K and provider. The series is empty where only one of both is stored.
    """
    one, two = (tables[count].set_index(KEY)["ms"] if count in tables else None for count in COUNTS)
    if one is None or two is None:
        return pd.Series(index=pd.MultiIndex.from_arrays([[]] * len(KEY), names=KEY), dtype=float)
    return (one / two).reindex(two.index).dropna().rename("one thread / two threads")


def scaling_words(tables: Mapping[int, pd.DataFrame]) -> str:
    """Say what the second thread brings, or what is not stored and how to measure it."""
    missing = [count for count in COUNTS if count not in tables]
    if missing:
        commands = " and ".join(
            f"`python -m experiments.benchmarks.cpu --sweep --threads {count}`" for count in missing
        )
        there = " and ".join(WORDS[count] for count in tables) or "neither number of threads"
        return (
            f"With one processor and the same versions the sweep is stored for {there}, so what the second "
            f"thread brings is not known here: {commands} measures it"
        )
    found = scaling(tables)
    provider = found.index.get_level_values("provider")
    own = found[provider == OURS].groupby("task", sort=False)
    said = ", ".join(f"{TASKS[str(task)]} {_middle(ratios)}" for task, ratios in own)
    others = {"the peers": found[provider.isin(PEERS)], "the copy": found[provider == FLOOR]}
    beside = "".join(f"; {name} {_middle(ratios)}" for name, ratios in others.items() if len(ratios))
    days = " and ".join(f"{WORDS[count]} on {tables[count]['when'].max()[:10]}" for count in COUNTS)
    return f"The time on one thread over the time on two, median and range: {said}{beside} (measured {days})"


def _middle(ratios: pd.Series) -> str:
    return f"{ratios.median():.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def scaling_picture(tables: Mapping[int, pd.DataFrame]) -> Figure | None:
    """Draw `scaling` over K: a column a task, a row a type, a line a provider and the copy.

    There is no picture where only one number of threads is stored.
    """
    found = scaling(tables)
    return None if found.empty else scaling_panels(found)
