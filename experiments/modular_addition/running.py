"""Jobs one after another, each stored as it is done: learning rates first, then the final seeds."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from experiments import machine

from .losses import LOSSES
from .protocols import Protocol
from .rows import RESULTS, Row, append, finished, identity, read, rows_of
from .training import train

__all__ = ["Job", "Left", "chosen_rate", "jobs", "run_all"]


class Job(NamedTuple):
    """A batch of models: one loss, on the tuning seeds with every rate, or on the final seeds with one."""

    protocol: Protocol
    loss: str
    part: str  # "tune" or "final"


class Left(NamedTuple):
    """Jobs that the limit left undone, and those that failed with what was said."""

    undone: list[Job]
    failed: list[tuple[Job, str]]


def jobs(protocols: Iterable[Protocol], losses: Iterable[str]) -> list[Job]:
    """Return the jobs in their order: protocol by protocol, and a loss's rates right before its seeds.

    A single rate is not tried.
    """
    names = list(losses)
    return [
        Job(protocol, loss, part)
        for protocol in protocols
        for loss in names
        for part in (("tune", "final") if len(protocol.rates) > 1 else ("final",))
    ]


def chosen_rate(rows: Iterable[Row]) -> float:
    """Return the rate with the best mean test accuracy at the end of the tuning rows; of equals by area.

    Raises
    ------
    ValueError
        Where there are no tuning rows.
    """
    by_rate: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        by_rate.setdefault(row["lr"], []).append((float(row["test_accuracy"]), float(row["area"])))

    def score(rate: str) -> tuple[float, float]:
        accuracy, area = (sum(each) / len(each) for each in zip(*by_rate[rate], strict=True))
        return accuracy, area

    if not by_rate:
        raise ValueError("there are no tuning rows to choose a learning rate by")
    return float(max(by_rate, key=score))


def run_all(
    todo: Sequence[Job],
    path: Path = RESULTS,
    *,
    device: torch.device,
    limit: float = float("inf"),
    progress: bool = True,
) -> Left:
    """Run the jobs that are not stored yet, each whatever became of the others; return what is left.

    A job starts where the time that one like it took still fits into the limit in seconds.
    """
    begin, took = time.perf_counter(), dict[tuple[str, str], float]()
    failed: list[tuple[Job, str]] = []
    with tqdm(total=0, unit="step", smoothing=0.1, disable=not progress) as bar:
        for place, job in enumerate(todo):
            expected = took.get((job.protocol.name, job.part), 0.0)
            since = time.perf_counter()
            if since - begin + expected > limit:
                return Left(list(todo[place:]), failed)
            try:
                if run(job, path, device=device, bar=bar):
                    took[job.protocol.name, job.part] = time.perf_counter() - since
            except Exception:
                failed.append((job, traceback.format_exc()))
    return Left([], failed)


def run(job: Job, path: Path, *, device: torch.device, bar: tqdm[None]) -> bool:
    """Run a job unless it is stored; return whether it was run."""
    rows, hardware = read(path), hardware_of(device)
    named = identity(job.protocol, job.loss, job.part, hardware)
    if finished(rows, named):
        return False
    if job.part == "tune":
        models = [(seed, rate) for rate in job.protocol.rates for seed in job.protocol.tuning_seeds]
    else:
        (rate, *others) = job.protocol.rates
        rate = chosen_rate(finished(rows, {**named, "part": "tune"})) if others else rate
        models = [(seed, rate) for seed in job.protocol.final_seeds]
    bar.set_description(f"{job.protocol.name} {job.protocol.share:.0%} {job.loss}, {job.part}")
    bar.reset(total=job.protocol.steps)
    found = train(job.protocol, LOSSES[job.loss], models, device, watch=bar.update)
    about = {"versions": machine.versions(), "when": machine.now()}
    append(path, rows_of(named, models, found, about, last_only=job.part == "tune"))
    took = f"{found.seconds[-1]:.1f} s of steps, {found.mode}"
    tqdm.write(f"{job.protocol.name} {job.protocol.share:g} {job.loss} {job.part}: {took}")
    return True


def hardware_of(device: torch.device) -> str:
    """Return the card, or the processor."""
    name: Callable[[torch.device], str] = torch.cuda.get_device_name
    return name(device) if device.type == "cuda" else machine.processor()
