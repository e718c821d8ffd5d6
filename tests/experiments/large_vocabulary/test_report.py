"""The tables and pictures of the large vocabulary, from the stored runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.large_vocabulary import report as scale
from experiments.large_vocabulary.command import SIZES


def test_runs_agree_and_share_memory() -> None:
    table = scale.run_table()
    assert list(table.index) == [("float32", 1), ("float32", 2), ("float64", 1), ("float64", 2)]
    assert (table["largest relative difference"] < 1e-6).all()
    assert (table.loc[(slice(None), 1), "all-reduces a step"] == 0).all()
    assert table.loc[("float32", 2), "peak MB a process"] < table.loc[("float32", 1), "peak MB a process"]


def test_what_is_shown_of_the_runs() -> None:
    text = scale.shown(scale.run_table())
    assert list(text.columns) == list(scale.run_table().index)
    assert text.loc["largest relative difference", ("float32", 1)] == "0"
    assert 0 < float(text.loc["largest relative difference", ("float32", 2)]) < 1e-6
    assert "." not in "".join(text.loc["all-reduces a step"])


def test_the_formula_stands_beside_measured_steps() -> None:
    table = scale.formula_table()
    assert sorted(set(table.index.get_level_values("classes"))) == sorted(SIZES)
    np.testing.assert_allclose(table["measured / formula"], table["measured (ms)"] / table["formula (ms)"])
    assert table["measured / formula"].between(0.5, 2).all()  # what the page calls agreement


def test_cost_is_divided_by_the_workers_but_for_messages() -> None:
    table = scale.cost_table(workers=(1, 64))
    np.testing.assert_allclose(
        table.loc[["products", "loss", "optimizer"], 64] * 64, table.loc[["products", "loss", "optimizer"], 1]
    )
    assert (table.loc[["row numbers", "hidden gradient"], 1] == 0).all()
    assert (table.loc[["row numbers", "hidden gradient"], 64] > 0).all()
    np.testing.assert_allclose(table.loc["whole step"], table.drop("whole step").sum())


def test_messages_do_not_grow_with_the_classes() -> None:
    few, many = (
        scale.cost_table(replace(scale.TARGET, classes=k), workers=(64,))[64] for k in (1_000_000, 10_000_000)
    )
    assert many["hidden gradient"] == few["hidden gradient"]
    assert many["products"] == pytest.approx(10 * few["products"])


def test_memory() -> None:
    table = scale.memory_table()
    assert list(table.columns) == ["64 workers", "one"]
    assert table.loc["weight", "one"] == pytest.approx(64 * table.loc["weight", "64 workers"])
    np.testing.assert_allclose(table.loc["sum"], table.drop("sum").sum())


@pytest.mark.parametrize("draw", [scale.training_picture, scale.network_picture, scale.cost_picture])
def test_pictures_have_labelled_axes(draw: object) -> None:
    assert callable(draw)
    figure = draw()
    figure.canvas.draw()
    assert all(axis.get_ylabel() and (axis.get_xlabel() or axis is figure.axes[0]) for axis in figure.axes)
