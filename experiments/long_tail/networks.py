"""The networks of the protocols.

Convolutions multiply in bfloat16 on every device. The weights, the classifier, the loss and the optimiser
stay in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["make_network"]


class CosineLinear(nn.Module):
    """Logits that are cosines, in [-1, 1]."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, inputs) / math.sqrt(inputs))

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.normalize(hidden) @ nn.functional.normalize(self.weight).T


class _Block(nn.Module):
    """Two convolutions and a shortcut without parameters.

    The shortcut takes every other pixel, and has zeros for the new channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        body: Tensor = self.body(x)
        short = x[:, :, :: self.stride, :: self.stride]
        extra = body.shape[1] - x.shape[1]
        if extra:  # else it would be a copy
            short = nn.functional.pad(short, (0, 0, 0, 0, extra // 2, extra - extra // 2))
        return torch.relu(body + short)


def _convolutions(channels: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 32), (32, 64), (64, 128)):
        # pooling first: the same numbers, and a quarter of them for the ReLU
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2),
            nn.ReLU(),
        ]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], 128


def _resnet32(channels: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        layers += [_Block(inputs if i == 0 else outputs, outputs) for i in range(5)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], 64


class Network(nn.Sequential):
    """Layers, of which the last gives the logits in float32.

    The others compute in bfloat16 where the input is images.
    """

    def forward(self, x: Tensor) -> Tensor:
        *layers, classifier = self
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.ndim == 4):
            for layer in layers:
                x = layer(x)
        logits: Tensor = classifier(x.float())
        return logits


def make_network(name: str, inputs: int, classes: int, *, cosine: bool = False) -> Network:
    """Return a network; ``inputs`` is the number of features, or of colours.

    The weights are drawn from torch's global generator.
    """
    if name == "mlp":
        layers, width = [nn.Linear(inputs, 256), nn.ReLU()], 256
    else:
        layers, width = (_convolutions if name == "convnet" else _resnet32)(inputs)
    network = Network(*layers, CosineLinear(width, classes) if cosine else nn.Linear(width, classes))
    if name != "mlp":  # what convolutions want
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    return network
