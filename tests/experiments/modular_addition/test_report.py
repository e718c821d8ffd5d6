"""Tables and pictures of made-up rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import modular_addition as ma
from experiments.modular_addition import report
from tests.experiments.modular_addition.toy import TOY, stored

SETTING = ("p59", TOY.p, TOY.share, TOY.steps, "a card")


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "rows.csv"
    stored(path, "torch", [0.2, 0.9], part="tune")
    stored(path, "torch", [0.3, 0.5])
    stored(path, "log_mean", [0.96, 0.98, 1.0])
    return report.frame(ma.read(path))


def test_accuracy_and_when_it_is_reached(table: pd.DataFrame) -> None:
    assert report.settings(table) == [SETTING]
    found = report.accuracy_table(table, SETTING)
    assert list(found.index) == ["torch", "log of the mean"]
    plain, log = found.loc["torch"], found.loc["log of the mean"]
    assert plain["test accuracy (%)"] == pytest.approx(40)
    assert plain["± (95 %)"] == pytest.approx(12.7062 * 10, rel=1e-4)  # t of one degree of freedom
    assert log["worst seed (%)"] == pytest.approx(96)
    assert (plain["seeds"], log["seeds"]) == (2, 3)
    assert plain["steps to 95%"] == math.inf
    assert log["steps to 95%"] == 12
    assert plain["ms a step"] == pytest.approx(50)
    assert plain["target's gradient is 0 (%)"] == pytest.approx(25)


def test_rates(table: pd.DataFrame) -> None:
    found = report.rate_table(table, SETTING)
    assert found.loc["torch"].to_dict() == pytest.approx({0.001: 20, 0.01: 90})


def test_a_setting_without_rows_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no rows of the part final"):
        report.accuracy_table(table, ("p113", *SETTING[1:]))


def test_the_picture_names_its_curves(table: pd.DataFrame) -> None:
    figure = report.accuracy_picture(table, SETTING)
    assert [text.get_text() for text in figure.axes[1].texts] == ["torch", "log of the mean"]
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [6, 12]
    assert np.asarray(figure.axes[1].lines[0].get_xdata()).tolist() == [0.3, 0.6]


def test_the_drift_is_drawn_and_told(table: pd.DataFrame) -> None:
    table["cross_entropy"] = 10.0 ** -table["seed"] * 1e-3
    figure = report.drift_picture(table, SETTING)
    assert [len(axis.lines) for axis in figure.axes] == [2, 2]
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == pytest.approx(2 * [5.5e-4])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["torch", "log of the mean"]
    assert report.final_loss(table, SETTING, "torch") == "1.0e-04 to 1.0e-03"


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    stored(path, "torch", [0.2, 0.6])
    stored(path, "exact", [0.7, 0.8])
    stored(path, "stablemax", [0.21, 0.61])
    stored(path, "log_mean", [1.0, 1.0, 1.0])
    table = report.frame(ma.read(path))
    mean, half = report.difference(table, SETTING, "exact", "torch")
    assert mean == pytest.approx(35)
    assert half == pytest.approx(12.7062 * 15, rel=1e-4)  # of 50 and 20
    assert report.in_words(table, SETTING, "exact", "torch").startswith("is not told apart by these seeds")
    assert report.in_words(table, SETTING, "stablemax", "torch") == "has 1.0 ± 0.0 points more"
    assert report.in_words(table, SETTING, "torch", "stablemax") == "has 1.0 ± 0.0 points less"
    with pytest.raises(ValueError, match="other seeds"):
        report.difference(table, SETTING, "log_mean", "torch")


def test_sentences(table: pd.DataFrame) -> None:
    assert report.reached(table, SETTING, "torch", 0) == "40 ± 127 %"
    assert report.solved(table, SETTING) == "log of the mean (12 steps)"
    assert report.cost(table, SETTING, "torch", "log_mean") == pytest.approx(1)
    assert report.zero_share(table, SETTING, "torch") == "25 %"
    assert report.at_the_edge(table, SETTING) == "torch (the smallest), log of the mean (the smallest)"


def test_drift_begins_where_a_share_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for name in ("torch", "exact"):
        stored(path, name, [0.2, 0.6])
    table = report.frame(ma.read(path))
    at_end = table["step"] == 12
    table["weight_norm"] = 10.0 + 5 * (at_end & (table["loss"] == "torch")) + 1 * at_end
    table["cross_entropy"] = 1e-3 + 1e-2 * at_end
    table.loc[table["loss"] == "exact", "zero_share"] = 0.1
    found = report.drift_table(table, SETTING, ["torch", "exact"])
    assert found.loc["torch"].tolist() == ["6", "10.0", "12", "16.0", "10.0, 11.0", "1.0e-03", "1.1e-02"]
    assert list(found.index) == ["torch"]
    table.loc[(table["loss"] == "torch") & ~at_end, "zero_share"] = 0.2
    assert report.drift_table(table, SETTING, ["torch"])["zero from step"].item() == "12"


def test_circumstances_name_the_card(table: pd.DataFrame) -> None:
    table["versions"] = "python 3, numpy 2, torch 9.9"
    assert report.circumstances(table, SETTING) == (
        "60 % of the 49 pairs modulo 7, a width of 8, 12 steps, 3 seeds, a card, torch 9.9"
    )


def test_the_shown_table_says_never(table: pd.DataFrame) -> None:
    found = report.shown(table, SETTING)
    assert found.loc["torch", "test accuracy (%)"] == "40.0 ± 127.1"
    assert list(found["steps to 95%"]) == ["never", "12"]
