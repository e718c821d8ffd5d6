"""Measures are those of their formulas, and measuring leaves training as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments import class_norms as cn
from experiments.class_norms import measuring
from experiments.long_tail import Config, make_problem, train
from experiments.long_tail.training import scaled

TOY = Config(rho=10.0, epochs=2)


def test_at_equal_probabilities_the_sums_go_with_the_counts() -> None:
    network = nn.Sequential(nn.Identity(), last := nn.Linear(3, 4))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    labels = np.array([0] * 8 + [1] * 4 + [2] * 2 + [3])
    found = cn.classes_of(network, torch.ones(15, 3), labels)
    one = np.sqrt(1 - 1 / 4)
    np.testing.assert_array_equal(found.count, [8, 4, 2, 1])
    np.testing.assert_allclose(found.logit_sum, one * found.count)
    np.testing.assert_allclose(found.logit_sample, one)
    np.testing.assert_allclose(found.weight_sum, one * np.sqrt(3) * found.count)
    np.testing.assert_allclose(found.weight_sample, one * np.sqrt(3))
    np.testing.assert_allclose(found.residual, 3 / 4)


def test_the_norms_are_those_of_gradients_by_autograd() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), last := nn.Linear(6, 3)).double()
    x, labels = torch.randn(9, 5, dtype=torch.float64), np.arange(9) % 3
    found = cn.classes_of(network, x, labels)
    own = x[torch.from_numpy(labels) == 1]

    def norm(rows: Tensor) -> float:
        ones = torch.ones(len(rows), dtype=torch.long)
        loss = nn.functional.cross_entropy(network(rows), ones, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, last.weight)
        return float(gradient.norm())

    assert norm(own) == pytest.approx(found.weight_sum[1], rel=1e-12)
    assert np.mean([norm(row[None]) for row in own]) == pytest.approx(found.weight_sample[1], rel=1e-12)


def test_a_run_is_measured_at_its_steps_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STEPS", (0, 3))
    rows = cn.run(TOY)
    steps = 2 * -(-len(make_problem(TOY).train[1]) // TOY.how.batch)
    assert [row["step"] for row in rows] == [step for step in (0, 3, steps) for _ in range(10)]
    assert [row["class"] for row in rows] == [*range(10)] * 3
    assert [row["count"] for row in rows[:10]] == make_problem(TOY).counts.tolist()
    start = [row["residual"] for row in rows[:10]]
    assert np.mean(start) == pytest.approx(0.9, abs=0.05)  # nothing is learned yet
    assert rows[20]["residual"] < start[0]


def test_measuring_changes_nothing_of_the_training() -> None:
    problem, kept = make_problem(TOY), []

    def watch(network: nn.Module, _: Any) -> None:
        kept.append(network)

    network, _, _ = train(TOY, problem, watch=watch)
    expected = measuring.classes_of(network, scaled(problem.train[0], problem.train[0]), problem.train[1])
    last = cn.run(TOY)[-10:]
    np.testing.assert_array_equal([row["logit_sum"] for row in last], expected.logit_sum)
