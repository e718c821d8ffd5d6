"""A check says what it found, or why it failed."""

from __future__ import annotations

import pytest

from experiments.benchmarks.gpu import checks


def test_the_checks_say_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_nothing(device: str) -> str:
        raise AssertionError("it is wrong")

    monkeypatch.setattr(
        checks, "CHECKS", (checks.check_rows, checks.check_empty, checks.check_family, check_nothing)
    )
    notes = [row["note"] for row in checks.run_checks("cpu")]
    assert [note.split(":")[0] for note in notes] == ["passed", "passed", "passed", "FAILED"]
