"""Training in half precision under a gradient scaler, on the CPU: what the scale is for is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import softmax_lab.torch as slt
from tests.clients import gpt2

N, K, D, SCALE = 2048, 8192, 8, 65536.0
Head = Callable[[torch.nn.Linear, Tensor, Tensor], Tensor]

HEADS: dict[str, Head] = {
    "drop-in": lambda layer, hidden, target: slt.functional.cross_entropy(layer(hidden), target),
    "family": lambda layer, hidden, target: slt.cross_entropy(layer(hidden), target),
    "module": lambda layer, hidden, target: slt.SoftmaxLoss()(layer(hidden), target),
    "linear": lambda layer, hidden, target: slt.linear_cross_entropy(hidden, layer.weight, target),
}


def _problem() -> tuple[torch.nn.Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(D, K, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(K, D, generator=generator) / 4)
    return layer, torch.randn(N, D, generator=generator), torch.randint(K, (N,), generator=generator)


def _unscaled(head: Head) -> tuple[float, Tensor]:
    """Return the loss of a linear layer in float16, and its weight's gradient.

    The scaler has taken the scale out of the gradient again.
    """
    layer, hidden, target = _problem()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    with torch.autocast("cpu", torch.float16):
        value = head(layer, hidden, target)
    scaler.scale(value).backward()
    scaler.unscale_(optimizer)
    assert layer.weight.grad is not None
    return value.item(), layer.weight.grad.double()


@pytest.fixture(scope="module")
def exact() -> tuple[float, Tensor]:
    """Loss and gradient in float64 of the operands that float16 rounds, their product not rounded."""
    layer, hidden, target = _problem()
    weight = layer.weight.detach().half().double().requires_grad_()
    value = torch.nn.functional.cross_entropy(hidden.half().double() @ weight.T, target)
    value.backward()
    assert weight.grad is not None
    return value.item(), weight.grad


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_under_a_loss_scale_is_as_near_the_exact_one_as_torchs(
    name: str, exact: tuple[float, Tensor]
) -> None:
    # 1 / (N K) is 2^-24, float16's smallest number: without the scale hardly a bit of the gradient is left
    value, gradient = _unscaled(HEADS[name])
    theirs = _unscaled(lambda layer, hidden, target: torch.nn.functional.cross_entropy(layer(hidden), target))
    assert value == pytest.approx(exact[0], rel=1e-3)
    assert _error(theirs[1], exact[1]) < 1e-2
    assert _error(gradient, exact[1]) < max(1.1 * _error(theirs[1], exact[1]), 1e-3)


@pytest.mark.parametrize("name", ["drop-in", "linear"])
def test_a_gpt2_trains_in_float16_under_a_scaler_as_with_torch(name: str) -> None:
    def train(loss: gpt2.Loss) -> list[float]:
        model = gpt2.tiny_gpt2()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        values = []
        for step in range(8):
            with torch.autocast("cpu", torch.float16):
                value = loss(model, *gpt2.batch(step % 4))
            optimizer.zero_grad()
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
            values.append(value.item())
        assert scaler.get_scale() == SCALE  # no step was skipped
        return values

    # float16 keeps 11 bits: roundings of 2^-12 in logits and gradients, which eight steps carry on
    assert train(gpt2.OURS[name]) == pytest.approx(train(gpt2.TORCH), rel=5e-3)
