"""Each way ends where its arithmetic does."""

from __future__ import annotations

from experiments import interactive
from experiments.interactive.gaps import DTYPES


def test_only_ours_goes_on() -> None:
    picture = interactive.precision(ways=("softmax_lab", "numpy"))
    ours, textbook = picture.at_start()[0]["data"][-1]["x"]
    assert 90 < ours < 110
    assert 10 < textbook < 20


def test_with_the_label_on_the_smaller_logit_only_the_textbook_ends() -> None:
    picture = interactive.precision(ways=("softmax_lab", "numpy"))
    change = next(
        change for change in picture.changes if (change.panel, change.trace, change.field) == (0, 4, "x")
    )
    assert change.by == ("dtype", "label")
    ours, textbook = change.values[2 * DTYPES.index("float32") + 1]
    assert ours == 120
    assert 80 < textbook < 104  # where exp(-gap) underflows


def test_it_opens_where_float32_has_lost_the_gradient_and_gaps_are_on_a_linear_axis() -> None:
    picture = interactive.precision(ways=("softmax_lab", "torch", "numpy"), labels=1)
    control = picture.controls[-1]
    assert [control.name for control in picture.controls] == ["dtype", "gap"]
    assert control.values[control.start] == "20"
    for panel in picture.at_start():
        assert "type" not in panel["layout"]["xaxis"]
        assert panel["layout"]["xaxis"]["range"] == [0.0, 120.0]
        assert panel["data"][-2]["x"] == [20.0, 20.0]
    start = DTYPES.index("float32") * len(control.values) + control.start
    assert picture.said[start] == (
        "float32, gap 20, label the larger logit: exact −log p 2.06e-09, torch and textbook 0; "
        "gradient 2.06e-09, torch and textbook 0"
    )


def test_nothing_is_minus_zero() -> None:
    picture = interactive.precision(ways=("softmax_lab", "torch", "numpy"))
    assert not [sentence for sentence in picture.said if "-0;" in sentence or "-0," in sentence]
    assert not [sentence for sentence in picture.said if sentence.endswith("-0")]
