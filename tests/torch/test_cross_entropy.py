"""The loss on tensors: the NumPy package's bits, every kind of derivative, memory, and errors."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._base.tensors import as_array
from softmax_lab.torch._formula import losses
from softmax_lab.torch._formula.fields import fields_of
from softmax_lab.torch._operators import loss as implementation
from tests.limits import HANG
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

N = 5
REDUCTIONS = ("mean", "sum", "none")
COUNTS = np.array([500, 120, 40, 12, 9, 1])


def registered(name: str) -> LossSpec:
    """Return the registered loss with counts or weights for K classes."""
    factory = sl.losses.REGISTRY[name]
    given = {"counts": COUNTS, "class_weight": np.linspace(0.5, 2.0, K)}
    return factory(
        **{key: value for key, value in given.items() if key in inspect.signature(factory).parameters}
    )


def problem(
    dtype: torch.dtype = torch.float64, *, soft: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits that require a gradient, and targets; one row is ignored."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(3.0 * rng.standard_normal((N, K))).to(dtype).requires_grad_()
    if soft:
        return logits, torch.tensor(rng.dirichlet(np.ones(K), N))
    return logits, torch.tensor([*rng.integers(0, K, N - 1), -100])


def bits(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


# ---- the NumPy package's bits ----


def assert_same_bits(logits: Tensor, target: Tensor, spec: LossSpec, **options: Any) -> None:
    value = slt.cross_entropy(logits, target, spec, **options)
    value.sum().backward()
    named: dict[str, Any] = {
        "axis" if name == "dim" else name: as_array(v) if isinstance(v, Tensor) else v
        for name, v in options.items()
    }
    expected, gradient = sl.cross_entropy_grad(as_array(logits), as_array(target), spec, **named)
    assert value.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    assert bits(value.detach().numpy()) == bits(expected)
    assert logits.grad is not None
    assert bits(as_array(logits.grad)) == bits(gradient)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", INDEX_SPECS)
def test_bits_are_those_of_the_numpy_package(name: str, reduction: str) -> None:
    assert_same_bits(*problem(), INDEX_SPECS[name], reduction=reduction)


@pytest.mark.parametrize("name", SOFT_SPECS)
def test_bits_for_distributions(name: str) -> None:
    assert_same_bits(*problem(soft=True), SOFT_SPECS[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["plain", "everything"])
def test_bits_in_every_type(name: str, dtype: torch.dtype) -> None:
    assert_same_bits(*problem(dtype), INDEX_SPECS[name])


def test_bits_with_sample_weights_another_dimension_and_an_empty_mean() -> None:
    logits, target = problem()
    assert_same_bits(logits, target, LossSpec(), sample_weight=torch.linspace(0.5, 2.0, N))
    images = torch.randn(2, K, 3, 4, dtype=torch.float64).requires_grad_()
    assert_same_bits(images, torch.zeros(2, 3, 4, dtype=torch.long), INDEX_SPECS["everything"], dim=1)
    none = torch.full((N,), -100)
    assert_same_bits(problem()[0], none, LossSpec(), empty="zero")
    assert torch.isnan(slt.cross_entropy(logits, none))


@pytest.mark.parametrize(
    "view",
    [lambda z: z.t().contiguous().t(), lambda z: torch.cat([z, z], 1)[:, ::2], lambda z: z[:1].expand(N, K)],
    ids=["T", "step", "expand"],
)
def test_any_strides(view: Callable[[Tensor], Tensor]) -> None:
    logits, target = problem()
    strided, plain = view(logits), view(logits).detach().contiguous().requires_grad_()
    assert not strided.is_contiguous()
    before = strided.detach().clone()
    strided.retain_grad()
    slt.cross_entropy(strided, target).backward()
    slt.cross_entropy(plain, target).backward()
    assert strided.grad is not None
    assert plain.grad is not None
    assert torch.equal(strided.grad, plain.grad)
    assert torch.equal(strided.detach(), before)


def test_one_row_without_a_batch() -> None:
    logits, target = problem()
    assert torch.equal(slt.cross_entropy(logits[0], target[0]), slt.cross_entropy(logits[:1], target[:1]))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int32, torch.uint16, torch.uint32, torch.uint64], ids=str
)
def test_other_integers_as_labels(dtype: torch.dtype) -> None:
    logits, target = problem()
    target = target.clamp(min=0)
    for plain in (False, True):
        fields = fields_of(LossSpec(), logits)
        values = [
            losses.loss(logits, y, fields, None, Options()) if plain else slt.cross_entropy(logits, y)
            for y in (target, target.to(dtype))
        ]
        assert torch.equal(*values)
    many = torch.zeros(1, 200)
    assert slt.cross_entropy(many, torch.tensor([156], dtype=torch.uint8)) > 0  # 156 is -100 in eight bits


def test_no_rows_at_all() -> None:
    logits, target = torch.zeros(0, K, requires_grad=True), torch.zeros(0, dtype=torch.long)
    assert torch.isnan(slt.cross_entropy(logits, target))
    for value in (
        slt.cross_entropy(logits, target, empty="zero"),
        slt.cross_entropy(logits, target, reduction="sum"),
    ):
        assert torch.autograd.grad(value, logits)[0].shape == (0, K)
        assert value == 0
    assert slt.cross_entropy(logits, target, reduction="none").shape == (0,)


def test_autocast_changes_nothing() -> None:
    logits, target = problem(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bits(logits, target, LossSpec())


# ---- every kind of derivative ----


def held(spec: LossSpec, logits: Tensor, target: Tensor) -> tuple[LossSpec, Tensor | None]:
    """Return the spec without its gate, and the weights that the gate gives here as sample weights.

    That is what derivatives mean.
    """
    if not spec.gate:
        return spec, None
    u_only = LossSpec(
        temperature=spec.temperature,
        scale=spec.scale,
        bias=spec.bias,
        margin=spec.margin,
        softcap=spec.softcap,
    )
    q_y = torch.exp(-slt.cross_entropy(logits.detach(), target, u_only, reduction="none"))
    weights = torch.tensor(spec.class_weight)[target.clamp(min=0)] ** (q_y**spec.gate)
    return replace(spec, gate=0.0, class_weight=1.0), weights


@pytest.mark.parametrize("name", sl.losses.REGISTRY)
def test_first_and_second_derivatives_of_every_registered_loss(name: str) -> None:
    logits, target = problem()
    spec, weights = held(registered(name), logits, target)

    def loss(z: Tensor) -> Tensor:
        return slt.cross_entropy(z, target, spec, sample_weight=weights)

    assert torch.autograd.gradcheck(loss, (logits,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, (logits,), check_fwd_over_rev=True)
    gated = slt.cross_entropy(logits, target, registered(name))
    torch.testing.assert_close(gated, loss(logits), rtol=1e-13, atol=0)
    for first, second in zip(hessians(gated, logits), hessians(loss(logits), logits), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-14)


def hessians(value: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient and the Hessian times a fixed vector, by double backward."""
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    direction = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    return gradient.detach(), torch.autograd.grad(gradient, logits, direction)[0]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["everything", "smoothing"])
def test_derivatives_under_every_reduction(name: str, reduction: str) -> None:
    logits, target = problem()
    spec = replace(INDEX_SPECS[name], gate=0.0)
    weights = torch.linspace(0.5, 2.0, N, dtype=torch.float64)

    def loss(z: Tensor) -> Tensor:
        return slt.cross_entropy(z, target, spec, reduction=reduction, sample_weight=weights)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, (logits,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, (logits,))


