"""A stopped run goes on, and the stored outcome is complete."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

from pathlib import Path

from experiments import exhaustive
from experiments.exhaustive import CHECKS, Tally, exponential, pairs


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def piece(n: int) -> dict[str, Tally]:
        tried.append(n)
        if len(tried) == 20:
            raise KeyboardInterrupt
        return {"exp": Tally(1, 1, n % 2, 0, float(n), str(n))}

    check = exhaustive.Check("exponential", "numbers", "relative", 40, piece)
    monkeypatch.setitem(CHECKS, "float32", check)
    out = tmp_path / "outcome.csv"
    with pytest.raises(KeyboardInterrupt):
        exhaustive.run(["float32"], 1, out)
    table = exhaustive.run(["float32"], 1, out)
    assert [n for n in tried if n < 16] == list(range(16))  # batches of eight: the third was lost
    row = table.iloc[0]
    assert (row["arguments"], row["misrounded"], row["worst"], float(row["where"])) == (40, 20, 39.0, 39.0)
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.csv"]
    again = exhaustive.run(["float32"], 1, out)  # in place of the old row
    assert len(again) == 1


def test_the_stored_outcome() -> None:
    """What the page on the loops says of it."""
    table = exhaustive.read()
    assert list(dict.fromkeys(table["check"])) == list(CHECKS)
    by = table.set_index(["check", "result"])
    assert by.loc[("float32", "exp"), "arguments"] == exponential._FLOAT32_COUNT
    assert by.loc[("float16 differences", "exp"), "arguments"] == exponential._GRID_COUNT
    of_pairs = table[table["check"] == "float16 pairs"]
    assert list(of_pairs["result"]) == list(pairs.KINDS)
    assert (of_pairs["arguments"] == 1 << 32).all()
    powers = table[table["part"] == "exponential"].set_index("check")["worst"]
    in_singles = "float32 in sixteen lanes"
    assert (powers.drop(in_singles) < 2.0**-33).all()
    assert powers[in_singles] < 2.0**-25.5
    assert by.loc[(in_singles, "exp in sixteen lanes"), "arguments"] == 2 * exponential._LARGEST_BITS
    assert (of_pairs["worst"] < 0.503).all()
    assert (table["ties"] <= table["misrounded"]).all()
    assert table["processor"].str.len().gt(0).all()
    shown = exhaustive.summary(table)
    assert shown["largest error"].str.match(r"^(2\^-\d+\.\d\d|0\.\d+ ulp)$").all()
