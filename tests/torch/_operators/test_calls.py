"""The registered operators: torch's own checks of them, the compiler, and tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.fx.experimental.proxy_tensor import make_fx

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula.fields import packed
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

N = 4
OPS = torch.ops.softmax_lab


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels with one ignored, distributions."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.standard_normal((N, K))).to(dtype)
    return logits, torch.tensor([0, 3, -100, 1]), torch.tensor(rng.dirichlet(np.ones(K), N)).to(dtype)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


# ---- torch's own checks ----


def arguments_of(case: str) -> tuple[Any, ...]:
    """Return what the operator takes after the logits; between them the cases have every kind of argument."""
    logits, labels, soft = problem()
    if case == "distributions":
        return (soft, *packed(SOFT_SPECS["prior"], logits), None, *Options("none"))
    return (labels, *packed(INDEX_SPECS["everything"], logits), torch.linspace(0.5, 2.0, N), *Options())


@pytest.mark.parametrize("case", ["labels", "distributions"])
def test_opcheck_of_the_loss(case: str) -> None:
    logits, arguments = problem()[0].requires_grad_(), arguments_of(case)
    assert set(torch.library.opcheck(OPS.cross_entropy.default, (logits, *arguments, True)).values()) == {
        "SUCCESS"
    }


def test_opcheck_of_the_loss_alone() -> None:
    logits, arguments = problem()[0], arguments_of("labels")
    assert set(torch.library.opcheck(OPS.cross_entropy.default, (logits, *arguments, False)).values()) == {
        "SUCCESS"
    }


def test_opcheck_of_the_hessian_vector_product() -> None:
    logits, arguments = problem()[0], arguments_of("labels")
    tangent = torch.ones_like(logits).requires_grad_()
    assert set(
        torch.library.opcheck(OPS.cross_entropy_hvp.default, (logits, tangent, *arguments)).values()
    ) == {"SUCCESS"}


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_opcheck_of_the_maps(name: str) -> None:
    logits, _, _ = problem()
    temperature = torch.tensor(2.0, dtype=torch.float64)
    result = getattr(OPS, name)(logits, temperature, 1)
    torch.library.opcheck(getattr(OPS, name).default, (logits.clone().requires_grad_(), temperature, 1))
    torch.library.opcheck(
        getattr(OPS, f"{name}_vjp").default, (result, torch.ones_like(result), temperature, 1)
    )


# ---- the compiler ----


def assert_compiles(
    function: Callable[..., Tensor], calls: list[tuple[Any, ...]], *, graphs: int, backend: str = "aot_eager"
) -> None:
    """Value and gradient of every call are the bits of eager mode, and so many graphs were made."""
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for rest in calls:
        leaves = [problem()[0].requires_grad_() for _ in range(2)]
        values = [f(leaf, *rest) for f, leaf in zip((compiled, function), leaves, strict=True)]
        for value in values:
            value.sum().backward()
        assert torch.equal(values[0], values[1])
        assert leaves[0].grad is not None
        assert leaves[1].grad is not None
        assert torch.equal(leaves[0].grad, leaves[1].grad)
    assert counters["stats"]["unique_graphs"] == graphs


def _balancing(step: int) -> LossSpec:
    rng = np.random.default_rng(step)
    return LossSpec(
        bias=rng.normal(size=K), class_weight=rng.uniform(1, 2, K), smoothing=rng.uniform(0, 0.2, K), gate=4.0
    )


def test_a_spec_that_changes_every_step_is_compiled_once() -> None:
    labels = problem()[1]
    assert_compiles(
        lambda z, spec: slt.cross_entropy(z, labels, spec),
        [(_balancing(step),) for step in range(5)],
        graphs=1,
    )


def test_numbers_that_change_are_compiled_once_more() -> None:
    labels = problem()[1]
    specs = [LossSpec(temperature=1.0 + 0.1 * step, z_loss=0.01 * step, gate=step) for step in range(1, 6)]
    assert_compiles(lambda z, spec: slt.cross_entropy(z, labels, spec), [(spec,) for spec in specs], graphs=2)


def test_a_module_whose_spec_changes_is_compiled_once() -> None:
    labels, module = problem()[1], slt.SoftmaxLoss()
    compiled = torch.compile(lambda z: module(z, labels), fullgraph=True, backend="aot_eager")
    for i in range(5):
        module.spec = _balancing(i)
        z = problem()[0].requires_grad_()
        value = compiled(z)
        value.backward()
        expected, gradient = sl.cross_entropy_grad(z.detach().numpy(), labels.numpy(), module.spec)
        assert value.item() == expected
        np.testing.assert_array_equal(z.grad, gradient)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", ["everything", "bias matrix"])
def test_members_of_the_family_compile(name: str) -> None:
    labels, spec = problem()[1], INDEX_SPECS[name]
    assert_compiles(lambda z: slt.cross_entropy(z, labels, spec, reduction="none"), [()], graphs=1)


def test_the_rest_of_the_functions_compile() -> None:
    _, labels, soft = problem()
    weight = torch.linspace(0.5, 2.0, K, dtype=torch.float64)
    f = slt.functional
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda z: slt.cross_entropy(z, soft, SOFT_SPECS["prior"]),
        lambda z: f.cross_entropy(z, labels, label_smoothing=0.1),
        lambda z: f.cross_entropy(z, labels, weight, label_smoothing=0.1),
        lambda z: f.cross_entropy(z, soft, weight),
        lambda z: f.softmax(z, 1) * z,
        lambda z: slt.log_softmax(z, 0, temperature=2.0) * z,
        lambda z: torch.func.grad(lambda z: slt.cross_entropy(z, labels))(z) * z,
        lambda z: torch.func.vmap(slt.cross_entropy)(z, labels.clamp(min=0)),
    ]
    for count, function in enumerate(functions, start=1):
        assert_compiles(function, [()], graphs=count)


def test_wrong_arguments_raise_while_the_graph_is_made() -> None:
    compiled = torch.compile(lambda z, y: slt.cross_entropy(z, y), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="class-index target must have shape"):
        compiled(problem()[0], torch.zeros(N + 1, dtype=torch.long))
    with pytest.raises(IndexError, match="label 9 at row 0"):
        compiled(problem()[0], torch.full((N,), 9))


@pytest.mark.slow
def test_the_default_backend() -> None:
    labels = problem()[1]
    hidden = torch.eye(K, dtype=torch.float64)
    assert_compiles(
        lambda z, spec: slt.cross_entropy(torch.relu(z @ hidden), labels, spec),
        [(_balancing(step),) for step in range(3)],
        graphs=1,
        backend="inductor",
    )


# ---- tracing and devices without memory ----


def test_a_trace_records_the_operator() -> None:
    logits, labels, _ = problem()
    graph = make_fx(lambda z: slt.cross_entropy(z, labels))(logits)
    assert "softmax_lab.cross_entropy" in graph.code
    other = logits + torch.arange(K)
    assert torch.equal(graph(other), slt.cross_entropy(other, labels))


def test_meta_tensors_have_shapes() -> None:
    logits, labels, _ = (tensor.to("meta") for tensor in problem(torch.bfloat16))
    logits.requires_grad_()
    value = slt.cross_entropy(logits, labels, reduction="none")
    assert (value.shape, value.dtype, value.device.type) == ((N,), torch.float32, "meta")
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.shape == logits.shape
    assert slt.softmax(logits).shape == logits.shape
