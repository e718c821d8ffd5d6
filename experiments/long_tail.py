r"""Which loss for a long tail? The grid of chapter 9: run, stopped at any point, taken up again, and summed
up.

``python -m experiments.long_tail tune --dataset digits --protocol mlp`` chooses hyper-parameters on rows
split off the training rows, with as many settings for every loss that has any; ``... final ...`` then trains
the chosen ones on seeds of their own and looks at the test rows. ``noise``, ``absent``, ``permuted`` and
``ablation`` are further studies. CIFAR needs ``--data PATH``. Runs go to the cores of this machine, or with
``--scheduler ADDRESS`` to a Dask cluster whose workers can import ``experiments`` and read PATH.

Every finished run is a row of ``results/long_tail.csv``, keyed by its configuration. The file is only ever
replaced as a whole by a longer one, so that a process that is killed loses the runs it was at and nothing
else, and none is done twice.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.benchmarks.cpu import processor, versions
from experiments.long_tail_training import DATASETS, LOSSES, PROTOCOLS, Config, prepare, run

__all__ = [
    "COLUMNS",
    "FINAL_SEEDS",
    "GRIDS",
    "RESULTS",
    "STUDIES",
    "TUNING_SEEDS",
    "append",
    "chosen",
    "finished",
    "frame",
    "main",
    "paired",
    "read",
    "regret",
    "run_all",
    "summary",
]

RESULTS = Path(__file__).parent / "results" / "long_tail.csv"
RHOS = (1.0, 10.0, 100.0, 200.0)
TUNING_SEEDS, FINAL_SEEDS = (100, 101), (0, 1, 2, 3, 4)  # never the same: the final ones are touched once
MEASURES = ("balanced_accuracy", "head", "mid", "tail", "ece", "nll", "seconds")
COLUMNS = (
    "dataset",
    "protocol",
    "rho",
    "loss",
    "seed",
    *MEASURES,
    "part",
    "settings",
    "noise",
    "absent",
    "permuted",
    "epochs",
    "versions",
    "hardware",
    "commit",
    "key",
)
# what two losses must share to be compared
SETTING = ["dataset", "protocol", "rho", "noise", "absent", "permuted"]

Settings = tuple[tuple[str, float], ...]


# ---- the grid ----


def _settings(**values: Sequence[float]) -> list[Settings]:
    """Return one setting for each place of the sequences."""
    return [tuple(sorted(zip(values, each, strict=True))) for each in zip(*values.values(), strict=True)]


#: four settings for every loss that has a hyper-parameter, and the empty one for those that have none
GRIDS: dict[str, list[Settings]] = {
    "plain": [()],
    "weighted": _settings(power=(0.25, 0.5, 0.75, 1.0)),
    "class_balanced": _settings(beta=(0.9, 0.99, 0.999, 0.9999)),
    "label_smoothing": _settings(eps=(0.02, 0.05, 0.1, 0.2)),
    "label_aware_smoothing": _settings(head=(0.1, 0.2, 0.3, 0.4), tail=(0.0, 0.0, 0.05, 0.1)),
    "focal": _settings(gamma=(0.5, 1.0, 2.0, 3.0)),
    "ldam": _settings(max_margin=(0.1, 0.3, 0.5, 0.8)),
    "balanced_softmax": [()],
    "logit_adjusted": _settings(tau=(0.5, 0.75, 1.25, 1.5)),
    "cdt": _settings(gamma=(0.05, 0.1, 0.2, 0.3)),
    "vs": _settings(gamma=(0.05, 0.15, 0.05, 0.15), tau=(1.0, 1.0, 1.25, 1.25)),
    "seesaw": _settings(p=(0.4, 0.8, 1.0, 1.2)),
    "equalization": _settings(drop=(0.5, 0.8, 0.9, 0.95)),
    "plain_drw": _settings(beta=(0.999, 0.9999, 0.999, 0.9999), start=(0.6, 0.6, 0.8, 0.8)),
    "ldam_drw": _settings(max_margin=(0.1, 0.3, 0.5, 0.8)),
    "balanced_softmax_drw": _settings(beta=(0.999, 0.9999, 0.999, 0.9999), start=(0.6, 0.6, 0.8, 0.8)),
    "seesaw_online": _settings(p=(0.4, 0.8, 0.4, 0.8), q=(1.0, 1.0, 2.0, 2.0)),
    "gradient_balanced": _settings(tau=(1.0, 1.1, 1.1, 1.1), gate=(4.0, 4.0, 2.0, 8.0)),
    "gradient_balanced_smoothed": _settings(eps=(0.02, 0.05, 0.1, 0.2)),
    "gradient_balanced_gathered": [()],
    "gradient_balanced_steered": _settings(rate=(0.1, 0.25, 0.5, 1.0)),
}

#: of ours, each part by itself about the values that the loss has by default
VARIED: dict[str, tuple[float, ...]] = {
    "tau": (0.8, 1.0, 1.1, 1.25, 1.5),
    "strength": (0.0, 0.5, 1.5),
    "gate": (0.0, 1.0, 2.0, 8.0),
    "eps": (0.02, 0.05, 0.1),
}


def tune(base: Config) -> list[Config]:
    """Return every setting of a loss that has a choice, on the tuning seeds."""
    settings = GRIDS[base.loss]
    return (
        [replace(base, part="tune", settings=s, seed=seed) for s in settings for seed in TUNING_SEEDS]
        if len(settings) > 1
        else []
    )


def final(base: Config, rows: Iterable[dict[str, str]]) -> list[Config]:
    """Return the chosen setting on the final seeds."""
    return [replace(base, settings=chosen(base, rows), seed=seed) for seed in FINAL_SEEDS]


def chosen(base: Config, rows: Iterable[dict[str, str]]) -> Settings:
    """Return the setting with the best mean balanced accuracy on the tuning rows; of equals the first.

    Raises
    ------
    ValueError
        Where a tuning run is missing: a choice from some of them would depend on which came first.
    """
    options = GRIDS[base.loss]
    if len(options) == 1:
        return options[0]
    by_key = {row["key"]: float(row["balanced_accuracy"]) for row in rows}
    # the further studies use what was chosen without them
    clean = replace(base, noise=0.0, absent=0, permuted=False)
    wanted = tune(clean)
    missing = sum(config.key not in by_key for config in wanted)
    if missing:
        raise ValueError(
            f"{base.loss} at rho {base.rho:g} has {missing} of {len(wanted)} tuning runs to do: run the "
            f"part tune first"
        )
    score = {
        option: float(np.mean([by_key[c.key] for c in wanted if c.settings == option])) for option in options
    }
    return max(options, key=score.__getitem__)


def ablation(base: Config) -> list[Config]:
    """Return the settings of `VARIED`, for our loss alone."""
    settings = (
        [((name, value),) for name, values in VARIED.items() for value in values]
        if base.loss == "gradient_balanced"
        else []
    )
    return [replace(base, settings=each, seed=seed) for each in settings for seed in FINAL_SEEDS]


STUDIES: dict[str, Callable[[Config, list[dict[str, str]]], list[Config]]] = {
    "tune": lambda base, rows: tune(base),
    "final": final,
    "noise": lambda base, rows: [
        c for share in (0.1, 0.2, 0.4) for c in final(replace(base, noise=share), rows)
    ],
    "absent": lambda base, rows: final(replace(base, absent=1), rows),
    "permuted": lambda base, rows: final(replace(base, permuted=True), rows),
    "ablation": lambda base, rows: ablation(base),
}


# ---- the rows ----


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time replace the file.

    The lock goes with the process, however it ends. Not on Windows, which has none of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """Return the rows as they are stored; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} must have the columns {', '.join(COLUMNS)}; got "
                f"{', '.join(reader.fieldnames or ()) or 'none'}"
            )
        return list(reader)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, unless its key is there: the file is replaced by a longer one, in one step."""
    with _locked(path):
        rows = read(path)
        if any(other["key"] == row["key"] for other in rows):
            return
        draft = path.with_name(f".{path.name}.partial")  # what a killed process leaves is written over
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows([*rows, row])
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def row_of(config: Config, measured: dict[str, float], about: dict[str, str]) -> dict[str, Any]:
    """Return the row of a finished run."""
    fields = {name: getattr(config, name) for name in COLUMNS if hasattr(config, name)}
    rounded = {name: f"{value:.6g}" for name, value in measured.items()}
    return (
        fields
        | rounded
        | about
        | {"settings": json.dumps(dict(config.settings)), "epochs": config.length, "key": config.key}
    )


@functools.cache
def commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it; empty without git."""
    try:
        root = Path(__file__).parents[1]
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
    return {"versions": versions(), "hardware": f"{processor()}{card}", "commit": commit()}


