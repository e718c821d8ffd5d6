"""The public functions as a GPU's tensors go through them: same code, CPU tensors, the interpreter."""

from __future__ import annotations

import pytest
import torch

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.audit.adapters import MissingFramework, TorchKernels

from ...specs import INDEX_SPECS, K

Launched = list[tuple[str, bool]]


def test_the_loss_and_both_derivatives(as_on_a_gpu: Launched) -> None:
    spec, y = INDEX_SPECS["everything"], torch.tensor([0, 3, 5])
    z = torch.randn(3, K, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wide = z.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(slt.cross_entropy(z, y, spec), z, create_graph=True)
    (expected,) = torch.autograd.grad(slt.cross_entropy(wide, y, spec), wide, create_graph=True)
    torch.testing.assert_close(gradient, expected.float(), rtol=1e-4, atol=1e-6)
    (second,) = torch.autograd.grad(gradient.square().sum(), z)
    (expected,) = torch.autograd.grad(expected.square().sum(), wide)
    torch.testing.assert_close(second, expected.float(), rtol=1e-4, atol=1e-6)
    assert {name for name, _ in as_on_a_gpu} == {"loss_kernel", "product_kernel"}


def test_backward_rescales_only_what_is_not_one(as_on_a_gpu: Launched) -> None:
    z, y = torch.randn(3, K, requires_grad=True), torch.tensor([0, 3, 5])
    slt.cross_entropy(z, y).backward()
    once = 0 + z.grad  # type: ignore[operator]
    (3 * slt.cross_entropy(z, y)).backward()
    torch.testing.assert_close(z.grad, 4 * once)
    slt.cross_entropy(z, y, reduction="none").backward(torch.tensor([1.0, 0.0, 2.0]))
    torch.testing.assert_close(z.grad, once * torch.tensor([[7.0], [4.0], [10.0]]))
    assert [name for name, _ in as_on_a_gpu] == ["whole_kernel", "rescale_kernel"] * 3


def test_in_place(as_on_a_gpu: Launched) -> None:
    w, y = torch.randn(4, K, requires_grad=True), torch.tensor([0, 3, 5, 1])
    slt.cross_entropy(w * 1.0, y).backward()
    expected, w.grad = w.grad, None
    as_on_a_gpu.clear()
    logits = w * 1.0
    loss = slt.cross_entropy(logits, y, inplace=True)
    assert torch.equal(logits, w)  # until the backward pass
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=False)
    assert gradient.data_ptr() == logits.data_ptr()
    torch.testing.assert_close(gradient, expected)
    assert [name for name, _ in as_on_a_gpu] == ["whole_kernel", "whole_kernel"]
    # along another dimension it gets memory of its own
    moved = w * 1.0
    kept = moved.detach().clone()
    slt.cross_entropy(moved, torch.tensor([0, 3, 1, 2, 0, 1]), dim=0, inplace=True).backward()
    assert torch.equal(moved, kept)


def test_half_precision_waits_for_the_upstream_gradient(as_on_a_gpu: Launched) -> None:
    z, y = (
        torch.randn(4, K, generator=torch.Generator().manual_seed(0)).half().requires_grad_(),
        torch.tensor([0, 3, 5, 1]),
    )
    (slt.cross_entropy(z, y) * 3000.0).backward()
    assert [name for name, _ in as_on_a_gpu] == ["whole_kernel", "whole_kernel"]
    wide = z.detach().double().requires_grad_()
    (slt.cross_entropy(wide, y) * 3000.0).backward()
    assert z.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(z.grad.double(), wide.grad, rtol=0.51 * torch.finfo(torch.float16).eps, atol=0)


def test_a_linear_layer(as_on_a_gpu: Launched) -> None:
    generator = torch.Generator().manual_seed(0)
    h, w = (torch.randn(n, 5, generator=generator, requires_grad=True) for n in (7, K))
    y = torch.tensor([0, 1, 2, 3, 4, 5, -100])
    for spec in (sl.LossSpec(), INDEX_SPECS["gate"]):
        loss = slt.linear_cross_entropy(h, w, y, spec, chunk_bytes=100)
        wide = [tensor.detach().double().requires_grad_() for tensor in (h, w)]
        expected = slt.cross_entropy(wide[0] @ wide[1].T, y, spec)
        torch.testing.assert_close(loss, expected.float())
        for found, exact in zip(
            torch.autograd.grad(loss, (h, w)), torch.autograd.grad(expected, wide), strict=True
        ):
            torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-6)
    assert as_on_a_gpu[0] == ("whole_kernel", True)


@pytest.mark.long
def test_the_audit_runs_on_the_kernels(as_on_a_gpu: Launched) -> None:
    """One type and two functions: the interpreter takes five minutes for all of them."""
    frame = sl.audit.run(
        {"kernels": TorchKernels("cpu")},
        dtypes=["float32"],
        functions=["log_softmax", "cross_entropy_grad"],
        progress=False,
    )
    assert frame[~frame.ok].empty, frame[~frame.ok].to_string()
    assert {name for name, _ in as_on_a_gpu} >= {"loss_kernel", "whole_kernel", "shared_kernel"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_adapter_says_so() -> None:
    with pytest.raises(MissingFramework, match="no GPU"):
        TorchKernels()
