"""A training loop in torch: digits, a network of two layers, and a loss of the family.

At the end the trained network is asked how much of its gradient torch's own loss would have lost.

    python examples/torch_training.py
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

import softmax_lab as sl
import softmax_lab.torch as slt


class Result(NamedTuple):
    """What a training comes to."""

    losses: list[float]  # by epoch
    accuracy: float  # on rows that were not trained on
    lost: slt.LostGradient


def main(spec: sl.LossSpec = sl.LossSpec(), epochs: int = 60, seed: int = 0) -> Result:
    """Train and return what came of it; ``spec`` may be ``sl.losses.focal()``, say."""
    torch.manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in sl.data.digits())
    images = images.float()
    train, test = torch.randperm(len(labels)).split([1200, 597])

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    loss = slt.SoftmaxLoss(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    losses = []
    for _ in range(epochs):
        for rows in train.split(100):
            value = loss(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        losses.append(value.item())

    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).double().mean().item()
        lost = slt.lost_gradient(model(images[train]), labels[train])
    print(f"loss {losses[0]:.3g} -> {losses[-1]:.3g}, accuracy {accuracy:.3f}")
    print(f"torch's loss would lose the gradient of {lost.rows:.1%} of the rows, {lost.mass:.1e} of its mass")
    return Result(losses, accuracy, lost)


if __name__ == "__main__":
    main()
