"""The sweep on one thread and on two, and what is said where only one of them is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import speed
from experiments.benchmarks import cpu
from tests.experiments.speed.measurements import LATER, TIMES, row, run, stored


def both(tmp_path: Path, *rows: dict[str, Any]) -> dict[int, pd.DataFrame]:
    """Return a sweep on two threads and one in which everything takes 1.5 times as long on one."""
    one = [{**given, **times(1.5 * given["ms"]), "threads": 1} for given in run(cpu.SWEEP)]
    return speed.sweeps(stored(tmp_path, [*run(cpu.SWEEP), *run(), *one, *rows]))


def times(ms: float) -> dict[str, Any]:
    """Return a time and the middle three fifths around it."""
    return {"ms": ms, "ms_20": 0.9 * ms, "ms_80": 1.2 * ms}


def test_scaling_is_one_thread_over_two(tmp_path: Path) -> None:
    later = row("loss", cpu.SWEEP[2], "softmax_lab", threads=1, when=LATER, **times(4.0))
    tables = both(tmp_path, later)
    assert list(tables) == [1, 2]
    assert set(tables[1]["k"]) == {k for _, k in cpu.SWEEP}
    found = speed.scaling(tables)
    assert len(found) == len(cpu.SWEEP) * (3 * (len(TIMES) - 1) + 1)
    n, k = cpu.SWEEP[2]
    assert found["loss", "float32", n, k, "softmax_lab"] == pytest.approx(2.0)
    assert found.drop(("loss", "float32", n, k, "softmax_lab")).to_numpy() == pytest.approx(1.5)
    assert speed.scaling_words(tables) == (
        "The time on one thread over the time on two, median and range: loss and gradient 1.50 (1.50 to "
        "2.00), softmax 1.50 (1.50 to 1.50), log-softmax 1.50 (1.50 to 1.50); the peers 1.50 (1.50 to 1.50); "
        "the copy 1.50 (1.50 to 1.50) (measured one thread on 2026-01-02 and two threads on 2026-01-01)"
    )


def test_who_is_ahead_is_counted_on_each_number_of_threads(tmp_path: Path) -> None:
    quick = row("softmax", cpu.SWEEP[0], "torch", threads=1, when=LATER, **times(1.0))
    found = speed.thread_table(both(tmp_path, quick))
    assert list(found.index) == [(words, count) for words in speed.TASKS.values() for count in (1, 2)]
    cases = len(cpu.SWEEP)
    assert found.loc[("softmax", 1)].tolist() == [cases, cases - 1, 0, 1, "0.33 to 3.00", "3.00"]
    assert found.loc[("softmax", 2)].tolist() == [cases, cases, 0, 0, "3.00 to 3.00", "3.00"]


@pytest.mark.parametrize(("there", "words"), [(1, "one thread"), (2, "two threads")])
def test_what_is_not_stored_is_said(tmp_path: Path, there: int, words: str) -> None:
    tables = speed.sweeps(stored(tmp_path, run(cpu.SWEEP, threads=there)))
    assert list(tables) == [there]
    said = speed.scaling_words(tables)
    assert said.startswith(f"With one processor and the same versions the sweep is stored for {words}, so")
    assert f"cpu --sweep --threads {3 - there}` measures it" in said
    assert speed.scaling(tables).empty
    assert speed.scaling_picture(tables) is None
    assert set(speed.thread_table(tables).index.get_level_values("threads")) == {there}


def test_nothing_stored_is_said(tmp_path: Path) -> None:
    tables = speed.sweeps(stored(tmp_path, run()))  # the four shapes are no sweep
    assert tables == {}
    assert "neither number of threads" in speed.scaling_words(tables)
    assert speed.scaling_picture(tables) is None
    assert speed.thread_table(tables).empty


@pytest.mark.parametrize("other", [{"processor": "another"}, {"versions": "python 4"}], ids=str)
def test_two_processors_or_versions_are_not_compared(tmp_path: Path, other: dict[str, str]) -> None:
    rows = [*run(cpu.SWEEP, threads=1), *run(cpu.SWEEP, when=LATER, **other)]
    assert list(speed.sweeps(stored(tmp_path, rows))) == [2]


def test_a_sweep_without_peers_has_no_row_in_the_comparison(tmp_path: Path) -> None:
    alone = [given for given in run(cpu.SWEEP, threads=1) if given["provider"] in ("copy", "softmax_lab")]
    tables = speed.sweeps(stored(tmp_path, [*run(cpu.SWEEP), *alone]))
    assert set(speed.thread_table(tables).index.get_level_values("threads")) == {2}
    assert "; the peers" not in speed.scaling_words(tables)


@pytest.mark.parametrize("dtypes", [("float32",), ("float32", "float64")])
def test_the_picture_has_a_line_a_provider(tmp_path: Path, dtypes: tuple[str, ...]) -> None:
    rows = [given for count in (1, 2) for given in run(cpu.SWEEP, dtypes, threads=count)]
    figure = speed.scaling_picture(speed.sweeps(stored(tmp_path, rows)))
    assert figure is not None
    assert len(figure.axes) == 3 * len(dtypes)
    assert all(len(axis.lines) == 2 + len(TIMES) for axis in figure.axes)
    assert all(np.size(line.get_xdata()) == len(cpu.SWEEP) for axis in figure.axes for line in axis.lines[2:])
