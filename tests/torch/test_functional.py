"""The drop-ins beside torch's own functions: its samples, its error cases, and every corner."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as torch_functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch._operators import calls

pytest.importorskip("expecttest", reason="torch's own test samples need it")

FUNCTIONS = ("cross_entropy", "softmax", "log_softmax")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# of the largest entry: weights and upstream gradients are multiplied in, and terms larger than the result
# cancel
ULPS = 16


@pytest.fixture(scope="module")
def sampled() -> tuple[Any, Any]:
    """torch's registries of sample inputs: of functions, and of modules."""
    functions = importlib.import_module("torch.testing._internal.common_methods_invocations").op_db
    modules = importlib.import_module("torch.testing._internal.common_modules").module_db
    loss = next(info for info in modules if info.module_cls is torch.nn.CrossEntropyLoss)
    return {
        (info.name.removeprefix("nn.functional."), info.variant_test_name): info for info in functions
    }, loss


def detached(value: Any) -> Any:
    """Copy a tensor as a leaf of its own, which requires a gradient as the original does."""
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def outcome(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the value, and its weighted sum's gradients in every argument that wants one."""
    args, kwargs = (
        tuple(detached(value) for value in args),
        {name: detached(value) for name, value in kwargs.items()},
    )
    value = function(*args, **kwargs)
    leaves = [leaf for leaf in [*args, *kwargs.values()] if isinstance(leaf, Tensor) and leaf.requires_grad]
    factors = (
        torch.linspace(1.0, 2.0, value.numel(), dtype=torch.float64).reshape(value.shape).to(value.dtype)
    )
    if leaves and value.requires_grad:
        (value * factors).sum().backward()
    return value.detach(), [leaf.grad for leaf in leaves]


def widened(value: Any) -> Any:
    """Return a floating tensor in float64; with it, torch's function is the reference."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return torch.float64 if value in DTYPES else value
    return value.detach().double().requires_grad_(value.requires_grad)


def assert_alike(ours: Any, theirs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Compare with torch's function in float64, and the type of the value with its own."""
    value, gradients = outcome(ours, args, kwargs)
    assert value.dtype == theirs(*args, **kwargs).dtype
    wide = tuple(widened(arg) for arg in args), {name: widened(arg) for name, arg in kwargs.items()}
    expected, expected_gradients = outcome(theirs, *wide)
    everything = [expected, *(wanted for wanted in expected_gradients if wanted is not None)]
    largest = max(
        (wanted.abs().nan_to_num(posinf=0.0).amax().item() for wanted in everything if wanted.numel()),
        default=0.0,
    )
    for got, wanted in zip([value, *gradients], [expected, *expected_gradients], strict=True):
        assert (got is None) == (wanted is None)
        if got is not None and wanted is not None:
            bar = ULPS * max(torch.finfo(value.dtype).eps, torch.finfo(got.dtype).eps)
            torch.testing.assert_close(
                got.to(wanted.dtype), wanted, rtol=bar, atol=bar * largest, equal_nan=True
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_torchs_own_samples_of_the_function(sampled: tuple[Any, Any], name: str, dtype: torch.dtype) -> None:
    infos = [info for (function, _), info in sampled[0].items() if function == name]
    samples = [sample for info in infos for sample in info.sample_inputs("cpu", dtype, requires_grad=True)]
    assert len(samples) >= 14
    for sample in samples:
        assert_alike(
            getattr(slt.functional, name),
            getattr(torch_functional, name),
            (sample.input, *sample.args),
            sample.kwargs,
        )


@pytest.mark.filterwarnings("ignore:Casting complex values to real")
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_torchs_own_samples_of_other_types(sampled: tuple[Any, Any], name: str) -> None:
    info = sampled[0][name, "with_dtype"]
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        for sample in info.sample_inputs("cpu", dtype):
            assert_alike(
                getattr(slt.functional, name),
                getattr(torch_functional, name),
                (sample.input, *sample.args),
                sample.kwargs,
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_torchs_own_samples_of_the_module(sampled: tuple[Any, Any], dtype: torch.dtype) -> None:
    loss = sampled[1]
    samples = loss.module_inputs_func(loss, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(samples) > 50
    for sample in samples:
        assert_alike(
            slt.functional.cross_entropy,
            torch_functional.cross_entropy,
            sample.forward_input.args,
            sample.constructor_input.kwargs,
        )


def test_torchs_own_errors_of_the_module(sampled: tuple[Any, Any]) -> None:
    loss = sampled[1]
    if loss.module_error_inputs_func is None:
        pytest.skip("this version of torch has none")
    cases = list(
        loss.module_error_inputs_func(
            loss, device="cpu", dtype=torch.float32, requires_grad=False, training=True
        )
    )
    assert cases
    for case in cases:
        inputs = case.module_error_input
        with pytest.raises(case.error_type, match=case.error_regex):
            slt.functional.cross_entropy(*inputs.forward_input.args, **inputs.constructor_input.kwargs)


def _logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _wrong_calls() -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    z, y = _logits(4, 3), torch.tensor([0, 1, 2, 0])
    yield "int32 labels", (z, y.int()), {}
    yield "rows that differ", (z, y[:3]), {}
    yield "distributions of another shape", (z, _logits(4, 2)), {}
    yield "a weight of another length", (z, y), {"weight": torch.ones(2, dtype=z.dtype)}
    yield "a weight of another type", (z, y), {"weight": torch.ones(3)}
    yield "smoothing beyond one", (z, y), {"label_smoothing": 1.5}
    yield "no such reduction", (z, y), {"reduction": "median"}
    yield "ignore_index with distributions", (z, z.softmax(1)), {"ignore_index": 1}
    yield "integer logits", (z.long(), y), {}
    yield "a scalar", (z[0, 0], y[0]), {}
    yield "labels twice", (z, torch.stack([y, y], 1)), {}


@pytest.mark.parametrize(("args", "kwargs"), [pytest.param(a, k, id=name) for name, a, k in _wrong_calls()])
def test_errors_are_torchs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 the message is compared below
        torch_functional.cross_entropy(*args, **kwargs)
    with pytest.raises(type(expected.value)) as got:
        slt.functional.cross_entropy(*args, **kwargs)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_an_index_error_that_names_it(label: int) -> None:
    z, y = _logits(4, 3), torch.tensor([0, 1, label, 0])
    with pytest.raises(IndexError):
        torch_functional.cross_entropy(z, y)
    with pytest.raises(IndexError, match=f"label {label} at row 2"):
        slt.functional.cross_entropy(z, y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_torchs(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (slt.functional, torch_functional))
    plain = [
        [(p.name, p.kind, p.default) for p in signature.parameters.values()] for signature in (ours, theirs)
    ]
    assert plain[0] == plain[1]


WEIGHTS = {
    "none": None,
    "positive": [0.5, 1.0, 3.0],
    "a zero": [0.0, 1.0, 2.0],
    "all zero": [0.0, 0.0, 0.0],
    "negative": [-1.0, 2.0, 0.5],
}
LABELS = {
    "all": [0, 1, 2, 0],
    "some ignored": [0, -100, 2, 1],
    "only ignored": [-100] * 4,
    "one class": [0, 0, 0, 0],
}


@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_smoothing_and_ignored_rows_together(weight: str) -> None:
    w = None if WEIGHTS[weight] is None else torch.tensor(WEIGHTS[weight], dtype=torch.float64)
    for labels, eps, reduction in itertools.product(
        LABELS.values(), (0.0, 0.3, 1.0), ("none", "mean", "sum")
    ):
        args = (_logits(4, 3).requires_grad_(), torch.tensor(labels))
        assert_alike(
            slt.functional.cross_entropy,
            torch_functional.cross_entropy,
            args,
            {"weight": w, "label_smoothing": eps, "reduction": reduction},
        )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_distributions_and_gradients_to_them(reduction: str, eps: float) -> None:
    z, w = _logits(2, 3, 4), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    for target in (
        z.softmax(1),
        z * 0.3,
        torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 0]] * 2), 3).movedim(-1, 1).double(),
    ):
        for weight, wanted in itertools.product((None, w), (False, True)):
            args = (z.clone().requires_grad_(), target.clone().requires_grad_(wanted))
            kwargs = {"weight": weight, "label_smoothing": eps, "reduction": reduction}
            assert_alike(slt.functional.cross_entropy, torch_functional.cross_entropy, args, kwargs)


def test_legacy_reduction_arguments() -> None:
    z, y = _logits(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.warns(UserWarning, match="size_average and reduce"):
        value = slt.functional.cross_entropy(z, y, size_average=False)
    torch.testing.assert_close(value, torch_functional.cross_entropy(z, y, reduction="sum"))


def test_minus_infinity_among_the_logits() -> None:
    z = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    for eps in (0.0, 0.1):
        value, gradients = outcome(
            slt.functional.cross_entropy, (z, torch.tensor([0])), {"label_smoothing": eps}
        )
        expected, wanted = outcome(
            torch_functional.cross_entropy, (z, torch.tensor([0])), {"label_smoothing": eps}
        )
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradients[0], wanted[0])


def test_autocast_widens_the_value_as_torch_does() -> None:
    z, y = _logits(4, 3).bfloat16(), torch.tensor([0, 1, 2, 0])
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            expected, got = torch_functional.cross_entropy(z, y), slt.functional.cross_entropy(z, y)
            assert (got.dtype, slt.functional.softmax(z, 1).dtype) == (
                expected.dtype,
                torch_functional.softmax(z, 1).dtype,
            )
        torch.testing.assert_close(got, expected)


def test_double_backward_agrees_with_torchs() -> None:
    z, w = _logits(4, 3), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    for weight, eps in itertools.product((None, w), (0.0, 0.2)):
        hessians = [
            torch.autograd.functional.hessian(
                lambda z: f(z, torch.tensor([0, 1, 2, -100]), weight, label_smoothing=eps),  # noqa: B023
                z,
            )
            for f in (slt.functional.cross_entropy, torch_functional.cross_entropy)
        ]
        torch.testing.assert_close(*hessians)


def test_which_calls_are_torchs_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = calls.loss

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        seen.append("ours")
        return original(*args, **kwargs)

    at_once = calls.at_once

    def counted_at_once(*args: Any) -> Tensor | None:
        value = at_once(*args)
        if value is not None:
            seen.append("ours")
        return value

    monkeypatch.setattr(calls, "loss", counted)
    monkeypatch.setattr(calls, "at_once", counted_at_once)
    z, y = _logits(4, 3), torch.tensor([0, 1, 2, 0])
    ours: list[tuple[Any, ...]] = [
        (z, y),
        (z, y, torch.ones(3).double()),
        (z, z.softmax(1)),
        (z.float(), y.to(torch.uint8)),
        (z.bfloat16(), y),
    ]
    for args in (*ours, (z, -z), (z, y, -torch.ones(3).double()), (z, z / 0.0)):
        slt.functional.cross_entropy(*args)
        assert seen.pop() == "ours"
    weight = torch.ones(3).double().requires_grad_()
    for args in ((z[:0], y[:0]), (z, z.softmax(1), weight)):
        slt.functional.cross_entropy(*args)
        assert not seen


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_maps_beside_torchs(name: str) -> None:
    ours, theirs = getattr(slt.functional, name), getattr(torch_functional, name)
    z = _logits(2, 3, 4)
    for dim, dtype in itertools.product((0, 1, -1), (None, torch.float32, torch.float64)):
        assert_alike(ours, theirs, (z.clone().requires_grad_(), dim), {"dtype": dtype})
    with pytest.warns(UserWarning, match="Implicit dimension"):
        assert np.array_equal(ours(z), theirs(z, 0))
    with pytest.raises(IndexError, match="Dimension out of range"):
        ours(z, 3)


# ---- weights and probabilities of any sign, infinite and NaN ----

ANY = st.floats(-3.0, 3.0) | st.sampled_from([torch.inf, -torch.inf, torch.nan, 0.0, -1.0])
OTHER = st.floats(-3.0, 3.0)


@st.composite
def signed_calls(draw: st.DrawFn) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Logits, a target and keywords; weights and probabilities of any sign, or any floats at all."""
    n, k, entries = (
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2, 3, 9, 20])),
        draw(st.sampled_from([ANY, OTHER])),
    )
    z = draw(arrays(np.float64, (n, k), elements=OTHER))
    labels = arrays(np.int64, n, elements=st.integers(0, k - 1) | st.just(-100))
    target = draw(labels | arrays(np.float64, (n, k), elements=entries))
    weight = draw(st.none() | arrays(np.float64, k, elements=entries))
    keywords = {
        "reduction": draw(st.sampled_from(["none", "mean", "sum"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.3, 1.0])),
    }
    return (
        torch.tensor(z),
        torch.tensor(target),
        keywords | {"weight": None if weight is None else torch.tensor(weight)},
    )


def assert_close_where_finite(got: Tensor, expected: Tensor) -> None:
    """Compare; where torch's is infinite or NaN, so is ours, or 0 in rows that do not count."""
    finite = torch.isfinite(expected)
    largest = expected[finite].abs().amax().item() if finite.any() else 0.0
    assert not torch.isfinite(got[~finite & (got != 0)]).any()
    torch.testing.assert_close(got[finite], expected[finite], rtol=1e-12, atol=1e-12 * max(largest, 1.0))


@given(signed_calls())
def test_the_formula_holds_for_whatever_torchs_holds_for(call: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    z, target, keywords = call
    weight = keywords["weight"]
    cancels = (
        weight is not None
        and not target.is_floating_point()
        and weight[target[target >= 0]].sum().abs() < 1e-6
    )
    assume(not (cancels and keywords["reduction"] == "mean"))  # torch divides by what is left of the sum
    expected, wanted = outcome(torch_functional.cross_entropy, (z.requires_grad_(), target), keywords)
    value, found = outcome(slt.functional.cross_entropy, (z, target), keywords)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert_close_where_finite(found[0], wanted[0])  # type: ignore[arg-type]
    assert_the_same_in_transforms(z.detach(), target, keywords, value, found[0])  # type: ignore[arg-type]


def assert_the_same_in_transforms(
    z: Tensor, target: Tensor, keywords: dict[str, Any], value: Tensor, gradient: Tensor
) -> None:
    def loss(z: Tensor) -> Tensor:
        return slt.functional.cross_entropy(z, target, **keywords)

    mapped = torch.func.vmap(loss)(torch.stack([z, z]))[1]
    torch.testing.assert_close(mapped, value, rtol=1e-12, atol=1e-12, equal_nan=True)
    factors = torch.linspace(1.0, 2.0, value.numel(), dtype=torch.float64).reshape(value.shape)
    assert_close_where_finite(torch.func.grad(lambda z: (loss(z) * factors).sum())(z), gradient)


INFINITE = torch.tensor([1.0, torch.inf, 0.5], dtype=torch.float64)
NEGATIVE = torch.tensor([-1.0, 2.0, 0.5], dtype=torch.float64)
PROBABILITIES = torch.tensor(
    [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "weight", [NEGATIVE, INFINITE, NEGATIVE / 0.0 * 0.0], ids=["negative", "infinite", "nan"]
)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_a_compiled_loss_is_the_eager_one_whatever_the_weights(
    dtype: torch.dtype, weight: Tensor, soft: bool, eps: float
) -> None:
    args = (
        _logits(4, 3).to(dtype).requires_grad_(),
        PROBABILITIES.to(dtype) - 0.3 if soft else torch.tensor([0, 1, -100, 0]),
    )

    def loss(z: Tensor, target: Tensor) -> Tensor:
        return slt.functional.cross_entropy(z, target, weight.to(dtype), label_smoothing=eps)

    value, (gradient,) = outcome(loss, args, {})
    compiled, (found,) = outcome(torch.compile(loss, fullgraph=True, backend="aot_eager"), args, {})
    torch.testing.assert_close(compiled, value, equal_nan=True)
    torch.testing.assert_close(found, gradient, equal_nan=True)


def test_weights_whose_sum_overflows_half_precision() -> None:
    z, y = torch.zeros(70000, 2, dtype=torch.float16), torch.zeros(70000, dtype=torch.long)
    for eps in (0.0, 0.1):
        value = slt.functional.cross_entropy(z, y, torch.ones(2, dtype=torch.float16), label_smoothing=eps)
        assert value.item() == pytest.approx(np.log(2.0), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("way", ["eager", "compiled", "func.grad", "vmap"])
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"weight": torch.ones(3)},
        {"weight": torch.ones(3), "label_smoothing": 0.1},
        {"label_smoothing": 0.1},
    ],
)
def test_a_label_out_of_range_is_named_on_every_path(
    keywords: dict[str, Any], way: str, dtype: torch.dtype
) -> None:
    def loss(z: Tensor) -> Tensor:
        return slt.functional.cross_entropy(z, torch.tensor([0, 7], dtype=dtype), **keywords)

    run = {
        "eager": loss,
        "compiled": torch.compile(loss, backend="aot_eager"),
        "func.grad": torch.func.grad(loss),
    }
    with pytest.raises(IndexError, match="label 7 at row 1 is outside"):
        torch.func.vmap(loss)(torch.zeros(2, 2, 3)) if way == "vmap" else run[way](torch.zeros(2, 3))


def test_the_family_refuses_a_negative_probability_in_transforms_as_in_eager_mode() -> None:
    z, target = torch.zeros(2, 3), torch.tensor([[-0.5, 1.0, 0.5], [1.0, 0.0, 0.0]])
    ways = (lambda z: slt.cross_entropy(z, target), torch.func.grad(lambda z: slt.cross_entropy(z, target)))
    for run in (
        *ways,
        torch.compile(ways[0], backend="aot_eager"),
        lambda z: slt.cross_entropy(z, target.clone().requires_grad_()),
    ):
        with pytest.raises(ValueError, match=r"target must be finite and >= 0; got -0.5 at index \(0, 0\)"):
            run(z)


# ---- any mode of torch ----

CONFIDENT, CLASSES = torch.tensor([[40.0, 0.0, -1.0], [1.0, 2.0, 3.0]]), torch.tensor([0, 1])
CALLS = {
    "loss": lambda z: slt.functional.cross_entropy(z, CLASSES, reduction="none"),
    "weighted": lambda z: slt.functional.cross_entropy(z, CLASSES, CONFIDENT[1]),
    "weighted and smoothed": lambda z: slt.functional.cross_entropy(
        z, CLASSES, CONFIDENT[1], label_smoothing=0.1
    ),
    "mean": lambda z: slt.functional.cross_entropy(z, CLASSES),
    "smoothed": lambda z: slt.functional.cross_entropy(z, CLASSES, label_smoothing=0.1),
    "probabilities": lambda z: slt.functional.cross_entropy(z, torch.eye(3)[:2]),
    "softmax": lambda z: slt.functional.softmax(z, 1),
    "log_softmax": lambda z: slt.functional.log_softmax(z, 1),
}


class _Passing(TorchFunctionMode):
    """A function mode that changes nothing."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("cpu")
    try:
        yield
    finally:
        torch.set_default_device(None)


MODES: dict[str, Callable[[], Any]] = {
    "a device": lambda: torch.device("cpu"),
    "a default device": _default_device,
    "a function mode": _Passing,
    "a count of operations": lambda: FlopCounterMode(display=False),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", CALLS)
def test_a_mode_changes_no_bit_of_value_or_gradient(call: str, mode: str) -> None:
    expected, gradients = outcome(CALLS[call], (CONFIDENT.clone().requires_grad_(),), {})
    with MODES[mode]():
        got, found = outcome(CALLS[call], (CONFIDENT.clone().requires_grad_(),), {})
    assert torch.equal(got, expected)
    assert torch.equal(found[0], gradients[0])  # type: ignore[arg-type]


def test_a_device_keeps_a_confident_rows_loss() -> None:
    with torch.device("cpu"):
        value = slt.functional.cross_entropy(torch.tensor([[40.0, 0.0]]), torch.tensor([0]))
    assert value.item() == pytest.approx(4.248354255291589e-18)


class _Called(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Any:
        return self.function(z)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("call", CALLS)
def test_an_exported_program_calls_this_packages_operator(call: str, strict: bool) -> None:
    program = torch.export.export(_Called(CALLS[call]), (CONFIDENT,), strict=strict)
    assert any(str(node.target).startswith("softmax_lab.") for node in program.graph.nodes)
    assert torch.equal(program.module()(CONFIDENT), CALLS[call](CONFIDENT))


@pytest.mark.parametrize("call", CALLS)
def test_tensors_without_memory_go_to_this_packages_operator(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FUNCTIONS:
        monkeypatch.setattr(slt.functional, f"_torch_{name}", None)
    expected = CALLS[call](CONFIDENT)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        z = mode.from_tensor(CONFIDENT).requires_grad_()
        value = CALLS[call](z)
        value.sum().backward()
    assert z.grad is not None
    assert (value.shape, value.dtype, z.grad.shape) == (expected.shape, expected.dtype, z.shape)


@pytest.mark.parametrize("call", CALLS)
def test_transforms_inside_a_mode(call: str) -> None:
    expected, (gradient,) = outcome(lambda z: CALLS[call](z).sum(), (CONFIDENT.clone().requires_grad_(),), {})
    with torch.device("cpu"):
        torch.testing.assert_close(torch.func.grad(lambda z: CALLS[call](z).sum())(CONFIDENT), gradient)
        torch.testing.assert_close(
            torch.func.vmap(CALLS[call])(torch.stack([CONFIDENT] * 2))[1].sum(), expected
        )


class _Own(Tensor):
    """A subclass whose owner hears of every function of torch's."""

    heard: ClassVar[list[Any]] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.heard.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_subclass_hears_of_torchs_own_function(name: str) -> None:
    z = CONFIDENT.as_subclass(_Own)
    getattr(slt.functional, name)(z, CLASSES if name == "cross_entropy" else 1)
    assert getattr(torch_functional, name) in _Own.heard


# ---- what differs from torch: the list of the docstring, entry by entry ----

Pair = tuple[Any, Any]


def both(*args: Any, **keywords: Any) -> Pair:
    """Return value and gradients of ours and of torch's."""
    functions = slt.functional.cross_entropy, torch_functional.cross_entropy
    ours, theirs = (outcome(function, args, keywords) for function in functions)
    return ours, theirs


def _logits_with(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def confident_rows() -> bool:
    (value, (gradient,)), (theirs, _) = both(_logits_with([40.0, 0.0]), torch.tensor([0]))
    assert gradient is not None
    return 0 < value < 5e-18 and gradient[0, 0] < 0 and theirs == 0


def half_precision() -> bool:
    ones = torch.ones(2, dtype=torch.float16)
    ours, theirs = both(
        torch.zeros(70000, 2, dtype=torch.float16),
        torch.zeros(70000, dtype=torch.long),
        ones,
        label_smoothing=0.1,
    )
    return abs(ours[0].item() - np.log(2.0)) < 1e-3 and not abs(theirs[0].item() - np.log(2.0)) < 1e-3


def a_class_without_mass() -> bool:
    ours, theirs = both(_logits_with([0.0, -torch.inf]), torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    weighted = both(
        _logits_with([0.0, -torch.inf]),
        torch.tensor([0]),
        torch.tensor([1.0, 0.0]).double(),
        label_smoothing=0.2,
    )
    return bool(ours[0] == 0 and weighted[0][0] == 0 and theirs[0].isnan() and weighted[1][0].isnan())


def ignored_rows() -> bool:
    ours, theirs = both(_logits_with([0.0, 1.0], [torch.nan, 0.0]), torch.tensor([0, -100]))
    return bool((ours[1][0][1] == 0).all() and theirs[1][0][1].isnan().all() and ours[0] == theirs[0])


def weights_that_cancel() -> bool:
    ours, theirs = both(
        _logits_with([0.0, 1.0], [0.0, 1.0]), torch.tensor([0, 1]), torch.tensor([-1.0, 1.0]).double()
    )
    return bool(ours[0].isnan() and theirs[0].isinf())


def infinite_weights() -> bool:
    ours, theirs = both(_logits_with([0.0, 1.0, 2.0]), torch.tensor([1]), INFINITE, reduction="sum")
    places = [~torch.isfinite(gradient) for gradient in (ours[1][0], theirs[1][0])]
    return bool(
        ours[0] == theirs[0] == torch.inf and places[0].all() and places[1].all() and ours[1][0].isinf().all()
    )


def a_label_out_of_range() -> bool:
    with pytest.raises(IndexError, match="label 2 at row 0"):
        slt.functional.cross_entropy(_logits_with([0.0, 0.0]), torch.tensor([2]))
    with pytest.raises(IndexError, match=r"^(?!.*row)"):
        torch_functional.cross_entropy(_logits_with([0.0, 0.0]), torch.tensor([2]))
    return True


def overwritten_logits() -> bool:
    z = _logits_with([0.0, 1.0]) * 1.0
    ours, theirs = (
        slt.functional.cross_entropy(z, torch.tensor([0])),
        torch_functional.cross_entropy(z, torch.tensor([0])),
    )
    with torch.no_grad():
        z.zero_()
    torch.autograd.grad(theirs, z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(ours, z)
    return True


def function_modes() -> bool:
    heard: list[Any] = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(function)
            return function(*args, **(kwargs or {}))

    with Listening():
        slt.functional.cross_entropy(CONFIDENT, CLASSES)
        ours = list(heard)
        torch_functional.cross_entropy(CONFIDENT, CLASSES)
    return torch_functional.cross_entropy in heard and torch_functional.cross_entropy not in ours


def scripting() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its scripting's age and of what a trace holds
        with pytest.raises(RuntimeError):
            torch.jit.script(slt.functional.cross_entropy)
        z = CONFIDENT.clone().requires_grad_()
        traced = torch.jit.trace(slt.functional.cross_entropy, (z, CLASSES))
        other = (CONFIDENT + torch.eye(3)[:2]).requires_grad_()
        (value, gradients), (expected, wanted) = (
            outcome(f, (other, CLASSES), {}) for f in (traced, slt.functional.cross_entropy)
        )
    return torch.equal(value, expected) and torch.equal(gradients[0], wanted[0])  # type: ignore[arg-type]


DIFFERENCES = {
    "Confident rows": confident_rows,
    "Half precision": half_precision,
    "A class without mass": a_class_without_mass,
    "Ignored rows": ignored_rows,
    "Weights that cancel": weights_that_cancel,
    "Infinite weights": infinite_weights,
    "A label out of range": a_label_out_of_range,
    "Overwritten logits": overwritten_logits,
    "Function modes": function_modes,
    "Scripting": scripting,
}


@pytest.mark.parametrize("entry", DIFFERENCES)
def test_the_difference_from_torch_is_there(entry: str) -> None:
    assert DIFFERENCES[entry]()


def test_the_docstring_lists_the_differences_of_this_table() -> None:
    documented = re.findall(r"^\s*- \*\*(.+?)\*\*", str(slt.functional.cross_entropy.__doc__), re.MULTILINE)
    assert documented == list(DIFFERENCES)


# ---- what torch reads as a number, and tensors that are not dense ----

NUMBERS: dict[str, dict[str, Any]] = {
    "a tensor as smoothing": {"label_smoothing": torch.tensor(0.1)},
    "a single as smoothing": {"label_smoothing": np.float32(0.1)},
    "an integer as smoothing": {"label_smoothing": 1},
    "negative smoothing": {"label_smoothing": -0.1},
    "NaN as smoothing": {"label_smoothing": torch.nan},
    "a tensor as ignored label": {"ignore_index": torch.tensor(1)},
    "a NumPy integer as ignored label": {"ignore_index": np.int32(1)},
    "an ignored label beyond 32 bits": {"ignore_index": 2**62},
}
NO_NUMBERS: dict[str, dict[str, Any]] = {
    "a vector as smoothing": {"label_smoothing": torch.tensor([0.1])},
    "learned smoothing": {"label_smoothing": torch.tensor(0.1, requires_grad=True)},
    "no smoothing": {"label_smoothing": None},
    "a word": {"label_smoothing": "much"},
    "a float as ignored label": {"ignore_index": 1.0},
    "a truth as ignored label": {"ignore_index": True},
    "an ignored label beyond 64 bits": {"ignore_index": 2**70},
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_are_read_as_torch_reads_them_and_stay_this_packages_work(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (_logits(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 0]))
    expected, wanted = outcome(torch_functional.cross_entropy, args, NUMBERS[case])
    monkeypatch.setattr(slt.functional, "_torch_cross_entropy", None)
    value, found = outcome(slt.functional.cross_entropy, args, NUMBERS[case])
    torch.testing.assert_close([value, *found], [expected, *wanted])


@pytest.mark.parametrize("dim", [np.int64(1), torch.tensor(1), np.int32(-1)], ids=repr)
def test_a_dimension_in_another_form_keeps_a_confident_rows_log(dim: Any) -> None:
    assert slt.functional.log_softmax(torch.tensor([[40.0, 0.0]]), dim)[0, 0] < 0


def _other_layouts() -> dict[str, Tensor]:
    z = _logits(4, 3).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of prototypes
        nested = torch.nested.nested_tensor([z[:2], z[2:3]])
    return {"nested": nested, "sparse": z.to_sparse(), "mkldnn": z.to_mkldnn()}


LAYOUTS = ["nested", "sparse", "mkldnn"]


def _result(function: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    try:
        value = function(*args)
    except Exception as error:
        return type(error), str(error)
    return type(value), value.is_nested, value.layout


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_layout_without_a_kernel_is_torchs_own_work(name: str, layout: str) -> None:
    args = _other_layouts()[layout], torch.tensor([0, 1, 2, 0]) if name == "cross_entropy" else -1
    assert _result(getattr(slt.functional, name), *args) == _result(getattr(torch_functional, name), *args)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_package_says_that_it_needs_a_dense_tensor(layout: str) -> None:
    other, dense, y = _other_layouts()[layout], _logits(4, 3).float(), torch.tensor([0, 1, 2, 0])
    got = "a nested tensor" if layout == "nested" else f"layout {other.layout}"
    calls: dict[str, Callable[[], Any]] = {
        "input": lambda: slt.softmax(other),
        "logits": lambda: slt.cross_entropy(other, y),
        "target": lambda: slt.cross_entropy(dense, other),
        "sample_weight": lambda: slt.cross_entropy(dense, y, sample_weight=other),
        "hidden": lambda: slt.linear_cross_entropy(other, dense, y),
        "weight": lambda: slt.linear_cross_entropy(dense, other, y),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=re.escape(f"{name} must be a dense (strided) tensor; got {got}")):
            call()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.bool, torch.int32], ids=str)
def test_labels_of_other_types_are_torchs_error(dtype: torch.dtype) -> None:
    args = _logits(2, 3), torch.tensor([0, 1]).to(dtype)
    assert _result(slt.functional.cross_entropy, *args) == _result(torch_functional.cross_entropy, *args)
    assert _result(slt.functional.cross_entropy, *args)[0] is RuntimeError


CALLS_ON_META: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain": lambda z, y: slt.functional.cross_entropy(z, y),
    "weighted": lambda z, y: slt.functional.cross_entropy(z, y, torch.ones(3, device=z.device)),
    "weighted and smoothed": lambda z, y: slt.functional.cross_entropy(
        z, y, torch.ones(3, device=z.device), label_smoothing=0.1
    ),
    "softmax": lambda z, y: slt.functional.softmax(z, 1),
    "the family": lambda z, y: slt.cross_entropy(z, y, sl.losses.balanced_softmax([3, 2, 1]), validate=True),
    "the linear loss": lambda z, y: slt.linear_cross_entropy(z, torch.ones(3, 3, device=z.device), y),
}


@pytest.mark.parametrize("call", CALLS_ON_META)
def test_meta_tensors_give_shapes_and_types(call: str) -> None:
    z, y = _logits(2, 3).float().requires_grad_(), torch.tensor([0, 1])
    expected, _ = outcome(CALLS_ON_META[call], (z, y), {})
    meta = z.detach().to("meta").requires_grad_()
    value = CALLS_ON_META[call](meta, y.to("meta"))
    value.sum().backward()
    assert meta.grad is not None
    assert (value.shape, value.dtype, meta.grad.shape) == (expected.shape, expected.dtype, z.shape)