def test_double_backward_runs_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append("hvp")
        return sl.cross_entropy_hvp(*args, **kwargs)

    monkeypatch.setattr(implementation, "cross_entropy_hvp", counted)
    logits, target = problem()
    hessians(slt.cross_entropy(logits, target), logits)
    assert calls == ["hvp"]


def test_gradients_to_distributions_and_to_sample_weights() -> None:
    logits, target = problem(soft=True)
    target.requires_grad_()
    weights = torch.linspace(0.5, 2.0, N, dtype=torch.float64).requires_grad_()
    for spec in (LossSpec(), LossSpec(smoothing=0.1, z_loss=0.1, class_weight=np.linspace(0.5, 2.0, K))):
        loss = lambda *args: slt.cross_entropy(args[0], args[1], spec, sample_weight=args[2])  # noqa: B023, E731
        assert torch.autograd.gradcheck(loss, (logits, target, weights))
        assert torch.autograd.gradgradcheck(loss, (logits, target, weights))


def test_torch_func() -> None:
    logits, target = problem()
    for name in ("plain", "everything"):
        spec = INDEX_SPECS[name]  # the first use of this spec's tensors may be inside of a transform
        loss = lambda z: slt.cross_entropy(z, target, spec)  # noqa: B023, E731
        z = logits.detach()
        gradient = torch.func.grad(loss)(z)
        leaf = z.clone().requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(loss(leaf), leaf)[0])  # type: ignore[no-untyped-call]
        hessian = torch.func.hessian(loss)(z)
        torch.testing.assert_close(hessian, torch.autograd.functional.hessian(loss, z))
        torch.testing.assert_close(hessian, torch.autograd.functional.hessian(loss, z, vectorize=True))
        value, tangent = torch.func.jvp(loss, (z,), (torch.ones_like(z),))  # type: ignore[misc]
        torch.testing.assert_close(value, loss(z))  # type: ignore[no-untyped-call]
        torch.testing.assert_close(tangent, gradient.sum())
        per_row = torch.func.vmap(
            torch.func.grad(lambda z, y: slt.cross_entropy(z, y, spec, reduction="sum"))  # noqa: B023
        )(z, target)
        loss_sum = slt.cross_entropy(leaf, target, spec, reduction="sum")
        torch.testing.assert_close(per_row, torch.autograd.grad(loss_sum, leaf)[0])


