"""A derivative in half precision is rounded once, after every factor.

The factors are a mean's divisor, weights, and the upstream gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as torch_functional

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec, _dispatch, exact
from softmax_lab._checks import Reduction
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._base.tensors import as_array
from softmax_lab.torch._formula import losses, maps
from softmax_lab.torch._formula.fields import fields_of, packed
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

HALF = (torch.float16, torch.bfloat16)
SCALE = 65536.0 / 3.0  # a loss scale that is no power of two
ONCE = 0.502  # ulp: one rounding of a float64
Loss = Callable[[Tensor, Tensor], Tensor]


def ulps(found: Tensor, expected: Tensor) -> float:
    """Return the largest error of a half-precision tensor in ulp of its type; ``expected`` is float64."""
    result = as_array(found.contiguous())
    return float(exact.ulp_error(result.ravel(), expected.detach().numpy().ravel(), dtype=result.dtype).max())


def problem(dtype: torch.dtype, n: int = 64, k: int = 96) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(n, k, generator=generator)).to(dtype).requires_grad_(), torch.randint(
        0, k, (n,), generator=generator
    )


def gradient_of(loss: Loss, logits: Tensor, target: Tensor, upstream: Tensor | float) -> Tensor:
    """Return the gradient of the loss times an upstream gradient, in a leaf of the same values."""
    leaf = logits.detach().clone().requires_grad_()
    (loss(leaf, target) * upstream).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def compiled(loss: Loss) -> Loss:
    torch.compiler.reset()
    function: Loss = torch.compile(loss, fullgraph=True, backend="aot_eager")
    return function


#: ways to the same mean loss; each is given logits and labels
WAYS: dict[str, Loss] = {
    "slt": slt.cross_entropy,
    "module": slt.SoftmaxLoss(),
    "in place": lambda z, y: slt.cross_entropy(z * 1.0, y, inplace=True),
    "classes first": lambda z, y: slt.cross_entropy(z.t(), y, dim=0),
    "compiled": lambda z, y: compiled(slt.cross_entropy)(z, y),
    "func": lambda z, y: torch.func.vmap(lambda row, label: slt.cross_entropy(row, label))(z, y).mean(),
    "create_graph": lambda z, y: slt.cross_entropy(z, y),
}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_a_loss_scale_comes_before_the_rounding(way: str, dtype: torch.dtype) -> None:
    logits, target = problem(dtype)
    exact_gradient = gradient_of(slt.cross_entropy, logits.double(), target, SCALE)
    if way == "create_graph":
        leaf = logits.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(slt.cross_entropy(leaf, target) * SCALE, leaf, create_graph=True)
    else:
        found = gradient_of(WAYS[way], logits, target, SCALE)
    assert found.dtype == dtype
    # plain torch computes in float32: its own error comes on top
    assert ulps(found, exact_gradient) <= (0.51 if way == "func" else ONCE)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("way", ["plain", "smoothing", "weight", "probabilities"])
def test_the_drop_in_under_autocast_and_a_loss_scale(way: str, dtype: torch.dtype) -> None:
    logits, target = problem(dtype)
    weight = torch.linspace(0.5, 2.0, logits.shape[1])
    soft = torch.softmax(torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)), 1)
    given: dict[str, dict[str, Any]] = {"smoothing": {"label_smoothing": 0.1}, "weight": {"weight": weight}}
    options = given.get(way, {})
    labels = soft.to(dtype) if way == "probabilities" else target

    def loss(function: Callable[..., Tensor], z: Tensor, y: Tensor) -> Tensor:
        return function(
            z, y, **{name: v.to(z.dtype) if isinstance(v, Tensor) else v for name, v in options.items()}
        )

    wide = labels.double() if way == "probabilities" else labels
    wide_weight: dict[str, Any] = {"weight": weight.to(dtype).double()} if way == "weight" else options
    leaf = logits.detach().double().requires_grad_()
    (torch_functional.cross_entropy(leaf, wide, **wide_weight) * SCALE).backward()
    with torch.autocast("cpu", dtype=dtype):
        found = gradient_of(lambda z, y: loss(slt.functional.cross_entropy, z, y), logits, labels, SCALE)
    assert leaf.grad is not None
    if way in ("plain", "weight"):
        assert ulps(found, leaf.grad) <= ONCE
    else:  # q - s cancels: in ulp of the largest term
        unit = torch.finfo(dtype).eps * float(leaf.grad.abs().max())
        assert float((found.double() - leaf.grad).abs().max()) <= 0.51 * unit


def test_a_loss_scale_keeps_what_the_divisor_would_lose() -> None:
    """Ordinary logits of many classes: with 1 / N alone nine tenths of the gradient are below float16."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1024, 8192, generator=generator).half().requires_grad_()
    target = torch.randint(0, 8192, (1024,), generator=generator)
    with torch.autocast("cpu", dtype=torch.float16):
        value = slt.functional.cross_entropy(logits, target)
    (value * 65536).backward()
    assert logits.grad is not None
    assert int((logits.grad == 0).sum()) == 0
    # the target's alone is -64: rounding, not loss
    assert float(logits.grad.double().sum(1).abs().max()) < 0.05


