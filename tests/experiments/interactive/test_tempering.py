"""The bars are the package's softmax at the temperature of the slider."""

from __future__ import annotations

import numpy as np

import softmax_lab as sl
from experiments import interactive
from experiments.interactive.triangle import place


def test_bars_and_dot_follow_the_temperature() -> None:
    logits = (3.0, 1.0, 0.0)
    picture = interactive.temperature(logits, (1.0, 0.0, 0.0), positions=5, start=0.5)
    temperatures = np.geomspace(0.1, 100.0, 5)
    bars, x, y = (change.values for change in picture.changes[:3])
    for T, shown, *at in zip(temperatures, bars, x, y, strict=True):
        p = sl.softmax(np.array(logits), temperature=T)
        np.testing.assert_allclose(shown, p, rtol=1e-3)
        np.testing.assert_allclose(np.ravel(at), place(p), rtol=1e-3)
    entropy = -np.sum(p * np.log(p)) / np.log(3)
    assert f"entropy {entropy:.3f} of its maximum" in picture.said[-1]
    control = picture.controls[0]
    assert control.values[control.start] == f"{temperatures[1]:.3g}"


def test_it_opens_where_a_right_row_has_lost_its_gradient() -> None:
    picture = interactive.temperature()
    control = picture.controls[0]
    assert 0.15 < float(control.values[control.start]) < 0.25
    right, wrong = picture.at_start()[2]["data"][2]["y"]
    assert right < 0.01 < 5 < wrong
