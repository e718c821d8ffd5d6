"""Many runs at once on one device, stored when they are done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from experiments import machine

from .config import Config
from .packing import unpack
from .rows import RESULTS, append, finished, identity, read, rows_of
from .training import Data, Run, Seen, to_device

__all__ = ["Data", "Trained", "fitting_epochs", "load", "run_all", "train_together"]


class Trained(NamedTuple):
    """What was seen of a run, and the seconds since the group's first step until each time."""

    seen: list[Seen]
    seconds: list[float]
    mode: str


def load(folder: Path, device: torch.device) -> Data:
    """Return the images of a folder that `pack` has written, on the device."""
    return to_device(unpack(folder / "train.npz"), unpack(folder / "test.npz"), device)


def on_its_stream(run: Run) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a run's work is given to the device."""
    return contextlib.nullcontext() if run.stream is None else torch.cuda.stream(run.stream)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def begin(runs: Sequence[Run], epoch: int, device: torch.device) -> None:
    """Begin an epoch of every run; captures take the device for themselves."""
    for run in runs:
        if run.advance is None:
            wait_for(device)
        with on_its_stream(run):
            run.begin_epoch(epoch)


def forward(runs: Sequence[Run], steps: int) -> None:
    """Take the runs through so many steps, chunk by chunk in turn."""
    for _ in range(steps // runs[0].chunk):
        for run in runs:
            assert run.advance is not None  # since the epoch's beginning
            with on_its_stream(run):
                run.advance(run.chunk)


def train_together(
    configs: Sequence[Config],
    data: Data,
    device: torch.device,
    *,
    watch: Callable[[int], object] = lambda epochs: None,
) -> list[Trained]:
    """Train runs of the same length side by side. ``watch`` is told of every epoch."""
    runs = [Run(config, data, device) for config in configs]
    seen: list[list[Seen]] = [[] for _ in runs]
    seconds: list[float] = []
    begin(runs, 0, device)
    wait_for(device)
    start = time.perf_counter()
    for epoch in range(configs[0].epochs):
        if epoch:
            begin(runs, epoch, device)
        forward(runs, runs[0].batches)
        looked_at = epoch + 1 in configs[0].evaluated
        for run, found in zip(runs, seen, strict=True):
            with on_its_stream(run):
                if looked_at:
                    found.append(run.look())
        wait_for(device)  # before a graph is given up
        for run in runs:
            run.end_epoch()
        if looked_at:
            seconds.append(time.perf_counter() - start)
        watch(1)
    return [Trained(found, seconds, run.mode) for run, found in zip(runs, seen, strict=True)]


def fitting_epochs(
    configs: Sequence[Config], data: Data, device: torch.device, budget: float, groups: int
) -> int:
    """Return the epochs, in tens and at most 200, for which so many groups fit into a budget in seconds.

    An epoch of the first group is timed. What it takes with its preparation counts.
    """
    begun = time.perf_counter()
    runs = [Run(config, data, device) for config in configs]
    begin(runs, 0, device)
    forward(runs, runs[0].chunk)
    wait_for(device)
    start = time.perf_counter()
    begin(runs, 0, device)
    forward(runs, runs[0].batches)
    wait_for(device)
    epoch = time.perf_counter() - start
    setup = start - begun
    left = budget - (time.perf_counter() - begun) - groups * setup
    found = int(left / (groups * 1.1 * epoch)) // 10 * 10  # a tenth more, with what is looked at
    tqdm.write(
        f"{1000 * epoch / runs[0].batches:.2f} ms a step of {len(runs)} runs at once ({runs[0].mode}), "
        f"{setup:.1f} s to prepare; {max(10, min(200, found))} epochs for {groups} x {len(runs)} runs in "
        f"{budget:.0f} s"
    )
    return max(10, min(200, found))


def run_all(
    configs: Sequence[Config],
    folder: Path,
    path: Path = RESULTS,
    *,
    device: torch.device,
    together: int = 9,
    budget: float = 0.0,
    progress: bool = True,
) -> None:
    """Run what is not stored yet, ``together`` runs at once, and store each group as it is done.

    With a budget in seconds the length of training is what fits, and the rows say it.
    """
    torch.backends.cudnn.benchmark = True
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor()
    start, data = time.perf_counter(), load(folder, device)
    if budget:
        groups = -(-len(configs) // together)
        left = budget - (time.perf_counter() - start)
        epochs = fitting_epochs(configs[:together], data, device, left, groups)
        configs = [replace(config, epochs=epochs) for config in configs]
    rows = read(path)
    todo = [config for config in configs if not finished(rows, config, hardware)]
    groups_of = [todo[i : i + together] for i in range(0, len(todo), together)]
    for group in groups_of:
        with tqdm(total=group[0].epochs, unit="epoch", disable=not progress) as bar:
            found = train_together(group, data, device, watch=bar.update)
        for config, trained in zip(group, found, strict=True):
            about = identity(config, hardware) | {
                "runs": len(group),
                "mode": trained.mode,
                "versions": machine.versions(),
                "when": machine.now(),
            }
            append(path, rows_of(config, trained.seen, trained.seconds, data.counts, about))
        tqdm.write(
            f"{len(group)} runs of {group[0].epochs} epochs: {found[0].seconds[-1]:.1f} s, {found[0].mode}"
        )
