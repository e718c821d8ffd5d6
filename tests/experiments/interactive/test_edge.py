"""With the third class masked the softmax is the sigmoid of the gap; with a finite third logit it is not."""

from __future__ import annotations

import numpy as np

from tests.experiments.interactive.small import PICTURES

GAPS = np.array([-1.0, 0.0, 2.0])


def test_the_curve_is_the_sigmoid_while_the_third_is_masked() -> None:
    picture = PICTURES["two"]()
    curves = picture.changes[0].values
    np.testing.assert_allclose(curves[0], 1 / (1 + np.exp(-GAPS)), atol=5e-4)
    equal = list(picture.controls[1].values).index("0")
    np.testing.assert_allclose(curves[equal], np.exp(GAPS) / (np.exp(GAPS) + 2), atol=5e-4)


def test_it_opens_on_the_edge() -> None:
    picture = PICTURES["two"]()
    curve, triangle = picture.at_start()
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(curve["data"][2]["x"], [2.0])
    np.testing.assert_allclose(curve["data"][2]["y"], [sigmoid], atol=5e-4)
    assert [trace["y"] for trace in triangle["data"] if trace["mode"] == "markers"] == [[0]]
    assert f"gap 2, third logit −∞ (masked): p = {sigmoid:.3f}, " in picture.said[12]
