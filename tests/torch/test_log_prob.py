"""Log-probabilities of a linear layer's rows: against the oracle, torch in float64, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import exact
from softmax_lab.torch._machinery import chunks
from softmax_lab.torch.log_prob import linear_log_prob
from tests.torch.test_linear import Layer, seen

N, K, D = 13, 6, 4
NUMBERS = ("log_prob", "entropy", "log_normaliser")


def full(layer: Layer, **more: Any) -> slt.LinearLogProb:
    return linear_log_prob(layer.hidden, layer.weight, layer.target, bias=layer.bias, full=True, **more)


def alone(layer: Layer, **more: Any) -> Tensor:
    return linear_log_prob(layer.hidden, layer.weight, layer.target, bias=layer.bias, **more)


def by_torch(layer: Layer, temperature: float) -> slt.LinearLogProb:
    """The same in plain torch, from whole logits: right where no row is confident."""
    u = (layer.hidden @ layer.weight.T + layer.bias) / temperature
    live = layer.target != -100
    log_q = torch.log_softmax(u, 1)
    own = log_q.gather(1, torch.where(live, layer.target, 0)[:, None])[:, 0]
    entropy = torch.distributions.Categorical(logits=u).entropy()
    return slt.LinearLogProb(
        *(torch.where(live, each, 0.0) for each in (own, entropy, torch.logsumexp(u, 1)))
    )


def derivatives(found: slt.LinearLogProb, layer: Layer) -> list[Tensor]:
    """The gradients of a sum with another upstream gradient for each row and number."""
    upstream = [torch.cos(torch.arange(N) + 0.5 * i).double() for i in range(3)]
    total = sum((each.double() * g).sum() for each, g in zip(found, upstream, strict=True))
    return list(torch.autograd.grad(total, [layer.hidden, layer.weight, layer.bias]))  # type: ignore[arg-type]


# ---- values and gradients ----


@pytest.mark.parametrize("chunk_bytes", [None, 5 * K * 8, 1])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_all_numbers_and_their_gradients_are_those_of_whole_logits(
    temperature: float, chunk_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CACHED", 3 * K)  # several blocks a chunk
    layer = Layer()
    found = full(layer, temperature=temperature, chunk_bytes=chunk_bytes)
    expected = by_torch(layer, temperature)
    for name, value, wanted in zip(NUMBERS, found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-13, msg=name)
    for value, wanted in zip(derivatives(found, layer), derivatives(expected, layer), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-11, atol=1e-12)


def test_alone_it_is_minus_the_linear_loss_to_the_bit() -> None:
    layer = Layer()
    found = alone(layer, temperature=0.7)
    loss = slt.linear_cross_entropy(
        layer.hidden,
        layer.weight,
        layer.target,
        sl.LossSpec(temperature=0.7),
        bias=layer.bias,
        reduction="none",
    )
    assert torch.equal(found, -loss)
    torch.testing.assert_close(found, full(layer, temperature=0.7).log_prob, rtol=1e-13, atol=1e-15)


def test_gradient_check() -> None:
    layer = Layer(rows=8)
    for function in (
        lambda h, w, b: linear_log_prob(h, w, layer.target, bias=b, temperature=0.7, chunk_bytes=1),
        lambda h, w, b: tuple(
            linear_log_prob(h, w, layer.target, bias=b, temperature=0.7, chunk_bytes=1, full=True)
        ),
    ):
        assert torch.autograd.gradcheck(function, (layer.hidden, layer.weight, layer.bias))


@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
@pytest.mark.parametrize("asked", [False, True])
def test_any_shape_of_rows(shape: tuple[int, ...], asked: bool) -> None:
    hidden = torch.randn(*shape, D, requires_grad=True)
    target = torch.zeros(shape, dtype=torch.int64)
    found = linear_log_prob(hidden, torch.randn(K, D), target, full=asked)
    values = (found,) if isinstance(found, Tensor) else tuple(found)
    assert all(value.shape == shape for value in values)
    sum(value.sum() for value in values).backward()  # type: ignore[union-attr]
    assert hidden.grad is not None
    assert hidden.grad.shape == hidden.shape


# ---- confident rows ----

GAPS = [0.0, 1.0, 20.0, 40.0, 80.0]


def confident(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden rows whose logits are exact: gaps from none to 80, the target on top or below."""
    hidden = torch.tensor([[gap, 0.0, -3.0] for gap in GAPS for _ in range(2)], dtype=dtype)
    return hidden.requires_grad_(), torch.eye(3, dtype=dtype), torch.tensor([0, 1] * len(GAPS))


