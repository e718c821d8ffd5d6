"""Networks repeat, learn, and are as sure as their training makes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from experiments.long_tail import features, problem
from experiments.lost_gradient import networks
from experiments.lost_gradient.networks import Recipe

SHORT = Recipe(epochs=6)


def test_digits_are_split_by_the_seed() -> None:
    data = networks.digits(0)
    assert [tuple(part.shape) for part in data] == [(1197, 64), (1197,), (600, 64), (600,)]
    assert data.images.dtype == torch.float32
    assert float(data.images.max()) == 1.0
    assert not torch.equal(data.labels, networks.digits(1).labels)


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A set of 400 rows whose "features" are two numbers of each image, of which 100 rows are drawn."""
    labels = np.arange(400) % 10
    images = np.stack([labels, np.arange(400)], axis=1)
    source = problem._Source(images, labels, images[:50], labels[:50])
    monkeypatch.setattr(problem, "load", lambda *_: source)
    monkeypatch.setattr(features, "kept_features", lambda *both: both)
    monkeypatch.setattr(networks, "_CIFAR_TRAIN", 100)
    networks._cifar10_features.cache_clear()
    yield
    networks._cifar10_features.cache_clear()


@pytest.mark.usefixtures("small_cifar")
def test_rows_of_cifar_are_drawn_by_the_seed() -> None:
    data = networks.cifar10(0, "cifar10", "somewhere")
    assert [tuple(part.shape) for part in data] == [(100, 2), (100,), (50, 2), (50,)]
    assert torch.bincount(data.labels).tolist() == 10 * [10]
    assert data.images.dtype == torch.float32
    assert torch.allclose(data.images.mean(0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(data.images.std(0), torch.ones(2))
    # a feature goes with its label, and the rows to test on are scaled by the rows to train on
    whole = torch.cat((data.images, data.test_images)), torch.cat((data.labels, data.test_labels))
    for c in range(10):
        assert len(whole[0][whole[1] == c, 0].unique()) == 1
    assert torch.equal(networks.cifar10(0, "cifar10", "somewhere").images, data.images)
    assert not torch.equal(networks.cifar10(1, "cifar10", "somewhere").images, data.images)


def test_a_set_without_test_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((10, 2)), np.arange(10)
    monkeypatch.setattr(problem, "load", lambda *_: problem._Source(*rows, None, None))
    networks._cifar10_features.cache_clear()
    with pytest.raises(ValueError, match="test set of its own; got cifar10"):
        networks.cifar10(0, "cifar10", "somewhere")


def test_runs_repeat_and_learn() -> None:
    data, state = networks.digits(0), torch.random.get_rng_state()
    first, again = (networks.plain(data, SHORT, 3) for _ in range(2))
    one, two, other = (next(each.parameters()) for each in (first, again, networks.plain(data, SHORT, 4)))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert float((first(data.test_images).argmax(-1) == data.test_labels).double().mean()) > 0.85


def test_a_decaying_rate_ends_at_zero() -> None:
    """The last of two steps of SGD with the gradient 1 has half the rate; momentum adds the first one's."""
    found = {}
    for decay in (False, True):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        recipe = Recipe("sgd", 0.1, decay, epochs=2, batch=4)
        ones, epochs = torch.ones(4, 1), []
        for epoch in networks.fit(network, ones, ones, lambda z, _: z.mean(), recipe, 0):
            epochs.append(epoch)
        assert epochs == [1, 2]
        found[decay] = network.weight.item()
    assert found == pytest.approx({False: -0.1 - 0.19, True: -0.1 - 0.095})


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ValueError, match="adam or sgd; got lion"):
        next(networks.fit(nn.Linear(1, 1), torch.ones(2, 1), torch.ones(2), nn.MSELoss(), Recipe("lion"), 0))


def test_distillation_makes_logits_large() -> None:
    data, recipe = networks.digits(0), Recipe(epochs=15)
    size = {}
    for temperature in (1.0, 20.0):
        network = networks.distilled(data, recipe, 0, temperature)
        logits = network(data.images).detach()
        assert float((logits.argmax(-1) == data.labels).double().mean()) > 0.7
        size[temperature] = float(networks.gaps(logits, data.labels).median())
    assert size[20.0] > 2 * size[1.0]


def test_gaps_and_zero_shares() -> None:
    logits = torch.tensor([[40.0, 0.0, 10.0], [1.0, 2.0, 0.0]])
    labels = torch.tensor([0, 2])
    assert networks.gaps(logits, labels).tolist() == [30.0, -2.0]
    assert networks.zero_share(logits, labels) == 0.5
    assert networks.zero_share(logits[1:], labels[1:]) == 0.0
