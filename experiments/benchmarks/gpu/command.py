"""What there is to do, what is done already, and where it is stored."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from experiments import machine, tables
from experiments.benchmarks import _command
from experiments.benchmarks._command import Benchmark, Job, Row

from .checks import run_checks
from .clock import Clock
from .measuring import linear_rows, loss_rows, map_rows
from .providers import MAPS, versions

RESULTS = tables.RESULTS / "gpu.csv"
COLUMNS = (
    *("card", "kernel", "dtype", "n", "k", "provider"),
    *("ms", "share_of_copy", "peak_mb", "max_error", "repeats"),
    *("versions", "when", "note"),
)
WIDTHS = tuple(2**p for p in range(6, 21, 1))
DTYPES = ("float32", "bfloat16")
LOGITS = 1 << 27  # of each tensor: half a gigabyte in float32, far beyond any cache
SMALL = ((256, 10), (512, 1000))  # rows and classes of batches whose time is the launch
LINEAR = (8192, 2304, 256_000)  # rows, width, classes: those of Wijmans et al. 2025, table 1


def card(device: str) -> str:
    """Return the name of the card."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} (rehearsal)"


def line(row: Row) -> str:
    """Return a row as a line."""
    if "ms" not in row or str(row["kernel"]).startswith("check"):
        place = f"{row['kernel']:14} {row.get('dtype', ''):9} {row.get('k', ''):>8} {row['provider']:22}"
        return f"{place} {row['note']}"
    share = f"{row['share_of_copy']:7.1%} of a copy" if "share_of_copy" in row else ""
    place = f"{row['kernel']:14} {row['dtype']:9} {row['k']:>8} {row['provider']:22}"
    return f"{place} {row['ms']:10.4f} ms {share} {row['peak_mb']:9.0f} MB, error {row['max_error']:.1e}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument(
        "--device",
        default="cuda",
        choices=["cuda", "cpu"],
        help="cpu: a rehearsal on small tensors, not stored",
    )
    _command.add_budget(parser, 0.15)
    parser.add_argument(
        "--limit",
        type=float,
        default=450.0,
        help="seconds after which nothing new is begun; run again to go on",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="JOB",
        help="only jobs whose name begins so: check, small, ...",
    )
    parser.add_argument(
        "--widths", nargs="+", type=int, default=WIDTHS, metavar="K", help="only these widths"
    )
    parser.add_argument(
        "--again", action="store_true", help="forget what is stored of this card and these versions"
    )


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield what is not done yet, until the time is over."""
    begin = time.perf_counter()
    stored = options.device == "cuda" and not options.again
    have = done(options.out, about(options.device)) if stored else set()
    for job in everything(options.device, options.budget, options.widths):
        if job.name in have or not job.name.startswith(tuple(options.only)):
            continue
        if time.perf_counter() - begin > options.limit:
            print(f"{options.limit:.0f} s are over before {job.name}: run the same command again to go on")
            return
        yield job
        if options.device == "cuda":
            torch.cuda.empty_cache()


def everything(device: str, budget: float, widths: Sequence[int] = WIDTHS) -> Iterator[Job]:
    """Yield all that there is to do; by a job's name a later run knows that it is done."""
    clock, small = Clock(device, budget), device != "cuda"
    yield Job("check", lambda: run_checks(device))
    for dtype in DTYPES:
        for n, k in SMALL:
            yield Job(f"small {dtype} {k}", partial(loss_rows, n, k, dtype, clock, "small batch"))
    yield Job("linear", partial(linear_rows, *((16, 8, 100) if small else LINEAR), clock))
    for k in (64, 1000) if small else widths:
        n = max(2, (1 << 12 if small else LOGITS) // k)
        for dtype in DTYPES:
            yield Job(f"cross_entropy {dtype} {k}", partial(loss_rows, n, k, dtype, clock))
            for kernel in MAPS:
                yield Job(f"{kernel} {dtype} {k}", partial(map_rows, kernel, n, k, dtype, clock))


def about(device: str) -> Row:
    """Return the card, the versions and the time."""
    return {"card": card(device), "versions": versions(), "when": machine.now()}


def done(path: Path, here: Row) -> set[str]:
    """Return the names of the jobs that this card has done with these versions."""
    rows = tables.read(path, COLUMNS)
    return {name_of(row) for row in rows if all(row[name] == here[name] for name in ("card", "versions"))}


def name_of(row: Row) -> str:
    """Return the name of the job that a row is of."""
    kernel = str(row["kernel"]).split(" ")[0].rstrip(",")
    return kernel if kernel in ("check", "linear") else f"{kernel} {row['dtype']} {row['k']}"


BENCHMARK = Benchmark(
    "Check and time the GPU kernels beside their peers.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
    lambda: about("cuda" if torch.cuda.is_available() else "cpu"),
    whole=True,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not done yet; return 1 where a check fails, 2 without a GPU."""
    options = BENCHMARK.parse(arguments)
    if options.device == "cpu":
        return _status(BENCHMARK.run(options, store=False))
    if not torch.cuda.is_available():
        print("torch finds no GPU here; --device cpu rehearses the run.", file=sys.stderr)
        return 2
    rows = BENCHMARK.run(options)
    draw(options.out)
    return _status(rows)


def _status(rows: Sequence[Row]) -> int:
    return int(any(row["note"].startswith("FAILED") for row in rows))


def draw(path: Path) -> None:
    """Write the picture of what is stored beside it, where Matplotlib is installed."""
    if not find_spec("matplotlib"):
        print("without Matplotlib there is no picture; the book draws the same from the stored results")
        return
    from experiments.speed.gpu import picture, read

    figure = picture(read(path))
    if figure is not None:
        figure.savefig(path.with_suffix(".svg"))
