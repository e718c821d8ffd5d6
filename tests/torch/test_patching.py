"""One line that puts this package's loss in torch's place: the same results, and nothing left of it after."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import softmax_lab.torch as slt
from softmax_lab import exact
from softmax_lab.torch._patches.later import LaterLogits, Layer, layer_of, linear_later
from tests.torch.test_functional import DTYPES, assert_alike, sampled

__all__ = ["sampled"]  # the fixture: torch's own sample inputs

F = nn.functional
TORCH = F.cross_entropy
SURE, FIRST = torch.tensor([[40.0, 0.0]]), torch.tensor([0])
MADE_BEFORE = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert F.cross_entropy is TORCH


def looked_up(*args: Any, **kwargs: Any) -> Tensor:
    """What a program calls that says ``F.cross_entropy``."""
    return F.cross_entropy(*args, **kwargs)


# ---- the same results ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torchs_own_samples_of_the_function(sampled: tuple[Any, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    infos = [info for (function, _), info in sampled[0].items() if function == "cross_entropy"]
    samples = [sample for info in infos for sample in info.sample_inputs("cpu", dtype, requires_grad=True)]
    assert len(samples) >= 14
    with slt.patched():
        for sample in samples:
            assert_alike(looked_up, TORCH, (sample.input, *sample.args), sample.kwargs)


def test_torchs_own_samples_of_the_module_by_modules_made_before(sampled: tuple[Any, Any]) -> None:
    """In float32: in float64 torch, the reference, has no digits more for the rows that are sure."""
    torch.manual_seed(0)
    samples = sampled[1].module_inputs_func(
        sampled[1], device="cpu", dtype=torch.float32, requires_grad=True, training=True
    )
    modules = [nn.CrossEntropyLoss(*s.constructor_input.args, **s.constructor_input.kwargs) for s in samples]
    assert len(modules) > 50
    with slt.patched():
        for sample, module in zip(samples, modules, strict=True):

            def by_module(*args: Any, module: nn.Module = module, **_: Any) -> Any:
                return module(*args)

            assert_alike(by_module, TORCH, sample.forward_input.args, sample.constructor_input.kwargs)


@pytest.mark.parametrize("legacy", [(None, False), (False, None), (True, True), (False, True), (True, False)])
def test_the_old_arguments_give_and_warn_what_they_did(legacy: tuple[bool | None, bool | None]) -> None:
    z, y = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1])

    def asked() -> tuple[Tensor, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = F.cross_entropy(z, y, size_average=legacy[0], reduce=legacy[1])
        return value, [str(each.message) for each in caught]

    expected, said = asked()
    with slt.patched():
        found, heard = asked()
    torch.testing.assert_close(found, expected)
    assert heard == said


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)), {}),
        ((torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)), {"reduction": "average"}),
        ((torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)), {"label_smoothing": 2.0}),
        ((torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(4)), {}),
        ((torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)), {}),
        ((torch.zeros(2, 3), torch.tensor([0, 3])), {}),
        ((), {}),
    ],
)
def test_what_torch_refuses_is_refused_by_the_same_error(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 whatever it is
        F.cross_entropy(*args, **kwargs)
    with slt.patched(), pytest.raises(expected.type):
        F.cross_entropy(*args, **kwargs)


class Scaled(nn.CrossEntropyLoss):
    """A program's own module."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 torch's name
        return 3.0 * super().forward(input, target)


CALLS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "F": (lambda z, y: F.cross_entropy(z, y), 1.0),
    "torch.nn.functional": (lambda z, y: torch.nn.functional.cross_entropy(z, y), 1.0),
    "a module made before": (MADE_BEFORE, 1.0),
    "a module made inside": (lambda z, y: nn.CrossEntropyLoss()(z, y), 1.0),
    "a subclass": (Scaled(), 3.0),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("gap", [5.0, 20.0, 40.0, 80.0])
def test_confident_rows_are_the_oracles(gap: float, dtype: torch.dtype, name: str) -> None:
    call, factor = CALLS[name]
    z = torch.tensor([[gap, 0.0, -1.0]], dtype=dtype, requires_grad=True)
    with slt.patched():
        value = call(z, FIRST)
        value.backward()
    row = z.detach()[0].tolist()
    # one rounding of the loss and one of the factor
    np.testing.assert_allclose(
        value.item(), factor * float(exact.cross_entropy(row, 0)), rtol=2 * torch.finfo(dtype).eps
    )
    assert z.grad is not None
    gradient = [factor * float(g) for g in exact.cross_entropy_grad(row, 0)]
    np.testing.assert_allclose(z.grad[0].double().numpy(), gradient, rtol=4 * torch.finfo(dtype).eps)


# ---- on and off ----


def is_on() -> bool:
    """Whether a sure row has its loss, whoever is asked."""
    found = {call(SURE, FIRST).item() > 0 for call, _ in CALLS.values()}
    assert len(found) == 1
    return found.pop()