def test_the_third_derivative() -> None:
    logits, target = problem()
    spec = replace(INDEX_SPECS["everything"], gate=0.0)
    loss = lambda z: slt.cross_entropy(z, target, spec)  # noqa: E731
    value, direction = loss(logits), torch.ones_like(logits) * torch.arange(K)  # type: ignore[no-untyped-call]
    for _ in range(3):
        (derivative,) = torch.autograd.grad(value, logits, create_graph=True)
        value = (derivative * direction).sum()
    three = torch.func.jacfwd(
        torch.func.jacfwd(torch.func.jacfwd(lambda t: loss(logits.detach() + t * direction)))  # type: ignore[no-untyped-call]
    )
    torch.testing.assert_close(value.detach(), three(torch.zeros((), dtype=torch.float64)))


def test_reverse_over_forward() -> None:
    logits, target = problem()
    direction = torch.ones_like(logits) * torch.arange(K)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(slt.cross_entropy(dual, target)).tangent
        assert tangent is not None
        (product,) = torch.autograd.grad(tangent, logits)
    expected = sl.cross_entropy_hvp(as_array(logits), as_array(target), as_array(direction))
    np.testing.assert_allclose(product, expected, rtol=1e-12, atol=1e-15)


def test_a_learned_temperature_gets_its_gradient_through_the_logits() -> None:
    logits, target = problem()
    temperature = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: slt.cross_entropy(logits.detach() / t, target), (temperature,))


@pytest.mark.parametrize("first", ["inference_mode", "grad", "fake"])
def test_a_spec_first_seen_in_another_mode_serves_eager_mode_afterwards(first: str) -> None:
    logits, target = problem()
    spec = LossSpec(bias=np.linspace(-1, 0, K))
    if first == "inference_mode":
        with torch.inference_mode():
            slt.cross_entropy(logits, target, spec)
    elif first == "grad":
        torch.func.grad(lambda z: slt.cross_entropy(z, target, spec))(logits.detach())
    else:
        from torch._subclasses.fake_tensor import FakeTensorMode

        mode = FakeTensorMode()
        z, y = (mode.from_tensor(tensor) for tensor in (logits.detach(), target))
        with mode:
            assert slt.cross_entropy(z, y, spec, reduction="none").shape == (N,)
    assert_same_bits(logits, target, spec)
    torch.func.grad(lambda z: slt.cross_entropy(z, target, spec))(logits.detach())


