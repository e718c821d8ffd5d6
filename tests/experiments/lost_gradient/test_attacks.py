"""Attacks stay where they may, objectives are their formulas, and float32 loses signs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments.lost_gradient import attacks, networks
from experiments.lost_gradient.attacks import OBJECTIVES, Scaled
from experiments.lost_gradient.networks import Recipe, Rows


@pytest.fixture(scope="module")
def data() -> Rows:
    found = networks.digits(0)
    return found._replace(test_images=found.test_images[:60], test_labels=found.test_labels[:60])


@pytest.fixture(scope="module")
def network(data: Rows) -> torch.nn.Sequential:
    return networks.plain(data, Recipe(epochs=8), 0)


def test_objectives_by_their_formulas() -> None:
    random = torch.Generator().manual_seed(0)
    z, y = torch.randn(50, 10, generator=random), torch.randint(10, (50,), generator=random)
    entropy = -z.double().log_softmax(-1)[range(50), y]
    for name in ("torch", "torch_float64", "mended", "exact"):
        torch.testing.assert_close(OBJECTIVES[name](z, y).double(), entropy, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(OBJECTIVES["log_mean"](z, y).double(), entropy.log(), rtol=1e-5, atol=1e-5)
    for i in range(50):
        others = sorted((float(z[i, k]) for k in range(10) if k != int(y[i])), reverse=True)
        ranked = sorted(z[i].tolist(), reverse=True)
        gap = others[0] - float(z[i, y[i]])
        assert float(OBJECTIVES["carlini_wagner"](z, y)[i]) == pytest.approx(gap, rel=1e-5)
        assert float(OBJECTIVES["dlr"](z, y)[i]) == pytest.approx(gap / (ranked[0] - ranked[2]), rel=1e-4)


def test_an_attack_stays_near_and_raises_its_objective(data: Rows, network: torch.nn.Sequential) -> None:
    images, labels = data.test_images, data.test_labels
    for objective in OBJECTIVES.values():
        found = attacks.pgd(network, objective, images, labels, epsilon=0.1, steps=5)
        assert float((found - images).abs().max()) <= 0.1 + 1e-6
        assert float(found.min()) >= 0.0
        assert float(found.max()) <= 1.0
        with torch.no_grad():
            before, after = (objective(network(each), labels).mean() for each in (images, found))
        assert float(after) > float(before)
    again = attacks.pgd(network, objective, images, labels, epsilon=0.1, steps=5)
    assert torch.equal(found, again)
    still = attacks.pgd(network, objective, images, labels, epsilon=0.0, steps=2)
    torch.testing.assert_close(still, images)


def test_large_logits_lose_torchs_signs_and_not_the_logs(data: Rows, network: torch.nn.Sequential) -> None:
    found = {}
    for factor in (1.0, 64.0):
        for row in attacks.measure(Scaled(network, factor), data, 0, steps=5):
            found[row["objective"], factor] = row
    assert set(found["torch", 1.0]) == {"objective", *attacks.TABLE.measures}
    assert found["torch", 64.0]["wrong_sign"] > 0.2 > found["torch", 1.0]["wrong_sign"]
    assert found["torch", 64.0]["zero_rows"] > 0 == found["log_mean", 64.0]["zero_rows"]
    assert found["log_mean", 64.0]["wrong_sign"] < 0.02
    assert found["dlr", 64.0]["wrong_sign"] != found["dlr", 64.0]["wrong_sign"]  # not asked of it
    assert found["torch", 64.0]["gap"] == pytest.approx(64 * found["torch", 1.0]["gap"], rel=1e-5)
    for name in ("carlini_wagner", "dlr"):  # a factor changes no sign of theirs
        assert found[name, 64.0]["robust"] == pytest.approx(found[name, 1.0]["robust"], abs=0.05)


def test_a_job_attacks_each_factor(monkeypatch: pytest.MonkeyPatch, data: Rows) -> None:
    monkeypatch.setattr(attacks, "digits", lambda seed: data)
    recipe = replace(Recipe(), epochs=1)
    for name, factors in (("scaled", attacks.SCALES), ("distilled", attacks.TEMPERATURES)):
        job = {"network": name, "seed": 0, "epsilon": 0.1, "steps": 1}
        rows = list(attacks.work(job, recipe))
        assert [(row["factor"], row["objective"]) for row in rows] == [
            (factor, objective) for factor in factors for objective in OBJECTIVES
        ]