def test_it_is_on_in_the_block_alone() -> None:
    assert not is_on()
    with slt.patched():
        assert is_on()
    assert not is_on()


def test_one_name_of_torch_changes_and_no_other() -> None:
    owners: tuple[Any, ...] = (torch, torch.nn, F, nn.modules.loss, nn.CrossEntropyLoss, nn.Module)
    before = [dict(vars(owner)) for owner in owners]

    def changed() -> list[tuple[str, str]]:
        return [
            (owner.__name__, name)
            for owner, held in zip(owners, before, strict=True)
            for name in vars(owner).keys() | held.keys()
            if vars(owner).get(name) is not held.get(name)
        ]

    with slt.patched():
        assert changed() == [("torch.nn.functional", "cross_entropy")]
    assert changed() == []


def test_blocks_are_nested_and_patches_undone_in_any_order() -> None:
    with slt.patched(), slt.patched():
        pass
    with slt.patched():
        with slt.patched():
            assert is_on()
        assert is_on()
    assert not is_on()
    first, second, third = slt.patch(), slt.patch(), slt.patch()
    for each in (second, first):
        each.undo()
        each.undo()
        assert is_on()
    third.undo()
    assert not is_on()
    first.undo()
    assert not is_on()


def test_an_error_ends_a_block_as_its_end_does() -> None:
    with pytest.raises(ZeroDivisionError), slt.patched(), slt.patched():
        _ = 1 / 0
    assert not is_on()


def test_it_decorates_a_function() -> None:
    @slt.patched()
    def program() -> bool:
        return is_on()

    assert [program(), program(), is_on()] == [True, True, False]


def test_threads_that_come_and_go_leave_nothing_behind() -> None:
    wrong: list[bool] = []

    def worker() -> None:
        for _ in range(200):
            with slt.patched():
                if not F.cross_entropy(SURE, FIRST).item() > 0:
                    wrong.append(True)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not is_on()


def test_what_somebody_else_has_put_there_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a stand-in that somebody has kept is torch's function from then on."""

    def another(*args: Any, **kwargs: Any) -> Tensor:
        return 2.0 * kept(*args, **kwargs)

    with monkeypatch.context() as patch:
        with slt.patched():
            kept = F.cross_entropy
            assert kept(SURE, FIRST) > 0
            patch.setattr(F, "cross_entropy", another)
            assert F.cross_entropy(SURE, FIRST) > 0
        assert F.cross_entropy is another
        assert kept(SURE, FIRST) == 0
        patch.undo()
        assert F.cross_entropy is kept  # what it found when it came
        F.cross_entropy = TORCH


def test_a_program_that_has_replaced_the_function_gets_its_own_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*args: Any, **kwargs: Any) -> Tensor:
        return TORCH(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(F, "cross_entropy", another)
        with slt.patched():
            assert F.cross_entropy(SURE, FIRST) > 0
        assert F.cross_entropy is another


# ---- however it is called ----


# the compiler looks at one
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_code_follows_on_and_off() -> None:
    compiled = [
        torch.compile(call, backend="eager", fullgraph=True)
        for call in (lambda z: F.cross_entropy(z, FIRST), lambda z: MADE_BEFORE(z, FIRST))
    ]

    def values() -> list[bool]:
        return [function(SURE).item() > 0 for function in compiled]

    assert values() == [False, False]
    for _ in range(2):
        with slt.patched():
            assert values() == [True, True]
        assert values() == [False, False]


@pytest.mark.parametrize("name", ["grad", "hessian", "vmap"])
def test_transforms_give_what_they_give_of_torchs(name: str) -> None:
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, -100, 2])

    def transformed() -> Any:
        transform = getattr(torch.func, name)
        return transform(lambda x: F.cross_entropy(x, y))(z if name == "vmap" else z[0])

    expected = transformed()
    with slt.patched():
        torch.testing.assert_close(transformed(), expected)


class Named(Tensor):
    """A subclass that says which functions it was given to."""

    seen: list[Any] = []  # noqa: RUF012 of the class

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def test_a_subclass_sees_torchs_function_and_keeps_its_type() -> None:
    with slt.patched():
        Named.seen.clear()
        value = F.cross_entropy(SURE.as_subclass(Named), FIRST)
    assert type(value) is Named
    assert TORCH in Named.seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit.script.*")
def test_what_is_scripted_has_torchs_function() -> None:
    with slt.patched():
        scripted = torch.jit.script(nn.CrossEntropyLoss())
        assert is_on()
    assert scripted(SURE, FIRST).item() == 0


def test_autocast_meta_and_no_grad() -> None:
    z, y = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1])

    def asked() -> list[Any]:
        with torch.autocast("cpu", torch.bfloat16):
            value = F.cross_entropy(z.bfloat16(), y)
        with torch.no_grad():
            silent = F.cross_entropy(z, y)
        meta = F.cross_entropy(z.to("meta"), y.to("meta"))
        return [(value.dtype, round(value.item(), 5)), round(silent.item(), 5), (meta.device, meta.shape)]

    expected = asked()
    with slt.patched():
        assert asked() == expected