def test_equal_logits_of_a_large_batch() -> None:
    logits = torch.zeros(65536, 512, dtype=torch.float16, requires_grad=True)
    (slt.cross_entropy(logits, torch.zeros(65536, dtype=torch.long)) * 65536).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[7, :2], torch.tensor([-511 / 512, 1 / 512]).half())


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_every_row_has_its_own_upstream_gradient(dtype: torch.dtype) -> None:
    logits, target = problem(dtype)
    upstream = torch.logspace(-6, 4, len(logits))
    with_none = partial(slt.cross_entropy, reduction="none")
    assert (
        ulps(
            gradient_of(with_none, logits, target, upstream),
            gradient_of(with_none, logits.double(), target, upstream),
        )
        <= ONCE
    )


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", [*INDEX_SPECS, *(f"{name}, distributions" for name in SOFT_SPECS)])
def test_every_field_is_rounded_once(name: str, dtype: torch.dtype) -> None:
    """Sample weights, class weights, a gate's divisor and the loss scale: all before the rounding."""
    spec = INDEX_SPECS[name.removesuffix(", distributions")]
    logits, target = problem(dtype, 32, K)
    if name.endswith("distributions"):
        target = torch.softmax(torch.randn(32, K, generator=torch.Generator().manual_seed(1)), 1).double()
    weights = torch.rand(32, generator=torch.Generator().manual_seed(2))
    for reduction in ("mean", "sum"):
        loss: Loss = partial(slt.cross_entropy, spec=spec, reduction=reduction, sample_weight=weights)
        found, expected = (gradient_of(loss, z, target, SCALE) for z in (logits, logits.double()))
        rounded = torch.finfo(dtype).eps * expected.abs().clamp_min(torch.finfo(dtype).smallest_normal)
        # half an ulp of the result, and what float32 arithmetic on transformed logits leaves of the largest
        # term
        slack = 1e-6 * expected.abs().amax(1, keepdim=True)
        finite = found.isfinite()
        assert bool(((found.double() - expected).abs() <= 0.5 * rounded + slack)[finite].all())
        assert bool((expected.abs()[~finite] > 0.99 * torch.finfo(dtype).max).all())


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", INDEX_SPECS)
def test_plain_torch_rounds_once_too(name: str, dtype: torch.dtype) -> None:
    """What devices without kernels run."""
    logits, target = problem(dtype, 16, K)
    upstream, spec = torch.tensor(SCALE), INDEX_SPECS[name]
    found = losses.gradient(logits.detach(), upstream, target, fields_of(spec, logits), None, Options())
    expected = gradient_of(lambda z, y: slt.cross_entropy(z, y, spec), logits.double(), target, SCALE)
    unit = 0.5 * torch.finfo(dtype).eps * expected.abs().clamp_min(torch.finfo(dtype).smallest_normal)
    unit += 2e-5 * expected.abs().amax(1, keepdim=True)  # float32 of logits times 30
    assert bool(((found.double() - expected).abs() <= unit).all())


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_second_derivative_is_rounded_once(reduction: Reduction, dtype: torch.dtype) -> None:
    """To the logits, and to the upstream gradient.

    A tangent times a loss scale of 65536 would overflow float16.
    """
    logits, target = problem(dtype, 8, K)
    scale = torch.full((8,) if reduction == "none" else (), 65536.0)
    tangent = torch.linspace(-1, 1, logits.numel()).view_as(logits)

    def second(z: Tensor) -> tuple[Tensor, Tensor]:
        leaf, upstream = (
            z.detach().requires_grad_(),
            scale.to(torch.float64 if z.dtype == torch.float64 else torch.float32).requires_grad_(),
        )
        value = slt.cross_entropy(leaf, target, reduction=reduction)
        (gradient,) = torch.autograd.grad(value, leaf, upstream / 64, create_graph=True)
        found: Any = torch.autograd.grad(gradient, (leaf, upstream), tangent.to(z.dtype))
        return found

    tangent = tangent.to(dtype).float()
    (to_logits, to_upstream), (exact_logits, exact_upstream) = second(logits), second(logits.double())
    assert ulps(to_logits, exact_logits) <= ONCE
    # the dot product cancels: float32's roundings of terms of order one
    torch.testing.assert_close(to_upstream.double(), exact_upstream, rtol=0, atol=1e-7)


