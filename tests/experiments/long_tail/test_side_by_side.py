"""Runs that train side by side are the runs that they would be alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import long_tail as lt
from experiments.long_tail import LOSSES, grid
from experiments.long_tail import side_by_side as module
from tests.experiments.long_tail.toy import TOY

STACKED = [loss for loss in LOSSES if loss != "gradient_balanced_steered"]


def test_a_stack_has_one_loss_and_one_problem() -> None:
    bases = [replace(TOY, loss=loss) for loss in ("focal", "ldam", "gradient_balanced_steered")]
    configs = [config for base in bases for config in (*grid.tune(base), *grid.every(base))]
    found = list(lt.stacks(configs))
    assert [config for stack in found for config in stack] == configs
    for stack in found:
        assert len({replace(config, seed=0, settings=()) for config in stack}) == 1
        assert len(stack) == (1 if stack[0].loss == "gradient_balanced_steered" else 60)
    image = replace(TOY, protocol="convnet")
    assert [len(stack) for stack in lt.stacks([image, replace(image, seed=1)])] == [1, 1]


@pytest.mark.parametrize("loss", STACKED)
def test_every_run_of_a_stack_is_what_it_is_alone(loss: str) -> None:
    """Weights agree to the rounding of the products; an epoch is behind them, as a schedule counts."""
    settings = lt.GRIDS.get(loss, [()])
    configs = [
        replace(TOY, loss=loss, seed=seed, settings=each)
        for seed in (0, 7)
        for each in dict.fromkeys((settings[0], settings[-1]))
    ]
    problems = [lt.make_problem(config) for config in configs]
    runs = [module._Slice(config, problem) for config, problem in zip(configs, problems, strict=True)]
    together = module._train(configs[0], runs)
    for i, (config, problem) in enumerate(zip(configs, problems, strict=True)):
        network, _, _ = lt.train(config, problem)
        for name, expected in network.named_parameters():
            torch.testing.assert_close(together[name][i], expected, rtol=1e-4, atol=1e-5)


def test_what_is_measured_is_what_a_run_measures() -> None:
    configs = [replace(TOY, seed=seed, epochs=3) for seed in (0, 1)]
    for config, found in zip(configs, lt.run_together(configs), strict=True):
        alone = lt.run(config)
        assert set(found) == set(alone)
        for name in set(found) - {"seconds"}:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-3, atol=0.2)


@pytest.mark.parametrize("change", [{"loss": "focal"}, {"rho": 100.0}, {"part": "tune"}])
def test_runs_that_do_not_belong_together_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must differ in seed and settings alone"):
        lt.run_together([TOY, replace(TOY, **change)])  # type: ignore[arg-type]
