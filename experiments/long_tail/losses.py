"""The losses of the grid by name, registered ones and those with a schedule or a controller."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

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
COSINE = ("ldam", "ldam_drw")  # their margins are meant for logits in [-1, 1]
STEERED = ("gradient_balanced_steered",)  # observe held-out rows after each epoch


def make_loss(name: str, context: Context, settings: tuple[tuple[str, float], ...] = ()) -> Loss:
    """Return a loss by its name."""
    return LOSSES[name](context, **dict(settings))