def oracle(row: list[float], label: int, temperature: float) -> list[Any]:
    """The three numbers, and their derivatives in the logits, with 400 digits."""
    with mpmath.workdps(400):
        u = [mpmath.mpf(z) / mpmath.mpf(temperature) for z in row]
        total = sum(mpmath.exp(x) for x in u)
        p = [mpmath.exp(x) / total for x in u]
        entropy = -sum(q * mpmath.log(q) for q in p)
        numbers = [mpmath.log(p[label]), entropy, mpmath.log(total)]
        gradients = [
            [(mpmath.mpf(k == label) - q) / temperature for k, q in enumerate(p)],
            [-q * (mpmath.log(q) + entropy) / temperature for q in p],
            [q / temperature for q in p],
        ]
        return [[float(x) for x in numbers], [[float(x) for x in g] for g in gradients]]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_confident_rows_keep_their_digits(dtype: torch.dtype, temperature: float) -> None:
    hidden, weight, target = confident(dtype)
    found = linear_log_prob(hidden, weight, target, temperature=temperature, full=True)
    single = linear_log_prob(hidden, weight, target, temperature=temperature)
    smallest = torch.finfo(dtype).smallest_normal
    for i in range(len(target)):
        numbers, gradients = oracle(hidden[i].tolist(), int(target[i]), temperature)
        for value, wanted, gradient in zip(
            (*found, single), (*numbers, numbers[0]), (*gradients, gradients[0]), strict=True
        ):
            np.testing.assert_allclose(
                value[i].item(), wanted, rtol=8 * torch.finfo(dtype).eps, atol=smallest
            )
            (g,) = torch.autograd.grad(value[i], hidden, retain_graph=True)
            bar = 16 * torch.finfo(dtype).eps
            np.testing.assert_allclose(g[i].double().numpy(), gradient, rtol=bar, atol=smallest)


def test_the_log_probability_is_the_oracles() -> None:
    hidden, weight, target = confident()
    found = linear_log_prob(hidden, weight, target)
    for i, row in enumerate(hidden.tolist()):
        assert exact.ulp_error(found[i].detach().numpy(), [exact.log_softmax(row)[int(target[i])]]) <= 1


def test_a_ratio_of_confident_tokens_keeps_its_sign_and_digits() -> None:
    """Two models that are sure of a token: the second one a little more."""
    hidden = torch.tensor([[40.0, 0.0]])
    before, after = (torch.tensor([[s, 0.0], [0.0, 1.0]]) for s in (1.0, 1.001))
    target = torch.tensor([0])
    ratio = linear_log_prob(hidden, after, target) - linear_log_prob(hidden, before, target)
    exact_logits = [float((hidden @ w.T)[0, 0]) for w in (after, before)]
    with mpmath.workdps(400):
        logs = [-mpmath.log1p(mpmath.exp(-mpmath.mpf(z))) for z in exact_logits]
        wanted = float(logs[0] - logs[1])
    assert 1e-20 < wanted < 1e-18
    np.testing.assert_allclose(ratio.item(), wanted, rtol=1e-5)
    whole = [torch.log_softmax(hidden @ w.T, 1)[0, 0] for w in (after, before)]
    assert (whole[0] - whole[1]).item() == 0.0


