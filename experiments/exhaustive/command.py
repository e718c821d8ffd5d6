"""The command: run the checks, or a trial of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import softmax_lab as sl

from .running import CHECKS, PARTS, RESULTS, run, summary, trial


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks, or a trial of them."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.exhaustive",
        description="Try the exponential and two-class rows on every argument there is.",
    )
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument(
        "--trial", type=int, metavar="N", help="only N pieces of each check; nothing is written"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    names = [name for name, check in CHECKS.items() if check.part in options.part]
    table = (
        trial(names, options.threads, options.trial)
        if options.trial
        else run(names, options.threads, options.out)
    )
    print(summary(table).to_string())
    if options.trial:
        seconds = table.groupby("check")["seconds"].first().sum()
        print(f"all of it would take about {seconds:.0f} s of processor time")
    return 0
