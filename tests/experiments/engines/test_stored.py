"""The table of engines: what is stored is known by engine, variant and version, and read as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

import softmax_lab as sl
from experiments.engines.cases import ASKED
from experiments.engines.recipes import ENGINES
from experiments.engines.stored import COLUMNS, ENGINES_TABLE, append, read, stored
from softmax_lab.audit import Finding
from tests.audit.implementations import Array


class Half:
    """A softmax that is half of one, NaN on one class."""

    dtypes = ("float32",)

    def softmax(self, z: Array) -> Array:
        return sl.softmax(z) / 2 if z.shape[1] > 1 else np.full_like(z, np.nan)


def test_findings_are_appended_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "engines.csv"
    assert stored(path) == set()
    assert read(path).empty
    found = sl.audit.run({"half": Half()}, progress=False)
    findings = [
        (row.function, row.dtype, row.case, Finding(row.max_ulp, row.problem, row.wrong))
        for row in found.itertuples()
    ]
    append(findings, "half", "", "1.0", path)
    append(findings, "half", "axis 0", "1.0", path)
    assert stored(path) == {("half", "", "1.0"), ("half", "axis 0", "1.0")}
    table = read(path)
    assert list(table.columns) == [*COLUMNS, "ok"]
    assert len(table) == 2 * len(found)
    own = table[table["variant"] == ""]
    for name in ("function", "dtype", "case", "problem", "wrong", "ok"):
        assert own[name].tolist() == found[name].tolist()
    np.testing.assert_allclose(own["max_ulp"].to_numpy(), found["max_ulp"].to_numpy(), rtol=1e-3)
    assert own["date"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    assert own["processor"].str.len().min() > 0
    assert read(path, ["other"]).empty


def test_what_is_shipped_is_of_the_recipes_and_of_the_cases() -> None:
    table = read(ENGINES_TABLE)
    for (engine, variant), own in table.groupby(["engine", "variant"]):
        assert variant in ENGINES[str(engine)].variants
        pinned = ENGINES[str(engine)]
        assert set(own["version"]) == {pinned.pinned[pinned.package]}
        assert not own.duplicated(["function", "dtype", "case"]).any()
    assert set(table["case"]) <= {check.name for check in ASKED}
    assert (table["ok"] | (table["problem"] != "")).all()
