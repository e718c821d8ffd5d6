"""The bars are the package's softmax at the temperature of the slider."""

from __future__ import annotations

import numpy as np

import softmax_lab as sl
from experiments import interactive


def test_bars_and_entropy_follow_the_temperature() -> None:
    logits = (3.0, 1.0, 0.0)
    picture = interactive.temperature(logits, (1.0, 0.0, 0.0), positions=5)
    temperatures = np.geomspace(0.1, 100.0, 5)
    bars, entropy = picture.changes[0].values, picture.changes[2].values
    for T, shown, height in zip(temperatures, bars, entropy, strict=True):
        p = sl.softmax(np.array(logits), temperature=T)
        np.testing.assert_allclose(shown, p, rtol=1e-3)
        assert np.isclose(height[0], -np.sum(p * np.log(p)) / np.log(3), rtol=1e-4)
    assert picture.controls[0].values[picture.controls[0].start] == f"{temperatures[2]:.3g}" or (
        abs(np.log(temperatures[picture.controls[0].start])) == np.abs(np.log(temperatures)).min()
    )
