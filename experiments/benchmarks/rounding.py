"""What accuracy costs: one float32 loop at several precisions, ``python -m experiments.benchmarks.rounding``.

The package's loops stand beside those of :mod:`._rounding_loops`, which carry more along or less. All run in
turn in one process, repetition by repetition, on the same arrays and the same threads. One shape stays in a
core's cache, the other in none. ``max_ulp`` is the largest error of ``CHECKED`` rows drawn as the timed ones
(normal logits of standard deviation 2); ``max_ulp_confident`` that of as many rows whose target stands 3 to
30 above the others. A row of the file is a task at one precision; they are appended to
``experiments/results/rounding.csv`` a shape at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl
from experiments import machine, tables
from softmax_lab._threads import share
from softmax_lab._ulp import ulp_distance
from softmax_lab.audit.values import exact_values

from . import _command
from ._command import Benchmark, Job, Row, Shape
from ._rounding_loops import LOOPS, Loops
from ._timing import Call, quantiles, seconds

RESULTS = tables.RESULTS / "rounding.csv"
TASKS = ("softmax", "log_softmax", "logsumexp", "loss")
SHAPES = ((256, 1000), (16384, 1000))
OURS, FLOOR = "softmax_lab", "copy"
#: from the most accurate to the least
PRECISIONS = ("wide", OURS, "single", "shifted")
CHECKED = 16  # rows whose errors are counted
COLUMNS = (
    *("when", "processor", "threads", "versions"),
    *("task", "precision", "n", "k"),
    *("ms", "ms_20", "ms_80", "repeats", "copies", "max_ulp", "max_ulp_confident"),
)

Array = NDArray[Any]


class Rows(NamedTuple):
    """Logits and labels, and where results go."""

    logits: Array
    labels: NDArray[np.int64]
    out: Array
    values: NDArray[np.float64]


def normal_rows(n: int, k: int, seed: int = 0) -> Rows:
    """Return normal logits of standard deviation 2, and uniform labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n, k), dtype=np.float32)
    return Rows(logits, rng.integers(0, k, n), np.empty_like(logits), np.empty(n))


def confident_rows(n: int, k: int) -> Rows:
    """Return the same with the target 3 to 30 above the largest of the others."""
    rows = normal_rows(n, k, seed=1)
    top = rows.logits.max(axis=1) + np.linspace(3, 30, n, dtype=np.float32)
    rows.logits[np.arange(n), rows.labels] = top
    return rows


def calls(precision: str, rows: Rows) -> dict[str, Call]:
    """Return a call a task; it returns the probabilities, their logarithms, the values or the gradient."""
    if precision == OURS:
        z, y, out = rows.logits, rows.labels, rows.out
        return {
            "softmax": lambda: sl.softmax(z, out=out),
            "log_softmax": lambda: sl.log_softmax(z, out=out),
            "logsumexp": lambda: sl.logsumexp(z),
            "loss": lambda: sl.cross_entropy_grad(z, y, out=out)[1],
        }
    return _calls_of(LOOPS[precision], rows)


def _calls_of(loops: Loops, rows: Rows) -> dict[str, Call]:
    n, k = rows.logits.shape
    z, out, values, labels = rows.logits.reshape(-1), rows.out.reshape(-1), rows.values, rows.labels

    def run(loop: Callable[..., None], *given: Any) -> None:
        share(lambda start, stop: loop(*given, k, start, stop), n, k, whole=1)

    def mapped(loop: Callable[..., None]) -> Call:
        def call() -> Array:
            run(loop, z, out)
            return rows.out

        return call

    def logsumexp() -> Array:
        run(loops.logsumexp, z, values)
        return values.astype(np.float32)

    def loss() -> Array:
        run(loops.loss, z, out, values, labels, 1.0 / n)
        values.mean()
        return rows.out

    return {
        "softmax": mapped(loops.softmax),
        "log_softmax": mapped(loops.log_softmax),
        "logsumexp": logsumexp,
        "loss": loss,
    }


