"""A loss by its name is the registered one with these settings, or what is made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments.long_tail import LOSSES, make_loss
from experiments.long_tail.losses import NOT_IN_THE_GRID, Context

CONTEXT = Context(np.array([50, 5, 0]), 10)
GATE_AND_MARGIN = ("gradient_balanced_summed", "logit_adjusted_margin")


@pytest.mark.parametrize("name", sorted(set(sl.losses.REGISTRY) - {"weighted", *NOT_IN_THE_GRID}))
def test_a_registered_loss_has_its_spec(name: str) -> None:
    factory = sl.losses.REGISTRY[name]
    needs_counts = name not in ("plain", "focal", "label_smoothing")
    loss = make_loss(name, CONTEXT)
    assert isinstance(loss, slt.SoftmaxLoss)
    assert loss.spec == (factory(CONTEXT.counts) if needs_counts else factory())
    assert name in LOSSES


def test_weights_are_a_power_of_the_inverse_counts() -> None:
    loss = make_loss("weighted", CONTEXT, (("power", 0.5),))
    # a class without samples counts as one
    ratio = np.asarray(loss.spec.class_weight) / np.asarray(loss.spec.class_weight)[0]  # type: ignore[union-attr]
    np.testing.assert_allclose(ratio, np.sqrt(50 / np.array([50, 5, 1])))


def test_weights_come_late_in_a_deferred_loss() -> None:
    loss = make_loss("plain_drw", CONTEXT, (("beta", 0.9), ("start", 0.2)))
    assert isinstance(loss, slt.DeferredReweighting)
    specs = []
    for _ in range(3):
        specs.append(loss.spec)
        loss.step()
    assert [spec.class_weight is None or np.ndim(spec.class_weight) == 0 for spec in specs] == [
        *(True, True, False)
    ]
    expected = sl.losses.class_balanced(CONTEXT.counts, 0.9).class_weight
    np.testing.assert_allclose(np.asarray(specs[2].class_weight), np.asarray(expected))


def gradients(name: str, logits: torch.Tensor, labels: torch.Tensor, tau: float) -> torch.Tensor:
    z = logits.clone().requires_grad_()
    make_loss(name, CONTEXT, (("tau", tau),))(z, labels).backward()
    assert z.grad is not None
    return z.grad


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_on_fitted_rows_a_gate_is_a_margin_of_the_label(tau: float) -> None:
    """Chapter 9, the formula of a fitted row: tau + 1 in place of tau on the side of the label."""
    labels = torch.tensor([0, 1, 2, 2])
    fitted = 25.0 * torch.nn.functional.one_hot(labels, 3).double()
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gate, margin = (gradients(name, fitted + noise, labels, tau) for name in GATE_AND_MARGIN)
    torch.testing.assert_close(gate, margin, rtol=1e-4, atol=0.0)
    # by hand: W_y (pi_k / pi_y)^tau e^(z_k - z_y), over the four rows
    n = torch.tensor([50.0, 5.0, 1.0], dtype=torch.float64)
    z = fitted + noise
    expected = (50 / n[2]) * (n[0] / n[2]) ** tau * torch.exp(z[2, 0] - z[2, 2]) / 4
    assert gate[2, 0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_on_a_row_that_is_half_fit_a_margin_does_more_than_a_gate() -> None:
    """W is 50 here: the gate weighs the row by 50^(1/16), the margin moves its logit by all of log 50."""
    labels, prior = torch.tensor([2]), torch.tensor([50.0, 5.0, 1.0], dtype=torch.float64) / 56
    z = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).log() - prior.log()
    gate, margin = (gradients(name, z, labels, 1.0)[0, 2].item() for name in GATE_AND_MARGIN)
    assert gate == pytest.approx(-0.5 * 50 ** (1 / 16), rel=1e-6)
    assert margin == pytest.approx(1 / (1 + 50) - 1, rel=1e-6)


def test_a_sum_over_rows_has_no_sum_of_weights_below_it() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    summed = slt.SoftmaxLoss(sl.losses.gradient_balanced(CONTEXT.counts), reduction="sum")(z, labels)
    torch.testing.assert_close(make_loss("gradient_balanced_summed", CONTEXT)(z, labels), summed / 4)
