"""A batch of networks in one flat tensor, their pairs, and AdamW for all of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .protocols import BETAS, EPS, Protocol

__all__ = ["Adam", "Pairs", "apply", "layers", "make_pairs", "orthogonal_to", "start"]


class Pairs(NamedTuple):
    """One-hot pairs (models, rows, 2 p) and their sums modulo p (models, rows)."""

    inputs: Tensor
    target: Tensor


def make_pairs(protocol: Protocol, seeds: Sequence[int], device: torch.device) -> tuple[Pairs, Pairs]:
    """Return the pairs to train on and the others; each seed draws its own."""
    p = protocol.p
    cut = round(protocol.share * p * p)
    order = torch.stack([torch.randperm(p * p, generator=_random(seed, 1)) for seed in seeds])
    return _pairs(order[:, :cut], p, device), _pairs(order[:, cut:], p, device)


def _random(seed: int, use: int) -> torch.Generator:
    return torch.Generator().manual_seed(2 * seed + use)


def _pairs(index: Tensor, p: int, device: torch.device) -> Pairs:
    a, b = index // p, index % p
    one_hot = nn.functional.one_hot
    inputs = torch.cat([one_hot(a, p), one_hot(b, p)], -1).to(device, torch.float32)
    return Pairs(inputs, ((a + b) % p).to(device))


def sizes(protocol: Protocol) -> list[tuple[int, int]]:
    """Return outputs and inputs of the layers."""
    p, width = protocol.p, protocol.width
    return [(width, 2 * p), (width, width), (p, width)]


def start(protocol: Protocol, seeds: Sequence[int], device: torch.device) -> Tensor:
    """Return the weights (models, all of a model's) as ``torch.nn.Linear`` draws them."""
    drawn = []
    for seed in seeds:
        random = _random(seed, 0)
        drawn.append(
            torch.cat(
                [
                    ((2 * torch.rand(rows * columns, generator=random) - 1) / math.sqrt(columns))
                    for rows, columns in sizes(protocol)
                ]
            )
        )
    return torch.stack(drawn).to(device)


def layers(weights: Tensor, protocol: Protocol) -> list[Tensor]:
    """Return views (models, outputs, inputs) of the flat weights."""
    found, place = [], 0
    for rows, columns in sizes(protocol):
        found.append(weights[:, place : place + rows * columns].view(-1, rows, columns))
        place += rows * columns
    return found


def apply(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return the logits (models, rows, p) of inputs (models, rows, 2 p)."""
    hidden = inputs
    for weight in weights[:-1]:
        hidden = torch.bmm(hidden, weight.mT).relu()
    return torch.bmm(hidden, weights[-1].mT)


def orthogonal_to(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients less their component along the weights, a tensor and a model at a time.

    The ⊥Grad of Prieto et al. (2025). What is left has the length that the gradient had.
    """
    found = []
    for weight, gradient in zip(weights, gradients, strict=True):
        w, g = weight.flatten(1), gradient.flatten(1)
        along = (w * g).sum(1, keepdim=True) / ((w * w).sum(1, keepdim=True) + 1e-30)
        rest = g - along * w
        rest = rest * (g.norm(dim=1, keepdim=True) / (rest.norm(dim=1, keepdim=True) + 1e-30))
        found.append(rest.view_as(gradient))
    return found


class Adam:
    """AdamW over flat weights (models, all of a model's), a learning rate a model.

    The formula is that of ``torch.optim.AdamW``, on the device alone.
    """

    def __init__(self, weights: Tensor, rates: Sequence[float], weight_decay: float = 0.0) -> None:
        self.weights, self.decay = weights, weight_decay
        self.rate = torch.tensor(rates, dtype=torch.float64, device=weights.device)[:, None]
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)
        self.time = torch.zeros((), dtype=torch.float64, device=weights.device)

    @property
    def state(self) -> list[Tensor]:
        """What a step changes."""
        return [self.weights, self.first, self.second, self.time]

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        self.time += 1.0
        corrections = [-torch.expm1(self.time * math.log(beta)) for beta in BETAS]  # 1 - beta^t
        if self.decay:
            self.weights.mul_((1.0 - self.rate * self.decay).float())
        self.first.lerp_(gradient, 1.0 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
        root = self.second.sqrt().div_(corrections[1].sqrt().float()).add_(EPS)
        self.weights.sub_((self.rate / corrections[0]).float() * (self.first / root))
