"""Rows that are made up."""

from __future__ import annotations

from experiments.long_tail import Config, rows

ACCURACY = {"plain": 70.0, "focal": 74.0, "gradient_balanced": 75.0, "gradient_balanced_smoothed": 73.0}
ABOUT = {"versions": "v", "hardware": "h", "commit": "c"}


def row(config: Config, accuracy: float) -> dict[str, str]:
    measured = {
        **dict.fromkeys(rows.MEASURES, 50.0),
        "balanced_accuracy": accuracy,
        "ece": 100 - accuracy,
    }
    return {name: str(value) for name, value in rows.row_of(config, measured, ABOUT).items()}
