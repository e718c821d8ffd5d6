"""A plain loss goes straight to the loop, with the operators' bits, wherever nobody else is to hear of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._operators import calls
from tests.specs import INDEX_SPECS, K

pytest.importorskip("numba", reason="without Numba there is only the reference")

PLAIN = LossSpec()


class Passing(TorchFunctionMode):
    """A mode that hears of every function, and changes nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Watching(TorchDispatchMode):
    """A mode that hears of every operator, and changes nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def batch(n: int = 37, k: int = K, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * k)
    z = 4 * torch.randn(n, k, generator=generator, dtype=dtype)
    return z.requires_grad_(), torch.randint(0, k, (n,), generator=generator)


def at_once(z: Tensor, y: Tensor, spec: LossSpec = PLAIN, **options: Any) -> Tensor | None:
    return calls.at_once(z, y, spec, Options(**options))


def by_operators(z: Tensor, y: Tensor, spec: LossSpec = PLAIN, **options: Any) -> Tensor:
    with Passing():
        return slt.cross_entropy(z, y, spec, **options)


def gradient(value: Tensor, z: Tensor, factor: float = 1.0) -> Tensor:
    (found,) = torch.autograd.grad(
        value, z, torch.linspace(factor, 2 * factor, value.numel()).reshape(value.shape).to(value)
    )
    return found


@pytest.mark.parametrize("name", INDEX_SPECS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_bits(name: str, reduction: Any, dtype: torch.dtype) -> None:
    z, y = batch(dtype=dtype)
    y[::5] = -100
    for factor in (1.0, 3.0):
        ours = slt.cross_entropy(z, y, INDEX_SPECS[name], reduction=reduction)
        theirs = by_operators(z, y, INDEX_SPECS[name], reduction=reduction)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
        assert torch.equal(gradient(ours, z, factor), gradient(theirs, z, factor))
    with torch.no_grad():
        assert torch.equal(slt.cross_entropy(z, y, INDEX_SPECS[name], reduction=reduction), ours)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_drop_in_and_the_modules(smoothing: float, threads: int) -> None:
    before = sl.get_num_threads()
    z, y = batch(9000)
    spec = LossSpec(smoothing=smoothing)
    expected = by_operators(z, y, spec)
    losses: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda z, y: slt.functional.cross_entropy(z, y, label_smoothing=smoothing),
        slt.SoftmaxLoss(spec),
    ]
    try:
        sl.set_num_threads(threads)
        for loss in losses:
            value = loss(z, y)
            assert value.grad_fn is not None
            assert value.grad_fn.name() == "AtOnceBackward"
            assert torch.equal(value, expected)
            assert torch.equal(gradient(value, z), gradient(by_operators(z, y, spec), z))
    finally:
        sl.set_num_threads(before)
    balanced = slt.GradientBalancedLoss(range(1, K + 1))
    value = balanced(z, y)
    assert value.grad_fn is not None
    assert value.grad_fn.name() == "AtOnceBackward"
    assert torch.equal(value, by_operators(z, y, balanced.spec))


@pytest.mark.parametrize(
    "surroundings",
    [
        Passing,
        Watching,
        lambda: torch.device("cpu"),
        torch.autograd.forward_ad.dual_level,
        lambda: saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor),
    ],
)
def test_who_is_to_hear_of_a_call_does(surroundings: Any) -> None:
    z, y = batch()
    assert at_once(z, y) is not None
    with surroundings():
        assert at_once(z, y) is None
        value = slt.cross_entropy(z, y)
    assert torch.equal(value, at_once(z, y))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mode", [nullcontext, torch.no_grad, torch.enable_grad, lambda: torch.autocast("cpu")]
)
def test_what_makes_no_difference(mode: Any) -> None:
    z, y = batch()
    with mode():
        value = at_once(z, y)
        assert value is not None
        assert value.requires_grad == torch.is_grad_enabled()
    assert torch.equal(value, by_operators(z, y))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_transforms_and_traces_take_their_own_way() -> None:
    z, y = batch()
    seen: list[Any] = []

    def loss(z: Tensor) -> Tensor:
        seen.append(at_once(z, y))
        return slt.cross_entropy(z, y)

    expected = gradient(by_operators(z, y), z)
    torch.testing.assert_close(torch.func.grad(loss)(z.detach()), expected)
    torch.jit.trace(loss, (z.detach(),), check_trace=False)
    assert seen == [None, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda z, y: (z.half(), y),
        lambda z, y: (z.bfloat16(), y),
        lambda z, y: (z.t().contiguous().t(), y),
        lambda z, y: (z[None], y[None]),
        lambda z, y: (z[0], y[0]),
        lambda z, y: (z, y.int()),
        lambda z, y: (z, y.repeat_interleave(2)[::2]),
        lambda z, y: (z, z.detach().softmax(1)),
        lambda z, y: (torch._neg_view(z), y),
        lambda z, y: (z.detach().to("meta"), y.to("meta")),
        lambda z, y: (z[:0], y[:0]),
    ],
)
def test_what_is_not_plain_is_left_alone(change: Any) -> None:
    z, y = change(*batch())
    assert at_once(z, y) is None
    slt.cross_entropy(z, y)


def test_tensors_of_inference_mode_are_left_alone() -> None:
    with torch.inference_mode():
        z, y = (tensor.clone() for tensor in batch())
        assert at_once(z, y) is None
        value = slt.cross_entropy(z, y)
    assert torch.equal(value, by_operators(*batch()))


def test_wrong_arguments_are_left_to_those_who_say_so() -> None:
    z, y = batch()
    y[3] = K
    assert at_once(z, y) is None
    for loss in (slt.cross_entropy, slt.functional.cross_entropy, slt.SoftmaxLoss()):
        with pytest.raises(IndexError, match=f"label {K} at row 3"):
            loss(z, y)
    with pytest.raises(TypeError, match=r"logits must be a torch\.Tensor"):
        slt.cross_entropy(z.tolist(), y)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="spec must be a LossSpec"):
        slt.cross_entropy(*batch(), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", ["plain", "focal", "everything"])
def test_second_derivatives(reduction: Any, name: str) -> None:
    spec = INDEX_SPECS[name]
    found = []
    for loss in (slt.cross_entropy, by_operators):
        z, y = batch(dtype=torch.float64)
        value = loss(z, y, spec, reduction=reduction)
        (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        found.append((first.detach(), second))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_many_gradients_at_once() -> None:
    z, y = batch()
    upstream = torch.tensor([1.0, -2.0, 0.5])
    for create_graph in (False, True):
        value = slt.cross_entropy(z, y)
        assert value.grad_fn is not None
        assert value.grad_fn.name() == "AtOnceBackward"
        (found,) = torch.autograd.grad(value, z, upstream, is_grads_batched=True, create_graph=create_graph)
        expected = gradient(by_operators(z, y), z)
        torch.testing.assert_close(found, torch.stack([factor * expected for factor in upstream]))


def test_what_is_overwritten_is_noticed() -> None:
    z, y = batch()
    hidden = z * 1.0
    value = slt.cross_entropy(hidden, y)
    hidden.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    value = slt.cross_entropy(z, y)
    y.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, z, create_graph=True)


def test_a_graph_is_walked_twice_only_where_it_is_kept() -> None:
    z, y = batch()
    value = slt.cross_entropy(z, y)
    first = torch.autograd.grad(value, z, retain_graph=True)[0]
    kept = first.clone()
    first.mul_(5.0)
    assert torch.equal(torch.autograd.grad(value, z)[0], kept)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, z)


def test_the_gradient_is_given_away_uncopied() -> None:
    z, y = batch()
    value = slt.cross_entropy(z, y)
    buffer = value.grad_fn.saved_tensors[1].data_ptr()  # type: ignore[union-attr]
    (3 * value).backward()
    assert z.grad is not None
    assert z.grad.data_ptr() == buffer
