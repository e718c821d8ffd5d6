"""A batch of models trained with one loss, and what is seen of them on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from experiments import graphs

from .losses import Method, composite
from .models import Adam, Pairs, apply, layers, make_pairs, orthogonal_to, start
from .protocols import Protocol

__all__ = ["MEASURES", "Found", "train"]

#: of a model at a step: accuracies, the cross-entropy of its training rows, whatever it is trained with, the
#: share of them whose target's gradient is exactly 0, the median of z_y less the largest other logit, and the
#: length of its weights
MEASURES = ("train_accuracy", "test_accuracy", "cross_entropy", "zero_share", "gap", "weight_norm")
_MOST = 25  # steps in a graph


class Found(NamedTuple):
    """What was seen after so many steps and seconds of training: values (evaluations, models, measures)."""

    steps: list[int]
    seconds: list[float]
    values: Tensor
    mode: str


def train(
    protocol: Protocol,
    method: Method,
    models: Sequence[tuple[int, float]],
    device: torch.device,
    *,
    watch: Callable[[int], object] = lambda steps: None,
) -> Found:
    """Train models of the given seeds and learning rates at once.

    The seconds are those of the whole batch, without what is looked at. ``watch`` is told of every steps
    that were asked of the device.
    """
    seeds = [seed for seed, _ in models]
    known, others = make_pairs(protocol, seeds, device)
    optimizer = Adam(start(protocol, seeds, device), [rate for _, rate in models], method.weight_decay)

    def step() -> None:
        weights = [layer.detach().requires_grad_() for layer in layers(optimizer.weights, protocol)]
        value = loss_of(method, logits_of(method, weights, known), known)
        gradients = torch.autograd.grad(value.sum(), weights)
        with torch.no_grad():
            used = orthogonal_to(weights, gradients) if method.orthogonal else gradients
            optimizer.step(torch.cat([gradient.flatten(1) for gradient in used], 1))

    stops = protocol.evaluations
    chunk = graphs.divisor(math.gcd(*stops), _MOST)
    advance = graphs.repeated(step, optimizer.state, chunk)
    clock, seen, done = graphs.Clock(device), [], 0
    for stop in stops:
        clock.start()
        advance(stop - done)
        clock.stop()
        seen.append(look(protocol, method, optimizer.weights, known, others))
        watch(stop - done)
        done = stop
    return Found(stops, clock.seconds(), torch.stack(seen).cpu(), advance.mode)


def logits_of(method: Method, weights: Sequence[Tensor], pairs: Pairs) -> Tensor:
    """Return the logits (models, rows, p), in the type that the method has them in."""
    with _autocast(method, pairs):
        return apply(weights, pairs.inputs)


def loss_of(method: Method, logits: Tensor, pairs: Pairs) -> Tensor:
    """Return the loss of each model; under autocast where the network is, as training loops have it."""
    with _autocast(method, pairs):
        return method.loss(logits, pairs.target)


def _autocast(method: Method, pairs: Pairs) -> torch.autocast:
    # a cast that is kept from step to step would not be part of a CUDA graph
    low = method.dtype == "bfloat16"
    return torch.autocast(pairs.inputs.device.type, dtype=torch.bfloat16, enabled=low, cache_enabled=False)


def look(protocol: Protocol, method: Method, flat: Tensor, known: Pairs, others: Pairs) -> Tensor:
    """Return the `MEASURES` of every model (models, measures), and leave them on the device."""
    weights = layers(flat.detach(), protocol)
    logits = logits_of(method, weights, known).detach().requires_grad_()
    value = loss_of(method, logits, known)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    with torch.no_grad():
        tested = logits_of(method, weights, others)
        place = known.target[..., None]
        at_target = gradient.gather(-1, place)[..., 0]
        rest = logits.scatter(-1, place, -math.inf).amax(-1)
        gap = logits.gather(-1, place)[..., 0].float() - rest.float()
        found = (
            (logits.argmax(-1) == known.target).float().mean(1),
            (tested.argmax(-1) == others.target).float().mean(1),
            composite(logits.double(), known.target),
            (at_target == 0).float().mean(1),
            gap.median(1).values,
            flat.norm(dim=1),
        )
        return torch.stack([measure.double() for measure in found], 1)
