"""A batch of models is the models one by one, and its AdamW is torch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.modular_addition import models
from tests.experiments.modular_addition.toy import CPU, TOY


def test_pairs_are_split_by_the_seed_and_sum_modulo_p() -> None:
    known, others = models.make_pairs(TOY, (3, 4), CPU)
    assert known.inputs.shape == (2, 29, 14)
    assert others.inputs.shape == (2, 20, 14)
    for part in (known, others):
        a, b = part.inputs[..., :7].argmax(-1), part.inputs[..., 7:].argmax(-1)
        assert torch.equal((a + b) % 7, part.target)
        assert torch.equal(part.inputs.sum(-1), torch.full(part.target.shape, 2.0))
    whole = torch.cat([known.inputs, others.inputs], 1)
    assert all(len({tuple(row) for row in model.tolist()}) == 49 for model in whole)
    assert not torch.equal(known.inputs[0], known.inputs[1])
    again, _ = models.make_pairs(TOY, (4,), CPU)
    assert torch.equal(known.inputs[1], again.inputs[0])


def test_layers_are_views_as_linear_layers_start() -> None:
    flat = models.start(replace(TOY, width=400), (0, 1), CPU)
    layers = models.layers(flat, replace(TOY, width=400))
    assert [tuple(layer.shape) for layer in layers] == [(2, 400, 14), (2, 400, 400), (2, 7, 400)]
    for layer in layers:
        bound = layer.shape[2] ** -0.5
        assert bound * 0.95 < float(layer.abs().max()) <= bound
        assert layer.data_ptr() >= flat.data_ptr()
    layers[0].zero_()
    assert float(flat[:, : 400 * 14].abs().max()) == 0.0


def test_logits_are_those_of_a_perceptron() -> None:
    layers = models.layers(models.start(TOY, (0, 1), CPU), TOY)
    known, _ = models.make_pairs(TOY, (0, 1), CPU)
    found = models.apply(layers, known.inputs)
    for i in range(2):
        hidden = known.inputs[i]
        for layer in layers[:2]:
            hidden = torch.relu(hidden @ layer[i].T)
        torch.testing.assert_close(found[i], hidden @ layers[2][i].T)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_steps_are_those_of_torchs_adamw(decay: float) -> None:
    rates, random = (1e-3, 1e-2), torch.Generator().manual_seed(0)
    start = torch.randn(2, 10, generator=random)
    ours = models.Adam(start.clone(), rates, decay)
    theirs = [nn.Parameter(row.clone()) for row in start]
    optimizers = [
        torch.optim.AdamW([row], lr=rate, betas=(0.9, 0.99), eps=1e-30, weight_decay=decay)
        for row, rate in zip(theirs, rates, strict=True)
    ]
    for size in (1.0, 1e-3, 1e-12, 0.0, 10.0):
        gradient = size * torch.randn(2, 10, generator=random)
        ours.step(gradient)
        for row, optimizer, own in zip(theirs, optimizers, gradient, strict=True):
            row.grad = own.clone()
            optimizer.step()
        torch.testing.assert_close(
            ours.weights, torch.stack([row.detach() for row in theirs]), rtol=2e-6, atol=1e-7
        )


def test_what_is_left_is_at_right_angles_and_as_long() -> None:
    random = torch.Generator().manual_seed(1)
    weight, gradient = (torch.randn(3, 4, 5, generator=random) for _ in range(2))
    (left,) = models.orthogonal_to([weight], [gradient])
    along = (left * weight).sum((1, 2)) / (left.norm(dim=(1, 2)) * weight.norm(dim=(1, 2)))
    assert float(along.abs().max()) < 1e-6
    torch.testing.assert_close(left.norm(dim=(1, 2)), gradient.norm(dim=(1, 2)))
    assert float((left * gradient).sum((1, 2)).min()) > 0
