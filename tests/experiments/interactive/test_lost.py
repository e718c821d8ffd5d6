"""At a gap of 20 the label's component is lost, and the sum of the gradient is not 0."""

from __future__ import annotations

import numpy as np

from experiments.implementations import color
from tests.experiments.interactive.small import PICTURES


def test_the_label_is_pulled_up_by_one_of_the_two() -> None:
    picture = PICTURES["lost"]()
    bars, sums = picture.at_start()
    ours, torch = (trace["y"] for trace in bars["data"])
    e = np.exp([0.0, -1.0])
    np.testing.assert_allclose(ours, [-1.0, *(e / e.sum())], rtol=1e-3)
    np.testing.assert_allclose(torch[1:], e / e.sum(), rtol=1e-3)
    assert torch[0] == 0.0
    np.testing.assert_allclose([trace["y"][-1] for trace in sums["data"][:2]], [0.0, 1.0], atol=1e-3)
    assert picture.said[1].startswith("gap 20: softmax_lab −1.000, 0.731, 0.269, sum 0.000; torch 0.000, ")
    assert [trace["marker"]["color"] for trace in bars["data"]] == [color("softmax_lab"), color("torch")]
