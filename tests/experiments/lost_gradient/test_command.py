"""The command's options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import lost_gradient
from experiments.lost_gradient.command import PARTS, Part
from experiments.lost_gradient.store import Table, frame


def test_the_command_runs_the_parts_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, threads = Table("toy", ("loss",), (), ("threads",)), torch.get_num_threads()

    def work(_: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        return [{"threads": torch.get_num_threads()}]

    monkeypatch.setitem(PARTS, "scores", Part(table, lambda: [{"loss": "a"}, {"loss": "b"}], work))
    assert lost_gradient.main(["--part", "scores", "--out", str(tmp_path)]) == 0
    assert frame(table, tmp_path)["threads"].tolist() == [1, 1]
    assert torch.get_num_threads() == threads


def test_what_a_limit_leaves_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lost_gradient.main(["--limit", "0", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert all(f"not done: {len(part.jobs())} jobs of {name}" in said for name, part in PARTS.items())
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        lost_gradient.main(["--part", "no_such_part"])


def test_a_set_is_chosen_for_ordinary_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data PATH"):
        lost_gradient.main(["--part", "ordinary", "--dataset", "cifar10", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        lost_gradient.main(["--dataset", "mnist"])


def test_jobs_differ_in_what_identifies_them() -> None:
    for part in PARTS.values():
        named = [part.table.identity(job) for job in part.jobs()]
        assert len(set(named)) == len(named) > 0
    assert len({part.table.path() for part in PARTS.values()}) == len(PARTS)
