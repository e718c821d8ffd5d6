"""Rows are keyed, written whole and never twice."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from experiments import long_tail as lt
from tests.experiments.long_tail.toy import TOY, store
from tests.limits import HANG


def test_rows_come_back_as_they_were_written(table: Path) -> None:
    config = replace(TOY, loss="vs", settings=(("gamma", 0.1), ("tau", 1.25)), permuted=True)
    store(table, config, nll=1 / 3)
    store(table, replace(config, seed=1), nll=float("nan"))
    first, second = lt.read(table)
    assert tuple(first) == lt.COLUMNS
    assert json.loads(first["settings"]) == dict(config.settings)
    assert (first["key"], float(first["nll"]), first["epochs"]) == (config.key, 0.333333, "1")
    assert np.isnan(float(second["nll"]))
    assert list(lt.frame([first])["permuted"]) == [True]


def test_a_row_is_never_twice_and_other_columns_are_refused(table: Path) -> None:
    store(table, TOY, nll=1.0)
    before = table.read_bytes()
    store(table, TOY, nll=2.0)
    assert table.read_bytes() == before
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must have the columns dataset, .*; got a, b"):
        store(table, TOY)


def test_a_write_that_is_stopped_leaves_the_old_file(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(table, TOY)
    before = table.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store(table, replace(TOY, seed=1))
    assert table.read_bytes() == before
    store(table, replace(TOY, seed=2))  # what it left behind is no hindrance
    assert [row["seed"] for row in lt.read(table)] == ["0", "2"]


def test_a_row_waits_for_the_process_that_has_the_file(table: Path) -> None:
    store(table, TOY)
    lock = FileLock(table.with_name(f".{table.name}.lock"))
    with ThreadPoolExecutor(1) as pool:
        with lock:
            waiting = pool.submit(store, table, replace(TOY, seed=1))
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            assert len(lt.read(table)) == 1
        waiting.result(HANG)
    assert len(lt.read(table)) == 2


def test_rows_that_are_appended_at_once_are_all_there(table: Path) -> None:
    """Each call replaces the whole file, and has a lock of its own, as another process would."""
    configs = [replace(TOY, seed=seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda config: store(table, config), configs))
    assert {row["key"] for row in lt.read(table)} == {config.key for config in configs}
    assert len(lt.read(table)) == len(configs)
