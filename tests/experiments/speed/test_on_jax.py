"""The package on JAX arrays: ratios to its peers, in the table and in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments import speed
from experiments.benchmarks import cpu

from .measurements import row, run, stored

FEW, MANY = cpu.JAX_SHAPES[0], cpu.JAX_SHAPES[-1]


def measured(tmp_path: Path) -> Path:
    rows = run()
    for shape, factor in ((FEW, 1.0), (MANY, 2.0)):
        rows.append(row("loss", shape, "copy"))
        for task in cpu.TASKS:
            rows.append(row(task, shape, "softmax_lab.jax", ms=4.0))
            rows.append(row(task, shape, "jax.jit", ms=6.0 * factor))
        rows.append(row("loss", shape, "optax", ms=5.0 * factor))
    return stored(tmp_path, rows)


def test_every_peer_stands_beside_the_package(tmp_path: Path) -> None:
    found = speed.on_jax(measured(tmp_path))
    assert list(found.index) == [(words, k) for words in speed.TASKS.values() for k in (FEW[1], MANY[1])]
    loss = found.loc[(speed.TASKS["loss"], MANY[1])]
    assert loss["ms"] == 4.0
    assert loss["jax.jit / softmax_lab.jax"] == 3.0
    assert loss["optax / softmax_lab.jax"] == 2.5
    assert pd.isna(found.loc[(speed.TASKS["softmax"], FEW[1]), "optax / softmax_lab.jax"])


def test_the_words_name_the_peers_that_have_the_function(tmp_path: Path) -> None:
    said = speed.on_jax_words(speed.on_jax(measured(tmp_path)))
    assert said == {
        "loss": "jax.jit 1.50 to 3.00, optax 1.25 to 2.50",
        "softmax": "jax.jit 1.50 to 3.00",
        "log_softmax": "jax.jit 1.50 to 3.00",
    }


def test_the_other_tables_do_not_see_these_rows(tmp_path: Path) -> None:
    table = speed.read(measured(tmp_path))
    assert set(zip(table["n"], table["k"], strict=True)) == set(cpu.SHAPES)
    assert speed.ON_JAX not in speed.PEERS
    assert "optax" not in speed.PEERS
    with pytest.raises(ValueError, match=r"benchmarks\.cpu --jax"):
        speed.on_jax(stored(tmp_path, run()))


def test_the_stored_rows_are_of_every_shape_and_in_ulps() -> None:
    found = speed.on_jax()
    assert list(found.loc[speed.TASKS["loss"]].index) == [k for _, k in cpu.JAX_SHAPES]
    assert found["optax / softmax_lab.jax"].count() == len(cpu.JAX_SHAPES)
    assert (found["ulp"] <= 4.0).all()
