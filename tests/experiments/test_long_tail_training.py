"""A run's parts: rows that are paired and do not leak, networks of the right size, features, and what is
measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import long_tail_training as lt
from experiments.long_tail_training import Config
from softmax_lab import data
from softmax_lab.data import Cifar

TOY = Config(rho=10.0, epochs=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows_of(part: tuple[Any, Any]) -> list[bytes]:
    return [row.tobytes() for row in part[0]]


def test_rows_are_the_same_for_every_loss_and_nested_over_rho() -> None:
    one, other, steep = (
        lt.make_problem(c) for c in (TOY, replace(TOY, loss="ldam"), replace(TOY, rho=100.0))
    )
    for a, b in zip((one.train, one.test), (other.train, other.test), strict=True):
        assert rows_of(a) == rows_of(b)
    assert set(rows_of(steep.train)) < set(rows_of(one.train))
    assert rows_of(steep.test) == rows_of(one.test)
    assert steep.counts[0] / steep.counts[-1] == 100
    assert rows_of(lt.make_problem(replace(TOY, seed=1)).train) != rows_of(one.train)


@pytest.mark.parametrize("loss", ["plain", "gradient_balanced_steered"])
def test_tuning_sees_training_rows_alone(loss: str) -> None:
    config = replace(TOY, loss=loss, rho=100.0)
    final, tuning = lt.make_problem(config), lt.make_problem(replace(config, part="tune"))
    whole = lt.make_problem(replace(TOY, rho=100.0))
    training = set(rows_of(whole.train))
    for problem in (final, tuning):
        for a, b in itertools.combinations((problem.train, problem.steer, problem.test), 2):
            assert not set(rows_of(a)) & set(rows_of(b))
        assert set(rows_of(problem.train)) | set(rows_of(problem.steer)) <= training
        assert (len(problem.steer[0]) > 0) == (loss == "gradient_balanced_steered")
    assert set(rows_of(tuning.test)) <= training
    assert not set(rows_of(final.test)) & training
    present = np.bincount(whole.train[1], minlength=10)
    held = np.bincount(tuning.test[1], minlength=10)
    np.testing.assert_array_equal(held, np.where(present > 1, np.maximum(np.rint(0.2 * present), 1), 0))


def test_noise_absent_classes_and_order() -> None:
    clean, noisy = lt.make_problem(TOY), lt.make_problem(replace(TOY, noise=0.3))
    assert rows_of(clean.train) == rows_of(noisy.train)
    changed = clean.train[1] != noisy.train[1]
    assert 0.2 < changed.mean() < 0.4
    np.testing.assert_array_equal(noisy.counts, np.bincount(noisy.train[1], minlength=10))
    np.testing.assert_array_equal(clean.test[1], noisy.test[1])
    absent = lt.make_problem(replace(TOY, absent=2))
    assert absent.counts[-2:].tolist() == [0, 0]
    assert absent.counts[:-2].tolist() == clean.counts[:-2].tolist()
    permuted = lt.make_problem(replace(TOY, permuted=True))
    assert permuted.counts[np.argsort(permuted.rank)].tolist() == clean.counts.tolist()
    assert permuted.counts.tolist() != clean.counts.tolist()


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


def test_networks() -> None:
    torch.manual_seed(0)
    resnet = lt.make_network("resnet32", 3, 10)
    assert sum(p.numel() for p in resnet.parameters()) == 464_154  # He et al.: 0.46M
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in resnet.modules()) == 32
    for name, x in (
        ("mlp", torch.randn(2, 64)),
        ("convnet", torch.randn(2, 1, 8, 8)),
        ("resnet32", torch.randn(2, 1, 32, 32)),
    ):
        network = lt.make_network(name, x.shape[1], 7, cosine=True)
        logits = network(x)
        assert logits.shape == (2, 7)
        assert (logits.abs() <= 1 + 1e-6).all()


def test_learning_rates() -> None:
    cosine, steps = lt.PROTOCOLS["cifar"]["convnet"], lt.PROTOCOLS["cifar"]["resnet32"]
    assert lt._rate(cosine, 10, 0) == cosine.learning_rate
    assert lt._rate(cosine, 10, 5) == pytest.approx(cosine.learning_rate / 2)
    np.testing.assert_allclose([lt._rate(steps, 200, e) for e in (5, 159, 160, 180)], [0.1, 0.1, 1e-3, 1e-5])
    assert lt._rate(steps, 200, 0) == pytest.approx(0.1 / 6)


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    image = torch.arange(1.0, 65).view(1, 1, 8, 8)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    windows = [padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    out = lt._augmented(image.expand(200, 1, 8, 8), torch.Generator().manual_seed(0), mirror=True)[:, 0]
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
    monkeypatch.setattr(lt, "measure", lambda logits, *_: {"largest": float(np.abs(logits).max())})
    # cosines times the scale of the loss
    assert 1 < lt.run(replace(TOY, loss="ldam"))["largest"] <= 30 * (1 + 1e-5)


def cifar(lossy: bool, rows: int = 12) -> Cifar:
    rng = np.random.default_rng(0)
    labels = np.arange(10 * rows) % 10
    images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    return Cifar(images, labels, images[:50], labels[:50], tuple("abcdefghij"), lossy)


def test_cifar_and_its_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTMAX_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "cifar10", lambda path, *, progress: cifar(lossy=True))
    monkeypatch.setattr(lt, "CENTROIDS", 8)
    lt.load.cache_clear()
    lt._inputs.cache_clear()
    with pytest.raises(ValueError, match="call the set cifar10-jpeg; got dataset cifar10"):
        lt.load("cifar10", "somewhere")
    config = Config(dataset="cifar10-jpeg", rho=2.0, epochs=1)
    problem = lt.make_problem(config, "somewhere")
    assert problem.train[0].shape[1:] == (32,)
    assert len(problem.test[0]) == 50
    assert problem.counts.tolist() == sl.data.long_tail_counts(12, 2.0, 10).tolist()
    lt._inputs.cache_clear()
    monkeypatch.setattr(lt, "_dictionary", lambda *_: pytest.fail("the cache was not used"))
    np.testing.assert_array_equal(lt.make_problem(config, "somewhere").train[0], problem.train[0])
    images = lt.make_problem(replace(config, protocol="convnet"), "somewhere")
    assert images.train[0].shape[1:] == (32, 32, 3)
    lt.load.cache_clear()
    lt._inputs.cache_clear()


def test_features_by_their_definition() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    centroids = torch.randn(5, 108, generator=torch.Generator().manual_seed(0))
    mean, whiten = torch.zeros(108), torch.eye(108)
    found = lt.coates_ng_features(images, centroids, (mean, whiten), batch=2)
    expected = np.zeros((3, 4, 5))
    for n, i, j in itertools.product(range(3), range(7), range(7)):
        patch = images[n, i : i + 6, j : j + 6].transpose(2, 0, 1).astype(np.float64).ravel()
        patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
        distance = np.linalg.norm(patch - centroids.double().numpy(), axis=1)
        expected[n, 2 * (i >= 4) + (j >= 4)] += np.maximum(distance.mean() - distance, 0)
    np.testing.assert_allclose(found.reshape(3, 4, 5), expected, rtol=2e-2, atol=2e-3)