def copy(rows: Rows) -> Call:
    """Return the floor: each logit is read once and written once, on the same threads."""
    n, k = rows.logits.shape

    def part(start: int, stop: int) -> None:
        np.copyto(rows.out[start:stop], rows.logits[start:stop])

    return lambda: share(part, n, k, whole=1)


# ---- errors ----


@cache
def _exact(task: str, k: int, confident: bool) -> tuple[Array, Array]:
    """Return the exact results of the checked rows, as sums of two floats."""
    rows = _checked(k, confident)
    if task == "loss":
        exact = exact_values("cross_entropy_grad", rows.logits, rows.labels)
        return exact.high / CHECKED, exact.low / CHECKED  # a power of two: exact
    if task == "logsumexp":
        exact = exact_values("log_softmax", rows.logits)
        # that of the first class is its logit less the result
        value = rows.logits[:, 0].astype(np.longdouble) - exact.high[:, 0] - exact.low[:, 0]
        high = value.astype(np.float64)
        return high, (value - high).astype(np.float64)
    exact = exact_values(task, rows.logits)
    return exact.high, exact.low


def _checked(k: int, confident: bool) -> Rows:
    return confident_rows(CHECKED, k) if confident else normal_rows(CHECKED, k)


def worst_ulp(precision: str, task: str, k: int, *, confident: bool) -> float:
    """Return the largest error of ``CHECKED`` rows, normal or confident ones, in ulp of float32."""
    high, low = _exact(task, k, confident)
    found = calls(precision, _checked(k, confident))[task]()
    return float(ulp_distance(np.asarray(found), high, low, np.dtype(np.float32)).max())


# ---- times ----


def in_rounds(run: dict[str, Call], *, budget: float, repeats: int = 7) -> dict[str, list[float]]:
    """Return milliseconds of several calls that take turns, after two rounds that do not count.

    There are at least ``repeats`` of each, and more while they fit into ``budget`` seconds a call.
    """
    times: dict[str, list[float]] = {name: [] for name in run}
    spent, rounds = 0.0, 0
    while rounds < repeats + 2 or spent < budget * len(run):
        for name, call in run.items():
            taken = seconds(call)
            if rounds >= 2:
                times[name].append(1e3 * taken)
                spent += taken
        rounds += 1
    return times


def rows_of(shape: Shape, tasks: list[str], budget: float) -> Iterator[Row]:
    """Yield a row a task and precision on one shape, and one of the copy a task."""
    n, k = shape
    rows = normal_rows(n, k)
    for task in tasks:
        run = {FLOOR: copy(rows)} | {name: calls(name, rows)[task] for name in PRECISIONS}
        times = in_rounds(run, budget=budget)
        floor = float(np.median(times[FLOOR]))
        for name in run:
            errors = [
                float("nan") if name == FLOOR else worst_ulp(name, task, k, confident=confident)
                for confident in (False, True)
            ]
            yield {
                "task": task,
                "precision": name,
                "n": n,
                "k": k,
                **quantiles(times[name]),
                "copies": round(float(np.median(times[name])) / floor, 3),
                "max_ulp": float(f"{errors[0]:.4g}"),
                "max_ulp_confident": float(f"{errors[1]:.4g}"),
            }


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:12} {row['n']:>6}x{row['k']:<6} {row['precision']:12}"
    errors = f"{row['max_ulp']:9.4g} ulp, confident {row['max_ulp_confident']:9.4g}"
    return f"{where} {row['ms']:9.4f} ms {row['copies']:7.2f} copies {errors}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_threads(parser)
    _command.add_choice(parser, "task", TASKS)
    _command.add_shapes(parser)
    _command.add_budget(parser, 0.5)


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a shape."""
    machine.limit_threads(options.threads)
    return [
        Job(
            f"{n}x{k}",
            lambda n=n, k=k: rows_of((n, k), options.task, options.budget),  # type: ignore[misc]
        )
        for n, k in options.shape or SHAPES
    ]


BENCHMARK = Benchmark(
    "Time one float32 loop at several precisions, and count the errors of each.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
    whole=True,
)
main = BENCHMARK.main


if __name__ == "__main__":
    raise SystemExit(main())