# ---- whose memory the gradient is ----


def buffer_of(value: Tensor) -> int:
    """Address of the gradient that the forward pass computed."""
    return int(value.grad_fn.saved_tensors[1].data_ptr())  # type: ignore[union-attr]


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_the_buffer_is_given_away(factor: float) -> None:
    logits, target = problem()
    value = slt.cross_entropy(logits, target)
    buffer = buffer_of(value)
    (factor * value).backward()
    assert logits.grad is not None
    assert logits.grad.data_ptr() == buffer
    np.testing.assert_array_equal(
        logits.grad, factor * sl.cross_entropy_grad(as_array(logits), as_array(target))[1]
    )


class LargeResults(TorchDispatchMode):
    """Counts operators that return new memory of the logits' size."""

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size, self.names = size, []  # type: ignore[var-annotated]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {arg.data_ptr() for arg in args if isinstance(arg, Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.numel() >= self.size and tensor.data_ptr() not in given:
                self.names.append(func.name())
        return result


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_one_buffer_of_the_logits_size_is_made(reduction: Any, factor: float) -> None:
    logits, target = problem()
    with LargeResults(logits.numel()) as large:
        (factor * slt.cross_entropy(logits, target, reduction=reduction).sum()).backward()
    assert large.names == ["softmax_lab::cross_entropy"]


def test_without_a_gradient_none_is_made() -> None:
    logits, target = problem()
    with LargeResults(logits.numel()) as large, torch.no_grad():
        value = slt.cross_entropy(logits, target)
    assert large.names == []
    assert torch.equal(value, slt.cross_entropy(logits, target).detach())


def test_a_graph_that_is_kept_keeps_its_buffer() -> None:
    logits, target = problem()
    value = slt.cross_entropy(logits, target)
    buffer = buffer_of(value)
    value.backward(retain_graph=True)
    assert logits.grad is not None
    first = logits.grad.clone()
    logits.grad.mul_(5.0)  # what an optimizer or a gradient clip may do
    assert buffer_of(value) == buffer
    assert torch.equal(torch.autograd.grad(value, logits, retain_graph=True)[0], first)
    assert torch.equal(torch.autograd.grad(3 * value, logits)[0], 3 * first)


