"""A batch of models trains as each of them alone, with every loss, and is looked at on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments import modular_addition as ma
from experiments.modular_addition.training import MEASURES
from tests.experiments.modular_addition.toy import CPU, TOY

MODELS = [(0, 1e-3), (1, 1e-2)]


@pytest.mark.parametrize("name", ma.LOSSES)
def test_every_loss_trains(name: str) -> None:
    found = ma.train(replace(TOY, steps=40), ma.LOSSES[name], MODELS, CPU)
    assert found.values.shape == (len(found.steps), 2, len(MEASURES))
    assert found.values.isfinite().all()
    assert found.mode == "eager"
    assert found.steps[-1] == 40
    assert 0 < found.seconds[0] < found.seconds[-1]
    entropy = found.values[:, :, MEASURES.index("cross_entropy")]
    assert (entropy[-1, 1] < entropy[0, 1]) or name == "perpgrad"


def test_a_model_alone_is_the_same() -> None:
    together = ma.train(TOY, ma.LOSSES["exact"], MODELS, CPU)
    for i, model in enumerate(MODELS):
        alone = ma.train(TOY, ma.LOSSES["exact"], [model], CPU)
        torch.testing.assert_close(together.values[:, i], alone.values[:, 0], rtol=1e-4, atol=1e-6)


def test_what_is_seen_of_a_model_that_is_sure() -> None:
    """Torch's loss has no gradient left at the targets of a model that is sure of everything; ours has."""
    hard = replace(TOY, steps=160, width=32)
    for name, lost in (("torch", True), ("exact", False)):
        found = ma.train(hard, ma.LOSSES[name], [(0, 3e-2)], CPU)
        last = dict(zip(MEASURES, found.values[-1, 0].tolist(), strict=True))
        assert last["train_accuracy"] == 1.0
        assert last["gap"] > 10
        assert (last["zero_share"] > 0) == lost


def test_who_watches_hears_of_every_step() -> None:
    heard: list[int] = []
    ma.train(TOY, ma.LOSSES["torch"], MODELS, CPU, watch=heard.append)
    assert sum(heard) == TOY.steps
