"""Activation checkpointing changes no bit of value, gradient and counts, whatever checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import softmax_lab.torch as slt
from softmax_lab.torch.modules import passes

K, D, N, STEPS = 5, 4, 12, 3
Call = Callable[..., Tensor]


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    labels = torch.multinomial(
        torch.tensor([0.6, 0.2, 0.1, 0.07, 0.03]), N, replacement=True, generator=generator
    )
    return torch.randn(N, D, generator=generator), torch.where(torch.arange(N) % 5 == 4, -100, labels)


def once(reentrant: bool) -> Call:
    return partial(checkpoint, use_reentrant=reentrant)


def nested(outer: bool, inner: bool) -> Callable[..., Tensor]:
    def call(function: Call, *tensors: Tensor) -> Tensor:
        value: Tensor = checkpoint(
            lambda *given: checkpoint(function, *given, use_reentrant=inner), *tensors, use_reentrant=outer
        )
        return value

    return call


def selective(policy: Callable[..., CheckpointPolicy]) -> Call:
    return partial(
        checkpoint, use_reentrant=False, context_fn=partial(create_selective_checkpoint_contexts, policy)
    )


def save_all(_: Any, function: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    """Every operation but those that write to their arguments, which torch does not save."""
    return CheckpointPolicy.PREFER_RECOMPUTE if function._schema.is_mutable else CheckpointPolicy.MUST_SAVE


def save_products(_: Any, function: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    wanted = (torch.ops.aten.addmm.default, torch.ops.softmax_lab.cross_entropy.default)
    return CheckpointPolicy.MUST_SAVE if function in wanted else CheckpointPolicy.PREFER_RECOMPUTE


def offloaded(function: Call, *tensors: Tensor) -> Tensor:
    """What is kept for the recomputation are copies."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        value: Tensor = checkpoint(function, *tensors, use_reentrant=False)
    return value


KINDS: dict[str, Call] = {
    "non-reentrant": once(False),
    "reentrant": once(True),
    "non-reentrant, without early stop": partial(checkpoint, use_reentrant=False, early_stop=False),
    "selective: all": selective(save_all),
    "selective: products": selective(save_products),
    "offloaded": offloaded,
    **{
        f"nested: {outer}, {inner}": nested(outer, inner)
        for outer in (False, True)
        for inner in (False, True)
    },
}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "seesaw": lambda: slt.SeesawLoss(K),
    "gathered": lambda: slt.GradientBalancedLoss(K, eps=0.05),
    "given": lambda: slt.GradientBalancedLoss(np.array([60, 20, 10, 7, 3])),
    "fixed": slt.SoftmaxLoss,
}


def model() -> nn.Linear:
    layer = nn.Linear(D, K)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-2, 2, K * D).view(K, D))
        layer.bias.zero_()
    return layer


def train(loss: nn.Module, kind: Call, *, how: str = "each", call: Call | None = None) -> list[Tensor]:
    """Train for some steps of two micro-batches; return all values, gradients and counts."""
    layer, found = model(), []
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    compute = loss if call is None else call

    def forward(hidden: Tensor, target: Tensor) -> Tensor:
        # the target is made inside, as by who shifts labels
        value: Tensor = compute(3 * layer(hidden), target.clone())
        return value

    for step in range(STEPS):
        optimizer.zero_grad()
        batches = [batch(2 * step), batch(2 * step + 1)]
        values = []
        for hidden, target in batches:
            values.append(kind(forward, hidden.requires_grad_(), target))
            if how == "each":
                values[-1].backward()
        if how == "joint":
            torch.stack(values).sum().backward()
        elif how != "each":
            for value in values[:: 1 if how == "in order" else -1]:
                value.backward()
        found += [
            *(value.detach() for value in values),
            *(p.grad.clone() for p in layer.parameters() if p.grad is not None),
        ]
        found += [buffer.clone() for buffer in loss.buffers()]
        optimizer.step()
    return found


