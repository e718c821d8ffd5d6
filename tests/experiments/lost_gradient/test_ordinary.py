"""Noise is as told, measures are those of their formulas, and diverged networks are no error."""

from __future__ import annotations

import math

import pytest
import torch

import softmax_lab as sl
from experiments.lost_gradient import networks, ordinary

SGD = {"optimizer": "sgd", "schedule": "decaying", "rate": 0.03}


def test_a_share_of_the_labels_is_drawn_anew() -> None:
    labels = torch.arange(1000) % 10
    assert torch.equal(ordinary.noisy(labels, 0.0, 0), labels)
    found = ordinary.noisy(labels, 0.2, 0)
    assert torch.equal(found, ordinary.noisy(labels, 0.2, 0))
    assert not torch.equal(found, ordinary.noisy(labels, 0.2, 1))
    assert 0.14 < float((found != labels).double().mean()) <= 0.2  # a tenth of the draws is the old label
    assert torch.equal(labels, torch.arange(1000) % 10)


def test_measures_of_a_network() -> None:
    data, network = networks.digits(0), networks.make_network(0)
    found = ordinary.measure(network, data, data.labels)
    with torch.no_grad():
        z = network(data.test_images).double()
    assert set(found) == set(ordinary.TABLE.measures)
    assert found["test_loss"] == pytest.approx(-float(z.log_softmax(-1)[range(600), data.test_labels].mean()))
    right = z.argmax(-1) == data.test_labels
    assert found["test_accuracy"] == pytest.approx(float(right.double().mean()))
    assert found["zero_share"] == 0
    assert 0 <= found["ece"] <= 1


def test_a_network_that_has_diverged_has_no_loss() -> None:
    data, network = networks.digits(0), networks.make_network(0)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    found = ordinary.measure(network, data, data.labels)
    assert math.isnan(found["test_loss"])
    assert 0 <= found["test_accuracy"] < 0.3


@pytest.mark.parametrize("loss", ordinary.LOSSES)
def test_every_loss_trains(loss: str) -> None:
    job = {"dataset": "digits", "noise": 0.0, "epochs": 4, "loss": loss, **SGD}
    (row,) = ordinary.work(job, seeds=(0,))
    assert row["test_accuracy"] > 0.4  # where guessing has 0.1
    assert row["seed"] == 0


def test_a_set_is_read_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = networks.digits(0), []

    def half_of_the_digits(seed: int, dataset: str, path: str) -> networks.Rows:
        asked.append((seed, dataset, path))
        return whole._replace(images=whole.images[:, 32:], test_images=whole.test_images[:, 32:])

    monkeypatch.setattr(ordinary, "cifar10", half_of_the_digits)
    job = {"dataset": "cifar10", "noise": 0.0, "epochs": 4, "loss": "exact", **SGD}
    (row,) = ordinary.work(job, seeds=(3,), path="somewhere")
    assert asked == [(3, "cifar10", "somewhere")]
    assert row["test_accuracy"] > 0.3
    with pytest.raises(ValueError, match="cifar10 is read from a file or a folder"):
        next(iter(ordinary.work(job)))
    with pytest.raises(ValueError, match="dataset must be one of digits, cifar10, cifar10-jpeg; got 'mnist'"):
        next(iter(ordinary.work(job | {"dataset": "mnist"})))


def test_losses_are_those_of_the_formulas() -> None:
    random = torch.Generator().manual_seed(0)
    z, y = torch.randn(20, 10, generator=random), torch.randint(10, (20,), generator=random)
    entropy = float(sl.cross_entropy(z.double().numpy(), y.numpy()))
    expected = {"torch": entropy, "exact": entropy, "log": math.log(entropy)}
    for name, loss in ordinary.LOSSES.items():
        assert float(loss(z, y)) == pytest.approx(expected[name], rel=1e-5)
    assert set(ordinary.LABELS) == set(ordinary.LOSSES)
