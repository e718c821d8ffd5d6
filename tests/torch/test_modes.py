"""A result does not depend on how it is asked for.

Every function in every mode gives the numbers of eager float64.

A function enters by its row in ``FUNCTIONS``, a mode by its row in ``MODES``; every pair is a test. What is
refused by a documented error, and not computed, is in ``REFUSED`` with its words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode

import softmax_lab as sl
import softmax_lab.torch as slt

N, K = 6, 7
LABELS = torch.tensor([0, 3, 6, -100, 1, 3])
WEIGHT = torch.linspace(0.5, 2.0, K)
SHARES = torch.softmax(torch.randn(N, K, generator=torch.Generator().manual_seed(1)), 1)
SPEC = sl.losses.gradient_balanced([90, 50, 30, 10, 5, 2, 1], eps=0.1)
MODULE = slt.SoftmaxLoss(SPEC)
LOG_SPEC = sl.LossSpec(temperature=0.7, margin=0.3, bias=SPEC.bias, class_weight=SPEC.class_weight)
LOG_MODULE = slt.LogCrossEntropyLoss(LOG_SPEC)
Function = Callable[[Tensor], Tensor]


def on(tensor: Tensor, z: Tensor) -> Tensor:
    """Return a constant of the tests where the logits are; a float in their type."""
    return tensor.to(z.device, z.dtype) if tensor.is_floating_point() else tensor.to(z.device)


fx = slt.functional
#: name -> function of the logits alone
FUNCTIONS: dict[str, Function] = {
    "fx.cross_entropy": lambda z: fx.cross_entropy(z, on(LABELS, z)),
    "fx.cross_entropy, none": lambda z: fx.cross_entropy(z, on(LABELS, z), reduction="none"),
    "fx.cross_entropy, weight": lambda z: fx.cross_entropy(z, on(LABELS, z), on(WEIGHT, z)),
    "fx.cross_entropy, smoothing": lambda z: fx.cross_entropy(z, on(LABELS, z), label_smoothing=0.1),
    "fx.cross_entropy, weight and smoothing": lambda z: fx.cross_entropy(
        z, on(LABELS, z), on(WEIGHT, z), label_smoothing=0.1
    ),
    "fx.cross_entropy, probabilities": lambda z: fx.cross_entropy(z, on(SHARES, z)),
    "fx.cross_entropy, weighted probabilities": lambda z: fx.cross_entropy(
        z, on(SHARES, z), on(WEIGHT, z), label_smoothing=0.1
    ),
    "fx.softmax": lambda z: fx.softmax(z, 1),
    "fx.log_softmax": lambda z: fx.log_softmax(z, 1),
    "slt.cross_entropy": lambda z: slt.cross_entropy(z, on(LABELS, z)),
    "slt.cross_entropy, a member": lambda z: slt.cross_entropy(z, on(LABELS, z), SPEC),
    "slt.cross_entropy, distributions": lambda z: slt.cross_entropy(z, on(SHARES, z)),
    "SoftmaxLoss": lambda z: MODULE(z, on(LABELS, z)),
    "slt.log_cross_entropy": lambda z: slt.log_cross_entropy(z, on(LABELS, z)),
    "slt.log_cross_entropy, a member": lambda z: slt.log_cross_entropy(z, on(LABELS, z), LOG_SPEC),
    "LogCrossEntropyLoss": lambda z: LOG_MODULE(z, on(LABELS, z)),
    "slt.softmax": slt.softmax,
    "slt.softmax, temperature": lambda z: slt.softmax(z, temperature=0.7),
    "slt.log_softmax": slt.log_softmax,
    "slt.log_softmax, temperature": lambda z: slt.log_softmax(z, temperature=0.7),
}


def logits(dtype: torch.dtype = torch.float32) -> Tensor:
    """Ordinary rows, and two so confident that a formula other than the package's would show."""
    z = 3 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))
    z[0, 0], z[1, 5] = 40.0, 60.0
    return z.to(dtype)


