"""The command's options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import modular_addition as ma
from tests.experiments.modular_addition.toy import TOY


def test_the_command_runs_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ma.PROTOCOLS, "p59", TOY)
    monkeypatch.delitem(ma.PROTOCOLS, "p31")
    monkeypatch.setitem(ma.PROTOCOLS, "p113", replace(TOY, name="p113"))
    out = tmp_path / "rows.csv"
    given = ["--only", "torch", "--steps", "3", "--device", "cpu", "--quiet", "--out", str(out)]
    assert ma.main([*given, "--share", "0.5", "0.7"]) == 0
    rows = ma.read(out)
    assert [(row["protocol"], row["share"]) for row in rows if row["part"] == "tune"] == [
        (name, share) for name, share in (("p59", "0.6"), ("p113", "0.5"), ("p113", "0.7")) for _ in range(4)
    ]
    assert {row["steps"] for row in rows} == {"3"}


def test_what_a_limit_leaves_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--protocol", "p59", "--only", "exact", "--limit", "0", "--device", "cpu", "--quiet"]
    assert ma.main([*given, "--out", str(tmp_path / "rows.csv")]) == 0
    assert "not done: p59 0.8 exact tune" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ma.main(["--only", "no_such_loss"])


def test_what_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ma.PROTOCOLS, "p59", replace(TOY, rates=(1e-3,)))
    monkeypatch.setitem(
        ma.LOSSES, "torch", ma.LOSSES["torch"]._replace(loss=torch.cdist)
    )  # not of these shapes
    given = ["--protocol", "p59", "--only", "torch", "--device", "cpu", "--quiet"]
    assert ma.main([*given, "--out", str(tmp_path / "rows.csv")]) == 1
    assert "failed: p59 torch final\nTraceback" in capsys.readouterr().err
