"""What torch loses of the gradient: known rows, the oracle's magnitudes, planted answers, and modes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch.lost_gradient import LostGradient, _verdicts, lost_rows

#: type -> a gap at which torch still has a gradient, one at which it has none, and one beyond the type
GAPS = {
    torch.float16: (5.0, 9.5, 18.0),
    torch.bfloat16: (5.0, 40.0, 120.0),
    torch.float32: (16.0, 40.0, 120.0),
    torch.float64: (36.0, 60.0, 800.0),
}


def rows(*gaps: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([[gap, 0.0] for gap in gaps], dtype=dtype)


def zeros(z: Tensor) -> Tensor:
    return torch.zeros(len(z), dtype=torch.long)


@pytest.mark.parametrize("dtype", GAPS)
def test_rows_whose_answer_is_known(dtype: torch.dtype) -> None:
    kept, lost, beyond = GAPS[dtype]
    z = rows(kept, lost, lost, beyond, -3.0, dtype=dtype)
    found = slt.lost_gradient(z, zeros(z))
    assert found[2:] == (2 / 5, 0.0, 1 / 5, 5)
    assert found.rows == 2 / 5
    exact = [-float(sl.exact.cross_entropy_grad(row, 0)[0]) for row in z.double().tolist()]
    assert found.mass == pytest.approx(2 * exact[1] / sum(exact), rel=1e-12)


def test_nothing_is_lost_where_no_row_is_sure() -> None:
    z = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert slt.lost_gradient(z, torch.arange(50) % 7) == LostGradient(0.0, 0.0, 0.0, 0.0, 0.0, 50)


def test_all_is_lost_where_every_row_is_sure() -> None:
    z = rows(20.0, 40.0, 80.0)
    assert slt.lost_gradient(z, zeros(z)) == LostGradient(1.0, 1.0, 1.0, 0.0, 0.0, 3)


@pytest.mark.parametrize("dtype", GAPS)
def test_the_count_is_that_of_torchs_own_gradient_beside_the_packages(dtype: torch.dtype) -> None:
    """By another way: through both losses in the type itself."""
    generator = torch.Generator().manual_seed(1)
    z = (6 * torch.randn(400, 5, generator=generator)).to(dtype)
    z[::2, 0] += 45 if dtype == torch.float64 else 20
    y = torch.randint(0, 5, (400,), generator=generator)
    at_target = []
    for function in (torch.nn.functional.cross_entropy, slt.functional.cross_entropy):
        leaf = z.clone().requires_grad_()
        function(leaf, y, reduction="sum").backward()
        assert leaf.grad is not None
        at_target.append(leaf.grad.gather(1, y[:, None])[:, 0])
    theirs, ours = at_target
    lost = (theirs == 0) & (ours != 0)
    found = slt.lost_gradient(z, y)
    assert found.rows == found.zero == lost.double().mean().item()
    assert 0 < found.rows < 1
    assert torch.equal(lost_rows(z, y, -100), lost)


def test_the_verdicts_on_a_torch_that_is_wrong_otherwise() -> None:
    """Planted answers: right, few digits, zero, positive, NaN, a value that float16 cannot hold, no row."""
    theirs = torch.tensor([-0.5, -0.4, 0.0, 0.1, torch.nan, 0.0, 0.0], dtype=torch.float16)
    exact = torch.tensor([-0.5, -0.1, -0.2, -0.2, -0.2, -1e-9, -0.5], dtype=torch.float64)
    live = torch.tensor([True] * 6 + [False])
    found = _verdicts(theirs, exact, live, torch.ones(7, dtype=torch.bool))
    assert found.zero.tolist() == [False, False, True, False, False, False, False]
    assert found.wrong_sign.tolist() == [False, False, False, True, True, False, False]
    assert found.beyond.tolist() == [False, False, False, False, False, True, False]
    assert found.magnitude.tolist() == [0.5, 0.1, 0.2, 0.2, 0.2, 1e-9, 0.0]


def test_rows_that_do_not_count() -> None:
    inf, nan = torch.inf, torch.nan
    z = torch.tensor([[40.0, 0.0], [40.0, 0.0], [nan, 0.0], [inf, 0.0], [0.0, 0.0]])
    y = torch.tensor([0, -7, 0, 0, 1])
    found = slt.lost_gradient(z, y, ignore_index=-7)
    assert (found.counted, found.rows, found.zero) == (2, 0.5, 0.5)


def test_a_row_without_other_classes_has_nothing_to_lose() -> None:
    z = torch.tensor([[1.0, -torch.inf], [-torch.inf, 2.0]])
    found = slt.lost_gradient(z, torch.tensor([0, 1]))
    assert (found.counted, found.rows, found.beyond) == (2, 0.0, 0.0)
    assert math.isnan(found.mass)
    assert slt.lost_gradient(torch.ones(3, 1), torch.zeros(3, dtype=torch.long)).rows == 0.0


def test_shares_of_nothing_are_nan() -> None:
    for z, y in ((torch.zeros(0, 3), []), (torch.zeros(2, 3), [-100, -100])):
        found = slt.lost_gradient(z, torch.tensor(y, dtype=torch.long))
        assert found.counted == 0
        assert all(math.isnan(share) for share in found[:5])


def test_the_class_dimension_and_integers_of_any_width() -> None:
    z = rows(40.0, 1.0, 20.0, 0.0).reshape(2, 2, 2)
    y = torch.zeros(2, 2, dtype=torch.uint8)
    assert slt.lost_gradient(z.movedim(-1, 1), y, dim=1) == slt.lost_gradient(z, y)
    assert slt.lost_gradient(z, y).rows == 0.5


def test_many_rows_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    z = rows(40.0, 1.0, 20.0, 0.0, 17.0)
    whole = slt.lost_gradient(z, zeros(z))
    monkeypatch.setattr(sys.modules["softmax_lab.torch.lost_gradient"], "_ENTRIES", 5)
    assert slt.lost_gradient(z, zeros(z)) == whole


def without(z: Tensor, y: Tensor) -> LostGradient:
    with torch.no_grad():
        return slt.lost_gradient(z, y)


def inferring(z: Tensor, y: Tensor) -> LostGradient:
    with torch.inference_mode():
        return slt.lost_gradient(z + 0, y + 0)


def casting(z: Tensor, y: Tensor) -> LostGradient:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return slt.lost_gradient(z, y)


@pytest.mark.parametrize("mode", [without, inferring, casting])
def test_it_does_not_depend_on_how_it_is_called(mode: Callable[..., LostGradient]) -> None:
    z = rows(40.0, 16.0, 20.0, 0.0)
    assert mode(z, zeros(z)) == slt.lost_gradient(z, zeros(z))


def test_it_is_torchs_own_loss_that_is_run_where_the_drop_in_stands_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", slt.functional.cross_entropy)
    z = rows(40.0)
    assert slt.lost_gradient(z, zeros(z)).rows == 1.0


def test_nothing_of_the_logits_changes() -> None:
    z = rows(40.0, 1.0).requires_grad_()
    before = z.detach().clone()
    slt.lost_gradient(z, zeros(z))
    assert z.grad is None
    assert torch.equal(z, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3)), ValueError, "class-index targets; got a distribution"),
        ((torch.zeros(2, 3), torch.tensor([0, 3])), IndexError, "label 3"),
        ((torch.zeros(2, 3), torch.tensor([0])), ValueError, "must have shape"),
        ((torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 1])), TypeError, "logits must be float16"),
        (([[0.0]], torch.tensor([0])), TypeError, r"logits must be a torch\.Tensor"),
    ],
)
def test_errors(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        slt.lost_gradient(*arguments)