def test_a_row_with_nan_is_nan_alone_and_an_impossible_class_adds_nothing() -> None:
    layer = Layer()
    with torch.no_grad():
        layer.hidden[5] = torch.nan
        layer.bias[0] = -torch.inf
    layer.target[:] = 1
    layer.target[2] = 0
    found = full(layer)
    for value in found:
        assert value.isnan().nonzero().flatten().tolist() == [5]
    assert found.log_prob[2] == -torch.inf
    (g,) = torch.autograd.grad(sum(value[[0, 1]].sum() for value in found), layer.hidden)  # type: ignore[arg-type]
    assert torch.isfinite(g[[0, 1]]).all()
    expected = torch.distributions.Categorical(logits=(layer.hidden @ layer.weight.T + layer.bias)[:2, 1:])
    torch.testing.assert_close(found.entropy[:2], expected.entropy())


@pytest.mark.parametrize("asked", [False, True])
def test_ignored_rows_are_zero_and_may_hold_anything(asked: bool) -> None:
    layer = Layer()
    with torch.no_grad():
        layer.hidden[[3, 7]] = torch.nan
    values = full(layer) if asked else (alone(layer),)
    for value in values:
        assert not value[[3, 7]].any()
    sum(value.sum() for value in values).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(gradient).all() for gradient in layer.gradients())
    assert layer.hidden.grad is not None
    assert not layer.hidden.grad[[3, 7]].any()


# ---- types and modes ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    layer, wide = Layer(dtype=dtype), Layer()
    with torch.no_grad():
        for name in ("hidden", "weight"):
            getattr(wide, name).copy_(getattr(layer, name))
        logits = torch.addmm(layer.bias, layer.hidden, layer.weight.T)  # rounded as the product is
    found = full(layer)
    u = logits.double()
    expected = [
        torch.log_softmax(u, 1).gather(1, layer.target.clamp_min(0)[:, None])[:, 0],
        torch.distributions.Categorical(logits=u).entropy(),
        torch.logsumexp(u, 1),
    ]
    live = layer.target != -100
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value[live].double(), wanted[live], rtol=1e-6, atol=1e-6)
    upstream = [torch.full((N,), 2.0**17) for _ in range(3)]  # a loss scale that float16 cannot hold
    gradients = torch.autograd.grad(found, [layer.hidden, layer.weight], upstream)
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).any()


