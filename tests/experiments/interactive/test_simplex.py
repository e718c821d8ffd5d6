"""Three classes show what the package computes."""

from __future__ import annotations

import numpy as np

import softmax_lab as sl
from tests.experiments.interactive.small import PICTURES


def test_three_classes_show_the_package() -> None:
    picture = PICTURES["three"]()
    panels = picture.at_start()
    p = sl.softmax(np.array([float(control.values[control.start]) for control in picture.controls[:3]]))
    np.testing.assert_allclose(panels[0]["data"][0]["y"], p, rtol=1e-3)
    np.testing.assert_allclose(panels[1]["data"][0]["z"], np.diag(p) - np.outer(p, p), rtol=1e-3)
    assert panels[2]["data"][0]["y"][2] == 0
