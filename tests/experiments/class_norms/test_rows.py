"""Rows of a run are stored together and read back as numbers; what is stored is not run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import class_norms as cn
from experiments.class_norms import measuring, rows
from experiments.long_tail import Config

TOY = Config(rho=10.0, epochs=1)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a run take no time; return the seeds that ran."""
    ran: list[int] = []

    def run(config: Config, path: str | None) -> list[dict[str, float]]:
        ran.append(config.seed)
        measures = dict(zip(measuring.MEASURES, (8.0, 0.5, 4.0, 2.0, 0.123456789), strict=True))
        return [{"step": 0, "class": c, "count": 4, **measures} for c in range(2)]

    monkeypatch.setattr(rows, "run", run)
    return ran


def quiet(_: str) -> None:
    pass


def test_stored_runs_are_not_run_again(made_up: list[int], tmp_path: Path) -> None:
    path, say = tmp_path / "rows.csv", quiet
    cn.run_all([Config(seed=1, rho=10.0), Config(seed=2, rho=10.0)], path, say=say)
    cn.run_all([Config(seed=2, rho=10.0), Config(seed=3, rho=10.0)], path, say=say)
    assert made_up == [1, 2, 3]
    cn.run_all([Config(seed=3, rho=10.0, epochs=7), Config(seed=3)], path, say=say)
    assert made_up == [1, 2, 3, 3, 3]  # other epochs and another rho are other runs


def test_rows_are_read_as_numbers(made_up: list[int], tmp_path: Path) -> None:
    said: list[str] = []
    cn.run_all([TOY], tmp_path / "rows.csv", say=said.append)
    found = cn.frame(tmp_path / "rows.csv")
    assert said == ["stored: digits mlp 10 0 1"]
    assert found["class"].tolist() == [0, 1]
    assert found["logit_mean"].tolist() == [2.0, 2.0]
    assert found["weight_mean"].tolist() == [1.0, 1.0]
    assert found["residual"].tolist() == [0.12346] * 2
    assert cn.frame(tmp_path / "none.csv").empty


def test_the_stored_rows_are_whole() -> None:
    found = cn.frame()
    for (dataset, _, _), part in found.groupby(["dataset", "seed", "step"]):
        classes = 100 if str(dataset).startswith("cifar100") else 10
        assert part["class"].tolist() == list(range(classes))
        assert part["count"].max() == 100 * part["count"].min()
    for _, part in found.groupby("dataset"):
        assert sorted(part["seed"].unique()) == list(cn.SEEDS)
        assert {*cn.STEPS} < {*part["step"]}
    assert (found["logit_mean"] <= found["logit_sample"] * (1 + 1e-4)).all()
    assert (found["weight_mean"] <= found["weight_sample"] * (1 + 1e-4)).all()
