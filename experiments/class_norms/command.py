"""The command: train what is not stored yet, on one thread."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.long_tail import Config

from .measuring import DATASETS, SEEDS
from .rows import RESULTS, run_all

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds of one set that are not stored."""
    options = _parser().parse_args(arguments)
    configs = [
        Config(options.dataset, "mlp", options.rho, "plain", seed, epochs=options.epochs)
        for seed in options.seed
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_all(configs, options.out, data=options.data)
    finally:
        torch.set_num_threads(threads)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.class_norms",
        description="Norms of each class's gradient along training. What is stored is not run again.",
    )
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--data", help="where CIFAR is: its archive, or a folder")
    parser.add_argument("--rho", type=float, default=100.0)
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=0, help="instead of the protocol's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser
