"""The tables count what was chosen, and nothing else."""

from __future__ import annotations

import pytest

from experiments.long_tail import report
from experiments.long_tail.report.numbers import GLUE


def test_only_what_was_chosen_counts(rows: list[dict[str, str]]) -> None:
    table = report.chosen_rows(rows)
    assert len(table) == 2 * 4 * 5 + 4
    assert set(table.loc[table["loss"] == "focal", "settings"]) == {'{"gamma": 2.0}'}
    assert set(table.loc[table["loss"] == "gradient_balanced", "settings"]) == {'{"gate": 4.0, "tau": 1.1}'}
    assert (report.coverage(table)["runs"] == 20).all()
    again = dict(next(row for row in rows if row["loss"] == "focal"), settings='{"gamma": 1.0}')
    with pytest.raises(ValueError, match=r"one choice in a setting; .*'focal'.* has 2"):
        report.chosen_rows([*rows, again])


def test_tables(rows: list[dict[str, str]]) -> None:
    table, glue = report.chosen_rows(rows), GLUE
    assert report.main_table(table, "digits", "mlp").loc["focal"].tolist() == [f"76.0{glue}±{glue}0.7"] * 2
    assert report.main_table(table, "digits", "mlp").index[0] == "focal"
    assert set(report.best_fixed(table)) == {"focal"}
    paired = report.paired_with_best(table)
    assert paired["difference"].tolist() == [-4.0, 1.0]
    assert (paired["ECE"] < paired["ECE of the best fixed"]).tolist() == [False, True]
    assert report.paired_table(table)["95 % interval"].tolist() == [
        f"-4.00{glue}to{glue}-4.00",
        f"1.00{glue}to{glue}1.00",
    ]
    assert report.paired_table(table)["more than chance"].tolist() == ["behind", "ahead"]
    assert report.plain_matches(table)
    noise = report.study_table(table, "noise")
    assert noise.loc["plain"].tolist() == [72.0, 40.0]
    assert report.study_table(table, "noise", best=1).index.tolist() == ["gradient_balanced", "plain"]
    assert report.study_table(table, "absent").empty
    assert report.study_table(table, "noise", "cifar10").empty
    ablation = report.ablation_table(rows)
    assert (ablation["balanced_accuracy"].drop((100.0, "tau", 1.1), errors="ignore") <= 77).all()
    assert report.ablation_table(rows, "cifar10").empty


def test_what_tuning_tries() -> None:
    grid = report.grid_table()
    assert grid.loc["focal"].tolist() == ["gamma", "2", "0.5", "1", "1.5", "2", "3", "5"]
    assert grid.loc["vs", "default"] == "0.3, 1"
    assert "plain" not in grid.index


def test_regret(rows: list[dict[str, str]]) -> None:
    table = report.regret_table(report.chosen_rows(rows))
    # by the worst: 0, 1, 4, 4
    assert table.index.tolist() == ["focal", "gradient_balanced_smoothed", "gradient_balanced", "plain"]
    assert table.loc["gradient_balanced"].tolist() == [4.0, -1.0]  # above the best fixed one at rho = 100
    assert report.setting_name(table.columns[0]) == "digits, MLP, ρ = 1"


def test_what_is_not_tuned(rows: list[dict[str, str]]) -> None:
    table = report.untuned_table(report.chosen_rows(rows))
    assert table.columns.tolist() == ["plain", "balanced_softmax", "gradient_balanced_gathered"]
    assert table["plain"].tolist() == [4.0, 4.0, 4.0]
    assert table.index[-1] == "the worst of them"
