"""The log of the mean loss over parts of a batch is that of the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from tests.limits import HANG

from .batches import ROWS, WEIGHTS, X, Y, model

SPLITS = [(slice(0, 5), slice(5, 10), slice(10, ROWS)), (slice(0, 1), slice(1, ROWS)), (slice(0, ROWS),)]


def joined() -> tuple[Tensor, list[Tensor]]:
    own = model()
    value = slt.log_cross_entropy(own(X), Y, sample_weight=WEIGHTS)
    value.backward()
    return value.detach(), [p.grad for p in own.parameters() if p.grad is not None]


def test_the_batch_is_one_whose_mean_loss_underflows() -> None:
    assert slt.cross_entropy(model()(X), Y).item() == 0.0
    value, gradients = joined()
    assert value < -800
    assert gradients[0].abs().sum() > 0.1


@pytest.mark.parametrize("parts", SPLITS, ids=len)
def test_parts_are_the_joined_batch(parts: tuple[slice, ...]) -> None:
    expected, gradients = joined()
    own = model()
    accumulator = slt.LogMeanAccumulator(own.parameters())
    for _ in range(2):  # again, after a reset
        own.zero_grad()
        for rows in parts:
            value = slt.log_cross_entropy(own(X[rows]), Y[rows], sample_weight=WEIGHTS[rows])
            accumulator.backward(value, WEIGHTS[rows].sum())
        torch.testing.assert_close(accumulator.value, expected, rtol=1e-14, atol=0)
        for p, gradient in zip(own.parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)
        accumulator.reset()
    assert accumulator.value.isnan()


def test_a_part_without_weight_or_loss_changes_nothing() -> None:
    own = model()
    accumulator = slt.LogMeanAccumulator(own.parameters())
    ignored = torch.full_like(Y, -100)
    accumulator.backward(slt.log_cross_entropy(own(X), ignored), 0.0)
    assert accumulator.value.isnan()
    assert all(p.grad is None or not p.grad.any() for p in own.parameters())
    accumulator.backward(slt.log_cross_entropy(own(X), Y, sample_weight=WEIGHTS), WEIGHTS.sum())
    before = [p.grad.clone() for p in own.parameters() if p.grad is not None]
    accumulator.backward(slt.log_cross_entropy(own(X), ignored), 0.0)
    alone = slt.log_cross_entropy(own(X)[:, :1], torch.zeros_like(Y))
    assert alone == -np.inf
    assert all(torch.equal(p.grad, g) for p, g in zip(own.parameters(), before, strict=True))  # type: ignore[arg-type]
    torch.testing.assert_close(accumulator.value, joined()[0])
    accumulator.backward(alone, WEIGHTS.sum())  # as many rows again, without a loss
    torch.testing.assert_close(accumulator.value, joined()[0] - np.log(2.0))
    assert all(torch.equal(p.grad, g) for p, g in zip(own.parameters(), before, strict=True))  # type: ignore[arg-type]


def test_rows_are_refused() -> None:
    own = model()
    with pytest.raises(ValueError, match="value must be a scalar"):
        slt.LogMeanAccumulator(own.parameters()).backward(torch.zeros(3), 1.0)


def test_combine_log_is_the_joined_batch() -> None:
    logits, labels, weights = model()(X).detach().numpy(), Y.numpy(), WEIGHTS.numpy()
    expected, gradient = sl.log_cross_entropy_grad(logits, labels, sample_weight=weights)
    parts = [
        sl.log_cross_entropy_grad(logits[rows], labels[rows], sample_weight=weights[rows])
        for rows in SPLITS[0]
    ]
    found = sl.balance.combine_log([value for value, _ in parts], [weights[rows].sum() for rows in SPLITS[0]])
    assert found.value == pytest.approx(expected, rel=1e-15)
    assert found.factors.sum() == pytest.approx(1.0, rel=1e-15)
    together = np.concatenate([c * g for c, (_, g) in zip(found.factors, parts, strict=True)])
    np.testing.assert_allclose(together, gradient, rtol=1e-10, atol=1e-14)


def test_combine_log_of_parts_without_weight_or_loss() -> None:
    combine = sl.balance.combine_log
    assert np.isnan(combine([np.nan, 3.0], [0, 0]).value)
    assert combine([np.nan, -3.0], [0, 2]).value == -3.0
    assert combine([np.nan, -3.0], [0, 2]).factors.tolist() == [0.0, 1.0]
    assert combine([-np.inf, -np.inf], [1, 2]).value == -np.inf
    assert combine([-np.inf, -np.inf], [1, 2]).factors.tolist() == [0.0, 0.0]
    assert combine([-np.inf, -3.0], [1, 1]).value == pytest.approx(-3.0 - np.log(2.0))
    with pytest.raises(ValueError, match="must both have shape"):
        combine([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be finite and >= 0"):
        combine([1.0], [-1.0])


@pytest.mark.long
def test_processes_are_the_joined_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torch.modules.log_ranks"]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    assert [process.wait(timeout=HANG) for process in processes] == [0, 0]
    expected, gradients = joined()
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        torch.testing.assert_close(found["value"], expected, rtol=1e-14, atol=0)
        for own, gradient in zip(found["gradients"], gradients, strict=True):
            torch.testing.assert_close(own, gradient, rtol=1e-10, atol=1e-12)
