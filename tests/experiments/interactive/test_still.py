"""A still is drawn as the page draws the panels."""

from __future__ import annotations

from itertools import pairwise

from tests.experiments.interactive.small import PICTURES


def test_bars_of_a_still_stand_side_by_side() -> None:
    axis = PICTURES["film"]().still().axes[0]
    sides = sorted((bar.get_extents().x0, bar.get_extents().x1) for bar in axis.patches)
    assert len(sides) == 6
    assert all(right <= left + 1e-6 for (_, right), (left, _) in pairwise(sides))
