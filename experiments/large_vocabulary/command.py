"""The command: train, measure what the formula needs, and write the tables."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .cost import Rates
from .network import Reduced, time_all_reduce
from .processes import in_processes
from .rates import Step, measure_rates, time_steps
from .stored import ALL_REDUCE, RATES, STEPS, TRAINING, write
from .training import Setting, run, train

SIZES = (12_501, 50_001, 200_001)  # classes of the steps that are timed


def work(part: str, setting: dict[str, Any], folder: Path) -> None:
    """Do this process's share of a part and leave its rows in the folder."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    parts: dict[str, Callable[..., Sequence[Any]]] = {
        "train": lambda **named: train(Setting(**named), rank, world),
        "all-reduce": time_all_reduce,
        "steps": time_steps,
        "rates": lambda **named: [measure_rates(**named)],
    }
    (folder / f"{rank}.json").write_text(json.dumps(parts[part](**setting)), encoding="utf-8")
    if dist.is_initialized():
        dist.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.large_vocabulary",
        description="Train a softmax over 50,001 classes on one and on two processes.",
    )
    parser.add_argument(
        "--part",
        nargs=3,
        metavar=("NAME", "SETTING", "FOLDER"),
        help="one process's share of a part, for torchrun",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=Setting.steps,
        help="of the training in float32; a tenth of them in float64",
    )
    options = parser.parse_args(arguments)
    if options.part:
        work(options.part[0], json.loads(options.part[1]), Path(options.part[2]))
        return 0
    write_training(options.steps)
    write_network()
    write_rates(Setting())
    return 0


def write_training(steps: int) -> None:
    """Train on one and on two processes, in float32 and for a tenth of the steps in float64."""
    single = Setting(steps=steps)
    double = replace(single, dtype="float64", steps=max(1, steps // 10))
    runs = [run(setting, processes) for setting in (single, double) for processes in (1, 2)]
    write(TRAINING, [record for records in runs for record in records])


def write_network() -> None:
    """Measure all-reduces of many sizes."""
    sizes = {"sizes": [1 << power for power in range(6, 26)]}
    ranks = [in_processes(processes, 1, "all-reduce", sizes)[0] for processes in (2, 4)]
    write(ALL_REDUCE, [Reduced(*row) for rows in ranks for row in rows])


def write_rates(setting: Setting) -> None:
    """Measure the speed of one core, and whole steps to hold the formula against."""
    layer = {"width": setting.width, "rows": setting.rows}
    small = layer | {"rows": 128, "classes": setting.vocabulary, "repeats": 11}
    write(RATES, [slowest(in_processes(2, 1, "rates", small))])
    steps = layer | {"sizes": SIZES, "chunk_bytes": setting.chunk_bytes, "repeats": 7}
    ranks = [in_processes(processes, 1, "steps", steps)[0] for processes in (1, 2)]
    write(STEPS, [Step(*row) for rows in ranks for row in rows])


def slowest(ranks: Sequence[Sequence[Sequence[float]]]) -> Rates:
    """Return the lowest of each rate over the processes."""
    return Rates(*(min(values) for values in zip(*(rows[0] for rows in ranks), strict=True)))
