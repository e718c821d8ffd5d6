"""Groups of runs, taken up again, and the epochs that fit into a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import running
from tests.experiments.long_tail_resnet.toy import CPU, TOY, packed


def test_runs_go_on_where_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = packed(tmp_path / "packed"), tmp_path / "rows.csv"
    configs = [
        replace(TOY, loss=loss, seed=seed, epochs=1)
        for loss in ("plain", "logit_adjusted")
        for seed in (0, 1)
    ]
    lr.run_all(configs[:2], folder, path, device=CPU, progress=False)
    first = path.read_text(encoding="utf-8")
    lr.run_all(configs, folder, path, device=CPU, together=3, progress=False)
    rows = lr.read(path)
    assert path.read_text(encoding="utf-8").startswith(first)
    assert [(row["loss"], row["seed"], row["runs"]) for row in rows] == [
        ("plain", "0", "2"),
        ("plain", "1", "2"),
        ("logit_adjusted", "0", "2"),
        ("logit_adjusted", "1", "2"),
    ]
    assert {row["mode"] for row in rows} == {"eager"}
    assert capsys.readouterr().out.count("2 runs of 1 epochs") == 2


def test_runs_side_by_side_are_those_alone(tmp_path: Path) -> None:
    data = lr.load(packed(tmp_path / "packed"), CPU)
    configs = [replace(TOY, loss="plain"), replace(TOY, loss="gradient_balanced", seed=1)]
    together = lr.train_together(configs, data, CPU)
    for config, found in zip(configs, together, strict=True):
        (alone,) = lr.train_together([config], data, CPU)
        assert len(found.seen) == len(found.seconds) == 2
        torch.testing.assert_close(found.seen[-1].nll, alone.seen[-1].nll)


def test_epochs_that_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lr.load(packed(tmp_path / "packed"), CPU)
    short, long = (running.fitting_epochs([TOY], data, CPU, budget, 1) for budget in (0.1, 1e5))
    assert (short, long) == (10, 200)
    assert "ms a step of 1 runs at once (eager)" in capsys.readouterr().out
