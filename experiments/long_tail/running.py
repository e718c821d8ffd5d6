"""Runs on the cores of this machine or on a cluster, each stored as it is done."""

from __future__ import annotations

import functools
import os
import subprocess
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from experiments import machine

from .config import Config
from .problem import prepare
from .rows import RESULTS, append, finished, row_of
from .side_by_side import run_together, stacks
from .training import run

__all__ = ["run_all"]


@functools.cache
def commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it; empty without git."""
    try:
        root = Path(__file__).parents[2]
        ask = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, check=True)
        head = ask(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = ask(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "softmax_lab", "experiments/*.py"]
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


def about_this_machine() -> dict[str, str]:
    """Return versions and hardware of the process that asks: a worker for itself."""
    import torch

    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {"versions": machine.versions(), "hardware": f"{machine.processor()}{card}", "commit": commit()}


#: a run, what was measured of it or why it failed, and about the machine
Outcome = tuple[Config, dict[str, float] | str, dict[str, str]]


def _guarded(configs: list[Config], data: str | None, threads: int) -> list[Outcome]:
    """Run on a worker; an error is a result too, and stops nothing but these runs."""
    import torch

    torch.set_num_threads(threads)
    try:
        found = run_together(configs, data) if len(configs) > 1 else [run(configs[0], data)]
    except Exception:
        return [(config, traceback.format_exc(), {}) for config in configs]
    return [(config, each, about_this_machine()) for config, each in zip(configs, found, strict=True)]


def _on_this_machine(
    configs: list[Config], data: str | None, jobs: int, threads: int | None = None
) -> Iterator[Outcome]:
    import joblib

    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    for config in {(c.dataset, c.protocol): c for c in configs}.values():
        prepare(config, data)
    tasks = (joblib.delayed(_guarded)(stack, data, threads) for stack in stacks(configs))
    for done in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks):
        yield from done


def _on_a_cluster(configs: list[Config], data: str | None, address: str) -> Iterator[Outcome]:
    """Yield what comes back.

    A run whose worker is lost goes to another, and is given up where it has cost several.
    """
    from distributed import Client, as_completed

    with Client(address) as client:  # type: ignore[no-untyped-call]
        futures = {
            client.submit(_guarded, stack, data, 1, key=f"run-{stack[0].key}-{len(stack)}"): stack
            for stack in stacks(configs)
        }
        for future in as_completed(list(futures)):  # type: ignore[no-untyped-call]
            error = future.exception()
            yield from (
                future.result()
                if error is None
                else [(config, f"{type(error).__name__}: {error}", {}) for config in futures[future]]
            )
            future.release()


def run_all(
    configs: Iterable[Config],
    path: Path = RESULTS,
    *,
    data: str | None = None,
    jobs: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[tuple[Config, str]]:
    """Run what is not stored yet, and store each as it is done; return the runs that failed and why.

    Parameters
    ----------
    configs : iterable of Config
    path : Path
        The table.
    data : str, optional
        CIFAR's archive or folder.
    jobs : int
        Processes on this machine.
    threads : int, optional
        Of each of them; by default all cores are shared out.
    scheduler : str, optional
        Address of a Dask scheduler, instead.
    progress : bool
        Show what is done and the time left.
    """
    have = finished(path)
    todo = [config for key, config in {config.key: config for config in configs}.items() if key not in have]
    if not todo:
        return []
    coming = (
        _on_a_cluster(todo, data, scheduler) if scheduler else _on_this_machine(todo, data, jobs, threads)
    )
    failed = []
    with tqdm(coming, total=len(todo), unit="run", smoothing=0.05, disable=not progress) as bar:
        for config, outcome, about in bar:
            if isinstance(outcome, str):
                failed.append((config, outcome))
            else:
                append(path, row_of(config, outcome, about))
    return failed
