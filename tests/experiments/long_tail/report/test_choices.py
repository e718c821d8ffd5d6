"""Tuned, oracle and default are told apart, and regret is from one yardstick."""

from __future__ import annotations

import pytest

from experiments.long_tail import report
from experiments.long_tail.report.numbers import GLUE

PLACE_10, PLACE_100 = ("digits", "mlp", 10.0), ("digits", "mlp", 100.0)


def test_each_choice_takes_its_setting(whole: list[dict[str, str]]) -> None:
    found = report.choices(whole)
    assert set(found.index.get_level_values("loss")) == {"plain", "logit_adjusted", "gradient_balanced"}
    tau = ['{"tau": 0.75}', '{"tau": 1.0}']
    assert found.loc[(*PLACE_10, "logit_adjusted")].tolist() == [tau[0], tau[0], tau[1]]
    assert found.loc[(*PLACE_100, "logit_adjusted")].tolist() == [tau[0], tau[1], tau[1]]
    assert found.loc[(*PLACE_100, "plain")].tolist() == ["{}"] * 3
    taken = report.results(whole)
    assert list(taken) == list(report.CHOICES)
    assert {choice: len(table) for choice, table in taken.items()} == dict.fromkeys(report.CHOICES, 18)


def test_rows_of_the_old_rule_do_not_count(rows: list[dict[str, str]], whole: list[dict[str, str]]) -> None:
    assert report.choices(rows).empty
    assert report.choices([*rows, *whole]).equals(report.choices(whole))
    assert report.chosen_rows([*rows, *whole]).equals(report.chosen_rows(rows))
    assert report.regret_by_choice(rows).empty


def test_regret_by_hand(whole: list[dict[str, str]]) -> None:
    """The best that any reaches is 84 at rho = 10 and 78 at rho = 100."""
    found = report.regret_by_choice(whole)
    expected = {
        ("tuned", 10.0): {"plain": 4, "logit_adjusted": 1, "gradient_balanced": 0},
        ("tuned", 100.0): {"plain": 8, "logit_adjusted": 4, "gradient_balanced": 1},
        ("oracle", 10.0): {"plain": 4, "logit_adjusted": 1, "gradient_balanced": 0},
        ("oracle", 100.0): {"plain": 8, "logit_adjusted": 0, "gradient_balanced": 1},
        ("default", 10.0): {"plain": 4, "logit_adjusted": 3, "gradient_balanced": 2},
        ("default", 100.0): {"plain": 8, "logit_adjusted": 0, "gradient_balanced": 3},
    }
    for (choice, rho), regret in expected.items():
        assert found[choice, "digits", "mlp", rho].to_dict() == pytest.approx(regret)
    worst = report.worst_by_choice(whole)
    # logit adjustment and ours are 3 behind by default
    assert worst.loc["logit_adjusted"].tolist() == pytest.approx([4, 1, 3])
    assert worst.loc["gradient_balanced"].tolist() == pytest.approx([1, 1, 3])
    assert worst.index[-1] == "plain"


def test_a_loss_that_is_not_everywhere_has_no_worst(whole: list[dict[str, str]]) -> None:
    part = [row for row in whole if not (row["loss"] == "logit_adjusted" and row["rho"] == "10.0")]
    assert set(report.worst_by_choice(part).index) == {"plain", "gradient_balanced"}


def without(rows: list[dict[str, str]], loss: str, *, part: str, but: str = "") -> list[dict[str, str]]:
    """Leave a part of a loss's runs at rho = 100 out, but for those with one setting."""
    return [
        row
        for row in rows
        if not ((row["loss"], row["rho"], row["part"]) == (loss, "100.0", part) and row["settings"] != but)
    ]


