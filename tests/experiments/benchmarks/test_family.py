"""The benchmark of the family: every member is another loss than the plain one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import softmax_lab as sl
from experiments import machine
from experiments.benchmarks import cpu, family


def test_every_member_has_another_gradient_than_the_plain_loss() -> None:
    problem = cpu.make_problem(16, 10, "float64")
    plain = sl.cross_entropy_grad(problem.logits, problem.labels)[1]
    for pair in family.pairs(problem):
        if pair.peer == "plain loss":
            pair.call()
            assert not np.allclose(problem.out, plain, rtol=1e-6), pair.task
            pair.peer_call()
            np.testing.assert_array_equal(problem.out, plain)


def test_products_are_those_of_torch() -> None:
    pytest.importorskip("torch")
    problem = cpu.make_problem(16, 10, "float64")
    pairs = {pair.task: pair for pair in family.pairs(problem) if pair.peer.startswith("torch")}
    assert list(pairs) == ["Hessian-vector product", "softmax VJP"]
    for pair in pairs.values():
        np.testing.assert_allclose(pair.call(), pair.peer_call()[0].numpy(), rtol=1e-9, atol=1e-15)


def test_every_pair_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    path = tmp_path / "family.csv"
    assert family.main(["--shape", "8", "5", "--repeats", "3", "--out", str(path)]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == family.COLUMNS
    assert {row["task"] for row in rows} >= {*family.specs(5), "distribution as target"}
    assert all(row["repeats"] == "3" and float(row["ms"]) > 0 for row in rows)
