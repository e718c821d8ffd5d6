"""The pictures show every setting."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.long_tail import report


def test_the_picture_of_the_choices_has_every_setting(whole: list[dict[str, str]]) -> None:
    """A panel a setting; the points of a choice are the regrets of the losses, the best default on top."""
    axes = report.choice_picture(whole).axes
    assert [axis.get_title() for axis in axes] == ["digits, MLP, ρ = 10", "digits, MLP, ρ = 100"]
    losses = [label.get_text() for label in axes[0].get_yticklabels()]
    assert sorted(losses) == ["gradient_balanced", "logit_adjusted", "plain"]
    assert losses[-1] == "plain"
    drawn = [line.get_xdata() for line in axes[1].lines]
    regret = report.regret_by_choice(whole).loc[losses]
    for line, choice in zip(drawn, ("oracle", "default", "tuned"), strict=True):
        assert line == pytest.approx(regret[(choice, "digits", "mlp", 100.0)])
    near = report.choice_picture(whole, most=3.0).axes[1]
    assert np.max(np.asarray(near.lines[1].get_xdata(), dtype=float)) == 3.0


def test_pictures(rows: list[dict[str, str]]) -> None:
    regret = report.regret_picture(report.chosen_rows(rows), "digits")
    assert regret.axes[0].get_title() == "digits"
    assert [label.get_text() for label in regret.axes[0].get_xticklabels()][1:] == [
        "MLP, ρ = 100",
        "the worst of all",
    ]
    assert [text.get_text() for text in regret.axes[0].texts[6:9]] == ["4.0", "−1.0", "4.0"]
    left, right = report.paired_picture(report.chosen_rows(rows)).axes
    assert left.get_yticklabels()[1].get_text() == "digits, MLP, ρ = 100\nagainst focal"
    assert right.get_xlabel() == "expected\ncalibration\nerror (%)"
    assert isinstance(report.gate_picture(), Figure)
    films = report.film(("plain", "gradient_balanced"), rho=10.0, epochs=2, every=2)
    assert set(films) == {"plain", "gradient_balanced"}
    assert {"step", "class", "positive_mass", "negative_mass"} <= set(films["plain"])
    assert report.early_ratio(films["plain"], [0]) > report.early_ratio(films["plain"], [9])
    assert isinstance(report.film_picture(films), Figure)


def test_the_picture_of_the_parts_is_of_the_largest_ratio_and_the_best_is_on_top(
    rows: list[dict[str, str]],
) -> None:
    table = report.chosen_rows(rows)
    table.loc[(table["loss"] == "focal") & (table["rho"] == 100), "tail"] = 10.0
    found = report.parts(table, "digits", "mlp")
    assert found["balanced_accuracy"].to_dict() == {  # the means of five seeds
        "gradient_balanced": 77.0,
        "focal": 76.0,
        "gradient_balanced_smoothed": 75.0,
        "plain": 72.0,
    }
    axis = report.parts_picture(table, "digits", "mlp").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [*found.index]
    drawn = {line.get_label(): line.get_xdata() for line in axis.lines}
    assert drawn["rarest third"] == pytest.approx([50.0, 10.0, 50.0, 50.0])
    assert drawn["all classes"] == pytest.approx(found["balanced_accuracy"])
    bottom, top = axis.get_ylim()
    assert bottom > top
