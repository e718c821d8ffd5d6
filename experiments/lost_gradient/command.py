"""The command: run what is not stored yet, on one thread."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

import softmax_lab as sl
from experiments.tables import RESULTS

from . import attacks, margin, ordinary, scores
from .store import Table, run_all

__all__ = ["PARTS", "Part", "main"]

Job = Mapping[str, Any]


class Part(NamedTuple):
    """A table, its jobs, and what runs one."""

    table: Table
    jobs: Callable[[], Sequence[Job]]
    work: Callable[[Job], Iterable[Mapping[str, Any]]]


PARTS = {
    "ordinary": Part(ordinary.TABLE, ordinary.jobs, ordinary.work),  # on the digits
    "margin": Part(margin.TABLE, margin.jobs, margin.work),
    "attacks": Part(attacks.TABLE, attacks.jobs, attacks.work),
    "scores": Part(scores.TABLE, scores.jobs, scores.work),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, and say how many jobs the limit has left."""
    options = _parser().parse_args(arguments)
    parts = PARTS | {"ordinary": _ordinary(options.dataset, options.data)}
    threads = torch.get_num_threads(), sl.get_num_threads()
    # small networks are slower on many threads
    torch.set_num_threads(1)
    sl.set_num_threads(1)
    begin = time.perf_counter()
    try:
        for name in options.part:
            part, left = parts[name], options.limit - (time.perf_counter() - begin)
            undone = run_all(part.table, part.jobs(), part.work, options.out, limit=left)
            if undone:
                print(f"not done: {len(undone)} jobs of {name}", file=sys.stderr)
    finally:
        torch.set_num_threads(threads[0])
        sl.set_num_threads(threads[1])
    return 0


def _ordinary(dataset: str, path: str | None) -> Part:
    return Part(ordinary.TABLE, partial(ordinary.jobs, dataset), partial(ordinary.work, path=path))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.lost_gradient",
        description="Margins, attacks, scores and ordinary training. What is stored is not run again.",
    )
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--dataset", choices=ordinary.DATASETS, default="digits", help="of the part ordinary")
    parser.add_argument("--data", help="where CIFAR-10 is: its archive, or a folder")
    parser.add_argument(
        "--limit", type=float, default=float("inf"), help="seconds; a job that began is ended"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder")
    return parser
