"""The losses that hold a state: one used, one fresh.

The question is whether the first came back in the second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt

K, D = 4, 3
COUNTS = [90, 40, 9, 1]
LOGITS = 2.0 * torch.randn(8, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 0, 1, 1, 2, 3, 0, 2])


class Case(NamedTuple):
    """A loss with a state that its constructor alone does not give, and its fresh twin.

    The twin is made by the same call, and has yet to be loaded.
    """

    used: Callable[[], Any]
    fresh: Callable[[], Any]


def _softmax() -> slt.SoftmaxLoss:
    return slt.SoftmaxLoss(sl.losses.gradient_balanced(COUNTS, tau=1.3, eps=0.05))


def _deferred() -> slt.DeferredReweighting:
    return slt.DeferredReweighting(
        sl.losses.ldam(COUNTS), sl.losses.class_balanced(COUNTS).class_weight, start=1
    )


def _stepped() -> slt.DeferredReweighting:
    loss = _deferred()
    loss.step()
    return loss


def _seen(loss: Any) -> Any:
    loss(LOGITS, TARGET)
    return loss


def _steered() -> slt.GradientBalancedLoss:
    loss: slt.GradientBalancedLoss = _seen(slt.GradientBalancedLoss(K, eps=0.05))
    loss.observe(LOGITS, TARGET)
    return loss


LOSSES = {
    "SoftmaxLoss": Case(_softmax, lambda: slt.SoftmaxLoss(sl.losses.gradient_balanced([1] * K, eps=0.5))),
    "DeferredReweighting": Case(_stepped, _deferred),
    "SeesawLoss": Case(lambda: _seen(slt.SeesawLoss(K)), lambda: slt.SeesawLoss(K)),
    "GradientBalancedLoss": Case(_steered, lambda: slt.GradientBalancedLoss(K)),
}


def spec_of(loss: Any) -> sl.LossSpec:
    """Return the spec of a loss, or of the one inside it."""
    spec: sl.LossSpec = loss.loss.spec if isinstance(loss, slt.SeesawLoss) else loss.spec
    return spec


def assert_restored(found: Any, expected: Any) -> None:
    """Assert that spec, counts, epoch and tau are those of the other loss, and that the next values are."""
    assert spec_of(found) == spec_of(expected)
    for name in ("counts", "epoch", "start", "tau"):
        value, wanted = getattr(found, name, None), getattr(expected, name, None)
        assert (
            torch.equal(value, wanted)
            if isinstance(value, Tensor) and isinstance(wanted, Tensor)
            else value == wanted
        ), name
    pair = copy.deepcopy((found, expected))  # in training mode they count
    for mode in (False, True):
        value, wanted = (loss.train(mode)(LOGITS, TARGET) for loss in pair)
        assert torch.equal(value, wanted)


class Model(nn.Module):
    """A linear layer and its losses, all of them members."""

    def __init__(self, *, used: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(D, K)
        self.losses = nn.ModuleDict(
            {name: case.used() if used else case.fresh() for name, case in LOSSES.items()}
        )

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        logits = self.layer(hidden)
        return torch.stack([loss(logits, target) for loss in self.losses.values()]).sum()

    def assert_restored(self, expected: Model) -> None:
        """Assert that layer and losses are the other model's."""
        assert torch.equal(self.layer.weight, expected.layer.weight)
        for name in LOSSES:
            assert_restored(self.losses[name], expected.losses[name])
