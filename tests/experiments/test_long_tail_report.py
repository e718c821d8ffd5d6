"""What the chapters show of the grid, on rows made up so that every answer is known."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

import softmax_lab as sl
from experiments import long_tail
from experiments import long_tail_report as report
from experiments.long_tail_training import Config

ACCURACY = {"plain": 70.0, "focal": 74.0, "gradient_balanced": 75.0, "gradient_balanced_smoothed": 73.0}
ABOUT = {"versions": "v", "hardware": "h", "commit": "c"}


def row(config: Config, accuracy: float) -> dict[str, str]:
    measured = {
        **dict.fromkeys(long_tail.MEASURES, 50.0),
        "balanced_accuracy": accuracy,
        "ece": 100 - accuracy,
    }
    return {name: str(value) for name, value in long_tail.row_of(config, measured, ABOUT).items()}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Four losses at two ratios; focal and ours have two settings, of which the second is chosen."""
    settings: list[Any] = [(("gamma", 1.0),), (("gamma", 2.0),)]
    ours: list[Any] = [(("tau", 1.0),), (("tau", 1.1),)]
    monkeypatch.setattr(
        long_tail,
        "GRIDS",
        {**{name: [()] for name in ACCURACY}, "focal": settings, "gradient_balanced": ours},
    )
    found = []
    for rho in (1.0, 100.0):
        for loss, accuracy in ACCURACY.items():
            base = Config(rho=rho, loss=loss)
            found += [
                row(config, 60.0 + 5 * (config.settings == long_tail.GRIDS[loss][-1]))
                for config in long_tail.tune(base)
            ]
            mine = ACCURACY["plain"] if rho == 1 and loss == "gradient_balanced" else accuracy
            found += [row(config, mine + config.seed) for config in long_tail.final(base, found)]
    found += [
        row(config, 10.0)
        for config in long_tail.ablation(Config(rho=100.0, loss="gradient_balanced"))
        if config.settings not in ours
    ]
    noisy = [Config(rho=100.0, loss=loss, noise=0.4, settings=long_tail.GRIDS[loss][-1]) for loss in ACCURACY]
    return found + [row(config, ACCURACY[config.loss] - 30) for config in noisy]


def test_only_what_was_chosen_counts(rows: list[dict[str, str]]) -> None:
    table = report.chosen_rows(rows)
    assert len(table) == 2 * 4 * 5 + 4
    assert set(table.loc[table["loss"] == "focal", "settings"]) == {'{"gamma": 2.0}'}
    assert (report.coverage(table)["runs"] == 20).all()
    without = [r for r in rows if not (r["part"] == "tune" and r["loss"] == "focal" and r["rho"] == "100.0")]
    left = report.chosen_rows(without)
    assert set(left.loc[left["loss"] == "focal", "rho"]) == {1.0}  # not tuned there yet


def test_tables(rows: list[dict[str, str]]) -> None:
    table, glue = report.chosen_rows(rows), report.GLUE
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
    assert report.plain_matches(table)
    noise = report.study_table(table, "noise")
    assert noise.loc["plain"].tolist() == [72.0, 40.0]
    assert report.study_table(table, "noise", best=1).index.tolist() == ["gradient_balanced", "plain"]
    assert report.study_table(table, "absent").empty
    assert report.study_table(table, "noise", "cifar10").empty
    ablation = report.ablation_table(rows)
    assert (ablation["balanced_accuracy"].drop((100.0, "tau", 1.1), errors="ignore") <= 77).all()
    assert report.ablation_table(rows, "cifar10").empty


def test_what_tuning_tries(rows: list[dict[str, str]]) -> None:
    grid = report.grid_table()
    assert grid.loc["focal"].tolist() == ["gamma", "1", "2"]
    assert "plain" not in grid.index


def test_regret(rows: list[dict[str, str]]) -> None:
    table = report.regret_table(report.chosen_rows(rows))
    # by the worst: 0, 1, 4, 4
    assert table.index.tolist() == ["focal", "gradient_balanced_smoothed", "gradient_balanced", "plain"]
    assert table.loc["gradient_balanced"].tolist() == [4.0, -1.0]  # above the best fixed one at rho = 100
    assert report.setting_name(table.columns[0]) == "digits, MLP, ρ = 1"


def test_words(rows: list[dict[str, str]]) -> None:
    table = report.chosen_rows(rows)
    words = report.words(table)
    assert words["ours-within"] == "1 of 2"
    # -4 and +1, without spread
    assert words["ours-ahead"] == words["ours-clear"] == words["ours-behind"] == "1"
    assert words["smoothed-within"] == "2 of 2"
    assert words["worst-ours"] == "4.0"
    assert (words["worst-fixed"], words["worst-fixed-name"]) == ("0.0", "focal")
    assert words["few"] == "Every setting has all 4 losses."
    part = table[(table["rho"] == 1) | (table["loss"] != "plain")]
    assert (
        report.words(part)["few"]
        == "All 4 were run in 1 of the 2 settings, 3 or more in the others, which take longest."
    )
    assert (
        words["noise"]
        == "with 40% of the labels wrong it is 0.0 points behind the best, place 1 of 4, and smoothed 2.0"
    )
    assert float(report.ablation_words(rows)["ablation-digits-spread"]) > 0
    assert report.ablation_words(rows, "cifar10") == {}


def test_pictures(rows: list[dict[str, str]]) -> None:
    regret = report.regret_picture(report.chosen_rows(rows))
    assert [text.get_text() for text in regret.axes[0].texts[6:9]] == ["4.0", "−1.0", "4.0"]
    left, right = report.paired_picture(report.chosen_rows(rows)).axes
    assert left.get_yticklabels()[1].get_text() == "digits, MLP, ρ = 100\nagainst focal"
    assert right.get_xlabel().startswith("expected calibration error")
    assert isinstance(report.gate_picture(), Figure)
    films = report.film(("plain", "gradient_balanced"), rho=10.0, epochs=2, every=2)
    assert set(films) == {"plain", "gradient_balanced"}
    assert {"step", "class", "positive_mass", "negative_mass"} <= set(films["plain"])
    assert report.early_ratio(films["plain"], [0]) > report.early_ratio(films["plain"], [9])
    assert isinstance(report.film_picture(films), Figure)


def test_neutral_smoothing_moves_no_decision() -> None:
    moved = report.moved_decisions(sl.data.long_tail_counts(100, 100, 10), 0.1, rows=2000)
    assert moved["neutral"] == moved["neutral, eps per class"] == 0
    assert moved["uniform"] > 0
