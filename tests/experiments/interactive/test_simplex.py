"""Three classes show what the package computes."""

from __future__ import annotations

import numpy as np

import softmax_lab as sl
from tests.experiments.interactive.small import PICTURES


def test_three_classes_show_the_package() -> None:
    picture = PICTURES["three"]()
    panels = picture.at_start()
    p = sl.softmax(np.array([float(control.values[control.start]) for control in picture.controls[:3]]))
    np.testing.assert_allclose(panels[1]["data"][0]["y"], p, rtol=1e-3)
    np.testing.assert_allclose(panels[2]["data"][0]["z"], np.diag(p) - np.outer(p, p), rtol=1e-3)
    assert picture.said_by == ("z1", "z2", "z3")
    assert picture.said[0].endswith(", 0.000")  # one eigenvalue is 0


def test_a_number_added_to_all_three_moves_the_logits_and_nothing_else() -> None:
    picture = PICTURES["three"]()
    moved = {(change.panel, change.trace) for change in picture.changes if "c" in change.by}
    assert moved == {(0, 3), (0, 4), (0, 5)}
    logits = picture.at_start()[0]["data"]
    assert [trace["y"][0] for trace in logits[:3]] == [3.0, 2.0, 0.0]
    assert [trace["y"][0] for trace in logits[3:]] == [7.0, 6.0, 4.0]
    shift = picture.controls[3]
    assert shift.label == "add to all three"
    assert shift.values[shift.start] == "+4"  # it opens moved
    z = np.array([3.0, 2.0, 0.0])
    np.testing.assert_allclose(picture.at_start()[1]["data"][0]["y"], sl.softmax(z + 4.0), rtol=1e-3)
