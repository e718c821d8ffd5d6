"""What of a ranking is left in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from experiments.lost_gradient import scores


def test_of_confident_rows_torch_keeps_few_values_and_the_exact_loss_all() -> None:
    gaps = torch.linspace(8, 60, 200)
    logits = torch.stack([gaps, torch.zeros(200), torch.full((200,), -1.0)], -1)
    found = scores.scores(logits, torch.zeros(200, dtype=torch.long))
    assert found["truth"][0] == pytest.approx(math.log1p(math.exp(-8) + math.exp(-9)), rel=1e-6)
    train, *_ = scores.compare(found, found)
    rows = {(row["rows"], row["loss"]): row for row in scores.compare(found, found)}
    assert train["confident"] == 200
    assert rows["train", "torch"]["zero_share"] > 0.5
    assert rows["train", "torch"]["distinct"] < 60
    assert rows["train", "exact"]["zero_share"] == 0
    assert rows["train", "exact"]["distinct"] == 200
    assert rows["train", "exact"]["rank_correlation"] == pytest.approx(1.0)
    assert rows["train", "torch"]["rank_correlation"] < 0.95
    assert rows["test", "torch"]["membership"] == 0.5


def test_rank_correlation_and_membership_of_known_numbers() -> None:
    up = np.array([1.0, 2.0, 3.0])
    assert scores.rank_correlation(up, up**3) == pytest.approx(1.0)
    assert scores.rank_correlation(up, -up) == pytest.approx(-1.0)
    assert math.isnan(scores.rank_correlation(np.zeros(3), up))
    assert scores.membership(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 0.875


def test_rows_that_are_not_confident_are_left_out() -> None:
    even = scores.scores(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    (row, *_) = scores.compare(even, even)
    assert (row["count"], row["confident"], row["distinct"]) == (3, 0, 0)
    assert math.isnan(row["zero_share"])


def test_a_job_looks_after_the_epochs_it_is_told() -> None:
    rows = list(scores.work({"seed": 0}, epochs=(1, 2)))
    assert [row["epochs"] for row in rows] == 4 * [1] + 4 * [2]
    assert set(rows[0]) == {*scores.TABLE.place, *scores.TABLE.measures}
    assert {row["count"] for row in rows} == {1197, 600}
