"""The study of the gate is told seed by seed, at the tau that are whole."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.long_tail import Config, grid, report, rows
from tests.experiments.long_tail.report.rows_made_up import ABOUT

OURS, SUMMED, MARGIN = "gradient_balanced", "gradient_balanced_summed", "logit_adjusted_margin"
TAUS = (1.0, 2.0, 3.0)
#: at these tau, less the spread of the seeds
ACCURACY = {
    "logit_adjusted": (70.0, 72.0, 71.0),
    OURS: (71.0, 71.5, 69.0),
    SUMMED: (71.0, 71.0, 71.0),
    MARGIN: (70.0, 71.0, 72.5),
}
TAIL = {
    "logit_adjusted": (40.0, 50.0, 60.0),
    OURS: (45.0, 57.0, 65.0),
    SUMMED: (39.0, 50.0, 60.0),
    MARGIN: (50.0, 55.0, 60.0),
}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Four losses at three tau on four seeds, ours a seed better or worse by a tenth."""
    short = {loss: (own, TAUS) for loss, (own, _) in grid.GATE.items()}
    monkeypatch.setattr(grid, "GATE", short)
    monkeypatch.setattr(grid, "FINAL_SEEDS", {"digits": (0, 1, 2, 3)})
    found = []
    for config in grid.gate(Config(loss=OURS)):
        place = TAUS.index(dict(config.settings)["tau"])
        jitter = 0.1 * (-1) ** config.seed if config.loss == OURS else 0.0
        measured = dict.fromkeys(rows.MEASURES, 50.0) | {
            "balanced_accuracy": ACCURACY[config.loss][place] + config.seed + jitter,
            "tail": TAIL[config.loss][place],
        }
        found.append({name: str(value) for name, value in rows.row_of(config, measured, ABOUT).items()})
    return found


def test_a_tau_counts_once_all_its_seeds_are_there(study: list[dict[str, str]]) -> None:
    table = report.tau_rows(study)
    assert len(table) == 4 * 3 * 4
    assert set(table["loss"]) == set(report.TAU_LOSSES) == set(grid.GATE)
    # another setting of the grid, and another rho, are not of the study
    other = Config(loss=OURS, settings=(("gate", 4.0), ("tau", 1.2)))
    extra = [
        {name: str(value) for name, value in rows.row_of(c, dict.fromkeys(rows.MEASURES, 9.0), ABOUT).items()}
        for c in (other, replace(other, rho=10.0, settings=(("gate", 4.0), ("tau", 1.0))))
    ]
    assert report.tau_rows([*study, *extra]).equals(table)
    short = report.tau_rows(study[1:])  # a seed of logit adjustment at tau = 1
    assert sorted(short[short["loss"] == "logit_adjusted"]["tau"].unique()) == [2.0, 3.0]
    assert sorted(report.at_one_tau(short, OURS).index) == [2.0, 3.0]
    assert report.tau_rows([]).empty


def test_differences_at_one_tau_are_paired(study: list[dict[str, str]]) -> None:
    found = report.at_one_tau(report.tau_rows(study), OURS)
    assert found["difference"].tolist() == pytest.approx([1.0, -0.5, -2.0])
    assert found["clear"].tolist() == [1, -1, -1]
    assert found["seeds"].tolist() == [4, 4, 4]
    tail = report.at_one_tau(report.tau_rows(study), OURS, SUMMED, "tail")
    assert tail["difference"].tolist() == pytest.approx([6.0, 7.0, 5.0])


def test_the_best_is_looked_for_among_the_tau_of_both(study: list[dict[str, str]]) -> None:
    table = report.tau_rows(study)
    found = report.best_less_best(table, OURS)
    assert found.mean == pytest.approx(-0.5)
    assert found.below
    assert report.best_less_best(table, MARGIN).mean == pytest.approx(0.5)
    assert report.less(table, OURS, 1.0, "logit_adjusted", 3.0).mean == pytest.approx(0.0)
    without = table[~((table["loss"] == "logit_adjusted") & (table["tau"] == 2.0))]
    assert report.best_less_best(without, OURS).mean == pytest.approx(0.0)  # 71 at 1 and 71 at 3
    shown = report.best_tau_table(table)
    assert shown["best τ"].tolist() == ["2", "2", "1", "3"]
    assert shown["ahead"].tolist()[0] == ""
    assert shown["ahead"].tolist()[1].startswith("−0.5 (−0.")


def test_the_tau_with_the_same_tail(study: list[dict[str, str]]) -> None:
    table = report.tau_rows(study)
    assert report.same_tail(table, OURS, 1.0) == pytest.approx(1.5)
    assert report.same_tail(table, OURS, 2.0) == pytest.approx(2.7)
    assert report.same_tail(table, MARGIN, 1.0) == pytest.approx(2.0)
    assert math.isnan(report.same_tail(table, OURS, 3.0))  # beyond the last
    assert math.isnan(report.same_tail(table, SUMMED, 1.0))  # before the first


def test_the_picture_has_every_loss(study: list[dict[str, str]]) -> None:
    figure = report.tau_picture(report.tau_rows(study))
    assert isinstance(figure, Figure)
    left, middle, right = figure.axes
    assert [line.get_label() for line in left.lines] == list(report.TAU_LOSSES.values())
    assert len(middle.lines) == 4
    assert np.asarray(middle.lines[0].get_ydata()).tolist() == pytest.approx([1.0, -0.5, -2.0])
    part = report.tau_picture(report.tau_rows([row for row in study if row["loss"] != SUMMED]))
    assert len(part.axes[0].lines) == 3
    assert np.asarray(right.lines[1].get_ydata()).tolist() == list(TAIL[OURS])


def test_words_on_the_gate(study: list[dict[str, str]]) -> None:
    said = report.tau_words(report.tau_rows(study))
    assert said["gate-shared"] == "1, 2 and 3"
    assert (said["gate-ahead"], said["gate-behind"]) == ("1", "2 and 3")
    assert (said["gate-first"], said["gate-last"]) == ("+1.0", "−2.0")
    assert said["gate-best"].startswith("−0.5 (")
    assert said["gate-same"] == "1.5 and 2.7"
    assert said["gate-same-of"] == "1 and 2"
    assert said["gate-shift"] == "0.6"  # the mean of 0.5 and 0.7
    assert (said["gate-shift-least"], said["gate-shift-most"]) == ("0.5", "0.7")
    assert (said["margin-first"], said["margin-last"]) == ("0.0", "+1.5")
    assert (said["margin-ahead"], said["margin-behind"], said["margin-level"]) == ("3", "2", "1")
    assert said["margin-apart"] == "2 and 3"
    assert said["margin-same"] == "2.0, 2.5 and 3.0"
    assert (said["gate-margin-first"], said["gate-margin-last"]) == ("+1.0", "−3.5")
    assert said["gate-margin-best"].startswith("−1.0 (")
    assert said["summed-gate-level"] == "1"
    without_margin = report.tau_words(report.tau_rows([row for row in study if row["loss"] != MARGIN]))
    assert not any("margin" in name for name in without_margin)
