"""Each way ends where its arithmetic does."""

from __future__ import annotations

from experiments import interactive
from experiments.interactive.gaps import DTYPES


def test_only_ours_goes_on() -> None:
    picture = interactive.precision(57, ("softmax_lab", "numpy"))
    ours, textbook = picture.at_start()[0]["data"][-1]["x"]
    assert 90 < ours < 110
    assert 10 < textbook < 20


def test_with_the_label_on_the_smaller_logit_only_the_textbook_ends() -> None:
    picture = interactive.precision(57, ("softmax_lab", "numpy"))
    change = next(
        change for change in picture.changes if (change.panel, change.trace, change.field) == (0, 4, "x")
    )
    assert change.by == ("dtype", "label")
    ours, textbook = change.values[2 * DTYPES.index("float32") + 1]
    assert ours == 2000
    assert 80 < textbook < 104  # where exp(-gap) underflows