def plainly(function: Call, *tensors: Tensor) -> Tensor:
    return function(*tensors)


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("how", ["each", "joint", "in order", "reversed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_training_is_the_same_to_the_bit(name: str, kind: str, how: str) -> None:
    assert_same(train(LOSSES[name](), KINDS[kind], how=how), train(LOSSES[name](), plainly, how=how))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's look at its inputs
@pytest.mark.parametrize("kind", ["non-reentrant", "reentrant"])
@pytest.mark.parametrize("name", ["seesaw", "gathered"])
def test_a_compiled_loss_counts_once_too(name: str, kind: str) -> None:
    expected = train(
        loss := LOSSES[name](), plainly, call=torch.compile(loss, fullgraph=True, backend="aot_eager")
    )
    assert_same(
        train(
            loss := LOSSES[name](), KINDS[kind], call=torch.compile(loss, fullgraph=True, backend="aot_eager")
        ),
        expected,
    )
    torch.testing.assert_close(expected, train(LOSSES[name](), plainly))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["seesaw", "gathered", "given"])
def test_a_checkpoint_inside_of_compiled_code(name: str, reentrant: bool) -> None:
    torch._dynamo.reset()
    known: dict[Call, Call] = {}

    def compiled(function: Call, *tensors: Tensor) -> Tensor:
        if function not in known:
            known[function] = torch.compile(
                partial(checkpoint, function, use_reentrant=reentrant), fullgraph=True, backend="aot_eager"
            )
        return known[function](*tensors)

    torch.testing.assert_close(train(LOSSES[name](), compiled), train(LOSSES[name](), plainly))


@pytest.mark.parametrize("kind", ["non-reentrant", "reentrant"])
@pytest.mark.parametrize("name", ["seesaw", "gathered"])
def test_two_backward_passes_through_one_graph(name: str, kind: str) -> None:
    found = []
    for call in (plainly, KINDS[kind]):
        loss, layer = LOSSES[name](), model()
        hidden, target = batch(0)
        value = call(lambda h, y, loss=loss, layer=layer: loss(layer(h), y), hidden.requires_grad_(), target)
        value.backward(retain_graph=True)
        loss(layer(batch(1)[0]), batch(1)[1]).backward()
        value.backward()
        assert layer.weight.grad is not None
        found.append([layer.weight.grad, loss.get_buffer("counts")])
    assert_same(found[1], found[0])


@pytest.mark.parametrize("kind", ["non-reentrant", "reentrant"])
@pytest.mark.parametrize("name", ["seesaw", "gathered"])
def test_the_same_batch_again_and_again(name: str, kind: str) -> None:
    """One after the other they can be told apart; several alike in flight are refused."""
    hidden, target = batch(0)
    found = []
    for call in (plainly, KINDS[kind]):
        loss, layer = LOSSES[name](), model()
        for _ in range(3):
            call(
                lambda h, y, loss=loss, layer=layer: loss(layer(h), y), hidden.requires_grad_(), target
            ).backward()
        assert layer.weight.grad is not None
        found.append([layer.weight.grad, loss.get_buffer("counts")])
    assert_same(found[1], found[0])
    values = [call(lambda h, y: loss(layer(h), y), hidden, target) for _ in range(2)]
    with pytest.raises(RuntimeError, match="several forward passes have seen alike"):
        sum(values).backward()  # type: ignore[union-attr]


def test_settings_that_change_before_the_recomputation_do_not_reach_it() -> None:
    found = []
    for call in (plainly, KINDS["non-reentrant"], KINDS["reentrant"]):
        loss, layer = slt.GradientBalancedLoss(K), model()
        hidden, target = batch(0)
        value = call(lambda h, y, loss=loss, layer=layer: loss(layer(h), y), hidden.requires_grad_(), target)
        loss.observe(2 * layer(hidden).detach(), target)
        assert loss.tau != 1.1
        value.backward()
        assert layer.weight.grad is not None
        found.append([layer.weight.grad, torch.tensor(loss.tau), loss(layer(hidden), target).detach()])
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_a_pass_without_a_first_is_refused_and_counts_nothing() -> None:
    loss = slt.SeesawLoss(K)
    z, leaf = torch.zeros(2, K, requires_grad=True), torch.zeros((), requires_grad=True)
    product = leaf * 1.0
    product.register_hook(lambda _: loss(z, torch.tensor([0, 1])))
    with pytest.raises(RuntimeError, match="no forward pass of it has seen"):
        product.backward()
    assert loss.counts.sum() == 0
    loss.eval()
    (leaf * 1.0).backward()  # in evaluation mode there is nothing to count, and nothing to refuse


def test_more_passes_than_are_remembered_are_refused() -> None:
    loss, layer = slt.SeesawLoss(K), model()
    values = [
        checkpoint(
            lambda h, y: loss(layer(h), y), batch(i)[0].requires_grad_(), batch(i)[1], use_reentrant=False
        )
        for i in range(passes.IN_FLIGHT + 1)
    ]
    with pytest.raises(RuntimeError, match=f"more than {passes.IN_FLIGHT} forward passes ago"):
        values[0].backward()
    values[-1].backward()


@pytest.mark.parametrize("module", [slt.SeesawLoss, slt.GradientBalancedLoss])
def test_nothing_is_remembered_where_nothing_is_checkpointed(module: Callable[[int], Any]) -> None:
    loss = module(K)
    train(loss, plainly)
    assert loss._passes._passes == []
    train(loss, KINDS["non-reentrant"])
    assert len(loss._passes._passes) == 1  # until the next pass
    assert copy.deepcopy(loss)._passes._passes == []


# ---- the monitor ----


@pytest.mark.parametrize("where", ["around all", "around the model"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_monitor_measures_each_batch_once(kind: str, where: str) -> None:
    frames = []
    for call in (plainly, KINDS[kind]):
        loss, layer = slt.SoftmaxLoss(), model()
        with slt.GradientMonitor(loss, classifier=layer, momentum=0.5) as monitor:
            for step in range(STEPS):
                hidden, target = batch(step)
                hidden.requires_grad_()
                if where == "around all":
                    value = call(lambda h, y, loss=loss, layer=layer: loss(layer(h), y), hidden, target)
                else:
                    value = loss(call(layer, hidden), target)
                value.backward()
            assert monitor.step == STEPS
            frames.append(monitor.frame())
    assert frames[1].equals(frames[0])
    assert frames[0]["weight_norm"].notna().any()


def test_the_monitor_measures_the_same_batch_at_every_step() -> None:
    for kind in KINDS.values():
        loss, layer = slt.SoftmaxLoss(), model()
        hidden, target = batch(0)
        with slt.GradientMonitor(loss) as monitor:
            for _ in range(3):
                kind(
                    lambda h, y, loss=loss, layer=layer: loss(layer(h), y), hidden.requires_grad_(), target
                ).backward()
            with torch.no_grad():
                loss(layer(hidden), target)
            assert monitor.step == 3