def test_a_third_derivative_in_half_precision() -> None:
    logits, target = problem(torch.bfloat16, 4, K)

    def third(z: Tensor) -> Tensor:
        found = z.detach().requires_grad_()
        leaf, value = found, slt.cross_entropy(found, target)
        for _ in range(3):
            (found,) = torch.autograd.grad(value, leaf, create_graph=True)
            value = (found * torch.linspace(0, 1, K).to(z.dtype)).sum()
        return found

    expected = third(logits.double())
    assert float((third(logits).detach().double() - expected.detach()).abs().max()) < 0.02 * float(
        expected.detach().abs().max()
    )


# ---- the maps ----


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_maps_divide_by_the_temperature_before_the_rounding(
    name: str, create_graph: bool, dtype: torch.dtype
) -> None:
    logits, _ = problem(dtype, 16, K)
    upstream = torch.randn(16, K, generator=torch.Generator().manual_seed(1)).to(dtype)
    result = getattr(slt, name)(logits, temperature=3.0)
    (found,) = torch.autograd.grad(result, logits, upstream, create_graph=create_graph)
    formula = getattr(maps, f"{name}_vjp")
    expected = formula(result.detach().double(), upstream.double(), 1, 3.0)
    unit = 0.502 * torch.finfo(dtype).eps * expected.abs() + 1e-6
    assert bool(((found.double() - expected).abs() <= unit).all())


# ---- linear layers ----


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_linear_layer_keeps_small_gradients(reduction: Reduction, dtype: torch.dtype) -> None:
    """A batch so large that 1 / N alone would leave the hidden gradient below float16.

    The loss scale brings it back.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(512, 16, generator=generator).to(dtype).requires_grad_()
    weight = (0.01 * torch.randn(40, 16, generator=generator)).to(dtype).requires_grad_()
    target = torch.randint(0, 40, (512,), generator=generator)

    def gradients(h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in (h, w)]
        value = slt.linear_cross_entropy(
            leaves[0], leaves[1], target, reduction=reduction, chunk_bytes=1 << 14
        )
        (value.sum() * (2.0**-20 if reduction == "mean" else 2.0**-29) * 2.0**24).backward()
        found: Any = tuple(leaf.grad for leaf in leaves)
        return found

    for found, expected in zip(
        gradients(hidden, weight), gradients(hidden.double(), weight.double()), strict=True
    ):
        assert float((found.double() - expected).abs().max()) <= 4 * torch.finfo(dtype).eps * float(
            expected.abs().max()
        )


def test_the_hidden_gradient_waits_in_float32() -> None:
    from softmax_lab.torch._machinery.chunks import Gradients

    hidden, weight = torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(4, 3, dtype=torch.bfloat16)
    kept = Gradients.zeros(hidden, weight, None, (True, True, False))
    assert [tensor.dtype for tensor in kept if tensor is not None] == [torch.float32, torch.float32]


# ---- what the mechanism promises ----


def test_the_forward_pass_keeps_a_few_numbers_a_row() -> None:
    logits, target = problem(torch.bfloat16, 32, 4096)
    value = slt.cross_entropy(logits, target)
    saved = value.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert sum(t.numel() for t in saved if t is not None and t.data_ptr() != logits.data_ptr()) < 32 * 16


def test_without_the_compiled_loops_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = problem(torch.float16, 16, K)
    for name, spec in INDEX_SPECS.items():
        loss: Loss = partial(slt.cross_entropy, spec=spec)
        expected = gradient_of(loss, logits, target, SCALE)
        with monkeypatch.context() as patch:
            patch.setattr(_dispatch, "choose", lambda *_, **__: "reference")
            found = gradient_of(loss, logits, target, SCALE)
        torch.testing.assert_close(found, expected, rtol=torch.finfo(torch.float16).eps, atol=0.0, msg=name)


def test_numpy_gated_means_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 3, (64, K)).astype(np.float16), rng.integers(0, K, 64)
    spec = LossSpec(class_weight=np.linspace(1, 50, K), gate=4.0)
    _, found = sl.cross_entropy_grad(z, y, spec)
    _, expected = sl.cross_entropy_grad(z.astype(np.float64), y, spec)
    assert float(exact.ulp_error(found.ravel(), expected.ravel(), dtype=np.dtype(np.float16)).max()) <= ONCE


def test_opcheck_of_both_passes() -> None:
    logits, target = problem(torch.float32, 4, K)
    arguments = (target, *packed(INDEX_SPECS["everything"], logits), torch.linspace(0.5, 2.0, 4), *Options())
    forward, backward = (
        torch.ops.softmax_lab.cross_entropy_forward,
        torch.ops.softmax_lab.cross_entropy_backward,
    )
    assert set(torch.library.opcheck(forward.default, (logits, *arguments)).values()) == {"SUCCESS"}
    _, kept = forward(logits.detach(), *arguments)
    upstream = torch.tensor(2.0, requires_grad=True)
    assert set(torch.library.opcheck(backward.default, (logits, kept, upstream, *arguments)).values()) == {
        "SUCCESS"
    }
