"""Mixed and smoothed targets as timm makes them, by its formula.

They are probabilities whose sum is one up to float32's rounding.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt

N, K = 32, 11
CASES = [(1.0, 0.0), (1.0, 0.1), (0.3, 0.0), (0.3, 0.1), (0.77, 0.3)]


def mixed(labels: Tensor, lam: float, smoothing: float) -> Tensor:
    """Return timm's targets.

    They are one-hot rows with on and off values, mixed with those of the batch in reverse.
    """
    off = smoothing / K
    on = 1.0 - smoothing + off
    first, second = (
        torch.full((len(y), K), off).scatter_(1, y.view(-1, 1), on) for y in (labels, labels.flip(0))
    )
    return first * lam + second * (1.0 - lam)


def problem(lam: float, smoothing: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(N, K, generator=generator)
    return logits, mixed(torch.randint(K, (N,), generator=generator), lam, smoothing)


def timm_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return timm's own loss of soft targets."""
    return torch.sum(-target * torch.log_softmax(logits, dim=-1), dim=-1).mean()


def value_and_gradient(loss: object, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    z = logits.clone().requires_grad_()
    value = loss(z, target)  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient


@pytest.mark.parametrize(("lam", "smoothing"), CASES)
@pytest.mark.parametrize(
    "ours",
    [slt.functional.cross_entropy, slt.cross_entropy, slt.SoftmaxLoss()],
    ids=["drop-in", "family", "module"],
)
def test_mixed_targets_have_the_loss_of_torch_and_of_timm(lam: float, smoothing: float, ours: object) -> None:
    logits, target = problem(lam, smoothing)
    found = value_and_gradient(ours, logits, target)
    exact = value_and_gradient(timm_loss, logits.double(), target.double())
    for theirs in (torch.nn.functional.cross_entropy, timm_loss):
        torch.testing.assert_close(found, value_and_gradient(theirs, logits, target), rtol=2e-6, atol=2e-8)
    torch.testing.assert_close(tuple(x.double() for x in found), exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("lam", "smoothing"), CASES)
def test_the_linear_loss_takes_mixed_targets(lam: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(N, 5, generator=generator), torch.randn(K, 5, generator=generator)
    target = problem(lam, smoothing)[1]
    found = value_and_gradient(lambda h, y: slt.linear_cross_entropy(h, weight, y), hidden, target)
    expected = value_and_gradient(
        lambda h, y: torch.nn.functional.cross_entropy(h @ weight.T, y), hidden, target
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_smoothing_by_the_spec_is_timms_smoothing() -> None:
    logits, _ = problem(1.0, 0.0)
    labels = torch.randint(K, (N,), generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.cross_entropy(logits, mixed(labels, 1.0, 0.1))
    found = slt.cross_entropy(logits, labels, sl.LossSpec(smoothing=0.1))
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_meet_float32_targets_under_autocast(dtype: torch.dtype) -> None:
    logits, target = problem(0.3, 0.1)
    with torch.autocast("cpu", dtype):
        found = value_and_gradient(slt.functional.cross_entropy, logits.to(dtype), target)
        expected = value_and_gradient(torch.nn.functional.cross_entropy, logits.to(dtype), target)
    assert found[0].dtype == expected[0].dtype
    torch.testing.assert_close(found[0], expected[0], rtol=2e-6, atol=0.0)
    torch.testing.assert_close(found[1], expected[1], rtol=float(torch.finfo(dtype).eps), atol=1e-7)
