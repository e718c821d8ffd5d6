"""Grids of a few losses, made up."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.long_tail import OLD_RULE, Config, grid
from tests.experiments.long_tail.report.rows_made_up import ACCURACY, row

OLD_CHOICE: dict[str, Any] = {
    "focal": (("gamma", 2.0),),
    "gradient_balanced": (("gate", 4.0), ("tau", 1.1)),
}


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Rows of the old rule: four losses at two ratios, an ablation, and wrong labels."""
    found = []
    for rho in (1.0, 100.0):
        for loss, accuracy in ACCURACY.items():
            mine = ACCURACY["plain"] if rho == 1 and loss == "gradient_balanced" else accuracy
            found += [
                row(
                    Config(rho=rho, loss=loss, seed=seed, settings=OLD_CHOICE.get(loss, ()), rule=OLD_RULE),
                    mine + seed,
                )
                for seed in range(5)
            ]
    for name, values in grid.VARIED.items():
        for value in values:
            varied = Config(rho=100.0, loss="gradient_balanced", settings=((name, value),), rule=OLD_RULE)
            found.append(row(varied, 10.0 + value))
    noisy = [
        Config(rho=100.0, loss=loss, noise=0.4, settings=OLD_CHOICE.get(loss, ()), rule=OLD_RULE)
        for loss in ACCURACY
    ]
    return found + [row(config, ACCURACY[config.loss] - 30) for config in noisy]


#: accuracy on the final seeds, a number a setting, and whether the held-out rows choose the last
WHOLE: dict[tuple[str, float], tuple[list[float], bool]] = {
    ("plain", 10.0): ([80.0], True),
    ("plain", 100.0): ([70.0], True),
    ("logit_adjusted", 10.0): ([83.0, 81.0], False),
    ("logit_adjusted", 100.0): ([74.0, 78.0], False),
    ("gradient_balanced", 10.0): ([82.0, 84.0], True),
    ("gradient_balanced", 100.0): ([75.0, 77.0], True),
}


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Rows of today's rule: three losses at two ratios, every setting on three seeds.

    The default of logit adjustment is its second setting and that of ours its first.
    """
    grids: dict[str, list[Any]] = {
        "plain": [()],
        "logit_adjusted": [(("tau", 0.75),), (("tau", 1.0),)],
        "gradient_balanced": [(("tau", 1.0),), (("tau", 1.25),)],
        "ldam": [(("max_margin", 0.1),), (("max_margin", 0.2),)],
    }
    monkeypatch.setattr(grid, "GRIDS", grids)
    places = {"logit_adjusted": 1, "gradient_balanced": 0, "ldam": 1}
    defaults = {loss: grids[loss][place] for loss, place in places.items()}
    monkeypatch.setattr(grid, "DEFAULTS", {"plain": (), **defaults})
    monkeypatch.setattr(grid, "TUNING_SEEDS", {"digits": (100, 101)})
    monkeypatch.setattr(grid, "FINAL_SEEDS", {"digits": (0, 1, 2)})
    found = []
    for (loss, rho), (accuracies, last) in WHOLE.items():
        base = Config(rho=rho, loss=loss)
        options = grids[loss]
        found += [row(config, 50.0 + (options.index(config.settings) == last)) for config in grid.tune(base)]
        found += [
            row(config, accuracies[options.index(config.settings)] + config.seed - 1)
            for config in grid.every(base)
        ]
    # not all of its settings are there
    found += [row(config, 99.0) for config in grid.every(Config(rho=10.0, loss="ldam"))[:4]]
    return found
