"""The seesaw loss by its definition: the two factors, and the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from tests.specs import K
from tests.torch.modules.test_softmax_loss import Y, Z, reloaded

COUNTS = np.array([500, 120, 40, 12, 9, 1])


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


def test_a_number_of_classes_is_not_cut_off() -> None:
    with pytest.raises(TypeError, match=r"must be a whole number; got 2\.7"):
        slt.SeesawLoss(2.7)  # type: ignore[arg-type]
