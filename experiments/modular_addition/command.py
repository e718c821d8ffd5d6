"""The command: run what is not stored yet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .losses import LOSSES
from .protocols import PROTOCOLS
from .rows import RESULTS
from .running import jobs, run_all

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs and say what is left; return 1 where some failed, and 0 where only the limit left some."""
    options = _parser().parse_args(arguments)
    protocols = [
        replace(
            PROTOCOLS[name],
            share=share if name == "p113" else PROTOCOLS[name].share,
            steps=options.steps or PROTOCOLS[name].steps,
            rates=tuple(options.rates) if options.rates else PROTOCOLS[name].rates,
        )
        for name in options.protocol
        for share in (options.share if name == "p113" else [0.0])
    ]
    left = run_all(
        jobs(protocols, options.only),
        options.out,
        device=torch.device(options.device),
        limit=options.limit,
        progress=not options.quiet,
    )
    for job in left.undone:
        print(f"not done: {job.protocol.name} {job.protocol.share:g} {job.loss} {job.part}", file=sys.stderr)
    for job, why in left.failed:
        print(f"failed: {job.protocol.name} {job.loss} {job.part}\n{why}", file=sys.stderr)
    return 1 if left.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.modular_addition",
        description="Addition modulo p with each loss. What is stored is not run again.",
    )
    parser.add_argument("--protocol", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument(
        "--share", nargs="+", type=float, default=[0.4], help="of the pairs to train on, of p113"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(LOSSES),
        default=list(LOSSES),
        metavar="LOSS",
        help=", ".join(LOSSES),
    )
    parser.add_argument("--steps", type=int, default=0, help="instead of the protocol's")
    parser.add_argument(
        "--rates", nargs="+", type=float, help="instead of the protocol's; a single one is not tried first"
    )
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
