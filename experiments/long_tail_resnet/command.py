"""The command: pack the images, or train on packed ones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .config import LOSSES, SEEDS, Config
from .packing import pack
from .rows import RESULTS
from .running import run_all

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack or train; return 2 where a folder is not given."""
    # streams that share a connection to the card wait for each other; read when CUDA starts
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    options = _parser().parse_args(arguments)
    if options.pack is not None:
        if options.source is None:
            print("say where train.tar.xz and test.tar.xz are, with --source FOLDER", file=sys.stderr)
            return 2
        size = pack(options.source, options.pack, options.rho, progress=not options.quiet)
        print(f"{size:,} bytes in {options.pack}")
        return 0
    if options.data is None:
        print("say where packed images are, with --data FOLDER", file=sys.stderr)
        return 2
    configs = [
        Config(loss, seed, options.epochs, options.rho) for loss in options.only for seed in options.seed
    ]
    run_all(
        configs,
        options.data,
        options.out,
        device=torch.device(options.device),
        together=options.together,
        budget=options.budget,
        progress=not options.quiet,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.long_tail_resnet",
        description="ResNet-32 on a long-tailed CIFAR-100. What is stored is not run again.",
    )
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the images there, and do no more")
    parser.add_argument("--source", type=Path, help="folder with train.tar.xz and test.tar.xz, to pack")
    parser.add_argument("--data", type=Path, help="folder with packed images")
    parser.add_argument("--rho", type=float, default=100.0, help="imbalance ratio: that of the packed images")
    parser.add_argument("--only", nargs="+", default=list(LOSSES), metavar="LOSS", help=", ".join(LOSSES))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--budget", type=float, default=0.0, help="seconds: train for the epochs that fit")
    parser.add_argument("--together", type=int, default=9, help="runs at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
