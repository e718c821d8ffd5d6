"""The linear loss against the whole loss in NumPy, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch import linear
from softmax_lab.torch._machinery import chunks, kernels
from softmax_lab.torch.linear import linear_cross_entropy
from tests.logs import LOG_SPECS
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

N, D = 13, 4
REDUCTIONS = ("mean", "sum", "none")
ALL_REDUCTIONS = (*REDUCTIONS, "log_mean")


class Layer:
    """Random tensors of a problem; two rows are ignored."""

    def __init__(
        self,
        *,
        dtype: Any = torch.float64,
        rows: int = N,
        classes: int = K,
        soft: bool = False,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        shapes = ((rows, D), (classes, D), (classes,))
        self.hidden, self.weight, self.bias = (
            torch.tensor(rng.standard_normal(s)).to(dtype).requires_grad_() for s in shapes
        )
        self.target = torch.tensor(
            rng.dirichlet(np.ones(classes), rows) if soft else rng.integers(0, classes, rows)
        )
        if not soft:
            self.target[[3, 7]] = -100
        self.sample_weight = torch.tensor(rng.uniform(0.5, 2.0, rows))
        self.upstream = torch.tensor(rng.standard_normal(rows))

    def upstream_of(self, reduction: str) -> Tensor:
        return self.upstream if reduction == "none" else self.upstream[0]

    def logits(self) -> Tensor:
        return (self.hidden @ self.weight.T + self.bias).detach()

    def expected(self, spec: sl.LossSpec, reduction: Any) -> list[Any]:
        """Value, and gradients of hidden, weight and bias, from the whole logits in float64."""
        log = reduction == "log_mean"
        whole: Any = sl.log_cross_entropy_grad if log else sl.cross_entropy_grad
        value, gradient = whole(
            self.logits().double().numpy(),
            self.target.numpy(),
            spec,
            reduction="mean" if log else reduction,
            sample_weight=self.sample_weight.numpy(),
        )
        upstream = self.upstream_of(reduction)
        g = torch.tensor(gradient) * (upstream[:, None] if reduction == "none" else upstream)
        return [value, g @ self.weight.detach().double(), g.T @ self.hidden.detach().double(), g.sum(0)]

    def loss(self, spec: sl.LossSpec = sl.LossSpec(), **more: Any) -> Tensor:
        return linear_cross_entropy(self.hidden, self.weight, self.target, spec, bias=self.bias, **more)

    def gradients(self) -> list[Tensor]:
        found = [tensor.grad for tensor in (self.hidden, self.weight, self.bias) if tensor.grad is not None]
        assert len(found) == 3
        return found


def close(found: Tensor, expected: Any, *, rtol: float = 1e-11, atol: float = 1e-13) -> None:
    np.testing.assert_allclose(found.detach().double().numpy(), np.asarray(expected), rtol=rtol, atol=atol)


@pytest.fixture(params=["cpu", "other device"])
def each_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test by the loops of the NumPy package, and by the operator that serves other devices.

    A gate has plain torch on all.
    """
    monkeypatch.setattr(chunks, "_CACHED", 3 * K)  # several blocks
    if request.param == "other device":
        monkeypatch.setattr(kernels, "numpy_values", kernels.operator_values)
        monkeypatch.setattr(kernels, "numpy_logs", kernels.plain_logs)
    return str(request.param)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS.keys())
