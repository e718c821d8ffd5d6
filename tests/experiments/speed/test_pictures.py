"""The pictures show everything that was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments import speed
from experiments.benchmarks import cpu
from tests.experiments.speed.measurements import frame


@pytest.mark.parametrize("dtypes", [("float32",), ("float32", "float64")])
def test_pictures_have_a_panel_for_everything_measured(tmp_path: Path, dtypes: tuple[str, ...]) -> None:
    table = frame(tmp_path, shapes=[*cpu.SHAPES, *cpu.SWEEP], dtypes=dtypes)
    drawn = speed.classes_picture(table)
    assert len(drawn.axes) == 3 * len(dtypes)
    assert all(len(axis.lines) == len(speed.LOOK) for axis in drawn.axes)
    assert all(np.size(line.get_xdata()) == len(cpu.SWEEP) for axis in drawn.axes for line in axis.lines)
    scatter = speed.accuracy_picture(table)
    assert len(scatter.axes) == 6  # three tasks, two shapes with known errors
    for axis in scatter.axes:
        assert len(axis.lines) == 6 * len(dtypes)
        low, high = axis.get_ylim()
        assert low > high  # small errors are up
    rates = speed.bandwidth_picture(table)
    assert [axis.get_title() for axis in rates.axes] == list(dtypes)
    assert all(len(axis.lines) == 8 for axis in rates.axes)


def test_cost_picture_marks_where_the_loops_change() -> None:
    rows = pd.Series([2.0, 1.0], index=pd.MultiIndex.from_tuples([(1, 10), (1, 1000)], names=["n", "k"]))
    figure = speed.cost_picture(rows, dict.fromkeys(speed.TASKS, rows))
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["K = 10", "K = 1,000"]
    assert len(right.lines) == 3 + 3
