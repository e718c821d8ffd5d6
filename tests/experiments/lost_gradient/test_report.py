"""Tables and sentences of made-up rows."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from experiments.lost_gradient import report


def margin_rows() -> pd.DataFrame:
    rows = []
    for loss, cosine in (("exact", math.cos(math.radians(2.0))), ("torch", math.cos(math.radians(30.0)))):
        for seed in (0, 1):
            for step in (10, 100):
                measured = {"cosine": cosine, "cosine_with_mean": cosine / 2, "margin": 0.5, "gap": 7.0}
                lost = float(loss == "torch" and step == 100)
                where: dict[str, object] = {
                    "classes": 3,
                    "descent": "normalised",
                    "loss": loss,
                    "seed": seed,
                    "step": step,
                }
                rows.append(where | measured | {"zero_share": lost, "length": 1.0})
    return pd.DataFrame(rows)


def test_angles_and_when_gradients_are_lost() -> None:
    found = report.margin_table(margin_rows(), 3, "normalised")
    assert list(found.index) == ["torch", "exact"]
    assert found["angle (degrees)"].tolist() == ["30.00 (30.00 to 30.00)", "2.00 (2.00 to 2.00)"]
    assert found["half are zero from step"].tolist() == ["100", "never"]
    assert found.loc["exact", "margin (% of the SVM's)"] == "50.0 (50.0 to 50.0)"
    assert report.lost_from(margin_rows(), 3, "normalised", "torch") == 100
    with pytest.raises(ValueError, match="2 classes and plain"):
        report.at_end(margin_rows(), 2, "plain")
    assert report.distance(pd.Series([1.0 + 1e-12, -1.0])).tolist() == [0.0, 180.0]


def attack_rows() -> pd.DataFrame:
    rows = [
        {"network": "scaled", "factor": factor, "seed": seed, "objective": name, "robust": robust}
        for factor in (1, 64)
        for seed, robust in ((0, 0.2), (1, 0.4))
        for name, robust in (("torch", robust + 0.1 * (factor == 64)), ("dlr", robust))
    ]
    table = pd.DataFrame(rows)
    table["wrong_sign"] = [0.25 if name == "torch" else math.nan for name in table["objective"]]
    return table


def test_attacks_side_by_side() -> None:
    found = report.attack_table(attack_rows(), "scaled", "robust")
    assert found.loc["torch"].tolist() == ["30.0", "40.0"]
    assert found.loc["DLR"].tolist() == ["30.0", "30.0"]
    signs = report.attack_table(attack_rows(), "scaled", "wrong_sign")
    assert list(signs.index) == ["torch"]
    assert report.apart(attack_rows(), "scaled", 64, "torch", "dlr") == "has 10.0 ± 0.0 points more"
    assert report.apart(attack_rows(), "scaled", 1, "torch", "dlr").startswith("is not told apart")


def test_differences_are_of_the_same_seeds() -> None:
    first = pd.Series([0.5, 0.7], index=[0, 1])
    assert report.difference(first, pd.Series([0.6, 0.4], index=[1, 0])) == "has 10.0 ± 0.0 points more"
    with pytest.raises(ValueError, match="same seeds"):
        report.difference(first, pd.Series([0.6, 0.4], index=[1, 2]))


def test_spread() -> None:
    assert report.spread([1.0, 2.0, 6.0]) == "3.0 (1.0 to 6.0)"


def test_scores_by_length_of_training() -> None:
    measured = {"confident": 9, "zero_share": 0.5, "distinct": 3, "rank_correlation": 0.9, "membership": 0.6}
    rows = [
        {"seed": 0, "epochs": epochs, "rows": "train", "loss": loss, "count": 10, **measured}
        for epochs in (10, 30)
        for loss in ("exact", "torch")
    ]
    found = report.score_table(pd.DataFrame(rows), "train")
    assert list(found.index) == [(10, "torch"), (10, "exact"), (30, "torch"), (30, "exact")]
    assert found["exactly 0 (%)"].tolist() == 4 * ["50.0 (50.0 to 50.0)"]


def ordinary_rows() -> pd.DataFrame:
    rows = [
        {
            **{"optimizer": "sgd", "schedule": "constant", "noise": 0.0, "epochs": 3, "loss": loss},
            **{"rate": rate, "seed": seed, "test_accuracy": reached, "test_loss": loss_value},
        }
        for loss in ("torch", "log")
        for rate, reached, loss_value in ((0.1, 0.9, 0.3), (1.0, 0.5, math.nan))
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    table.loc[(table["rate"] == 1.0) & (table["seed"] == 0), "test_loss"] = 0.4
    return table


def test_a_diverged_seed_does_not_vanish_in_a_mean() -> None:
    accuracy = report.rates_table(ordinary_rows(), 0.0)
    assert accuracy.loc[("sgd", "constant", "log of the mean")].tolist() == pytest.approx([90.0, 50.0])
    loss = report.rates_table(ordinary_rows(), 0.0, "test_loss").loc[("sgd", "constant", "torch")]
    assert loss[0.1] == pytest.approx(0.3)
    assert math.isnan(loss[1.0])


def test_the_best_rate_is_that_of_the_accuracy() -> None:
    found = report.best_rates(ordinary_rows(), 0.0, "sgd", "constant")
    assert set(found["rate"]) == {0.1}
    assert sorted(found.index) == [("log", 0), ("log", 1), ("torch", 0), ("torch", 1)]


def test_ordinary_training_at_the_best_rates() -> None:
    tables = []
    for optimizer, schedule in (
        ("sgd", "constant"),
        ("sgd", "decaying"),
        ("adam", "constant"),
        ("adam", "decaying"),
    ):
        tables.append(ordinary_rows().assign(optimizer=optimizer, schedule=schedule))
        tables.append(tables[-1][tables[-1]["loss"] == "torch"].assign(loss="exact"))
    table = pd.concat(tables).assign(ece=0.01, zero_share=0.5, gap=3.0)
    found = report.ordinary_table(table, 0.0)
    assert len(found) == 12
    assert set(found["test accuracy (%)"]) == {"90.0 (90.0 to 90.0)"}
    assert set(found["best rate"]) == {"0.1"}


def test_settings_are_told_apart_by_their_intervals() -> None:
    table = ordinary_rows()
    assert report.told_apart(table, "log", "torch") == (0, 0, 2)
    table.loc[(table["loss"] == "log") & (table["rate"] == 0.1), "test_accuracy"] += 0.05
    assert report.told_apart(table, "log", "torch") == (1, 0, 2)
    assert report.told_apart(table, "torch", "log") == (0, 1, 2)
    assert report.told_apart(table, "log", "torch", "test_loss") == (0, 0, 1)  # the other has no numbers
    assert report.apart_in_words(table, "log", "torch") == "above in 1 and below in 0 of 2 settings"
    assert report.apart_in_words(table, "log", "torch", "test_loss") == "told apart in none of 1 settings"
