"""The triangle is one picture: the same parts in the same colours, wherever it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from experiments.interactive.triangle import ARROWS, DOT, arrows, place
from softmax_lab.plotting import COLORS
from tests.experiments.interactive.small import PICTURES, TRIANGLES


def look(trace: dict[str, Any]) -> Any:
    return trace.get("line") or trace.get("marker")


def test_corners_and_middle_are_where_they_should() -> None:
    corners = [place(row) for row in np.eye(3)]
    sides = [np.hypot(*np.subtract(a, b)) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    np.testing.assert_allclose(sides, 1.0)
    np.testing.assert_allclose(place(np.full(3, 1 / 3)), np.mean(corners, axis=0))


def test_every_triangle_has_the_same_parts_and_colours() -> None:
    found = {name: PICTURES[name]().at_start()[panel] for name, panel in TRIANGLES.items()}
    looks = [[look(trace) for trace in panel["data"]] for panel in found.values()]
    assert all(each == looks[0] for each in looks)
    colors = [each["color"] for each in looks[0] if each]
    assert colors == [COLORS[name] for name in ("grey", "sky", "vermillion", "vermillion")]
    edges = [panel["data"][0] for panel in found.values()]
    assert all(each == edges[0] for each in edges)
    assert all({"xaxis", "yaxis"} <= panel["layout"].keys() for panel in found.values())
    assert all(panel["layout"]["xaxis"] == found["three"]["layout"]["xaxis"] for panel in found.values())


@pytest.mark.parametrize("label", range(3))
def test_arrows_lead_to_the_corner_of_the_label(label: int) -> None:
    x, y = (np.array([v for v in axis if v is not None]).reshape(-1, 5) for axis in arrows(label, 6))
    corner = place(np.eye(3)[label])
    tail, head = (
        np.hypot(x[:, 0] - corner[0], y[:, 0] - corner[1]),
        np.hypot(x[:, 1] - corner[0], y[:, 1] - corner[1]),
    )
    assert (head < tail).all()


def test_the_edge_is_the_sigmoid_while_the_third_class_is_masked() -> None:
    picture = PICTURES["two"]()
    panels = picture.at_start()
    (gap,), (p,) = panels[0]["data"][2]["x"], panels[0]["data"][2]["y"]
    assert gap == 2.0
    assert np.isclose(p, 1 / (1 + np.exp(-2.0)), rtol=1e-3)
    assert panels[1]["data"][DOT]["y"] == [0.0]  # on the edge
    third = next(
        change for change in picture.changes if (change.panel, change.trace, change.field) == (1, DOT, "y")
    )
    assert all(value[0] > 0 for i, value in enumerate(third.values) if i % 6)  # off it
    assert panels[1]["data"][ARROWS]["x"]


def test_at_a_wrong_corner_the_gradient_is_large_and_nothing_passes() -> None:
    picture = PICTURES["saturation"]()
    factor, label = picture.controls
    assert (factor.values[factor.start], label.values[label.start]) == ("4", "2")
    bars = picture.at_start()[0]["data"][0]["y"]
    p = sl.softmax(np.array([8.0, 4.0, -4.0]))
    np.testing.assert_allclose(bars[0], np.linalg.norm(p - [0, 1, 0]), rtol=1e-3)
    np.testing.assert_allclose(bars[1:], sl.softmax_spectrum(p)[:0:-1], rtol=1e-3)
    assert bars[0] > 1.3
    assert bars[1] < 0.04
