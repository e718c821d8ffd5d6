"""The time of every variant beside a copy of the same array."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import softmax_lab as sl
from experiments import machine, tables
from softmax_lab._dispatch import kernels
from softmax_lab._rows import blocks

from .variants import TIMED, Rows, Variant

__all__ = ["SHAPES", "TIMINGS", "measure", "read_timings"]


TIMINGS = tables.RESULTS / "stability_timing.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768), (512, 131072))
ROUNDS = 7


def measure(
    shapes: Sequence[tuple[int, int]] = SHAPES,
    dtypes: Sequence[str] = ("float32", "float64"),
    *,
    rounds: int = ROUNDS,
    progress: bool = True,
) -> pd.DataFrame:
    """Time every variant and a copy on the same array, in turn, and return a row each.

    A row has the seconds, and their ratio to the copy.

    On one thread: NumPy's elementwise loops know no other way, and the package is told so. All variants go
    through the array in the same blocks of rows and write into the same memory: with temporaries as large as
    the array, the time to get memory from the system would drown the formulas. Each runs once unmeasured;
    then all are run ``rounds`` times, one after the other, so that whatever else the machine does falls on
    all of them. Seconds are the thread's own processor time: on an idle machine that is the time elapsed, and
    on a shared one it leaves the others out.
    """
    cases = [(shape, dtype) for shape in shapes for dtype in dtypes]
    bar = tqdm(cases, unit="array", disable=not progress)
    threads = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        return pd.concat([_measure_one(shape, dtype, rounds) for shape, dtype in bar], ignore_index=True)
    finally:
        sl.set_num_threads(threads)


def _measure_one(shape: tuple[int, int], dtype: str, rounds: int) -> pd.DataFrame:
    z = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype) * np.dtype(
        dtype
    ).type(3)
    target = np.empty_like(z)
    calls: dict[tuple[str, str], Callable[[], Any]] = {("copy", "copy"): partial(np.copyto, target, z)}
    for function, variants in TIMED.items():
        calls |= {
            (function, name): partial(_in_blocks, variant, z, target) for name, variant in variants.items()
        }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for key, call in calls.items():
            start = time.thread_time()
            call()
            if turn:  # the first is the warm-up
                seconds[key].append(time.thread_time() - start)
    table = pd.DataFrame(
        [(*key, np.median(s), min(s), max(s)) for key, s in seconds.items()], columns=list(_COLUMNS)
    )
    copy = table.loc[table["function"] == "copy", "median_s"].iloc[0]
    shape_columns = {"rows": shape[0], "classes": shape[1], "dtype": dtype}
    return table.assign(**shape_columns, to_copy=table["median_s"] / copy, rounds=rounds, **_circumstances())


def _in_blocks(variant: Variant, z: Rows, out: Rows) -> None:
    for block in blocks(*z.shape):
        out[block] = variant(z[block])


_COLUMNS = ("function", "variant", "median_s", "min_s", "max_s")


def _circumstances() -> dict[str, str]:
    return {
        "processor": machine.processor(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "softmax_lab": sl.__version__,
        "compiled": "yes" if kernels() else "no",
    }


def write_timings(table: pd.DataFrame, path: Path = TIMINGS) -> None:
    """Write the table: a reader never sees half of it."""
    tables.write(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def read_timings(path: Path = TIMINGS) -> pd.DataFrame:
    """Return the stored timings; columns as `measure` gives them."""
    return pd.read_csv(path)
