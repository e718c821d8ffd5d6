"""The pictures to play with: whole, in step with the package, and honest about what cannot be shown."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import interactive


def films() -> dict[str, pd.DataFrame]:
    step, label = (part.ravel() for part in np.meshgrid(np.arange(1, 6), np.arange(3), indexing="ij"))
    table = pd.DataFrame(
        {"step": step, "class": label, "positive_mass": 1.0 + label, "negative_mass": 1.0 * step}
    )
    return {"plain": table, "other": table.assign(negative_mass=0.0)}


PICTURES = {
    "three": lambda: interactive.three_classes((-1.0, 0.0, 1.0, 2.0, 3.0), grid=4),
    "temperature": lambda: interactive.temperature(positions=7),
    "precision": lambda: interactive.precision(9, ("softmax_lab", "numpy")),
    "film": lambda: interactive.film(films(), positions=4),
}


@pytest.fixture(scope="module", params=list(PICTURES))
def picture(request: pytest.FixtureRequest) -> Any:
    return PICTURES[request.param]()


def test_every_change_has_its_trace(picture: interactive.Interactive) -> None:
    for change in picture.changes:
        assert picture.panels[change.panel]["data"][change.trace]["type"] in ("bar", "heatmap", "scatter")
        assert set(change.by) <= {control.name for control in picture.controls}


def test_html_is_strict_json_and_has_a_still(picture: interactive.Interactive) -> None:
    text = picture._repr_html_()
    (data,) = re.findall(r'<script type="application/json">(.*)</script>', text)
    assert "NaN" not in data
    assert "Infinity" not in data
    spec = json.loads(data)
    assert len(spec["said"]) == np.prod([len(control["values"]) for control in spec["controls"]])
    assert re.search(
        r'<img class="interactive-still" alt="[^"]{40,}" src="data:image/png;base64,[^"]{1000,}"', text
    )
    (caption,) = re.findall(
        r'</div><figcaption><p><span class="caption-text">(.*)</span></p></figcaption></figure>$', text
    )
    assert html.unescape(caption) == picture.caption


def test_a_change_of_the_wrong_length_is_refused(picture: interactive.Interactive) -> None:
    change = picture.changes[0]
    with pytest.raises(ValueError, match=f"needs {len(change.values)} values"):
        replace(picture, changes=(replace(change, values=change.values[1:]),))
    with pytest.raises(ValueError, match="sentences"):
        replace(picture, said=picture.said[1:])


def test_three_classes_show_the_package() -> None:
    picture = PICTURES["three"]()
    panels = picture.at_start()
    p = sl.softmax(np.array([float(control.values[control.start]) for control in picture.controls[:3]]))
    np.testing.assert_allclose(panels[0]["data"][0]["y"], p, rtol=1e-3)
    np.testing.assert_allclose(panels[1]["data"][0]["z"], np.diag(p) - np.outer(p, p), rtol=1e-3)
    assert panels[2]["data"][0]["y"][2] == 0


def test_only_ours_goes_on() -> None:
    picture = interactive.precision(57, ("softmax_lab", "numpy"))
    ours, textbook = picture.at_start()[0]["data"][-1]["x"]
    assert 90 < ours < 110
    assert 10 < textbook < 20


def test_bars_of_a_still_stand_side_by_side() -> None:
    axis = PICTURES["film"]().still().axes[0]
    sides = sorted((bar.get_extents().x0, bar.get_extents().x1) for bar in axis.patches)
    assert len(sides) == 6
    assert all(right <= left + 1e-6 for (_, right), (left, _) in pairwise(sides))


def test_with_the_label_on_the_smaller_logit_only_the_textbook_ends() -> None:
    picture = interactive.precision(57, ("softmax_lab", "numpy"))
    change = next(
        change for change in picture.changes if (change.panel, change.trace, change.field) == (0, 4, "x")
    )
    assert change.by == ("dtype", "label")
    ours, textbook = change.values[2 * interactive.DTYPES.index("float32") + 1]
    assert ours == 2000
    assert 80 < textbook < 104  # where exp(-gap) underflows


def test_what_a_logarithm_cannot_show_is_left_out() -> None:
    change = PICTURES["film"]().changes[1]
    assert change.values[-1] == [None] * 3
    assert change.values[0] == [1.0] * 3
