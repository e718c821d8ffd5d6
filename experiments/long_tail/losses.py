"""The losses of the grid by name, registered ones and those with a schedule or a controller."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt

__all__ = ["LOSSES", "make_loss"]


Loss = nn.Module


class Context(NamedTuple):
    """What a loss may know: the (noisy) training counts, and how long training takes."""

    counts: NDArray[np.int64]
    epochs: int


def _fixed(name: str) -> Callable[..., Loss]:
    """Return the maker of a registered loss."""
    factory = sl.losses.REGISTRY[name]
    needs_counts = "counts" in inspect.signature(factory).parameters
    return lambda context, **settings: slt.SoftmaxLoss(
        factory(*([context.counts] if needs_counts else []), **settings)
    )


def _weighted(context: Context, power: float = 1.0) -> Loss:
    """Weights (n_max / n)^power; a class without samples counts as one."""
    n = np.maximum(context.counts, 1)
    return slt.SoftmaxLoss(sl.losses.weighted((n.max() / n) ** power))


def _deferred(
    name: str, context: Context, beta: float = 0.9999, start: float = 0.8, **settings: float
) -> Loss:
    """A registered loss, and class-balanced weights after a share ``start`` of training."""
    spec = sl.losses.plain() if name == "plain" else sl.losses.REGISTRY[name](context.counts, **settings)
    weight = sl.losses.class_balanced(context.counts, beta).class_weight
    return slt.DeferredReweighting(spec, weight, start=round(start * context.epochs))


class _OverRows(slt.SoftmaxLoss):
    """The sum over a batch's rows, divided by how many there are.

    A mean with weights divides by their sum. That changes the length of a step while rows come to be fit, and
    this does not: it is ``reduction="sum"`` with the learning rate divided by the size of the batch.
    """

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return super().forward(logits, target, sample_weight) / len(target)


def _summed(context: Context, **settings: float) -> Loss:
    return _OverRows(sl.losses.gradient_balanced(context.counts, **settings), reduction="sum")


def _with_margin(context: Context, tau: float = 1.0) -> Loss:
    """Logit adjustment with tau + 1 in place of tau on the side of the label.

    The label's logit has tau log pi_y - log(n_max / n_y) added. On a row that is fit that is the prior with a
    gated weight, to first order; on any other it is not.
    """
    counts = np.maximum(context.counts, 1)
    spec = sl.losses.logit_adjusted(context.counts, tau)
    return slt.SoftmaxLoss(replace(spec, margin=np.log(counts.max() / counts)))


#: registered losses that came after the grid was run
NOT_IN_THE_GRID = ("poly1",)
LOSSES: dict[str, Callable[..., Loss]] = {
    **{name: _fixed(name) for name in sl.losses.REGISTRY if name not in NOT_IN_THE_GRID},
    "weighted": _weighted,
    "plain_drw": partial(_deferred, "plain"),
    "ldam_drw": partial(_deferred, "ldam"),
    "balanced_softmax_drw": partial(_deferred, "balanced_softmax"),
    "seesaw_online": lambda context, **settings: slt.SeesawLoss(len(context.counts), **settings),
    "gradient_balanced_smoothed": lambda context, eps=0.05, **settings: _fixed("gradient_balanced")(
        context, eps=eps, **settings
    ),
    "gradient_balanced_gathered": lambda context, **settings: slt.GradientBalancedLoss(
        len(context.counts), **settings
    ),
    "gradient_balanced_steered": lambda context, **settings: slt.GradientBalancedLoss(
        context.counts, **settings
    ),
}
#: of the study of the gate alone
OF_THE_GATE: dict[str, Callable[..., Loss]] = {
    "logit_adjusted_margin": _with_margin,
    "gradient_balanced_summed": _summed,
}
LOSSES |= OF_THE_GATE
COSINE = ("ldam", "ldam_drw")  # their margins are meant for logits in [-1, 1]
STEERED = ("gradient_balanced_steered",)  # observe held-out rows after each epoch


def make_loss(name: str, context: Context, settings: tuple[tuple[str, float], ...] = ()) -> Loss:
    """Return a loss by its name."""
    return LOSSES[name](context, **dict(settings))
