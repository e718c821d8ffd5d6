"""The kernels of rows that are read once, and the plain calls that go straight to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softmax_lab import LossSpec
from softmax_lab.spec import PLAIN
from softmax_lab.torch import triton as kernels
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._operators import eager_on_gpu, gpu

TYPES = (torch.float32, torch.bfloat16, torch.float16)
#: relative to the largest entry of a gradient; to bfloat16 the interpreter cuts digits off, it does not round
CLOSE = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 5e-4}


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take CPU tensors for a GPU's."""
    monkeypatch.setattr(eager_on_gpu, "are_ordinary_on_gpu", lambda *tensors: True)
    monkeypatch.setattr(gpu, "kernels_for", lambda tensor: kernels)


def case(dtype: torch.dtype, k: int = 11) -> tuple[Tensor, Tensor]:
    z = (3 * torch.randn(7, k, generator=torch.Generator().manual_seed(k))).to(dtype)
    z[0, 0] = 60.0
    target = torch.arange(7) % k
    target[3] = -100
    return z, target


def called(z: Tensor, target: Tensor, reduction: str) -> Tensor:
    value = eager_on_gpu.at_once(z, target, PLAIN, Options(reduction))
    assert value is not None
    return value


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("held", ["whole", "shared"])
def test_value_and_gradient(
    dtype: torch.dtype, reduction: str, held: str, request: pytest.FixtureRequest
) -> None:
    if held == "shared":
        request.getfixturevalue("shared")
    z, target = case(dtype)
    wide, leaf = z.double().requires_grad_(), z.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(wide, target, reduction=reduction)
    value = called(leaf, target, reduction)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=2e-7)
    # of a sum, the upstream gradient is one number seen from every row
    for factor in (1.0, 0.37):
        (exact,) = torch.autograd.grad(expected.sum() * factor, wide, retain_graph=True)
        (found,) = torch.autograd.grad(called(leaf, target, reduction).sum() * factor, leaf)
        assert found.dtype == dtype
        assert float((found.double() - exact).abs().max()) <= CLOSE[dtype] * float(exact.abs().max())
        assert found[3].eq(0).all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_graph_that_is_kept_gives_its_gradient_again(dtype: torch.dtype) -> None:
    z, target = case(dtype)
    leaf = z.requires_grad_()
    value = called(leaf, target, "mean") * 0.5
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    (last,) = torch.autograd.grad(value, leaf)
    assert torch.equal(first, last)


def test_a_confident_row_keeps_its_gradient() -> None:
    leaf = torch.tensor([[40.0, 0.0, -1.0]], requires_grad=True)
    value = called(leaf, torch.tensor([0]), "mean")
    value.backward()
    assert leaf.grad is not None
    assert 0 < float(value.detach()) < 1e-17
    assert float(leaf.grad[0, 0]) < 0
    assert abs(float(leaf.grad.sum())) <= 1e-6 * float(leaf.grad.abs().max())


def test_a_segment_with_nothing_in_it(shared: None) -> None:
    """What is masked in a whole segment takes nothing from the others, however low they lie."""
    z = torch.full((1, 12), -torch.inf)
    z[0, 5:9] = torch.tensor([-200.0, -201.0, -203.0, -200.5])
    for name in ("softmax", "log_softmax"):
        found = getattr(kernels, name)(z, -1, 1.0)
        torch.testing.assert_close(found.double(), getattr(torch, name)(z.double(), -1), rtol=1e-6, atol=0)
    leaf, wide = z.clone().requires_grad_(), z.double().requires_grad_()
    called(leaf, torch.tensor([6]), "mean").backward()
    torch.nn.functional.cross_entropy(wide, torch.tensor([6])).backward()
    assert leaf.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(leaf.grad.double(), wide.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("held", ["whole", "shared"])
def test_a_confident_row_keeps_the_logarithm(held: str, request: pytest.FixtureRequest) -> None:
    """The 1e-18 of the others is never added to the 1 of the largest, in whichever segment it stands."""
    if held == "shared":
        request.getfixturevalue("shared")
    z = torch.zeros(2, 12)
    z[0, 1], z[1, 10] = 44.0, 44.0
    found = kernels.log_softmax(z, -1, 1.0)
    exact = -torch.log1p(11 * torch.exp(torch.tensor(-44.0, dtype=torch.float64)))
    for entry in (found[0, 1], found[1, 10]):
        torch.testing.assert_close(entry.double(), exact, rtol=1e-6, atol=0)


def test_nothing_that_counts() -> None:
    z, target = torch.randn(3, 4).requires_grad_(), torch.full((3,), -100)
    value = called(z, target, "mean")
    assert value.isnan()
    value.backward()
    assert z.grad is not None
    assert z.grad.eq(0).all()
    zero = eager_on_gpu.at_once(z, target, PLAIN, Options("mean", "zero"))
    assert zero is not None
    assert float(zero.detach()) == 0
    assert called(torch.randn(0, 4), torch.zeros(0, dtype=torch.long), "none").shape == (0,)


def test_what_is_not_plain_goes_another_way() -> None:
    z, target = case(torch.float32)
    options = Options("mean")
    assert eager_on_gpu.at_once(z, target.int(), PLAIN, options) is None
    assert eager_on_gpu.at_once(z.t(), target, PLAIN, options) is None
    assert eager_on_gpu.at_once(z, target, LossSpec(gamma=1.0), options) is None
    assert eager_on_gpu.at_once(z.double(), target, PLAIN, options) is None
    assert eager_on_gpu.at_once(z, target[:-1], PLAIN, options) is None
    assert eager_on_gpu.at_once(z, target, PLAIN, Options("median")) is None
    # another object that is the same spec is plain
    assert eager_on_gpu.at_once(z, target, LossSpec(), options) is not None


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_maps(name: str) -> None:
    z, _ = case(torch.float32)
    leaf, wide = z.clone().requires_grad_(), z.double().requires_grad_()
    weights = torch.cos(torch.arange(z.numel())).view_as(z)
    found = eager_on_gpu.map_at_once(name, leaf, 0.7, -1)
    assert found is not None
    expected = getattr(torch, name)(wide / 0.7, -1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-30)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    assert leaf.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(leaf.grad.double(), wide.grad, rtol=1e-5, atol=1e-7)
    assert eager_on_gpu.map_at_once(name, z[:0], 1.0, -1) is None