def weighed(value: Tensor) -> Tensor:
    """Return one number with a different upstream gradient for each entry."""
    return (
        value
        * torch.cos(torch.arange(value.numel(), device=value.device, dtype=torch.float32)).view_as(value)
    ).sum()


class Found(NamedTuple):
    """What a mode gave: the value, and the gradient of :func:`weighed` where the mode has one."""

    value: Tensor
    gradient: Tensor | None = None


def eager(function: Function, z: Tensor) -> Found:
    leaf = z.detach().clone().requires_grad_()
    value = function(leaf)
    weighed(value).backward()
    return Found(value.detach(), leaf.grad)


def within(manager: Callable[[], Any]) -> Callable[[Function, Tensor], Found]:
    """Return eager mode inside a context."""

    def mode(function: Function, z: Tensor) -> Found:
        with manager():
            return eager(function, z)

    return mode


def without_gradient(manager: Callable[[], Any]) -> Callable[[Function, Tensor], Found]:
    def mode(function: Function, z: Tensor) -> Found:
        with manager():
            return Found(function(z).clone())

    return mode


def default_device(function: Function, z: Tensor) -> Found:
    torch.set_default_device("cpu")
    try:
        return eager(function, z)
    finally:
        torch.set_default_device(None)


class _Watching(TorchFunctionMode):
    """A function mode that changes nothing, as profilers and counters of operations are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def compiled(function: Function, z: Tensor) -> Found:
    torch.compiler.reset()
    return eager(torch.compile(function, fullgraph=True, backend="aot_eager"), z)


def functional_gradient(function: Function, z: Tensor) -> Found:
    return Found(function(z), torch.func.grad(lambda x: weighed(function(x)))(z))


def mapped(function: Function, z: Tensor) -> Found:
    both = torch.func.vmap(function)(torch.stack([z, z.flip(0)]))
    return Found(
        both[0],
        torch.func.vmap(torch.func.grad(lambda x: weighed(function(x))))(torch.stack([z, z.flip(0)]))[0],
    )


def forward_mode(function: Function, z: Tensor) -> Found:
    """The gradient one entry at a time, by Jacobian-vector products."""
    units = torch.eye(z.numel(), dtype=z.dtype).view(-1, *z.shape)
    columns = [torch.func.jvp(lambda x: weighed(function(x)), (z,), (unit,))[1] for unit in units]
    return Found(torch.func.jvp(function, (z,), (z,))[0], torch.stack(columns).view_as(z).to(z.dtype))


def checkpointed(reentrant: bool) -> Callable[[Function, Tensor], Found]:
    def mode(function: Function, z: Tensor) -> Found:
        return eager(
            lambda x: torch.utils.checkpoint.checkpoint(function, x * 1.0, use_reentrant=reentrant), z
        )

    return mode


def batched_gradients(function: Function, z: Tensor) -> Found:
    """The backward pass under vmap, as ``is_grads_batched`` runs it."""
    leaf = z.detach().clone().requires_grad_()
    value = function(leaf)
    upstream = torch.cos(torch.arange(value.numel(), dtype=torch.float32)).view_as(value).to(value.dtype)
    (both,) = torch.autograd.grad(value, leaf, torch.stack([upstream, -upstream]), is_grads_batched=True)
    return Found(value.detach(), both[0])


def exported(strict: bool) -> Callable[[Function, Tensor], Found]:
    class Module(nn.Module):
        def __init__(self, function: Function) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x)

    def mode(function: Function, z: Tensor) -> Found:
        program = torch.export.export(Module(function), (z + 1.0,), strict=strict)
        return Found(program.module()(z))

    return mode


#: name -> how a function is asked for its value and gradient
MODES: dict[str, Callable[[Function, Tensor], Found]] = {
    "eager": eager,
    "no_grad": without_gradient(torch.no_grad),
    "inference": without_gradient(torch.inference_mode),
    "autocast bfloat16": within(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "autocast float16": within(lambda: torch.autocast("cpu", dtype=torch.float16)),
    "device context": within(lambda: torch.device("cpu")),
    "default device": default_device,
    "function mode": within(_Watching),
    "saved on the CPU": within(torch.autograd.graph.save_on_cpu),
    "checkpoint": checkpointed(False),
    "reentrant checkpoint": checkpointed(True),
    "func.grad": functional_gradient,
    "vmap": mapped,
    "jvp": forward_mode,
    "batched gradients": batched_gradients,
}
#: those that trace, and take seconds
TRACED: dict[str, Callable[[Function, Tensor], Found]] = {
    "compile": compiled,
    "export": exported(False),
    "strict export": exported(True),
}
#: (mode, function) -> words of the error that is documented
REFUSED: dict[tuple[str, str], str] = {
    ("strict export", "slt.cross_entropy, a member"): "a strict export cannot hold a LossSpec",
    ("strict export", "slt.log_cross_entropy, a member"): "a strict export cannot hold a LossSpec",
}


def assert_the_numbers_of_float64(mode: str, name: str, dtype: torch.dtype) -> None:
    z, function = logits(dtype), FUNCTIONS[name]
    if (mode, name) in REFUSED:
        with pytest.raises(Exception, match=REFUSED[mode, name]):
            (MODES | TRACED)[mode](function, z)
        return
    found, expected = (MODES | TRACED)[mode](function, z), eager(function, z.double())
    assert expected.gradient is not None
    # in float32 a few roundings of the formulas in plain torch; in half precision one rounding, and what the
    # types of weights lose
    relative = 3e-6 if dtype == torch.float32 else 3 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        found.value.double(), expected.value, rtol=relative, atol=1e-7 if dtype != torch.float32 else 1e-30
    )
    if found.gradient is not None:
        assert found.gradient.dtype == dtype
        row = expected.gradient.abs().amax(1, keepdim=True)
        smallest = 1e-7 if dtype != torch.float32 else torch.finfo(dtype).smallest_normal
        assert bool(((found.gradient.double() - expected.gradient).abs() <= relative * row + smallest).all())
    if name.endswith("cross_entropy, none"):  # a confident row's loss is its own, and not torch's 0
        assert float(found.value[0].detach()) > 0 or dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mode_changes_no_number(name: str, mode: str, dtype: torch.dtype) -> None:
    assert_the_numbers_of_float64(mode, name, dtype)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", TRACED)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_traced_mode_changes_no_number(name: str, mode: str, dtype: torch.dtype) -> None:
    assert_the_numbers_of_float64(mode, name, dtype)


@pytest.mark.parametrize("mode", TRACED)
@pytest.mark.parametrize("name", ["fx.cross_entropy, weight and smoothing", "SoftmaxLoss", "slt.log_softmax"])
def test_a_few_functions_are_traced_every_time(name: str, mode: str) -> None:
    assert_the_numbers_of_float64(mode, name, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("where", ["meta", "fake"])
def test_tensors_without_memory_have_the_shapes_and_types(where: str, name: str, dtype: torch.dtype) -> None:
    function, real = FUNCTIONS[name], eager(FUNCTIONS[name], logits(dtype))
    if where == "meta":
        found = eager(function, logits(dtype).to("meta"))
    else:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            found = eager(function, fake.from_tensor(logits(dtype)))
    assert real.gradient is not None
    assert found.gradient is not None
    assert (found.value.shape, found.value.dtype) == (real.value.shape, real.value.dtype)
    assert (found.gradient.shape, found.gradient.dtype) == (real.gradient.shape, real.gradient.dtype)


def test_every_function_of_the_drop_in_has_a_row() -> None:
    assert {name.split(",")[0].removeprefix("fx.") for name in FUNCTIONS if name.startswith("fx.")} == set(
        slt.functional.__all__
    )
