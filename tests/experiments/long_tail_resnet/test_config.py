"""The schedule of the recipe."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import long_tail_resnet as lr
from experiments.long_tail import PROTOCOLS


def test_rates_are_those_of_the_recipe() -> None:
    config = lr.Config("plain", 0)
    rates = [config.rate(epoch) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    np.testing.assert_allclose(rates, [0.02, 0.1, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    half = lr.Config("plain", 0, epochs=100)
    np.testing.assert_allclose([half.rate(epoch) for epoch in (79, 80, 90)], [0.1, 1e-3, 1e-5])


def test_the_grid_has_the_same_recipe() -> None:
    ours, grid = lr.Config("plain", 0), PROTOCOLS["cifar"]["resnet32"]
    assert (ours.epochs, ours.batch, ours.learning_rate, ours.weight_decay, ours.warm_up) == (
        grid.epochs,
        grid.batch,
        grid.learning_rate,
        grid.weight_decay,
        grid.warm_up,
    )


def test_evaluations_and_losses() -> None:
    assert lr.Config("vs", 0).evaluated == list(range(10, 201, 10))
    assert lr.Config("vs", 0, epochs=3).evaluated == [1, 2, 3]
    assert lr.LOSSES[:3] == ("plain", "logit_adjusted", "gradient_balanced")
    with pytest.raises(ValueError, match="loss must be one of"):
        lr.Config("none", 0)