def test_each_choice_waits_for_its_own_runs_alone(whole: list[dict[str, str]]) -> None:
    place, loss = (*PLACE_100, "logit_adjusted"), "logit_adjusted"
    untuned = report.choices(without(whole, loss, part="tune")).loc[place]
    assert untuned.isna().tolist() == [True, False, False]
    by_default = without(whole, loss, part="final", but='{"tau": 1.0}')
    found = report.choices(by_default).loc[place]
    assert found.isna().tolist() == [True, True, False]  # what is tuned has no final runs
    by_tuned = report.choices(without(whole, loss, part="final", but='{"tau": 0.75}')).loc[place]
    assert by_tuned.isna().tolist() == [False, True, True]
    assert {choice: len(table) for choice, table in report.results(by_default).items()} == {
        "tuned": 15,
        "oracle": 15,
        "default": 18,
    }
    regret = report.regret_by_choice(by_default).loc[loss]
    assert regret["tuned", "digits", "mlp", 10.0] == pytest.approx(1)
    assert regret["tuned", "digits", "mlp", 100.0] != regret["tuned", "digits", "mlp", 100.0]
    assert regret["default", "digits", "mlp", 100.0] == pytest.approx(0)  # 78 is the best that is there
    worst = report.worst_by_choice(by_default).loc[loss]
    assert worst.isna().tolist() == [True, True, False]
    shown = report.choice_table(by_default, *PLACE_100)
    assert shown.index.tolist() == ["logit_adjusted", "gradient_balanced", "plain"]  # by default
    assert shown.loc[loss].tolist() == ["", "", f"78.0{GLUE}±{GLUE}0.6", ""]


def test_losses_are_compared_seed_by_seed(whole: list[dict[str, str]]) -> None:
    found = report.compared(whole, "logit_adjusted", "gradient_balanced", "default")
    assert found["difference"].tolist() == pytest.approx([-1, 3])
    assert found["clear"].tolist() == [-1, 1]  # without spread
    assert found["seeds"].tolist() == [3, 3]


def test_a_table_of_one_setting(whole: list[dict[str, str]]) -> None:
    found = report.choice_table(whole, *PLACE_100)
    assert found.index.tolist() == ["gradient_balanced", "logit_adjusted", "plain"]
    shown = [f"{mean}.0{GLUE}±{GLUE}0.6" for mean in (74, 78, 78)]
    assert found.loc["logit_adjusted"].tolist() == [*shown, "tau 0.75"]
    assert report.choice_table(whole, "digits", "convnet", 10.0).empty


def test_the_parts_of_one_setting(whole: list[dict[str, str]]) -> None:
    """The best default first; all measures of the made-up rows move together."""
    found = report.parts_table(whole, *PLACE_100)
    assert found.index.tolist() == ["logit_adjusted", "gradient_balanced", "plain"]
    assert found["balanced_accuracy"].tolist() == [f"{mean}.0{GLUE}±{GLUE}0.6" for mean in (78, 75, 70)]
    assert found.columns.tolist() == ["balanced_accuracy", "head", "mid", "tail", "ece"]
    tuned = report.parts_table(whole, *PLACE_100, choice="tuned")
    assert tuned.index.tolist() == ["gradient_balanced", "logit_adjusted", "plain"]


def test_regret_of_one_setting_for_all(whole: list[dict[str, str]]) -> None:
    """The yardstick is 84 at rho = 10 and 78 at rho = 100; what is not complete is left out."""
    found = report.regret_at(whole, "logit_adjusted", (("tau", 1.0),))
    assert found.to_dict() == pytest.approx({PLACE_10: 3, PLACE_100: 0})
    of_75 = report.regret_at(whole, "logit_adjusted", (("tau", 0.75),))
    assert of_75.to_dict() == pytest.approx({PLACE_10: 1, PLACE_100: 4})
    part = [
        row for row in whole if (row["rho"], row["settings"], row["seed"]) != ("10.0", '{"tau": 1.0}', "0")
    ]
    assert len(part) < len(whole)
    assert list(report.regret_at(part, "logit_adjusted", (("tau", 1.0),)).index) == [PLACE_100]
