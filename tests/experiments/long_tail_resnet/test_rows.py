"""What is stored of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import rows
from tests.experiments.long_tail_resnet.toy import TOY, stored


def test_a_run_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert lr.read(path) == []
    stored(path, "plain", [0.4])
    found = lr.read(path)
    assert [(row["epoch"], row["balanced_accuracy"], row["seconds"]) for row in found] == [
        ("1", "20", "1"),
        ("2", "40", "2"),
    ]
    assert lr.finished(found, TOY, "a card")
    assert not lr.finished(found[:1], TOY, "a card")  # its last epoch is not there
    for other in (
        replace(TOY, epochs=3),
        replace(TOY, seed=1),
        replace(TOY, loss="vs"),
        replace(TOY, rho=50),
    ):
        assert not lr.finished(found, other, "a card")
    assert not lr.finished(found, TOY, "another card")


def test_many_medium_and_few() -> None:
    recall, counts = np.array([0.9, 0.5, 0.3, 0.1]), np.array([101, 100, 20, 19])
    found = rows.measures(recall, counts)
    assert found == pytest.approx({"balanced_accuracy": 45, "many": 90, "medium": 40, "few": 10})
    assert np.isnan(rows.measures(recall[:1], counts[:1])["few"])
