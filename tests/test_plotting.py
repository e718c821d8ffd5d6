"""Pictures: one style, colours that can be told apart, and a heat map that shows every cell."""

from __future__ import annotations

import math
from typing import Any

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="draws")
pd = pytest.importorskip("pandas", reason="the audit needs pandas")

from softmax_lab import plotting  # noqa: E402
from softmax_lab.audit import COLUMNS, report  # noqa: E402

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def frame() -> Any:
    rows = [
        ("mine", "softmax", "float32", "moderate", 0.7, True, "", "nothing special"),
        ("mine", "softmax", "float32", "repeatable", NAN, True, "", "same bits"),
        ("mine", "softmax", "float32", "wide", 120.0, False, "120 ulp off", "wide rows"),
        ("mine", "softmax", "float32", "uneven", 15.0, False, "15 ulp off", "uneven rows"),
        ("mine", "softmax", "float64", "wide", 4000.0, False, "4e+03 ulp off", "wide rows"),
        ("mine", "cross_entropy", "float32", "label -1", NAN, False, "is accepted", "a negative label"),
        ("theirs", "softmax", "float32", "moderate", INF, False, "raises", "nothing special"),
    ]
    found = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "wrong"])
    return found.assign(wrong=~found["ok"])[list(COLUMNS)]


def test_the_style_is_the_default_of_what_is_drawn_after_it() -> None:
    with matplotlib.rc_context():
        plotting.use_style()
        assert matplotlib.rcParams["image.cmap"] == plotting.SEQUENTIAL
        assert matplotlib.rcParams["figure.facecolor"] == "white"
        cycle = [entry["color"] for entry in matplotlib.rcParams["axes.prop_cycle"]]
    assert cycle == [color for name, color in plotting.COLORS.items() if name not in ("yellow", "grey")]
    assert len(set(plotting.COLORS.values())) == len(plotting.COLORS)
    assert {plotting.SEQUENTIAL, plotting.DIVERGING} <= set(matplotlib.colormaps)


def test_heat_map_shows_every_cell(frame: Any) -> None:
    figure = plotting.heat_map(frame, function="softmax", dtypes=["float32", "float64"])
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "moderate",
        "repeatable",
        "wide",
        "uneven",
    ]
    assert len(left.get_xticklabels()) == 2
    assert sorted(text.get_text() for text in left.texts) == ["·", "×", "×", "×"]
    assert [text.get_text() for text in right.texts] == ["×"]
    norm: Any = left.images[0].norm
    assert (norm.vmin, norm.vmax) == (report.LOWEST, report.HIGHEST)  # both show one error in one colour
    shown: Any = left.images[0].get_array()
    assert shown.mask.tolist() == [[False, False], [True, True], [False, True], [False, True]]
    assert math.isclose(shown[2, 0], 120.0)
    figure.canvas.draw()


def test_heat_map_refuses_what_was_not_audited(frame: Any) -> None:
    with pytest.raises(ValueError, match="rows of cross_entropy in float64; it has float32"):
        plotting.heat_map(frame, function="cross_entropy", dtypes=["float64"])
