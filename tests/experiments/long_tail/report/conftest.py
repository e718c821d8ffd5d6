"""A grid of three losses, made up."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.long_tail import Config, grid
from tests.experiments.long_tail.report.rows_made_up import ACCURACY, row


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Four losses at two ratios; focal and ours have two settings, of which the second is chosen."""
    settings: list[Any] = [(("gamma", 1.0),), (("gamma", 2.0),)]
    ours: list[Any] = [(("tau", 1.0),), (("tau", 1.1),)]
    monkeypatch.setattr(
        grid,
        "GRIDS",
        {**{name: [()] for name in ACCURACY}, "focal": settings, "gradient_balanced": ours},
    )
    found = []
    for rho in (1.0, 100.0):
        for loss, accuracy in ACCURACY.items():
            base = Config(rho=rho, loss=loss)
            found += [
                row(config, 60.0 + 5 * (config.settings == grid.GRIDS[loss][-1]))
                for config in grid.tune(base)
            ]
            mine = ACCURACY["plain"] if rho == 1 and loss == "gradient_balanced" else accuracy
            found += [row(config, mine + config.seed) for config in grid.final(base, found)]
    found += [
        row(config, 10.0)
        for config in grid.ablation(Config(rho=100.0, loss="gradient_balanced"))
        if config.settings not in ours
    ]
    noisy = [Config(rho=100.0, loss=loss, noise=0.4, settings=grid.GRIDS[loss][-1]) for loss in ACCURACY]
    return found + [row(config, ACCURACY[config.loss] - 30) for config in noisy]
