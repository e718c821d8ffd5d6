"""Every loss has its grid, and the choice is made on tuning rows alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import long_tail as lt
from experiments.long_tail import LOSSES, grid, make_loss
from experiments.long_tail.losses import OF_THE_GATE, Context
from tests.experiments.long_tail.toy import TOY, store

SETTINGS = 6


def test_every_loss_has_its_grid_and_equally_many_settings() -> None:
    # Balanced Softmax is logit adjustment with tau = 1
    assert set(lt.GRIDS) == set(lt.DEFAULTS) == set(LOSSES) - {"balanced_softmax", *OF_THE_GATE}
    assert set(lt.CORE) < set(lt.GRIDS)
    assert len(lt.CORE) == 10
    for loss, settings in lt.GRIDS.items():
        assert len(settings) == len(set(settings)) == (1 if loss == "plain" else SETTINGS)
        assert lt.DEFAULTS[loss] in settings
        for each in settings:
            make_loss(loss, Context(np.array([50, 5, 0]), 10), each)
    for config in grid.ablation(replace(TOY, loss="gradient_balanced")):
        make_loss(config.loss, Context(np.array([50, 5]), 10), config.settings)
    assert grid.ablation(TOY) == []


def test_ours_varies_as_widely_as_logit_adjustment() -> None:
    ours, theirs = (
        [dict(setting)["tau"] for setting in lt.GRIDS[loss]]
        for loss in ("gradient_balanced", "logit_adjusted")
    )
    assert (min(ours), max(ours)) == (min(theirs), max(theirs)) == (0.5, 2.0)
    assert {dict(setting)["gate"] for setting in lt.GRIDS["gradient_balanced"]} == {4.0}


def test_the_study_of_the_gate_has_many_tau_for_every_loss() -> None:
    assert grid.gate(TOY) == []
    configs = lt.STUDIES["gate"](replace(TOY, loss="gradient_balanced"), [])
    assert {config.loss for config in configs} == {"logit_adjusted", "gradient_balanced", *OF_THE_GATE}
    keys = {config.key for config in configs}
    assert len(keys) == len(configs)
    for loss, (_, taus) in grid.GATE.items():
        assert len(taus) >= 9
        assert (min(taus), max(taus)) == (0.5, 3.0)
        assert sum(config.loss == loss for config in configs) == 20 * len(taus)
    # what the grid has too is the same run
    for loss in ("logit_adjusted", "gradient_balanced"):
        assert {config.key for config in grid.every(replace(TOY, loss=loss))} < keys
    for config in configs[::20]:
        make_loss(config.loss, Context(np.array([50, 5]), 10), config.settings)


@pytest.mark.parametrize("loss", sorted(set(lt.GRIDS) - {"plain"}))
def test_the_default_is_what_the_package_gives(loss: str) -> None:
    """A loss made with no settings at all is the one that is named in advance."""
    context = Context(np.array([50, 5, 1]), 10)
    given, named = make_loss(loss, context), make_loss(loss, context, lt.DEFAULTS[loss])
    z, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    assert torch.equal(given(z, y), named(z, y))
    for name in ("spec", "weight", "start", "p", "q", "rate", "tau"):
        assert np.all(getattr(given, name, 0) == getattr(named, name, 0))


@pytest.mark.parametrize(
    ("family", "dataset", "tuning", "finals"), [("digits", "digits", 10, 20), ("cifar", "cifar100", 2, 5)]
)
def test_choice_and_test_have_seeds_of_their_own(family: str, dataset: str, tuning: int, finals: int) -> None:
    base = replace(TOY, dataset=dataset, loss="focal")
    assert len(lt.TUNING_SEEDS[family]) == tuning
    assert len(lt.FINAL_SEEDS[family]) == finals
    assert not set(lt.TUNING_SEEDS[family]) & set(lt.FINAL_SEEDS[family])
    whole = lt.STUDIES["whole"](base, [])
    assert len({config.key for config in whole}) == len(whole) == SETTINGS * (tuning + finals)
    assert {config.seed for config in whole if config.part == "final"} == set(lt.FINAL_SEEDS[family])


def test_the_choice_is_the_best_mean_on_the_tuning_seeds(table: Path) -> None:
    base = replace(TOY, loss="focal")
    configs = grid.tune(base)
    assert {config.part for config in configs} == {"tune"}
    assert {config.seed for config in configs} == set(lt.TUNING_SEEDS["digits"])
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
    with pytest.raises(ValueError, match="focal at rho 10 has 1 of 60 tuning runs to do"):
        lt.chosen(base, lt.read(table))
    store(table, configs[-1], balanced_accuracy=60.0)
    # rows of the final part, however good, change nothing
    store(table, replace(base, settings=lt.GRIDS["focal"][0]), balanced_accuracy=99.0)
    rows = lt.read(table)
    assert lt.chosen(base, rows) == best
    for study in ("final", "noise", "absent", "permuted"):
        found = lt.STUDIES[study](base, rows)
        assert {config.settings for config in found} == {best}
        assert {config.seed for config in found} == set(lt.FINAL_SEEDS["digits"])
        assert {config.part for config in found} == {"final"}


def test_of_equals_the_default_is_chosen() -> None:
    base = replace(TOY, loss="focal")
    rows = [{"key": config.key, "balanced_accuracy": "60.0"} for config in grid.tune(base)]
    assert lt.chosen(base, rows) == lt.DEFAULTS["focal"]
    for row in rows[:20]:  # the first two settings
        row["balanced_accuracy"] = "61.0"
    assert lt.chosen(base, rows) == lt.GRIDS["focal"][0]


def test_the_default_alone_is_part_of_the_whole() -> None:
    base = replace(TOY, loss="focal")
    found = lt.STUDIES["default"](base, [])
    assert [config.seed for config in found] == list(lt.FINAL_SEEDS["digits"])
    assert {config.settings for config in found} == {lt.DEFAULTS["focal"]}
    assert {config.key for config in found} < {config.key for config in lt.STUDIES["whole"](base, [])}


def test_losses_without_a_choice_have_nothing_to_tune() -> None:
    assert grid.tune(TOY) == []
    assert lt.chosen(TOY, []) == ()
