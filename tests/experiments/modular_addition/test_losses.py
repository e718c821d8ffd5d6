"""Each loss against its formula in double precision, and what it gives confident rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import softmax_lab.torch as slt
from experiments import modular_addition as ma


def problem(size: float) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = size * torch.randn(3, 20, 7, generator=random)
    return logits, torch.randint(0, 7, (3, 20), generator=random)


def by_the_book(name: str, z: Tensor, y: Tensor) -> Tensor:
    """Return the value of each model by a textbook's formula, in float64."""
    z = z.double()
    if name == "stablemax":
        s = torch.where(z >= 0, z + 1, 1 / (1 - z))
        return -(s / s.sum(-1, keepdim=True)).gather(-1, y[..., None])[..., 0].log().mean(1)
    mean = -z.log_softmax(-1).gather(-1, y[..., None])[..., 0].mean(1)
    return {"log_mean": mean.log(), "normalised": torch.ones_like(mean)}.get(name, mean)


@pytest.mark.parametrize("name", ma.LOSSES)
def test_values_are_those_of_the_formulas(name: str) -> None:
    z, y = problem(1.0)
    value = ma.LOSSES[name].loss(z, y)
    assert value.shape == (3,)
    torch.testing.assert_close(value.double(), by_the_book(name, z, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ma.LOSSES)
def test_models_do_not_hear_of_each_other(name: str) -> None:
    z, y = problem(1.0)
    loss = ma.LOSSES[name].loss
    together = z.clone().requires_grad_()
    loss(together, y).sum().backward()
    for i in range(3):
        alone = z[i : i + 1].clone().requires_grad_()
        loss(alone, y[i : i + 1]).sum().backward()
        assert together.grad is not None
        assert alone.grad is not None
        torch.testing.assert_close(together.grad[i], alone.grad[0], rtol=1e-5, atol=1e-9)


def gradient(name: str, gap: float) -> Tensor:
    z = torch.zeros(1, 2, 3)
    z[..., 0] = gap
    z[..., 1] = 0.5
    z.requires_grad_()
    ma.LOSSES[name].loss(z, torch.zeros(1, 2, dtype=torch.long)).sum().backward()
    assert z.grad is not None
    return z.grad[0]


def test_which_losses_lose_the_gradient_of_a_confident_row() -> None:
    lost = {name: bool((gradient(name, 40.0)[:, 0] == 0).all()) for name in ma.LOSSES}
    assert lost == {
        name: ma.LOSSES[name].loss is ma.LOSSES["torch"].loss or name == "torch_float64" for name in lost
    }
    exact = -0.5 * (math.exp(-40) + math.exp(-39.5))
    for name in ("exact", "composite"):
        assert float(gradient(name, 40.0)[0, 0]) == pytest.approx(exact, rel=1e-5)


def test_the_mended_loss_differs_from_torchs_in_the_targets_gradient_alone() -> None:
    z, y = problem(8.0)
    found = {}
    for name in ("torch", "mended", "exact"):
        own = z.clone().requires_grad_()
        value = ma.LOSSES[name].loss(own, y)
        (found[name],) = torch.autograd.grad(value.sum(), own)
    assert torch.equal(ma.LOSSES["mended"].loss(z, y), ma.LOSSES["torch"].loss(z, y))
    at_target = torch.nn.functional.one_hot(y, 7).bool()
    assert torch.equal(found["mended"][~at_target], found["torch"][~at_target])
    assert not torch.equal(found["mended"][at_target], found["torch"][at_target])
    assert float(found["mended"].sum(-1).abs().max()) < 1e-8
    torch.testing.assert_close(found["mended"], found["exact"], rtol=1e-5, atol=1e-30)


def test_far_beyond_only_the_log_and_the_bounded_ones_are_left() -> None:
    at_target = {name: float(gradient(name, 500.0)[0, 0]) for name in ma.LOSSES}
    left = {name for name, value in at_target.items() if value != 0}
    assert left == {"log_mean", "stablemax"}
    assert at_target["log_mean"] == pytest.approx(-0.5)
    assert float(gradient("normalised", 60.0)[0, 0]) == pytest.approx(
        -0.5
    )  # one direction, until it underflows


def test_the_log_is_that_of_the_package() -> None:
    z, y = problem(30.0)
    for i in range(3):
        found, expected = ma.LOSSES["log_mean"].loss(z, y)[i], slt.log_cross_entropy(z[i], y[i])
        assert float(found) == pytest.approx(float(expected), rel=1e-6, abs=1e-6)
