"""The words are computed from the rows."""

from __future__ import annotations

from experiments.long_tail import report


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


def test_words_on_the_three_choices(whole: list[dict[str, str]], rows: list[dict[str, str]]) -> None:
    assert report.choice_words(rows) == {"fair-coverage": "No setting is complete by this rule yet."}
    said = report.choice_words(whole)
    assert said["fair-coverage"] == "Complete by this rule so far: digits, MLP, ρ = 10; digits, MLP, ρ = 100."
    worst = {name: said[f"fair-default-{name}"] for name in ("ours", "adjusted", "plain")}
    assert worst == {"ours": "3.0", "adjusted": "3.0", "plain": "8.0"}
    assert (said["fair-tuned-ours"], said["fair-tuned-adjusted"]) == ("1.0", "4.0")
    assert said["fair-default-differences"] == "+1.0 and -3.0"
    assert (said["fair-default-ahead"], said["fair-default-behind"]) == ("1", "1")
    assert [said[f"fair-{choice}-settings"] for choice in report.CHOICES] == ["2"] * 3
    # one that has only been run by default
    short = [row for row in whole if (row["rho"], row["part"]) != ("100.0", "tune") or row["loss"] == "plain"]
    some = report.choice_words(short)
    assert some["fair-coverage"] == (
        "Complete by this rule so far: digits, MLP, ρ = 10; digits, MLP, ρ = 100 (losses: oracle 3 and "
        "default 3)."
    )
    assert (some["fair-settings"], some["fair-tuned-settings"], some["fair-default-settings"]) == (
        "2",
        "1",
        "2",
    )
    # a setting that lacks one of the two is left out
    part = [row for row in whole if not (row["loss"] == "logit_adjusted" and row["rho"] == "10.0")]
    assert report.choice_words(part)["fair-settings"] == "1"
