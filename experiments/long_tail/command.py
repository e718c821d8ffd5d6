"""The command: run a study of the grid."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .config import DATASETS, PROTOCOLS, Config
from .grid import GRIDS, RHOS, STUDIES
from .rows import RESULTS, read
from .running import run_all

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; return 1 where runs have failed."""
    options = _parser().parse_args(arguments)
    rows = read(options.out)
    bases = [
        Config(dataset=options.dataset, protocol=protocol, rho=rho, loss=loss, epochs=options.epochs)
        for protocol in options.protocol
        for rho in options.rho
        for loss in options.loss
    ]
    try:
        configs = [config for base in bases for config in STUDIES[options.study](base, rows)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.seed:
        configs = [replace(config, seed=seed) for config in configs for seed in options.seed]
    failed = run_all(
        configs,
        options.out,
        data=options.data,
        jobs=options.jobs,
        threads=options.threads,
        scheduler=options.scheduler,
        progress=not options.quiet,
    )
    for config, why in failed:
        print(f"\n{config}\n{why}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.long_tail",
        description="Which loss for a long tail? Run a study of the grid.",
    )
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    protocols = sorted({name for family in PROTOCOLS.values() for name in family})
    parser.add_argument("--protocol", nargs="+", choices=protocols, default=["mlp"])
    parser.add_argument("--rho", nargs="+", type=float, default=list(RHOS))
    parser.add_argument(
        "--loss",
        nargs="+",
        choices=list(GRIDS),
        default=list(GRIDS),
        metavar="LOSS",
        help=", ".join(GRIDS),
    )
    parser.add_argument("--seed", nargs="+", type=int, help="instead of the study's own seeds")
    parser.add_argument("--epochs", type=int, default=0, help="instead of the protocol's")
    parser.add_argument("--data", help="CIFAR's binary archive, or a folder of its images")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes on this machine")
    parser.add_argument("--threads", type=int, help="of each process; by default all cores are shared out")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
