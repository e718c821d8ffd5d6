"""The command: measure, and write the table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .timing import ROUNDS, SHAPES, TIMINGS, measure, write_timings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.stability", description="Time the variants of softmax and log-softmax."
    )
    parser.add_argument("--out", type=Path, default=TIMINGS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(argv)
    parts = [
        measure(SHAPES, ("float32",), rounds=options.rounds),
        measure(SHAPES[:2], ("float64",), rounds=options.rounds),
    ]
    write_timings(pd.concat(parts, ignore_index=True), options.out)
    return 0
