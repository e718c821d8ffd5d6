"""Labels in every integer type are the same labels: 156 in eight bits is no -100."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch import functional as fx
from softmax_lab.torch._base.labels import labels_of
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula.fields import spec_tensors

K = 200
Z = 2 * torch.randn(6, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([156, 3, 156, 199, 0, 57])
WEIGHT = torch.linspace(0.1, 3.0, K, dtype=torch.float64)
SPEC = LossSpec(class_weight=WEIGHT.numpy(), smoothing=0.1)


def counted(loss: Any, z: Tensor, y: Tensor) -> Tensor:
    return torch.cat([loss(z, y).reshape(1), loss.counts.double()])


def measured(z: Tensor, y: Tensor) -> Tensor:
    monitor = slt.GradientMonitor()
    monitor.update(z, y, SPEC)
    return torch.from_numpy(monitor.latest["count"])


def observed(z: Tensor, y: Tensor) -> Tensor:
    loss = slt.GradientBalancedLoss(torch.arange(1, K + 1).numpy())
    loss.observe(z, y)
    return torch.tensor(loss.tau)


def divisor_on_a_gpu(z: Tensor, y: Tensor) -> Tensor:
    kernels = pytest.importorskip("softmax_lab.torch.triton.cross_entropy", reason="Triton is not installed")
    p = kernels.prepare(z, y, spec_tensors(SPEC, z.device, torch.float64), None, Options())
    total: Tensor = kernels.total_weight(p, Options())
    return total


#: what takes labels, once for each place that looks at them
TAKERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the loss": lambda z, y: slt.cross_entropy(z, y, SPEC),
    "the drop-in": fx.cross_entropy,
    "the drop-in with weights": lambda z, y: fx.cross_entropy(z, y, WEIGHT),
    "the drop-in with a weight of zero": lambda z, y: fx.cross_entropy(z, y, WEIGHT - WEIGHT[0]),
    "the drop-in with weights and smoothing": lambda z, y: fx.cross_entropy(
        z, y, WEIGHT, label_smoothing=0.1
    ),
    "plain torch": lambda z, y: torch.func.grad(lambda x: slt.cross_entropy(x, y, SPEC))(z),
    "the linear loss": lambda z, y: slt.linear_cross_entropy(z, torch.eye(K, dtype=z.dtype), y, SPEC),
    "the class-parallel loss": lambda z, y: slt.parallel.cross_entropy(z, y, SPEC),
    "the class-parallel linear loss": lambda z, y: slt.parallel.linear_cross_entropy(
        z, torch.eye(K, dtype=z.dtype), y, SPEC
    ),
    "SoftmaxLoss": lambda z, y: slt.SoftmaxLoss(SPEC)(z, y),
    "SeesawLoss": lambda z, y: counted(slt.SeesawLoss(K), z, y),
    "GradientBalancedLoss": lambda z, y: counted(slt.GradientBalancedLoss(K), z, y),
    "GradientBalancedLoss.observe": observed,
    "GradientMonitor": measured,
    "the divisor on a GPU": divisor_on_a_gpu,
    "NumPy": lambda z, y: torch.tensor(sl.cross_entropy(z.numpy(), y.numpy(), SPEC)),
}


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", TAKERS)
def test_eight_bits_hold_the_same_labels(name: str) -> None:
    torch.testing.assert_close(TAKERS[name](Z, Y.to(torch.uint8)), TAKERS[name](Z, Y), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("ignored", [-100, 156, 3, 255])
def test_a_row_counts_unless_its_label_is_ignored(dtype: torch.dtype, ignored: int) -> None:
    given = torch.tensor([0, 3, 100, 127]).to(dtype)
    if dtype not in (torch.int8,):
        given = torch.cat([given, torch.tensor([156, 255]).to(dtype)])
    label, live = labels_of(given, ignored)
    expected = [value != ignored for value in given.tolist()]
    assert live.tolist() == expected
    assert label.dtype == torch.int64
    assert label.tolist() == [value if value != ignored else 0 for value in given.tolist()]
