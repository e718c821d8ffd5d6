"""A picture is whole: every change has its trace, and there is a still."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from experiments import interactive


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
    said_by = [control for control in spec["controls"] if control["name"] in spec["said_by"]]
    assert len(spec["said"]) == np.prod([len(control["values"]) for control in said_by])
    assert not re.search(r"[-−]0(\.0+)?(?![.\d])(?!e)", html.unescape(" ".join(spec["said"])))
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