# ---- running ----


def _guarded(
    config: Config, data: str | None, threads: int
) -> tuple[Config, dict[str, float] | str, dict[str, str]]:
    """Run on a worker; an error is a result too, and stops nothing but this run."""
    import torch

    torch.set_num_threads(threads)
    try:
        return config, run(config, data), about_this_machine()
    except Exception:
        return config, traceback.format_exc(), {}


def _on_this_machine(
    configs: list[Config], data: str | None, jobs: int
) -> Iterator[tuple[Config, Any, dict[str, str]]]:
    import joblib

    threads = max(1, (os.cpu_count() or 1) // jobs)
    for config in {(c.dataset, c.protocol): c for c in configs}.values():
        prepare(config, data)
    tasks = (joblib.delayed(_guarded)(config, data, threads) for config in configs)
    yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks)


def _on_a_cluster(
    configs: list[Config], data: str | None, address: str
) -> Iterator[tuple[Config, Any, dict[str, str]]]:
    """Yield what comes back; a run whose worker is lost goes to another, and is given up where it has cost
    several.
    """
    from distributed import Client, as_completed

    with Client(address) as client:  # type: ignore[no-untyped-call]
        futures = {
            client.submit(_guarded, config, data, 1, key=f"run-{config.key}"): config for config in configs
        }
        for future in as_completed(list(futures)):  # type: ignore[no-untyped-call]
            error = future.exception()
            yield (
                future.result()
                if error is None
                else (futures[future], f"{type(error).__name__}: {error}", {})
            )
            future.release()


