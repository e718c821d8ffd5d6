"""The pictures show every setting."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.long_tail import report


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
