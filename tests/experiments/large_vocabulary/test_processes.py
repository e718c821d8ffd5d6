"""Processes that fail are an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.large_vocabulary import processes


def test_processes_that_fail_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ROOT", tmp_path)  # where there is nothing to run
    with pytest.raises(RuntimeError, match="1 processes ended with status"):
        processes.in_processes(1, 1, "train", {}, alone=True)
