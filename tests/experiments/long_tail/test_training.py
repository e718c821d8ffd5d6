"""A run repeats, learns and is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import softmax_lab.torch as slt
from experiments import long_tail as lt
from experiments.long_tail import training as trainings
from tests.experiments.long_tail.toy import TOY


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_run_repeats_and_learns() -> None:
    short = replace(TOY, epochs=2)
    assert {**lt.run(short), "seconds": 0} == {**lt.run(short), "seconds": 0}
    found = lt.run(replace(TOY, epochs=12))
    assert found["balanced_accuracy"] > 70
    assert found["head"] > found["tail"]


@pytest.mark.parametrize("loss", lt.LOSSES)
def test_every_loss_trains(loss: str) -> None:
    found = lt.run(replace(TOY, loss=loss, absent=1))
    assert np.isfinite(list(found.values())).all()
    assert found["balanced_accuracy"] > 10


@pytest.mark.parametrize("protocol", ["convnet", "convnet_augmented"])
def test_images_train(protocol: str) -> None:
    assert lt.run(replace(TOY, protocol=protocol))["balanced_accuracy"] > 10


def test_a_controller_and_a_deferred_weight_are_told_of_the_epochs() -> None:
    steered, deferred = (
        replace(TOY, loss="gradient_balanced_steered", epochs=2),
        replace(TOY, loss="plain_drw", epochs=5),
    )
    _, loss, _ = lt.train(steered, lt.make_problem(steered))
    assert isinstance(loss, slt.GradientBalancedLoss)
    assert loss.tau != 1.1
    _, loss, _ = lt.train(deferred, lt.make_problem(deferred))
    assert isinstance(loss, slt.DeferredReweighting)
    assert (loss.epoch, loss.start) == (5, 4)


def test_a_run_can_be_watched() -> None:
    monitors = []
    lt.train(
        TOY,
        lt.make_problem(TOY),
        watch=lambda network, loss: monitors.append(
            slt.GradientMonitor(torch.nn.ModuleList([network, loss]))
        ),
    )
    assert monitors[0].step == -(-len(lt.make_problem(TOY).train[1]) // 32)
    assert np.isfinite(monitors[0].latest["weight_norm"]).all()


def test_learning_rates() -> None:
    cosine, steps = lt.PROTOCOLS["cifar"]["convnet"], lt.PROTOCOLS["cifar"]["resnet32"]
    assert trainings.rate(cosine, 10, 0) == cosine.learning_rate
    assert trainings.rate(cosine, 10, 5) == pytest.approx(cosine.learning_rate / 2)
    np.testing.assert_allclose(
        [trainings.rate(steps, 200, e) for e in (5, 159, 160, 180)], [0.1, 0.1, 1e-3, 1e-5]
    )
    assert trainings.rate(steps, 200, 0) == pytest.approx(0.1 / 6)


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    image = torch.arange(1.0, 65).view(1, 1, 8, 8)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    windows = [padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    out = trainings._augmented(image.expand(200, 1, 8, 8), torch.Generator().manual_seed(0), mirror=True)[
        :, 0
    ]
    seen = {
        (i, turned)
        for x in out
        for i, w in enumerate(windows)
        for turned in (False, True)
        if torch.equal(x, w.flip(1) if turned else w)
    }
    assert len(seen) == 18  # every shift, straight and mirrored, and nothing else:
    assert all(any(torch.equal(x, w) or torch.equal(x, w.flip(1)) for w in windows) for x in out)


def test_measures_by_hand() -> None:
    # class 1 the most frequent, class 0 the rarest
    labels, rank = np.array([0, 0, 1, 2, 2, 2]), np.array([2, 0, 1])
    logits = np.log(
        np.array(
            [
                [0.8, 0.1, 0.1],
                [0.1, 0.8, 0.1],
                [0.2, 0.6, 0.2],
                [0.1, 0.1, 0.8],
                [0.1, 0.1, 0.8],
                [0.8, 0.1, 0.1],
            ]
        )
    )
    found = lt.measure(logits, labels, rank)
    recall = {"head": 100.0, "mid": 200 / 3, "tail": 50.0}
    assert {name: found[name] for name in recall} == pytest.approx(recall)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(list(recall.values())))
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.1, 0.6, 0.8, 0.8, 0.1]).mean())
    # bins of 0.6 (one row, right) and 0.8 (five rows, three right)
    assert found["ece"] == pytest.approx(100 * (0.4 / 6 + 5 / 6 * (0.8 - 3 / 5)))
    # classes without rows do not count
    assert lt.measure(logits[:2], labels[:2], rank)["balanced_accuracy"] == 50
    assert np.isnan(lt.measure(logits[:2], labels[:2], rank)["head"])


def test_the_temperature_of_a_loss_is_part_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "measure", lambda logits, *_: {"largest": float(np.abs(logits).max())})
    # cosines times the scale of the loss
    assert 1 < lt.run(replace(TOY, loss="ldam"))["largest"] <= 30 * (1 + 1e-5)
