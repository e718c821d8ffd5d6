"""The audit is stored as it was found, taken up where it stopped, and read by the chapter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import frameworks
from experiments.frameworks.stored_audit import LIMIT_ULP
from softmax_lab.audit import adapters

SMALL: dict[str, Any] = {"dtypes": ["float32"], "functions": ["cross_entropy_grad"]}


def quietly(_: str) -> None:
    """Say nothing."""


def test_audit_is_written_and_read_back_as_the_audit_found_it(tmp_path: Path) -> None:
    path = tmp_path / "results" / "audit.csv"
    frameworks.run_audit(["softmax_lab", "numpy"], path, say=quietly, **SMALL)
    stored = frameworks.read_audit(path)
    found = sl.audit.run(["softmax_lab", "numpy"], progress=False, **SMALL)
    assert stored["case"].tolist() == found["case"].tolist()
    assert stored["ok"].tolist() == found["ok"].tolist()
    assert stored["reason"].tolist() == found["reason"].tolist()
    assert stored["problem"].tolist() == found["problem"].tolist()
    np.testing.assert_allclose(stored["max_ulp"], found["max_ulp"], rtol=1e-3)
    assert set(stored["version"]) == {sl.__version__, np.__version__}
    assert [entry.name for entry in path.parent.iterdir()] == ["audit.csv"]  # nothing temporary is left


def test_audit_is_taken_up_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.csv"
    frameworks.run_audit(["numpy"], path, say=quietly, **SMALL)
    asked: list[str] = []
    run = sl.audit.run

    def counted(implementations: Any, **keywords: Any) -> pd.DataFrame:
        asked.extend(implementations)
        return run(implementations, **keywords)

    monkeypatch.setattr(sl.audit, "run", counted)
    table = frameworks.run_audit(["softmax_lab", "numpy"], path, say=quietly, **SMALL)
    assert asked == ["softmax_lab"]
    assert list(dict.fromkeys(table["implementation"])) == ["softmax_lab", "numpy"]  # in the adapters' order
    frameworks.run_audit(["numpy"], path, fresh=True, say=quietly, **SMALL)
    assert asked == ["softmax_lab", "numpy"]
    assert set(frameworks.read_audit(path)["implementation"]) == {"numpy"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.csv"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)  # what was written does not reach the disk
    with pytest.raises(OSError, match="disk full"):
        frameworks.write_audit(pd.DataFrame({"case": ["x"]}), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["audit.csv"]


def test_missing_framework_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise adapters.MissingFramework("torch is not installed: pip install 'softmax-lab[frameworks]'")

    monkeypatch.setitem(adapters.ADAPTERS, "torch", missing)
    monkeypatch.setattr(adapters, "installed", lambda name: name != "torch")
    said: list[str] = []
    table = frameworks.run_audit(["torch", "numpy"], tmp_path / "audit.csv", say=said.append, **SMALL)
    assert set(table["implementation"]) == {"numpy"}
    assert said[0].startswith("torch: left out:")
    assert "softmax-lab[frameworks]" in said[0]
    assert frameworks.available(["numpy", "torch"]) == ["numpy"]
    assert (
        frameworks.absent(["numpy", "torch"])
        == "not installed, and left out: torch; pip install 'softmax-lab[frameworks]'"
    )
    assert frameworks.absent(["numpy"]) == ""
    with pytest.raises(adapters.MissingFramework):
        frameworks.torch_modes()


def table_of(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    """Return a small audit of gradients: implementation, dtype, case, ok."""
    return pd.DataFrame(rows, columns=["implementation", "dtype", "case", "ok"]).assign(
        function="cross_entropy_grad"
    )


def test_shared_failures_are_told_from_those_of_some() -> None:
    table = table_of(
        ("a", "float32", "all", False),
        ("b", "float32", "all", False),
        ("a", "float32", "some", False),
        ("b", "float32", "some", True),
        ("a", "float32", "none", True),
        ("b", "float32", "none", True),
        ("a", "float32", "offered by one", False),
        ("softmax_lab", "float32", "all", True),
        ("b", "float64", "none", False),
    )
    found = frameworks.shared(table, ["cross_entropy_grad"])
    assert found == {
        ("cross_entropy_grad", "all"): True,
        ("cross_entropy_grad", "offered by one"): False,
        ("cross_entropy_grad", "some"): False,
    }
    assert frameworks.shared(table, ["softmax"]) == {}


def test_failing_means_in_every_type_asked_for() -> None:
    table = table_of(
        ("a", "float32", "x", False),
        ("a", "float64", "x", False),
        ("b", "float32", "x", False),
        ("b", "float64", "x", True),
    )
    assert frameworks.failing(table, "cross_entropy_grad", "x") == ["a"]
    assert frameworks.failing(table, "cross_entropy_grad", "x", ["float32"]) == ["a", "b"]
    assert frameworks.failing(table, "cross_entropy_grad", "y") == []


def test_the_stored_audit_is_complete() -> None:
    table = frameworks.read_audit()
    assert list(dict.fromkeys(table["implementation"])) == list(adapters.ADAPTERS)
    assert table.groupby("implementation")["version"].nunique().eq(1).all()
    assert not table.duplicated(["implementation", "function", "dtype", "case"]).any()
    assert table["reason"].notna().all()  # every stored case is one of today's
    assert (table.loc[table["ok"], "max_ulp"].fillna(0) <= LIMIT_ULP * 1.001).all()
    assert (table.loc[~table["ok"], "problem"].str.len() > 10).all()


def test_the_stored_audit_of_this_package_is_todays() -> None:
    stored = frameworks.read_audit().query(
        "implementation == 'softmax_lab' and dtype == 'float32' and function == 'cross_entropy_grad'"
    )
    found = sl.audit.run(["softmax_lab"], progress=False, **SMALL)
    assert stored["case"].tolist() == found["case"].tolist()
    assert stored["ok"].tolist() == found["ok"].tolist()
