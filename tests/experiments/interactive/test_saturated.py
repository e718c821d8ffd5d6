"""Near a wrong corner the Jacobian is nearly zero, and the gradient of the loss at its largest."""

from __future__ import annotations

import numpy as np
import pytest

import softmax_lab as sl
from experiments import interactive
from tests.experiments.interactive.small import PICTURES


def test_the_bars_are_norm_and_eigenvalues() -> None:
    picture = PICTURES["saturation"]()
    for i, factor in enumerate((0.0, 1.0, 4.0)):
        p = sl.softmax(factor * np.array([2.0, 1.0, -1.0]))
        below, middle, largest = np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))
        assert below == pytest.approx(0.0, abs=1e-15)
        for y in range(3):
            gradient = np.linalg.norm(p - np.eye(3)[y])
            shown = picture.changes[0].values[3 * i + y]
            np.testing.assert_allclose(shown, [gradient, largest, middle], rtol=1e-3, atol=1e-12)


def test_it_opens_at_a_wrong_corner() -> None:
    picture = interactive.saturation()
    gradient, largest, middle = picture.at_start()[0]["data"][0]["y"]
    assert gradient == pytest.approx(np.sqrt(2), abs=0.05)
    assert max(largest, middle) < 0.05
