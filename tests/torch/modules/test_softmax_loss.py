"""The modules of fixed and changing specs: state, and moves between devices and types."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from tests.specs import INDEX_SPECS, K

COUNTS = np.array([500, 120, 40, 12, 9, 1])
Z = 2 * torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 5, 0])


def reloaded(module: torch.nn.Module, fresh: torch.nn.Module) -> torch.nn.Module:
    """Save, load with the safe loader, and put into a fresh module."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_the_state_is_the_spec(name: str) -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS[name])
    for again in (reloaded(module, slt.SoftmaxLoss()), copy.deepcopy(module)):
        assert isinstance(again, slt.SoftmaxLoss)
        assert again.spec == module.spec
        assert torch.equal(again(Z, Y), slt.cross_entropy(Z, Y, module.spec))


def test_it_has_no_parameters_and_a_moved_model_keeps_its_precision() -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS["everything"])
    model = torch.nn.Sequential(torch.nn.Linear(2, K), module)
    assert list(module.parameters()) == []
    model.half()
    assert module.spec == INDEX_SPECS["everything"]
    assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, INDEX_SPECS["everything"]))


def test_to_another_device() -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS["bias"]).to("meta")
    assert isinstance(module._fields.bias, Tensor)
    assert module._fields.bias.device.type == "meta"
    assert module(Z.to("meta"), Y.to("meta")).shape == ()
    module.to_empty(device="cpu")
    assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, INDEX_SPECS["bias"]))


def test_options_and_representation() -> None:
    module = slt.SoftmaxLoss(LossSpec(gamma=2.0), reduction="none", ignore_index=3, dim=0)
    assert repr(module) == "SoftmaxLoss(LossSpec(gamma=2.0), reduction='none', ignore_index=3, dim=0)"
    value = module(Z.t(), Y, sample_weight=torch.ones(len(Y)))
    assert torch.equal(value, slt.cross_entropy(Z, Y, LossSpec(gamma=2.0), reduction="none", ignore_index=3))
    with pytest.raises(TypeError, match="spec must be a LossSpec"):
        module.spec = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="reduction must be one of"):
        slt.SoftmaxLoss(reduction="median")  # type: ignore[arg-type]


def test_deferred_reweighting_changes_its_weights_at_the_right_epoch() -> None:
    first, weights = sl.losses.ldam(COUNTS), sl.losses.class_balanced(COUNTS).class_weight
    module = slt.DeferredReweighting(first, weights, start=2)
    seen = []
    for _ in range(4):
        seen.append(module.spec)
        assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, module.spec))
        module.step()
    second = LossSpec(temperature=first.temperature, margin=first.margin, class_weight=weights)
    assert seen == [first, first, second, second]
    assert repr(module).endswith("start=2, epoch=4)")


def test_deferred_reweighting_resumes_where_it_was() -> None:
    weights = np.linspace(0.5, 2.0, K)
    module = slt.DeferredReweighting(LossSpec(gamma=1.0), weights, start=2)
    module.step()
    again = reloaded(module, slt.DeferredReweighting(LossSpec(), np.ones(K), start=9))
    assert isinstance(again, slt.DeferredReweighting)
    assert again.spec == LossSpec(gamma=1.0)
    again.step()
    assert again.spec == LossSpec(gamma=1.0, class_weight=weights)


def seesaw_by_definition(
    z: Tensor, y: Tensor, counts: np.ndarray[Any, Any], p: float, q: float, floor: float
) -> Tensor:
    """Equations 3 to 7 of the paper, entry by entry."""
    scores = torch.softmax(z.detach(), 1)
    u = z.clone()
    for i, label in enumerate(y.tolist()):
        for k in range(z.shape[1]):
            if k == label:
                continue
            mitigation = min(1.0, max(counts[k], 1) / max(counts[label], 1)) ** p
            compensation = max(1.0, float(scores[i, k]) / max(float(scores[i, label]), floor)) ** q
            u[i, k] = z[i, k] + np.log(mitigation * compensation)
    return torch.nn.functional.cross_entropy(u, y)


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (0.0, 2.0), (0.8, 0.0)])
def test_seesaw_by_its_definition(p: float, q: float) -> None:
    module, counts = slt.SeesawLoss(K, p=p, q=q), np.zeros(K)
    for start in (0, 3):
        y = (Y + start) % K
        counts += np.bincount(y, minlength=K)
        z, leaf = Z.clone().requires_grad_(), Z.clone().requires_grad_()
        value, expected = module(z, y), seesaw_by_definition(leaf, y, counts, p, q, 0.01)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, leaf))
    assert module.counts.tolist() == counts.tolist()


def test_without_compensation_it_is_the_fixed_spec() -> None:
    module = slt.SeesawLoss(K, q=0.0).eval()
    module.counts += torch.tensor(COUNTS)
    torch.testing.assert_close(module(Z, Y), slt.cross_entropy(Z, Y, sl.losses.seesaw(COUNTS)))


def test_seesaw_counts_what_it_should() -> None:
    module = slt.SeesawLoss(K, ignore_index=5)
    module(Z, Y)
    assert module.counts.tolist() == [2, 1, 1, 1, 1, 0]
    module.eval()(Z, Y)
    module.train()
    with pytest.raises(IndexError, match="label 6 at row 0"):
        module(Z, torch.full_like(Y, K))
    assert module.counts.sum() == 6
    again = reloaded(module.half(), slt.SeesawLoss(K))
    assert torch.equal(again.counts, module.counts)  # type: ignore[arg-type]
    assert repr(module).startswith("SeesawLoss(\n  6, p=0.8, q=2, min_score=0.01")


def test_seesaw_in_half_precision_and_in_images() -> None:
    images = Z[:6].reshape(2, 3, K)
    whole, rows = slt.SeesawLoss(K)(images, Y[:6].reshape(2, 3)), slt.SeesawLoss(K)(Z[:6], Y[:6])
    assert torch.equal(whole, rows)
    half = Z.bfloat16().requires_grad_()
    value = slt.SeesawLoss(K)(half, Y)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_seesaw_compiles_and_counts() -> None:
    module = slt.SeesawLoss(K)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    reference = slt.SeesawLoss(K)
    for _ in range(2):
        torch.testing.assert_close(compiled(Z, Y), reference(Z, Y))
    assert torch.equal(module.counts, reference.counts)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": Z[:, :3]}, ValueError, "logits must have 6 classes"),
        ({"target": torch.softmax(Z, 1)}, ValueError, "SeesawLoss needs class-index targets"),
        ({"target": Y[:3]}, ValueError, "class-index target must have shape"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        slt.SeesawLoss(K)(**({"logits": Z, "target": Y} | change))
    with pytest.raises(ValueError, match="min_score must be"):
        slt.SeesawLoss(K, min_score=0.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: slt.SeesawLoss(2.7),  # type: ignore[arg-type]
        lambda: slt.DeferredReweighting(LossSpec(), [1.0, 2.0], start=1.5),  # type: ignore[arg-type]
        lambda: slt.GradientMonitor(every=1.5),  # type: ignore[arg-type]
    ],
)
def test_a_number_of_things_is_not_cut_off(make: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a whole number; got (2.7|1.5)"):
        make()
