"""What an axis cannot show is left out."""

from __future__ import annotations

from tests.experiments.interactive.small import PICTURES


def test_what_a_logarithm_cannot_show_is_left_out() -> None:
    change = PICTURES["film"]().changes[1]
    assert change.values[-1] == [None] * 3
    assert change.values[0] == [1.0] * 3
