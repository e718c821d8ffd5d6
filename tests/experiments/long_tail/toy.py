"""Runs and rows that are made up, or short."""

from __future__ import annotations

from pathlib import Path

from experiments import long_tail as lt
from experiments.long_tail import Config
from experiments.long_tail import rows as stored

TOY = Config(rho=10.0, epochs=1)
MEASURED = {name: float(i) for i, name in enumerate(stored.MEASURES)}


def store(path: Path, config: Config, **measured: float) -> None:
    lt.append(
        path, stored.row_of(config, MEASURED | measured, {"versions": "v", "hardware": "h", "commit": "c"})
    )