def test_family(spec: sl.LossSpec, reduction: str, each_kernel: str) -> None:
    layer = Layer()
    value = layer.loss(spec, reduction=reduction, sample_weight=layer.sample_weight, chunk_bytes=5 * K * 8)
    value.backward(layer.upstream_of(reduction))
    for found, expected in zip([value, *layer.gradients()], layer.expected(spec, reduction), strict=True):
        close(found, expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("spec", SOFT_SPECS.values(), ids=SOFT_SPECS.keys())
def test_distributions(spec: sl.LossSpec, reduction: str, each_kernel: str) -> None:
    layer = Layer(soft=True)
    value = layer.loss(spec, reduction=reduction, sample_weight=layer.sample_weight, chunk_bytes=5 * K * 8)
    value.backward(layer.upstream_of(reduction))
    for found, expected in zip([value, *layer.gradients()], layer.expected(spec, reduction), strict=True):
        close(found, expected)


@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_any_shape_of_rows(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    hidden, weight = (
        torch.tensor(rng.standard_normal((*shape, D)), requires_grad=True),
        torch.tensor(rng.standard_normal((K, D))),
    )
    target = torch.tensor(rng.integers(0, K, shape))
    values = linear_cross_entropy(hidden, weight, target, reduction="none")
    values.sum().backward()
    assert values.shape == shape
    assert hidden.grad is not None
    assert hidden.grad.shape == hidden.shape
    expected, gradient = sl.cross_entropy_grad(
        (hidden @ weight.T).detach().numpy(), target.numpy(), reduction="none"
    )
    close(values, expected)
    close(hidden.grad, gradient @ weight.numpy())


def test_strided_tensors_give_the_same() -> None:
    layer, other = Layer(), Layer()
    other.hidden = torch.stack([other.hidden.detach(), other.hidden.detach()], 1)[:, 1].requires_grad_()
    other.weight = other.weight.detach().T.contiguous().T.requires_grad_()
    for each in (layer, other):
        each.loss().backward()
    for found, expected in zip(other.gradients(), layer.gradients(), strict=True):
        close(found, expected)


def test_gradient_check() -> None:
    layer = Layer(rows=8)
    spec = sl.LossSpec(smoothing=0.1, gamma=2.0, z_loss=0.01, scale=np.linspace(0.5, 1.5, K))
    for reduction in ALL_REDUCTIONS:
        assert torch.autograd.gradcheck(
            lambda h, w, b, reduction=reduction: linear_cross_entropy(
                h,
                w,
                layer.target,
                LOG_SPECS["all that it takes"] if reduction == "log_mean" else spec,
                bias=b,
                reduction=reduction,
                sample_weight=layer.sample_weight,
                chunk_bytes=1,
            ),
            (layer.hidden, layer.weight, layer.bias),
        )


def test_confident_row_keeps_its_loss_and_gradient() -> None:
    hidden, weight = torch.tensor([[45.0, 0.0]], requires_grad=True), torch.eye(2, dtype=torch.float32)
    value = linear_cross_entropy(hidden, weight, torch.tensor([0]))
    value.backward()
    expected, gradient = sl.cross_entropy_grad(np.array([[45.0, 0.0]]), [0])
    assert 0 < expected < 1e-19
    close(value, expected, rtol=1e-6, atol=0)
    assert hidden.grad is not None
    close(hidden.grad, gradient, rtol=1e-6, atol=0)


def test_nan_stays_in_its_row() -> None:
    layer = Layer()
    with torch.no_grad():
        layer.hidden[5] = torch.nan
    values = layer.loss(reduction="none")
    assert torch.isnan(values).nonzero().flatten().tolist() == [5]
    values[:5].sum().backward()
    assert layer.hidden.grad is not None
    assert not torch.isnan(layer.hidden.grad[:5]).any()


def test_ignored_rows_may_hold_anything_and_no_row_at_all_is_nan_or_zero() -> None:
    layer = Layer()
    with torch.no_grad():
        layer.hidden[[3, 7]] = torch.nan
    layer.loss().backward()
    assert all(torch.isfinite(gradient).all() for gradient in layer.gradients())
    layer.target[:] = -100
    assert torch.isnan(layer.loss())
    layer.hidden.grad = layer.weight.grad = layer.bias.grad = None
    value = layer.loss(empty="zero")
    value.backward()
    assert value == 0
    assert not any(gradient.any() for gradient in layer.gradients())


# ---- precision ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_weight_gradient_once(dtype: Any) -> None:
    """The sum over 400 chunks is as exact as the rounded logits allow.

    That is half an ulp, where a sum in half precision loses digits.
    """
    layer = Layer(dtype=dtype, rows=400)
    logits = torch.addmm(layer.bias, layer.hidden, layer.weight.T).detach()  # rounded as the product is
    value, gradient = sl.cross_entropy_grad(logits.double().numpy(), layer.target.numpy(), reduction="sum")
    loss = layer.loss(reduction="sum", chunk_bytes=1)
    loss.backward()
    assert loss.dtype == torch.float32
    close(loss, value, rtol=1e-6)
    exact = torch.tensor(gradient).T @ layer.hidden.detach().double()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == dtype
    eps = torch.finfo(dtype).eps
    close(layer.weight.grad, exact, rtol=0.51 * eps, atol=1e-5)
    in_half = torch.zeros_like(layer.weight.grad)
    for row, h in zip(torch.tensor(gradient).to(dtype), layer.hidden.detach(), strict=True):
        in_half += torch.outer(row, h)
    assert (in_half.double() - exact).abs().max() > 4 * (layer.weight.grad.double() - exact).abs().max()


def test_float16_mean_keeps_small_gradients() -> None:
    """The divisor and the upstream gradient meet before anything is rounded.

    So a scaled loss does not underflow.
    """
    rows, scale = 1 << 16, 2.0**16
    hidden, weight = (
        torch.ones(rows, 1, dtype=torch.float16),
        torch.zeros(2, 1, dtype=torch.float16, requires_grad=True),
    )
    target = torch.arange(rows) % 2
    target[0] = 1  # so one row in 65536 is left of the gradient: 2^-16 in each class
    (scale * linear_cross_entropy(hidden, weight, target)).backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [1.0, -1.0]


def test_large_upstream_gradients_do_not_overflow_float16() -> None:
    layer = Layer(dtype=torch.float16)
    upstream = torch.full((N,), 2.0**17)
    layer.loss(reduction="none").backward(upstream)
    large = layer.gradients()[1].double()
    layer.weight.grad = None
    layer.loss(reduction="none").backward(upstream / 2**10)
    assert torch.isfinite(large).any()
    close(
        large[torch.isfinite(large)], 2**10 * layer.gradients()[1].double()[torch.isfinite(large)], rtol=1e-3
    )


def test_autocast_works_in_its_type() -> None:
    layer = Layer(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = layer.loss()
    value.backward()
    halves = [tensor.detach().bfloat16() for tensor in (layer.hidden, layer.weight, layer.bias)]
    expected = linear_cross_entropy(halves[0], halves[1], layer.target, bias=halves[2])
    assert value.item() == expected.item()
    assert all(gradient.dtype == torch.float32 for gradient in layer.gradients())


# the compiler looks at one
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_compiler_leaves_it_out_of_its_graph() -> None:
    layer = Layer()
    compiled = torch.compile(lambda: 2 * layer.loss(), backend="eager")
    assert compiled().item() == 2 * layer.loss().item()
    compiled().backward()
    assert layer.weight.grad is not None


# ---- what it costs ----


class Seen(TorchDispatchMode):
    """Counts operators and remembers the largest tensor that any of them made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.rows: list[int] = []
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        self.largest = max(
            [self.largest, *(t.untyped_storage().nbytes() for t in (result,) if isinstance(t, Tensor))]
        )
        return result

    @property
    def products(self) -> int:
        return sum(self.calls[name] for name in ("mm", "addmm", "addmm_"))


def seen(call: Callable[[], Any]) -> tuple[Seen, Any]:
    with Seen() as mode:
        result = call()
    return mode, result


def test_three_products_a_chunk_and_none_in_the_backward_pass() -> None:
    layer, chunks = Layer(), 3
    budget = 4 * K * 8  # 11 rows count: 4, 4 and 3
    forward, value = seen(lambda: layer.loss(chunk_bytes=budget))
    assert forward.products == 3 * chunks
    assert seen(value.backward)[0].products == 0


def test_one_value_a_row_computes_the_logits_again() -> None:
    layer, chunks = Layer(), 3
    forward, values = seen(lambda: layer.loss(chunk_bytes=4 * K * 8, reduction="none"))
    assert forward.products == chunks
    assert seen(lambda: values.sum().backward())[0].products == 3 * chunks


def test_gradients_that_nobody_wants_are_not_made() -> None:
    layer, chunks = Layer(), 3
    with torch.no_grad():
        assert seen(lambda: layer.loss(chunk_bytes=4 * K * 8))[0].products == chunks
    layer.weight.requires_grad_(False)
    assert seen(lambda: layer.loss(chunk_bytes=4 * K * 8))[0].products == 2 * chunks


@pytest.mark.parametrize("reduction", ALL_REDUCTIONS)
def test_no_tensor_is_larger_than_the_weight_or_the_chunk(reduction: str) -> None:
    rows, classes, step = 512, 300, 16
    layer = Layer(rows=rows, classes=classes, dtype=torch.float32)

    def both() -> None:
        layer.loss(chunk_bytes=step * classes * 4, reduction=reduction).sum().backward()

    assert seen(both)[0].largest <= max(step * classes * 4, rows * D * 4, 2 * rows * 8) < rows * classes * 4


def test_the_weight_gradient_is_given_away_uncopied() -> None:
    layer = Layer(classes=300)
    value = layer.loss()
    backward, _ = seen((0.5 * value).backward)
    assert backward.calls["clone"] == 0


def test_a_graph_that_is_kept_gives_the_same_again() -> None:
    layer = Layer()
    value = layer.loss()
    (first,) = torch.autograd.grad(value, [layer.weight], retain_graph=True)
    kept = first.clone()
    (twice,) = torch.autograd.grad(
        value, [layer.weight], torch.tensor(2.0, dtype=torch.float64), retain_graph=True
    )
    value.backward(torch.tensor(3.0, dtype=torch.float64))
    close(first, kept, rtol=0, atol=0)
    close(twice, 2 * kept, rtol=1e-15)
    close(layer.gradients()[1], 3 * kept, rtol=1e-15)


def test_ignored_rows_are_left_out_before_the_product() -> None:
    layer = Layer()
    task_rows: list[int] = []
    kernel = kernels.local_kernel

    def recorded(spec: sl.LossSpec, z: Tensor, target: Tensor, gradient: bool) -> Any:
        task_rows.append(len(z))
        return kernel(spec, z, target, gradient)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "local_kernel", recorded)
        layer.loss(chunk_bytes=4 * K * 8)
    assert task_rows == [4, 4, 3]


# ---- errors ----


def test_a_second_derivative_is_refused() -> None:
    """A gradient penalty must not be taken for a constant."""
    layer = Layer()
    for reduction in ("mean", "none", "log_mean"):
        (gradient,) = torch.autograd.grad(
            layer.loss(reduction=reduction).sum(), [layer.hidden], create_graph=True
        )
        with pytest.raises(RuntimeError, match="differentiated once only"):
            (layer.hidden.sum() + gradient.norm()).backward()
        with pytest.raises(RuntimeError, match="differentiated once only"):
            torch.autograd.grad(gradient.norm(), [layer.weight])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"hidden": torch.ones(N, D, dtype=torch.int64)},
            TypeError,
            "hidden must be float16, bfloat16, float32 or float64; got torch.int64",
        ),
        ({"weight": torch.ones(K, D + 1)}, ValueError, r"must agree; got shapes \(13, 4\) and \(6, 5\)"),
        ({"weight": torch.ones(K, D)}, TypeError, "weight must be torch.float64 on cpu"),
        ({"bias": torch.ones(K + 1, dtype=torch.float64)}, ValueError, r"bias must have shape \(6,\)"),
        ({"target": torch.zeros(N + 1, dtype=torch.int64)}, ValueError, r"must have shape \(13,\)"),
        ({"target": torch.full((N,), K)}, IndexError, r"label 6 at row 0 is outside \[0, 6\)"),
        ({"target": torch.ones(N, K + 1, dtype=torch.float64)}, ValueError, r"distribution per row"),
        ({"target": torch.ones(N, dtype=torch.bool)}, TypeError, "target must hold integers"),
        ({"spec": sl.LossSpec(bias=np.zeros(K + 1))}, ValueError, "made for 7 classes"),
        ({"spec": "plain"}, TypeError, "spec must be a LossSpec"),
        ({"reduction": "average"}, ValueError, "reduction must be one of"),
        ({"empty": "one"}, ValueError, "empty must be one of"),
        ({"sample_weight": torch.ones(N + 1)}, ValueError, "sample_weight must have shape"),
        ({"sample_weight": -torch.ones(N)}, ValueError, "sample_weight"),
        ({"chunk_bytes": 0}, ValueError, "chunk_bytes must be finite and >= 1"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], words: str) -> None:
    layer = Layer()
    arguments = {
        "hidden": layer.hidden,
        "weight": layer.weight,
        "target": layer.target,
        "bias": layer.bias,
    } | change
    with pytest.raises(error, match=words):
        linear_cross_entropy(**arguments)


def test_the_label_in_an_error_is_of_the_whole_batch() -> None:
    layer = Layer()
    layer.target[9] = -1
    with pytest.raises(IndexError, match="label -1 at row 9"):
        layer.loss(chunk_bytes=1)


def test_a_distribution_for_a_loss_that_needs_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma needs class-index targets"):
        Layer(soft=True).loss(sl.LossSpec(gamma=2.0))


def test_values_agree_with_the_logarithm() -> None:
    """By hand: all logits equal, so every class has probability 1/K."""
    value = linear_cross_entropy(torch.zeros(2, D), torch.ones(K, D), torch.tensor([0, 5]))
    assert math.isclose(value.item(), math.log(K), rel_tol=1e-7)


def dense(hidden: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return slt.cross_entropy(hidden @ weight.t() + bias, target)


@pytest.mark.parametrize("name", ["grad", "jvp", "hessian", "vmap"])
def test_transforms_give_what_they_give_of_whole_logits(name: str) -> None:
    rng = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((3, D), (K, D), (K,))
    )
    target = torch.tensor([0, -100, 2])

    def transformed(loss: Callable[[Tensor], Tensor]) -> Any:
        if name == "jvp":
            return torch.func.jvp(loss, (hidden,), (hidden.flip(0),))
        return (
            torch.func.vmap(loss)(torch.stack([hidden, -hidden]))
            if name == "vmap"
            else getattr(torch.func, name)(loss)(hidden)
        )

    found = transformed(lambda h: linear_cross_entropy(h, weight, target, bias=bias))
    torch.testing.assert_close(found, transformed(lambda h: dense(h, target, weight, bias)))
    if name == "grad":
        leaf = hidden.clone().requires_grad_()
        linear_cross_entropy(leaf, weight, target, bias=bias).backward()
        torch.testing.assert_close(found, leaf.grad)


def test_a_transform_names_a_label_out_of_range() -> None:
    weight = torch.zeros(K, D)
    with pytest.raises(IndexError, match="label 9 at row 1"):
        torch.func.grad(lambda h: linear_cross_entropy(h, weight, torch.tensor([0, 9])))(torch.zeros(2, D))


def test_forward_mode_and_fake_tensors() -> None:
    hidden, weight, target = torch.randn(2, D), torch.randn(K, D), torch.tensor([0, 1])
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(hidden, hidden)
        tangent = torch.autograd.forward_ad.unpack_dual(linear_cross_entropy(dual, weight, target)).tangent
    expected = torch.func.jvp(lambda h: slt.cross_entropy(h @ weight.t(), target), (hidden,), (hidden,))[1]
    torch.testing.assert_close(tangent, expected)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(hidden).requires_grad_()
        linear_cross_entropy(fake, weight, target).backward()
    assert fake.grad is not None
    assert fake.grad.shape == hidden.shape


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int32], ids=str)
def test_labels_of_every_integer_type(dtype: torch.dtype) -> None:
    hidden, weight, target = torch.randn(2, D), torch.randn(K, D), torch.tensor([0, 1])
    assert torch.equal(
        linear_cross_entropy(hidden, weight, target.to(dtype)), linear_cross_entropy(hidden, weight, target)
    )


# ---- the log of the mean ----


@pytest.mark.parametrize("spec", LOG_SPECS.values(), ids=LOG_SPECS.keys())
def test_the_log_of_the_mean(spec: sl.LossSpec, each_kernel: str) -> None:
    layer = Layer()
    value = layer.loss(spec, reduction="log_mean", sample_weight=layer.sample_weight, chunk_bytes=5 * K * 8)
    value.backward(layer.upstream[0])
    for found, expected in zip([value, *layer.gradients()], layer.expected(spec, "log_mean"), strict=True):
        close(found, expected)


def climbing(dtype: Any = torch.float64) -> Layer:
    """Rows that get harder and harder, from log losses near -700 on."""
    layer = Layer(dtype=dtype)
    with torch.no_grad():
        layer.hidden.zero_()
        layer.weight.zero_()
        layer.weight[0, 0] = 8.0
        layer.hidden[:, 0] = torch.linspace(88.0, -1.0, N).round()
        layer.hidden[:, 1:] = torch.linspace(-1.0, 1.0, 3 * N).reshape(N, 3)
        layer.bias.copy_(torch.linspace(0.0, 1.0, K))
    layer.target[:] = 0
    return layer


@pytest.mark.parametrize("order", ["climbing", "falling", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_harder_rows_that_come_later(
    dtype: Any, order: str, each_kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was summed before is multiplied by powers of two, and the gradients are those of the whole."""
    factors: list[float] = []
    shrink = chunks.Gradients.shrink

    def recorded(self: Any, factor: float) -> None:
        factors.append(factor)
        shrink(self, factor)

    monkeypatch.setattr(chunks.Gradients, "shrink", recorded)
    layer = climbing(dtype)
    up = torch.arange(N)
    places = {"climbing": up, "falling": up.flip(0), "mixed": up * 5 % N}
    with torch.no_grad():
        layer.hidden.copy_(layer.hidden[places[order]])
    value = layer.loss(reduction="log_mean", chunk_bytes=1)
    value.backward()
    logits = layer.logits().double().numpy()
    expected, gradient = sl.log_cross_entropy_grad(logits, layer.target.numpy())
    g, bar = torch.tensor(gradient), 1e-11 if dtype == torch.float64 else 3e-6
    close(value, expected, rtol=min(bar, 1e-7))
    whole = [g @ layer.weight.detach().double(), g.T @ layer.hidden.detach().double(), g.sum(0)]
    for found, wanted in zip(layer.gradients(), whole, strict=True):
        close(found, wanted, rtol=bar, atol=bar * float(wanted.abs().max()))
    assert len(factors) == {"climbing": N - 1, "falling": 0, "mixed": 3}[order]
    assert all(math.frexp(factor)[0] == 0.5 for factor in factors)


def test_the_log_of_the_mean_where_the_mean_underflows() -> None:
    hidden, weight = torch.tensor([[1000.0, 0.0], [1002.0, 0.0]], requires_grad=True), torch.eye(2)
    target = torch.tensor([0, 0])
    value = linear_cross_entropy(hidden, weight, target, reduction="log_mean", chunk_bytes=1)
    value.backward()
    expected, gradient = sl.log_cross_entropy_grad(hidden.detach().double().numpy(), target.numpy())
    close(value, expected, rtol=1e-7)
    assert hidden.grad is not None
    close(hidden.grad, gradient, rtol=1e-6)
    assert not linear_cross_entropy(hidden, weight, target).item()


def test_rows_that_do_not_count_in_the_log_of_the_mean() -> None:
    """They may hold anything: ignored ones, and those of the weight 0."""
    layer, clean = Layer(), Layer()
    for each in (layer, clean):
        each.sample_weight[5] = 0.0
    with torch.no_grad():
        layer.hidden[[3, 5, 7]] = torch.nan
    found, expected = (
        each.loss(reduction="log_mean", sample_weight=each.sample_weight, chunk_bytes=1)
        for each in (layer, clean)
    )
    assert found == expected
    found.backward()
    expected.backward()
    for gradient, wanted in zip(layer.gradients(), clean.gradients(), strict=True):
        assert torch.equal(gradient, wanted)
    assert not layer.gradients()[0][[3, 5, 7]].any()


@pytest.mark.parametrize("rows", [0, N])
def test_the_log_of_the_mean_of_nothing(rows: int) -> None:
    layer = Layer()
    hidden = layer.hidden.detach()[:rows].requires_grad_()
    target = torch.full((rows,), -100)
    assert linear_cross_entropy(hidden, layer.weight, target, reduction="log_mean").isnan()
    value = linear_cross_entropy(hidden, layer.weight, target, reduction="log_mean", empty="zero")
    value.backward()
    assert value == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


def test_one_class_has_no_loss_whose_logarithm_could_be_taken() -> None:
    layer = Layer(classes=1)
    layer.target.clamp_(max=0)
    value = layer.loss(reduction="log_mean")
    value.backward()
    assert value == -math.inf
    assert not any(gradient.any() for gradient in layer.gradients())


@pytest.mark.parametrize(("entry", "expected"), [(math.nan, math.nan), (-math.inf, math.inf)])
def test_rows_without_a_finite_loss(entry: float, expected: float, each_kernel: str) -> None:
    """The numbers of the joined loss: J, and which rows' gradients are no numbers."""
    layer = Layer()
    with torch.no_grad():
        layer.bias[int(layer.target[0])] = entry
    logits = layer.logits().requires_grad_()
    joined = slt.log_cross_entropy(logits, layer.target)
    joined.backward()
    assert logits.grad is not None
    value = layer.loss(reduction="log_mean", chunk_bytes=1)
    value.backward()
    np.testing.assert_equal(value.item(), expected)
    np.testing.assert_equal(joined.item(), expected)
    hidden, weight, _ = layer.gradients()
    assert hidden.isnan().any(1).tolist() == logits.grad.isnan().any(1).tolist()
    assert weight.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_log_of_the_mean_in_half_precision(dtype: Any) -> None:
    """The logits are rounded as the product is, the weight's gradient once, after the loss scale."""
    layer = Layer(dtype=dtype, rows=400)
    logits = torch.addmm(layer.bias, layer.hidden, layer.weight.T).detach()
    expected, gradient = sl.log_cross_entropy_grad(logits.double().numpy(), layer.target.numpy())
    value = layer.loss(reduction="log_mean", chunk_bytes=1)
    (1024.0 * value).backward()
    assert value.dtype == torch.float32
    close(value, expected, rtol=1e-6)
    exact = 1024.0 * torch.tensor(gradient).T @ layer.hidden.detach().double()
    assert layer.weight.grad is not None
    eps = torch.finfo(dtype).eps
    close(layer.weight.grad, exact, rtol=0.51 * eps, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("name", [name for name in INDEX_SPECS if name not in LOG_SPECS])
def test_fields_that_the_log_of_the_mean_refuses(name: str) -> None:
    with pytest.raises(ValueError, match=r"takes class indices and the fields temperature, scale.*; got "):
        Layer().loss(INDEX_SPECS[name], reduction="log_mean")


def test_distributions_have_no_log_of_the_mean() -> None:
    with pytest.raises(ValueError, match=r"takes class indices .*; got a distribution per row"):
        Layer(soft=True).loss(reduction="log_mean")


def test_the_log_of_the_mean_makes_three_products_a_chunk() -> None:
    layer, chunk_count = Layer(), 3
    forward, value = seen(lambda: layer.loss(chunk_bytes=4 * K * 8, reduction="log_mean"))
    assert forward.products == 3 * chunk_count
    assert seen(value.backward)[0].products == 0
    with torch.no_grad():
        forward, _ = seen(lambda: layer.loss(chunk_bytes=4 * K * 8, reduction="log_mean"))
    assert forward.products == chunk_count


def test_a_kept_graph_of_the_log_of_the_mean_gives_the_same_again() -> None:
    layer = Layer()
    value = layer.loss(reduction="log_mean")
    inputs = [layer.hidden, layer.weight, layer.bias]
    first = [g.clone() for g in torch.autograd.grad(value, inputs, retain_graph=True)]
    value.backward(torch.tensor(3.0, dtype=torch.float64))
    for found, once in zip(layer.gradients(), first, strict=True):
        close(found, 3 * once, rtol=1e-15)


@pytest.mark.parametrize("name", ["grad", "jvp", "vmap"])
def test_transforms_of_the_log_of_the_mean(name: str) -> None:
    layer = Layer()
    weight, bias, target = layer.weight.detach(), layer.bias.detach(), torch.tensor([0, -100, 2])
    hidden = layer.hidden.detach()[:3]

    def transformed(loss: Callable[[Tensor], Tensor]) -> Any:
        if name == "jvp":
            return torch.func.jvp(loss, (hidden,), (hidden.flip(0),))
        if name == "vmap":
            return torch.func.vmap(loss)(torch.stack([hidden, -hidden]))
        return torch.func.grad(loss)(hidden)

    def chunked(h: Tensor) -> Tensor:
        return linear_cross_entropy(h, weight, target, bias=bias, reduction="log_mean")

    def joined(h: Tensor) -> Tensor:
        return slt.log_cross_entropy(h @ weight.t() + bias, target)

    torch.testing.assert_close(transformed(chunked), transformed(joined))
