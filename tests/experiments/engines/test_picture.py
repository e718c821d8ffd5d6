"""The picture has a row an engine and a column a question, and its words say the same."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
pytest.importorskip("pandas", reason="the audit needs pandas")

from experiments.engines import picture, report
from experiments.engines.report import SEVERITIES
from tests.experiments.engines.test_report import softmax, table_of

TABLE = table_of(
    softmax("right", "NaN row"),
    softmax("right", "wide"),
    softmax("bad", "NaN row", np.inf, True, "the row must be NaN"),
    softmax("bad", "wide", 53.0, False, "53 ulp off"),
    softmax("torch", "wide", 53.0, False, "53 ulp off"),
)


def test_the_picture_is_of_the_rows() -> None:
    figure = picture.atlas(TABLE, "softmax")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["torch", "bad", "right"]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["NaN", "far apart"]
    assert sorted(text.get_text() for text in axis.texts) == ["53", "53", "×", "✓", "✓"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(SEVERITIES)
    figure.canvas.draw()


def test_the_scale_tells_every_step_apart_in_grey_too() -> None:
    assert len(picture.SCALE) == len(SEVERITIES)
    greys = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.3, 0.59, 0.11]) for c in picture.SCALE]
    assert np.diff(greys[1:]).max() < -20  # from little lost to wrong it grows darker
    assert len({round(grey / 10) for grey in greys}) == len(greys)


def test_the_words_say_what_the_picture_shows() -> None:
    words = picture.alternative(TABLE, "softmax")
    assert "bad: wrong at NaN; digits lost at far apart." in words
    assert "right: wrong at nothing; digits lost at nothing." in words
    assert words.startswith("3 ways to run an engine by 2 questions.")
    assert "softmax in words" in picture.folded(TABLE, "softmax")


def test_what_nobody_offers_is_a_line() -> None:
    figure = picture.atlas(TABLE, "log_softmax")
    assert [text.get_text() for text in figure.texts] == [
        "None of these engines offers the log-softmax in float32 and float64."
    ]
    assert picture.alternative(TABLE, "log_softmax").startswith("0 ways")
    assert report.wrong_at(TABLE, "log_softmax", "NaN") == "0 of 0"
    assert report.at_most(TABLE, "log_softmax", 0) == []


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "cross_entropy"])
def test_the_stored_rows_are_drawn(function: str) -> None:
    table = report.rows()
    figure = picture.atlas(table, function)
    drawn = report.order(report.cells(table, function))
    assert len(figure.axes[0].get_yticklabels()) == len(drawn) > 3
