"""The networks have the right size."""

from __future__ import annotations

import torch

from experiments import long_tail as lt


def test_networks() -> None:
    torch.manual_seed(0)
    resnet = lt.make_network("resnet32", 3, 10)
    assert sum(p.numel() for p in resnet.parameters()) == 464_154  # He et al.: 0.46M
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in resnet.modules()) == 32
    for name, x in (
        ("mlp", torch.randn(2, 64)),
        ("convnet", torch.randn(2, 1, 8, 8)),
        ("resnet32", torch.randn(2, 1, 32, 32)),
    ):
        network = lt.make_network(name, x.shape[1], 7, cosine=True)
        logits = network(x)
        assert logits.shape == (2, 7)
        assert (logits.abs() <= 1 + 1e-6).all()
