"""The features are those of their definition, and are computed once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import softmax_lab as sl
from experiments import long_tail as lt
from experiments.long_tail import Config
from experiments.long_tail import features as coates_ng
from experiments.long_tail import problem as problems
from softmax_lab import data
from softmax_lab.data import Cifar


def cifar(lossy: bool, rows: int = 12) -> Cifar:
    rng = np.random.default_rng(0)
    labels = np.arange(10 * rows) % 10
    images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    return Cifar(images, labels, images[:50], labels[:50], tuple("abcdefghij"), lossy)


def test_cifar_and_its_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTMAX_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "cifar10", lambda path, *, progress: cifar(lossy=True))
    monkeypatch.setattr(coates_ng, "CENTROIDS", 8)
    lt.load.cache_clear()
    problems._inputs.cache_clear()
    with pytest.raises(ValueError, match="call the set cifar10-jpeg; got dataset cifar10"):
        lt.load("cifar10", "somewhere")
    config = Config(dataset="cifar10-jpeg", rho=2.0, epochs=1)
    problem = lt.make_problem(config, "somewhere")
    assert problem.train[0].shape[1:] == (32,)
    assert len(problem.test[0]) == 50
    assert problem.counts.tolist() == sl.data.long_tail_counts(12, 2.0, 10).tolist()
    problems._inputs.cache_clear()
    monkeypatch.setattr(coates_ng, "_dictionary", lambda *_: pytest.fail("the cache was not used"))
    np.testing.assert_array_equal(lt.make_problem(config, "somewhere").train[0], problem.train[0])
    images = lt.make_problem(replace(config, protocol="convnet"), "somewhere")
    assert images.train[0].shape[1:] == (32, 32, 3)
    lt.load.cache_clear()
    problems._inputs.cache_clear()


def test_features_of_an_image_do_not_depend_on_the_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), dtype=np.uint8)
    centroids, whitening = torch.randn(5, 108), (torch.zeros(108), torch.eye(108))
    one, few, all_of_them = (
        lt.coates_ng_features(images, centroids, whitening, batch=batch) for batch in (1, 5, 100)
    )
    np.testing.assert_array_equal(one, few)
    np.testing.assert_array_equal(one, all_of_them)


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