def test_autocast_works_in_its_type() -> None:
    layer = Layer(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = full(layer)
    halves = [tensor.detach().bfloat16() for tensor in (layer.hidden, layer.weight, layer.bias)]
    expected = linear_log_prob(halves[0], halves[1], layer.target, bias=halves[2], full=True)
    for value, wanted in zip(found, expected, strict=True):
        assert torch.equal(value, wanted)
    found.entropy.sum().backward()
    assert all(gradient.dtype == torch.float32 for gradient in layer.gradients())


@pytest.mark.parametrize("name", ["grad", "jvp", "hessian", "vmap"])
def test_transforms_give_what_they_give_of_whole_logits(name: str) -> None:
    layer = Layer()
    hidden, weight, bias = (each.detach() for each in (layer.hidden[:3], layer.weight, layer.bias))
    target = torch.tensor([0, -100, 2])

    def transformed(function: Callable[..., Tensor]) -> Any:
        if name == "jvp":
            return torch.func.jvp(function, (hidden,), (hidden.flip(0),))
        if name == "vmap":
            return torch.func.vmap(function)(torch.stack([hidden, -hidden]))
        return getattr(torch.func, name)(function)(hidden)

    def ours(h: Tensor) -> Tensor:
        found = linear_log_prob(h, weight, target, bias=bias, full=True)
        return (found.log_prob + 2 * found.entropy + 3 * found.log_normaliser).sum()

    def theirs(h: Tensor) -> Tensor:
        log_q = torch.log_softmax(h @ weight.T + bias, 1)
        entropy, own = -(log_q.exp() * log_q).sum(1), log_q[torch.arange(3), target.clamp_min(0)]
        rows = own + 2 * entropy + 3 * torch.logsumexp(h @ weight.T + bias, 1)
        return torch.where(target >= 0, rows, 0.0).sum()

    torch.testing.assert_close(transformed(ours), transformed(theirs))


def test_tensors_without_values_have_the_shapes() -> None:
    hidden, weight, target = torch.randn(2, D), torch.randn(K, D), torch.tensor([0, 1])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = linear_log_prob(mode.from_tensor(hidden), weight, target, full=True)
    assert all(value.shape == (2,) for value in found)
    meta = linear_log_prob(hidden.to("meta"), weight.to("meta"), target.to("meta"), full=True)
    assert all(value.is_meta and value.shape == (2,) for value in meta)


# the compiler looks at one
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_compiler_leaves_it_out_of_its_graph() -> None:
    layer = Layer()
    compiled = torch.compile(lambda: 2 * full(layer).entropy, backend="eager")
    assert torch.equal(compiled(), 2 * full(layer).entropy)


# ---- what it costs ----


@pytest.mark.parametrize("asked", [False, True])
def test_no_tensor_is_larger_than_the_weight_or_the_chunk(asked: bool) -> None:
    rows, classes, step = 512, 300, 16
    layer = Layer(rows=rows, classes=classes, dtype=torch.float32)
    budget = step * classes * 4

    def both() -> None:
        values = full(layer, chunk_bytes=budget) if asked else (alone(layer, chunk_bytes=budget),)
        sum(value.sum() for value in values).backward()  # type: ignore[union-attr]

    # on a CPU exponentials are float64: twice a chunk of float32
    assert seen(both)[0].largest <= max(2 * budget, rows * D * 4, 3 * rows * 4) < rows * classes * 4


@pytest.mark.parametrize("asked", [False, True])
def test_one_product_a_chunk_and_three_in_the_backward_pass(asked: bool) -> None:
    layer, count, budget = Layer(), 3, 4 * K * 8  # 11 rows count: 4, 4 and 3
    forward, values = seen(
        lambda: full(layer, chunk_bytes=budget) if asked else (alone(layer, chunk_bytes=budget),)
    )
    assert forward.products == count
    backward, _ = seen(lambda: sum(value.sum() for value in values).backward())
    assert backward.products == 3 * count


# ---- errors ----


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hidden": torch.ones(N, D, dtype=torch.int64)}, TypeError, "hidden must be float16"),
        ({"weight": torch.ones(K, D + 1)}, ValueError, "must agree"),
        ({"bias": torch.ones(K + 1, dtype=torch.float64)}, ValueError, r"bias must have shape \(6,\)"),
        ({"target": torch.ones(N, K, dtype=torch.float64)}, ValueError, "linear_log_prob needs class-index"),
        ({"target": torch.zeros(N + 1, dtype=torch.int64)}, ValueError, r"must have shape \(13,\)"),
        ({"target": torch.full((N,), K)}, IndexError, r"label 6 at row 0 is outside \[0, 6\)"),
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"temperature": "hot"}, TypeError, "temperature"),
        ({"chunk_bytes": 0}, ValueError, "chunk_bytes must be finite and >= 1"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], words: str, asked: bool) -> None:
    layer = Layer()
    arguments: dict[str, Any] = {
        "hidden": layer.hidden,
        "weight": layer.weight,
        "target": layer.target,
        "bias": layer.bias,
    } | change
    with pytest.raises(error, match=words):
        linear_log_prob(**arguments, full=asked)


@pytest.mark.parametrize("asked", [False, True])
def test_a_second_derivative_is_refused(asked: bool) -> None:
    layer = Layer()
    value = full(layer).entropy if asked else alone(layer)
    (gradient,) = torch.autograd.grad(value.sum(), [layer.hidden], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        gradient.norm().backward()
