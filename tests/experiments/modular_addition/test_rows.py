"""What is stored of a job, and how it is found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments import modular_addition as ma
from experiments.modular_addition.rows import identity
from tests.experiments.modular_addition.toy import TOY, stored


def test_rows_come_back_and_name_their_job(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert ma.read(path) == []
    stored(path, "exact", [0.4, 0.8])
    rows = ma.read(path)
    assert len(rows) == 4  # two seeds at two evaluations
    assert [row["area"] for row in rows] == ["", "0.2", "", "0.4"]  # trapezia from 0: 0.2 for a seed at 0.4
    assert {row["zero_share"] for row in rows} == {"0.25"}
    assert len(ma.finished(rows, identity(TOY, "exact", "final", "a card"))) == 4
    for other in (
        identity(TOY, "torch", "final", "a card"),
        identity(TOY, "exact", "tune", "a card"),
        identity(TOY, "exact", "final", "another card"),
        identity(replace(TOY, share=0.7), "exact", "final", "a card"),
        identity(replace(TOY, steps=13), "exact", "final", "a card"),
        identity(replace(TOY, rates=(1.0,)), "exact", "final", "a card"),
    ):
        assert ma.finished(rows, other) == []


def test_of_the_tuning_seeds_only_the_last_step_is_stored(tmp_path: Path) -> None:
    stored(tmp_path / "rows.csv", "torch", [0.4, 0.8], part="tune")
    rows = ma.read(tmp_path / "rows.csv")
    assert [(row["seed"], row["lr"], row["step"]) for row in rows] == [
        ("0", "0.001", "12"),
        ("1", "0.01", "12"),
    ]
