"""The stored rows: one a class and step of a run, all of a run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import machine, tables
from experiments.long_tail import Config

from .measuring import MEASURES, run

__all__ = ["COLUMNS", "RESULTS", "frame", "run_all"]

RESULTS = tables.RESULTS / "class_norms.csv"
_RUN = ("dataset", "protocol", "rho", "seed", "epochs")
_ABOUT = ("processor", "versions", "when")
COLUMNS = (*_RUN, "step", "class", "count", *MEASURES, *_ABOUT)


def run_all(
    configs: Iterable[Config],
    path: Path = RESULTS,
    *,
    data: str | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Run what is not stored, and store each run as it is done."""
    for config in configs:
        key = _key(config)
        if key in {tuple(row[name] for name in _RUN) for row in tables.read(path, COLUMNS)}:
            continue
        about = dict(zip(_ABOUT, (machine.processor(), machine.versions(), machine.now()), strict=True))
        own = dict(zip(_RUN, key, strict=True))
        rows: list[dict[str, Any]] = [{**own, **row, **about} for row in run(config, data)]
        tables.append(path, COLUMNS, ({name: _text(value) for name, value in row.items()} for row in rows))
        say(f"stored: {' '.join(key)}")


def _key(config: Config) -> tuple[str, ...]:
    return (config.dataset, config.protocol, f"{config.rho:g}", str(config.seed), str(config.length))


def _text(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def frame(path: Path = RESULTS) -> pd.DataFrame:
    """Return the stored rows, with the norms of the means beside those of the sums."""
    found = pd.DataFrame(tables.read(path, COLUMNS), columns=list(COLUMNS)).drop(columns=list(_ABOUT))
    for name in ("rho", "seed", "epochs", "step", "class", "count", *MEASURES):
        found[name] = pd.to_numeric(found[name])
    for layer in ("logit", "weight"):
        found[f"{layer}_mean"] = found[f"{layer}_sum"] / found["count"]
    return found