def test_hooks_that_hold_what_is_saved_see_it_unchanged() -> None:
    logits, target = problem()
    held: list[tuple[Tensor, Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append((tensor, tensor.detach().clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = slt.cross_entropy(logits, target)
    (3 * value).backward()
    assert logits.grad is not None
    logits.grad.zero_()
    assert len(held) > 1
    for tensor, copy in held:
        assert torch.equal(tensor, copy)


def test_two_losses_of_the_same_logits_add_up() -> None:
    logits, target = problem()
    other = LossSpec(gamma=2.0)
    (slt.cross_entropy(logits, target) + slt.cross_entropy(logits, target, other)).backward()
    expected = sum(
        sl.cross_entropy_grad(as_array(logits), as_array(target), spec)[1] for spec in (LossSpec(), other)
    )
    assert logits.grad is not None
    np.testing.assert_array_equal(logits.grad, expected)


def test_logits_overwritten_before_the_backward_pass_are_noticed() -> None:
    logits, target = problem()
    hidden = logits * 1.0
    value = slt.cross_entropy(hidden, target)
    hidden.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_inplace_writes_over_the_logits() -> None:
    logits, target = problem()
    hidden = logits * 1.0
    value = slt.cross_entropy(hidden, target, inplace=True)
    (gradient,) = torch.autograd.grad(value, hidden)
    assert gradient.data_ptr() == hidden.data_ptr()
    expected, expected_gradient = sl.cross_entropy_grad(as_array(logits), as_array(target))
    np.testing.assert_allclose(gradient, expected_gradient, rtol=4e-16)
    assert value.item() == expected


def test_inplace_is_not_taken_up_where_it_would_harm() -> None:
    logits, target = problem()
    base = logits.detach().clone().requires_grad_()
    for z in (logits, base.view(N, K), logits[:1].expand(N, K), (logits * 1.0).t().contiguous().t()):
        before = z.detach().clone()
        slt.cross_entropy(z, target, inplace=True).backward()
        assert torch.equal(z.detach(), before)
    hidden = logits * 1.0
    with torch.no_grad():
        slt.cross_entropy(hidden, target, inplace=True)
    assert torch.equal(hidden, logits)


def test_inplace_never_gives_a_wrong_number_to_who_still_needs_the_logits() -> None:
    logits, target = problem()
    hidden = torch.tanh(logits)  # its derivative reads its result
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        slt.cross_entropy(hidden, target, inplace=True).backward()
    hidden = logits * 1.0
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(slt.cross_entropy(hidden, target, inplace=True), hidden, create_graph=True)


def test_inplace_leaves_the_logits_alone_until_the_backward_pass() -> None:
    logits, target = problem()
    hidden = logits * 1.0
    value = slt.cross_entropy(hidden, target, inplace=True)
    assert torch.equal(hidden, logits)
    assert value.item() == sl.cross_entropy(as_array(logits), as_array(target))


def test_inplace_with_logits_that_are_used_afterwards() -> None:
    """Whoever reads them in the forward pass reads them as they were.

    Whose derivative comes later is told.
    """
    logits, target = problem()
    hidden = logits * 1.0
    value = slt.cross_entropy(hidden, target, inplace=True) + hidden.logsumexp(-1).mean()
    value.backward()
    expected = logits.detach().clone().requires_grad_()
    plain = slt.cross_entropy(expected, target) + expected.logsumexp(-1).mean()
    plain.backward()
    assert value.item() == plain.item()
    torch.testing.assert_close(logits.grad, expected.grad, rtol=1e-14, atol=0)
    hidden = logits * 1.0
    first = hidden.logsumexp(-1).mean()  # its backward pass runs after the loss's
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (first + slt.cross_entropy(hidden, target, inplace=True)).backward()


def test_inplace_twice_over_one_graph_is_an_error() -> None:
    logits, target = problem()
    value = slt.cross_entropy(logits * 1.0, target, inplace=True)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_inplace_inside_a_checkpoint_overwrites_nothing() -> None:
    """What is computed again for one operation is handed to others too, and autograd keeps no count of it."""
    logits, target = problem()

    def both(z: Tensor) -> Tensor:
        hidden = z * 1.0
        return hidden.logsumexp(-1).mean() + slt.cross_entropy(hidden, target, inplace=True)

    value = torch.utils.checkpoint.checkpoint(both, logits, use_reentrant=False)
    value.backward()
    expected = logits.detach().clone().requires_grad_()
    (expected.logsumexp(-1).mean() + slt.cross_entropy(expected, target)).backward()
    torch.testing.assert_close(logits.grad, expected.grad, rtol=1e-14, atol=0)


# ---- threads and processes ----


def test_several_python_threads() -> None:
    problems = [problem(seed=seed) for seed in range(6)]
    expected = [sl.cross_entropy_grad(as_array(z), as_array(y))[1] for z, y in problems]

    def work(z: Tensor, y: Tensor) -> None:
        for _ in range(20):
            z.grad = None
            slt.cross_entropy(z, y).backward()

    threads = [threading.Thread(target=work, args=pair) for pair in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=HANG)
    for (z, _), gradient in zip(problems, expected, strict=True):
        np.testing.assert_array_equal(z.grad, gradient)


_WORKERS = """
import torch, softmax_lab as sl, softmax_lab.torch as slt

class Losses(torch.utils.data.Dataset):
    def __len__(self): return 6
    def __getitem__(self, seed):
        z = torch.randn(400, 300, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        slt.cross_entropy(z, torch.arange(400) % 300).backward()
        return z.grad

if __name__ == "__main__":
    here = [Losses()[i] for i in range(6)]  # the parent has threads of its own by the time it forks
    there = list(torch.utils.data.DataLoader(Losses(), num_workers=2, batch_size=None))
    print(all(map(torch.equal, here, there)))
"""


def test_data_loader_workers() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _WORKERS], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert result.stdout.strip() == "True", result.stderr


# ---- errors, before any work is done ----


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": np.zeros((N, K))}, TypeError, "logits must be a torch.Tensor; got ndarray"),
        ({"logits": torch.zeros(N, K, dtype=torch.long)}, TypeError, "logits must be float16"),
        ({"logits": torch.tensor(1.0)}, ValueError, "at least one dimension"),
        ({"logits": torch.zeros(N, 0)}, ValueError, "at least one class"),
        ({"target": [0] * N}, TypeError, "target must be a torch.Tensor; got list"),
        ({"target": torch.zeros(N, dtype=torch.bool)}, TypeError, "target must hold integers"),
        ({"target": torch.zeros(3, dtype=torch.long)}, ValueError, r"must have shape \(5,\)"),
        ({"target": torch.zeros(N, 2)}, ValueError, r"must have the logits' shape \(5, 6\)"),
        ({"target": torch.full((N,), K)}, IndexError, "label 6 at row 0"),
        ({"target": torch.zeros(N, K) - 1}, ValueError, "target must be"),
        (
            {"target": torch.zeros(N, dtype=torch.long, device="meta")},
            ValueError,
            "target must be on the logits' device cpu; got meta",
        ),
        (
            {"target": torch.ones(N, K) / K, "spec": LossSpec(gamma=1.0)},
            ValueError,
            "gamma needs class-index targets",
        ),
        ({"spec": LossSpec(bias=[0.0, 1.0])}, ValueError, "spec is made for 2 classes; the logits have 6"),
        ({"spec": None}, TypeError, "spec must be a LossSpec"),
        ({"reduction": "median"}, ValueError, "reduction must be one of"),
        ({"empty": "one"}, ValueError, "empty must be one of"),
        ({"dim": 2}, ValueError, "dim must lie in"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer"),
        ({"sample_weight": torch.ones(3)}, ValueError, r"sample_weight must have shape \(5,\)"),
        ({"sample_weight": torch.ones(N, dtype=torch.bool)}, TypeError, "real numbers"),
        ({"sample_weight": -torch.ones(N)}, ValueError, "sample_weight must be"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    logits, target = problem()
    with pytest.raises(error, match=message):
        slt.cross_entropy(**({"logits": logits, "target": target} | change))


def test_an_ignored_label_has_64_bits() -> None:
    with pytest.raises(
        ValueError, match="ignore_index must be an integer of 64 bits; got 9223372036854775808"
    ):
        slt.cross_entropy(torch.zeros(1, 2), torch.tensor([0]), ignore_index=2**63)
    assert slt.cross_entropy(torch.zeros(1, 2), torch.tensor([0]), ignore_index=-(2**63)) > 0


# ---- rows without a distribution ----

WITHOUT = [
    [torch.inf, 0.0, 1.0],
    [torch.inf, torch.inf, 0.0],
    [0.0, torch.inf, -torch.inf],
    [-torch.inf] * 3,
    [0.0, torch.nan, 1.0],
]


@pytest.mark.parametrize("row", WITHOUT, ids=str)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "spec", [LossSpec(), LossSpec(temperature=0.3), LossSpec(smoothing=0.1), LossSpec(z_loss=0.1)], ids=repr
)
def test_a_row_without_a_distribution_is_nan_alone_on_the_plain_path_too(
    spec: LossSpec, soft: bool, row: list[float]
) -> None:
    z = torch.tensor([row, [0.0, 1.0, 2.0]], dtype=torch.float64)
    target = torch.full((2, 3), 1.0 / 3.0, dtype=torch.float64) if soft else torch.tensor([0, 1])

    def loss(z: Tensor) -> Tensor:
        return slt.cross_entropy(z, target, spec, reduction="none")

    value, gradient = sl.cross_entropy_grad(z.numpy(), target.numpy(), spec, reduction="none")
    found = torch.func.grad(lambda z: loss(z).sum())(z)
    assert np.isnan(value[0])
    assert np.isnan(gradient[0]).all()
    torch.testing.assert_close(torch.func.vmap(loss)(z[None])[0], torch.from_numpy(value), equal_nan=True)
    torch.testing.assert_close(found, torch.from_numpy(gradient), equal_nan=True)
    tangent = torch.func.jvp(loss, (z,), (torch.ones_like(z),))[1]
    assert tangent[0].isnan()
    assert tangent[1].isfinite()


def test_a_transform_keeps_the_gradient_of_a_confident_row() -> None:
    z = torch.tensor([[40.0, 0.0, -1.0]])
    found = torch.func.grad(lambda z: slt.cross_entropy(z, torch.tensor([0])))(z)
    torch.testing.assert_close(
        found, torch.from_numpy(sl.cross_entropy_grad(z.numpy(), [0])[1]), rtol=1e-6, atol=0.0
    )


def test_a_soft_cap_has_no_slope_at_minus_infinity_on_the_plain_path_too() -> None:
    z, spec = torch.tensor([[0.0, -torch.inf, 1.0]], dtype=torch.float64), LossSpec(softcap=2.0)
    found = torch.func.grad(lambda z: slt.cross_entropy(z, torch.tensor([0]), spec))(z)
    torch.testing.assert_close(found, torch.from_numpy(sl.cross_entropy_grad(z.numpy(), [0], spec)[1]))


@pytest.mark.parametrize(
    "make",
    [lambda: LossSpec(temperature=2.0), lambda: sl.losses.balanced_softmax([3, 2, 1])],
    ids=["spec", "loss"],
)
def test_a_spec_made_inside_a_compiled_function_works_or_says_what_to_do(
    make: Callable[[], LossSpec],
) -> None:
    z, target = torch.randn(3, 3), torch.tensor([0, 1, 2])

    def loss(z: Tensor) -> Tensor:
        return slt.cross_entropy(z, target, make())

    assert torch.equal(torch.compile(loss, backend="aot_eager")(z), loss(z))
    torch.compiler.reset()  # what was compiled in parts would serve the whole too
    with pytest.raises(Exception, match="make the LossSpec outside of the compiled function and pass it in"):
        torch.compile(loss, backend="aot_eager", fullgraph=True)(z)


@pytest.mark.parametrize("spec", [LossSpec(smoothing=1.0), LossSpec(smoothing=[1.0, 0.0], poly=2.0)])
def test_an_impossible_target_without_mass_is_the_same_in_vmap(spec: LossSpec) -> None:
    logits, target = torch.tensor([[-torch.inf, 0.0]]), torch.tensor([0])
    rows = torch.func.vmap(lambda z, y: slt.cross_entropy(z[None], y[None], spec, reduction="sum"))
    assert rows(logits, target).item() == slt.cross_entropy(logits, target, spec).item() == torch.inf


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("poly", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_an_impossible_target_has_the_same_gradient_in_vmap(
    gamma: float, poly: float, smoothing: float
) -> None:
    spec = LossSpec(gamma=gamma, poly=poly, smoothing=smoothing)
    logits, target = torch.tensor([[-torch.inf, 0.0, 1.0]]), torch.tensor([0])
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(slt.cross_entropy(leaf, target, spec), leaf)
    found = torch.func.vmap(torch.func.grad(lambda z, y: slt.cross_entropy(z[None], y[None], spec)))
    torch.testing.assert_close(found(logits, target), expected)
    assert bool(expected.isfinite().all())
