"""The package on JAX arrays beside what JAX and optax have: the stored comparison, and the words for it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.benchmarks import cpu

from .stored import FLOOR, TASKS, read

__all__ = ["ON_JAX", "on_jax", "on_jax_words"]

ON_JAX = "softmax_lab.jax"
_PEERS = tuple(name for name in cpu.ON_JAX if name not in (ON_JAX, FLOOR))


def on_jax(path: Path = cpu.RESULTS, *, threads: int = 2) -> pd.DataFrame:
    """Return a row a task and K: the package's time, each peer's over it, and the largest errors in ulp.

    A peer that lacks a function has no number there.
    """
    table = read(path, threads=threads, on_jax=True)
    order = {task: place for place, task in enumerate(TASKS)}
    table = (
        table[table["provider"] != FLOOR].assign(place=table["task"].map(order)).sort_values(["place", "k"])
    )
    wide = table.pivot_table(index=["task", "k"], columns="provider", values=["ms", "max_ulp"], sort=False)
    ms, ulp = (wide[value].reindex(columns=[ON_JAX, *_PEERS]) for value in ("ms", "max_ulp"))
    ratios = {f"{peer} / {ON_JAX}": ms[peer] / ms[ON_JAX] for peer in _PEERS}
    errors = {"ulp": ulp[ON_JAX]} | {f"ulp of {peer}": ulp[peer] for peer in _PEERS}
    found = pd.DataFrame({"ms": ms[ON_JAX], **ratios, **errors})
    return found.rename(index=TASKS, level="task").rename_axis(index=["of", "K"])


def on_jax_words(found: pd.DataFrame) -> dict[str, str]:
    """Return for each function how long each peer takes, in times of the package's: smallest to largest."""
    said = {}
    for task, words in TASKS.items():
        rows = found.loc[words]
        ranges = {
            peer: rows[f"{peer} / {ON_JAX}"].dropna() for peer in _PEERS if f"{peer} / {ON_JAX}" in rows
        }
        said[task] = ", ".join(
            f"{peer} {ratios.min():.2f} to {ratios.max():.2f}"
            for peer, ratios in ranges.items()
            if len(ratios)
        )
    return said
