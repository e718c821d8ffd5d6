"""Every loss has its grid, and the choice is made on tuning rows alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import long_tail as lt
from experiments.long_tail import LOSSES, grid, make_loss
from experiments.long_tail.losses import Context
from tests.experiments.long_tail.toy import TOY, store


def test_every_loss_has_its_grid_and_equal_budgets() -> None:
    assert set(lt.GRIDS) == set(LOSSES)
    assert not set(lt.TUNING_SEEDS) & set(lt.FINAL_SEEDS)
    assert len(lt.FINAL_SEEDS) >= 5
    for loss, settings in lt.GRIDS.items():
        assert len(settings) == len(set(settings)) in (1, 4)
        for each in settings:
            make_loss(loss, Context(np.array([50, 5, 0]), 10), each)
    for config in grid.ablation(replace(TOY, loss="gradient_balanced")):
        make_loss(config.loss, Context(np.array([50, 5]), 10), config.settings)
    assert grid.ablation(TOY) == []


def test_the_choice_is_the_best_mean_on_the_tuning_seeds(table: Path) -> None:
    base = replace(TOY, loss="focal")
    configs = grid.tune(base)
    assert {config.part for config in configs} == {"tune"}
    assert {config.seed for config in configs} == set(lt.TUNING_SEEDS)
    best = lt.GRIDS["focal"][2]
    for config in configs[:-1]:
        store(
            table,
            config,
            balanced_accuracy=60.0
            + 5 * (config.settings == best)
            + 9 * (config == configs[0])
            - 9 * (config == configs[1]),
        )
    with pytest.raises(ValueError, match="focal at rho 10 has 1 of 8 tuning runs to do"):
        lt.chosen(base, lt.read(table))
    store(table, configs[-1], balanced_accuracy=60.0)
    # rows of the final part, however good, change nothing
    store(table, replace(base, settings=lt.GRIDS["focal"][0]), balanced_accuracy=99.0)
    rows = lt.read(table)
    assert lt.chosen(base, rows) == best
    for study in ("final", "noise", "absent", "permuted"):
        found = lt.STUDIES[study](base, rows)
        assert {config.settings for config in found} == {best}
        assert {config.seed for config in found} == set(lt.FINAL_SEEDS)
        assert {config.part for config in found} == {"final"}


def test_losses_without_a_choice_have_nothing_to_tune() -> None:
    assert grid.tune(replace(TOY, loss="balanced_softmax")) == []
    assert lt.chosen(replace(TOY, loss="balanced_softmax"), []) == ()