# ---- logits that wait ----

V, D = 5, 3


def layer(dtype: torch.dtype = torch.float64, *, bias: bool = True) -> Layer:
    rng = torch.Generator().manual_seed(0)
    hidden, weight, offset = (
        torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for shape in ((2, 4, D), (V, D), (V,))
    )
    return Layer(hidden, weight, offset if bias else None)


def now(given: Layer) -> Tensor:
    return F.linear(given.hidden, given.weight, given.bias)


def test_shape_type_and_place_in_the_graph_are_known_before() -> None:
    given = layer(torch.float32)
    logits = linear_later(given)
    assert isinstance(logits, LaterLogits)
    assert (logits.shape, logits.dtype, logits.device) == ((2, 4, V), torch.float32, given.hidden.device)
    assert (logits.ndim, logits.size(-1), len(logits), logits.numel()) == (3, V, 2, 8 * V)
    assert logits.requires_grad
    assert not logits.is_leaf
    assert logits.float() is logits
    assert logits.unread
    assert layer_of(logits) is not None
    half = linear_later(layer(torch.bfloat16))
    assert half.float().dtype == torch.float32
    assert isinstance(half.float(), LaterLogits)
    assert half.unread  # type: ignore[attr-defined]


USES: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda z: 2 * z + z.sin(),
    "a view": lambda z: z[..., 1:].reshape(-1, V - 1),
    "a product": lambda z: z @ z.mT,
    "a softmax": lambda z: torch.softmax(z, -1),
    "a loss": lambda z: F.cross_entropy(z.view(-1, V), torch.arange(8) % V),
    "a cast": lambda z: z.float().double() * 2,
    "a copy": lambda z: z.clone(),
    "many": lambda z: torch.stack([z, 2 * z]),
    "in place": lambda z: z.mul_(2.0),
    "in place, a part": lambda z: [z[..., 0].mul_(3.0), z][1] * 1.0,
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", USES)
def test_whoever_reads_them_gets_the_logits_and_their_derivatives(name: str, bias: bool) -> None:
    found, expected = layer(bias=bias), layer(bias=bias)
    logits = linear_later(found)
    value, wanted = USES[name](logits), USES[name](now(expected))
    assert layer_of(logits) is None or name == "a cast"  # which was read in the place of its source
    for each, given in ((value, found), (wanted, expected)):
        (each * torch.linspace(1, 2, each.numel(), dtype=each.dtype).view_as(each)).sum().backward()
        assert given.hidden.grad is not None
    torch.testing.assert_close(value * 1.0, wanted * 1.0)
    for tensor, other in zip(found, expected, strict=True):
        if tensor is not None and other is not None:
            torch.testing.assert_close(tensor.grad, other.grad)


def test_what_leaves_torch_is_ordinary() -> None:
    given = layer()
    expected = now(given).detach()
    logits = linear_later(given)
    assert type(logits.detach()) is Tensor
    np.testing.assert_allclose(logits.detach().cpu().numpy(), expected.numpy())
    assert logits.tolist() == expected.tolist()
    assert repr(logits.detach()) == repr(expected)
    with torch.no_grad():
        later = linear_later(given)
        np.testing.assert_allclose(np.asarray(later.detach()), expected.numpy())
        assert torch.equal(copy.deepcopy(later.detach()), expected)
    file = io.BytesIO()
    torch.save({"logits": logits.detach()}, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["logits"], expected)


def test_autograd_itself_and_its_hooks_take_them() -> None:
    given, other = layer(), layer()
    seen: list[Tensor] = []
    logits = linear_later(given)
    logits.register_hook(seen.append)
    torch.autograd.backward([logits], [torch.ones(2, 4, V, dtype=torch.float64)])
    now(other).sum().backward()
    torch.testing.assert_close(given.weight.grad, other.weight.grad)
    assert len(seen) == 1
    (g,) = torch.autograd.grad(linear_later(given).sum(), given.hidden)
    torch.testing.assert_close(g, other.hidden.grad)


def test_they_are_computed_once_and_what_they_were_made_of_is_let_go() -> None:
    logits = linear_later(layer())
    assert isinstance(logits, LaterLogits)
    assert logits.whole() is logits.whole()
    assert logits.layer is None


def test_logits_of_a_layer_that_has_changed_are_an_error() -> None:
    given = layer()
    logits, cast = linear_later(given), linear_later(layer(torch.bfloat16)).float()
    with torch.no_grad():
        given.weight.mul_(2.0)
    for function in (torch.sum, lambda z: z.detach(), lambda z: z.to(torch.float32)):
        with pytest.raises(RuntimeError, match="read them before the optimizer's step"):
            function(logits)
    assert torch.isfinite(cast).all()


def test_undoing_all_is_safe_in_any_company() -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(slt.patched())
        assert is_on()
    assert not is_on()
