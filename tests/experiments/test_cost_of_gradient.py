"""The timed calls compute gradients; how long they take is not tested."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import cost_of_gradient as cost


@pytest.mark.parametrize("way", cost.WAYS)
def test_a_time_for_every_size(way: str) -> None:
    times = cost.milliseconds(way, [2, 3, 16], rounds=2)
    assert times.shape == (3,)
    assert times.dtype == np.float64
    assert (times > 0).all()


def test_the_matrix_gives_the_same_gradient_as_the_formula() -> None:
    formula, matrix = (cost.gradient_call(way, 5, seed=0)() for way in cost.WAYS[1:])
    np.testing.assert_allclose(matrix, formula, rtol=1e-12, atol=1e-15)


def test_a_hard_label_gives_one_row() -> None:
    gradient = cost.gradient_call("hard label", 5)()
    assert gradient.shape == (5,)
    assert gradient[0] < 0 < gradient[1:].min()


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match=r"way must be one of 'hard label', .*got 'by magic'"):
        cost.milliseconds("by magic", [2])
