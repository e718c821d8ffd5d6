"""Labels that do not meet, intervals, and curves over steps and seconds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from experiments import curves


def test_labels_are_apart_in_order_and_near() -> None:
    placed = curves.spread([0.5, 0.9, 0.52, 0.51], 0.1)
    assert list(np.argsort(placed)) == [0, 3, 2, 1]
    assert np.diff(np.sort(placed)).min() == pytest.approx(0.1)
    assert placed[3] == pytest.approx(0.51)
    assert placed[1] == 0.9
    np.testing.assert_array_equal(curves.spread([1.0, 3.0], 0.5), [1.0, 3.0])
    assert len(curves.spread([], 0.5)) == 0


def test_an_interval_is_students() -> None:
    mean, half = curves.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302652729911275 / math.sqrt(3))  # t of two degrees of freedom
    assert math.isnan(curves.interval([1.0])[1])


def test_names_look_different() -> None:
    looks = curves.looks([str(i) for i in range(21)])
    assert len({tuple(look.values()) for look in looks.values()}) == 21


def test_a_curve_and_its_picture() -> None:
    rows = pd.DataFrame(
        [
            {"seed": seed, "step": step, "seconds": step / 10, "accuracy": step / 10 + seed / 100}
            for seed in (0, 1, 2)
            for step in (1, 5)
        ]
    )
    curve = curves.curve_of(rows, "ours", "step", "accuracy")
    np.testing.assert_allclose(curve.mean, [0.11, 0.51])
    np.testing.assert_allclose([curve.low, curve.high], [[0.1, 0.5], [0.12, 0.52]])
    np.testing.assert_allclose(curve.seconds, [0.1, 0.5])
    figure = curves.curves_picture(
        [curve, curve._replace(label="theirs", mean=curve.mean / 2)],
        curves.looks(["ours", "theirs"]),
        steps="steps",
        measure="accuracy",
    )
    left, right = figure.axes
    assert [left.get_xlabel(), right.get_xlabel()] == ["steps", "seconds of training"]
    assert [text.get_text() for text in right.texts] == ["ours", "theirs"]
    heights = [text.xyann[1] for text in right.texts]  # type: ignore[attr-defined]
    assert heights[0] > heights[1]
    np.testing.assert_allclose(np.asarray(right.lines[0].get_xdata(), dtype=float), [0.1, 0.5])