def run_all(
    configs: Iterable[Config],
    path: Path = RESULTS,
    *,
    data: str | None = None,
    jobs: int = 1,
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
    scheduler : str, optional
        Address of a Dask scheduler, instead.
    progress : bool
        Show what is done and the time left.
    """
    have = finished(path)
    todo = [config for key, config in {config.key: config for config in configs}.items() if key not in have]
    if not todo:
        return []
    coming = _on_a_cluster(todo, data, scheduler) if scheduler else _on_this_machine(todo, data, jobs)
    failed = []
    with tqdm(coming, total=len(todo), unit="run", smoothing=0.05, disable=not progress) as bar:
        for config, outcome, about in bar:
            if isinstance(outcome, str):
                failed.append((config, outcome))
            else:
                append(path, row_of(config, outcome, about))
    return failed


def finished(path: Path = RESULTS) -> set[str]:
    """Return the keys of the runs that are stored."""
    return {row["key"] for row in read(path)}


# ---- summing up ----


def frame(rows: Iterable[dict[str, str]]) -> pd.DataFrame:
    """Return rows of the final part as a table with numbers."""
    table = pd.DataFrame([row for row in rows if row["part"] == "final"], columns=list(COLUMNS))
    numbers = ["rho", "seed", "noise", "absent", "epochs", *MEASURES]
    return table.astype(dict.fromkeys(numbers, float)).assign(permuted=table["permuted"] == "True")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and the standard error over the seeds of every measure, a row a setting, loss and its
    hyper-parameters.
    """
    grouped = table.groupby([*SETTING, "loss", "settings"], sort=False)[list(MEASURES)]
    parts = {"mean": grouped.mean(), "error": grouped.sem()}
    return pd.concat(parts, axis=1).assign(seeds=grouped.size())


def paired(
    table: pd.DataFrame, loss: str, other: str, measure: str = "balanced_accuracy", *, level: float = 0.95
) -> pd.DataFrame:
    """Return the mean difference of two losses over the seeds that both have, with a t interval, a row a
    setting.

    Each loss must have one choice of hyper-parameters in each setting.
    """
    from scipy import stats

    wide = table[table["loss"].isin([loss, other])].pivot(
        index=[*SETTING, "seed"], columns="loss", values=measure
    )
    difference = (wide[loss] - wide[other]).dropna().groupby(SETTING)
    mean, error, seeds = difference.mean(), difference.sem(), difference.size()
    half = error * stats.t.ppf(0.5 + level / 2, seeds - 1)
    return pd.DataFrame({"difference": mean, "low": mean - half, "high": mean + half, "seeds": seeds})


def regret(table: pd.DataFrame, ours: str = "gradient_balanced") -> pd.DataFrame:
    """Return how far every loss is below the best fixed one in each setting (negative: above it).

    Ours do not count as fixed.
    """
    means = table.groupby([*SETTING, "loss"])["balanced_accuracy"].mean().unstack("loss")
    fixed = [name for name in means if not str(name).startswith(ours)]
    return -means.sub(means[fixed].max(axis=1), axis=0)


# ---- the command line ----


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
        scheduler=options.scheduler,
        progress=not options.quiet,
    )
    for config, why in failed:
        print(f"\n{config}\n{why}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.long_tail", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    protocols = sorted({name for family in PROTOCOLS.values() for name in family})
    parser.add_argument("--protocol", nargs="+", choices=protocols, default=["mlp"])
    parser.add_argument("--rho", nargs="+", type=float, default=list(RHOS))
    parser.add_argument(
        "--loss",
        nargs="+",
        choices=list(LOSSES),
        default=list(LOSSES),
        metavar="LOSS",
        help=", ".join(LOSSES),
    )
    parser.add_argument("--seed", nargs="+", type=int, help="instead of the study's own seeds")
    parser.add_argument("--epochs", type=int, default=0, help="instead of the protocol's")
    parser.add_argument("--data", help="CIFAR's binary archive, or a folder of its images")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes on this machine")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    # under its own name, so that workers can import what they are sent
    from experiments.long_tail import main as _main

    sys.exit(_main())
