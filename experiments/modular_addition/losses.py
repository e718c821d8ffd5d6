"""The losses that are compared, each with what it asks of the optimiser.

A loss takes logits (models, rows, p) and targets (models, rows), and gives one value a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import softmax_lab.torch as slt

__all__ = ["LOSSES", "Method", "composite"]


class Method(NamedTuple):
    """A loss, the type that its logits have, and how AdamW is changed for it."""

    loss: Callable[[Tensor, Tensor], Tensor]
    label: str
    dtype: str = "float32"  # "bfloat16": the network runs under autocast
    weight_decay: float = 0.0
    orthogonal: bool = False  # take the component along the weights out of the gradient


def plain_torch(logits: Tensor, target: Tensor) -> Tensor:
    """Return ``torch.nn.functional.cross_entropy``."""
    rows = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return rows.view(target.shape).mean(1)


def in_float64(logits: Tensor, target: Tensor) -> Tensor:
    """Return torch's loss of the logits cast to float64."""
    return plain_torch(logits.double(), target)


class _Mend(torch.autograd.Function):
    """The identity, whose backward pass puts minus the sum of the others in the target's place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(target)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (target,), (gradient,) = ctx.saved_tensors, gradients
        place = target[..., None]
        others = gradient.scatter(-1, place, 0.0)
        return others.scatter(-1, place, -others.sum(-1, keepdim=True)), None


def mended(logits: Tensor, target: Tensor) -> Tensor:
    """Return torch's loss, with one component of its gradient replaced: the target's.

    It is minus the sum of the others, as it is without rounding. The others are torch's own.
    """
    mend: Callable[[Tensor, Tensor], Tensor] = _Mend.apply
    return plain_torch(mend(logits, target), target)


def exact(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss of this package."""
    return slt.cross_entropy(logits, target, reduction="none").mean(1)


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return s = lse of the others - z_y of each row."""
    place = target[..., None]
    others = logits.scatter(-1, place, -math.inf).logsumexp(-1)
    return others - logits.gather(-1, place)[..., 0]


def composite(logits: Tensor, target: Tensor) -> Tensor:
    """Return softplus(s) in plain torch: the fix for those who install nothing."""
    return nn.functional.softplus(margin(logits, target), threshold=40.0).mean(1)


def stablemax(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log(s(z_y) / sum of s(z_k)), s(x) = x + 1 from 0 on and 1 / (1 - x) below (Prieto et al. 2025).

    In the logits' own type, which is what it is made for.
    """
    below = logits < 0
    s = torch.where(below, 1.0 / (1.0 - torch.where(below, logits, 0.0)), logits + 1.0)
    return -(s.gather(-1, target[..., None])[..., 0] / s.sum(-1)).log().mean(1)


def log_of_the_mean(logits: Tensor, target: Tensor) -> Tensor:
    """Return the log of the mean loss of each model's rows."""
    # a row's share is an exponential, and has the absolute error of the sum's logarithm
    rows = slt.log_cross_entropy(logits, target, reduction="none").double()
    return rows.logsumexp(1) - math.log(rows.shape[1])


def normalised(logits: Tensor, target: Tensor) -> Tensor:
    """Return the exact loss over its own detached value: a gradient of one size, until it underflows."""
    value = exact(logits, target)
    return value / value.detach().clamp_min(torch.finfo(value.dtype).tiny)


LOSSES = {
    "torch": Method(plain_torch, "torch"),
    "exact": Method(exact, "exact"),
    "log_mean": Method(log_of_the_mean, "log of the mean"),
    "stablemax": Method(stablemax, "StableMax"),
    "torch_float64": Method(in_float64, "torch, float64", dtype="float64"),
    "composite": Method(composite, "composite"),
    "normalised": Method(normalised, "exact / its value"),
    "perpgrad": Method(plain_torch, "⊥Grad", orthogonal=True),
    "weight_decay": Method(plain_torch, "weight decay 1", weight_decay=1.0),
    "exact_bfloat16": Method(exact, "exact, bfloat16", dtype="bfloat16"),
    "torch_bfloat16": Method(plain_torch, "torch, bfloat16", dtype="bfloat16"),
    "mended": Method(mended, "torch, target mended"),
}
