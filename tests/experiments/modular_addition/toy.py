"""A task that takes a second, and rows as they are stored."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments import modular_addition as ma
from experiments.modular_addition.rows import identity, rows_of

CPU = torch.device("cpu")
TOY = ma.Protocol("p59", 7, 0.6, 8, 12, rates=(1e-3, 1e-2), tuning_seeds=(100, 101), final_seeds=(0, 1))


def stored(path: Path, loss: str, heights: list[float], *, part: str = "final") -> None:
    """Store made-up rows: seeds reach the heights in the second of two evaluations, half of it in the first.

    The first seed of "tune" has the first rate and so on.
    """
    rates = TOY.rates if part == "tune" else (TOY.rates[0],) * len(heights)
    models = [(seed, rates[seed % len(rates)]) for seed in range(len(heights))]
    values = torch.zeros(2, len(heights), 6, dtype=torch.double)
    values[0, :, 1], values[1, :, 1] = torch.tensor(heights) / 2, torch.tensor(heights)
    values[:, :, 3] = 0.25
    found = ma.Found([6, 12], [0.3, 0.6], values, "eager")
    rows = rows_of(identity(TOY, loss, part, "a card"), models, found, {}, last_only=part == "tune")
    ma.append(path, rows)
