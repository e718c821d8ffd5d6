"""A batch, and a model that is so confident that its mean loss underflows float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS, D, K = 15, 4, 3
_GENERATOR = torch.Generator().manual_seed(0)
X: Tensor = torch.randn(ROWS, D, dtype=torch.float64, generator=_GENERATOR)
WEIGHTS: Tensor = torch.rand(ROWS, dtype=torch.float64, generator=_GENERATOR) + 0.1


def model() -> nn.Linear:
    layer = nn.Linear(D, K, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(
            1e4 * torch.randn(K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        )
        layer.bias.zero_()
    return layer


#: what the model says, so that every row is right
Y: Tensor = model()(X).argmax(1)
