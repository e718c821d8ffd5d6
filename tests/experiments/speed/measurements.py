"""Rows as the benchmark of the CPU appends them, made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments import speed
from experiments.benchmarks import cpu

FIRST, LATER = "2026-01-01T00:00:00", "2026-01-02T00:00:00"
#: milliseconds of each provider, at every shape and in every task, unless a test says otherwise
TIMES = {
    "copy": 1.0,
    "softmax_lab": 2.0,
    "torch": 14.0,
    "torch.compile": 6.0,
    "jax.jit": 8.0,
    "tf.function": 10.0,
    "scipy": 12.0,
}


def row(
    task: str, shape: tuple[int, int], provider: str, dtype: str = "float32", **changes: Any
) -> dict[str, Any]:
    """Return a row as the benchmark appends it.

    All times are as in `TIMES`. The error is half an ulp for the package, two for the peers.
    """
    ms = changes["ms"] if "ms" in changes else TIMES[provider]
    exact = shape[1] <= 1000 and provider != "copy"
    defaults = {
        "when": FIRST,
        "processor": "one",
        "threads": 2,
        "vectors": "512",
        "versions": "python 3",
        "task": task,
        "dtype": dtype,
        "n": shape[0],
        "k": shape[1],
        "provider": provider,
        "ms": ms,
        "ms_20": 0.9 * ms,
        "ms_80": 1.2 * ms,
        "repeats": 7,
        "copies": ms / TIMES["copy"],
        "max_ulp": (0.5 if provider == "softmax_lab" else 2.0) if exact else np.nan,
    }
    return defaults | changes


def run(shapes: Any = cpu.SHAPES, dtypes: Any = ("float32",), **changes: Any) -> list[dict[str, Any]]:
    """Return what one run of the benchmark appends."""
    return [
        row(task, shape, provider, dtype, **changes)
        for dtype in dtypes
        for shape in shapes
        for provider in TIMES
        for task in (cpu.TASKS if provider != "copy" else cpu.TASKS[:1])
    ]


def stored(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the benchmark does."""
    path = tmp_path / "cpu.csv"
    pd.DataFrame(rows)[list(cpu.COLUMNS)].to_csv(path, index=False)
    return path


def frame(
    tmp_path: Path, *rows: dict[str, Any], shapes: Any = cpu.SHAPES, dtypes: Any = ("float32",)
) -> pd.DataFrame:
    """Return a run as `read` gives it, with later rows on top."""
    return speed.read(stored(tmp_path, [*run(shapes, dtypes), *({**one, "when": LATER} for one in rows)]))
