"""The programs in ``examples/`` that need transformers or Lightning run, and what they find is right."""

from __future__ import annotations

import pytest

from tests.examples.test_examples import main_of


def test_the_trainer_with_the_linear_loss_has_the_losses_of_its_own() -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    found = main_of("hugging_face_trainer")()
    own, patched, by_hand = found.values()
    assert own[-1] < own[0] - 2.0
    assert patched == pytest.approx(own, rel=1e-3)
    assert own[0] < by_hand[0] < 1.01 * own[0]  # a small z-loss more
    assert by_hand[-1] < by_hand[0] - 2.0


@pytest.mark.filterwarnings("ignore")  # Lightning's, on loaders and processors
def test_lightning_trains_the_balancing_loss_under_the_monitor() -> None:
    pytest.importorskip("lightning", reason="needs lightning")
    accuracy, frame = main_of("lightning_long_tail")()
    assert sum(accuracy) / 10 > 0.75
    assert min(accuracy) > 0.2
    assert {"positive_mass", "negative_mass", "lost"} <= set(frame.columns)
    assert sorted(frame["class"].unique()) == list(range(10))
