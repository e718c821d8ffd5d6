"""Pictures show every loss that the rows have, in places that can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.lost_gradient import margin, ordinary, pictures, scores
from experiments.lost_gradient.attacks import OBJECTIVES


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_margins() -> None:
    rows = [
        {"classes": c, "descent": d, "loss": loss, "seed": 0, "step": step, "cosine": 1 - 0.1 / step}
        for c, d in ((3, "normalised"), (2, "normalised"), (3, "plain"))
        for loss in margin.COMPARED
        for step in (1, 10)
    ]
    figure = pictures.margin_picture(pd.DataFrame(rows))
    assert len(figure.axes) == 3
    assert len(labels(figure)) == len(margin.COMPARED)
    line = figure.axes[0].lines[0]
    assert np.asarray(line.get_ydata())[1] == pytest.approx(np.degrees(np.arccos(0.99)))


def test_attacks() -> None:
    rows = [
        {"network": network, "factor": factor, "seed": 0, "objective": name, "robust": 0.5}
        for network in ("scaled", "distilled")
        for factor in (1, 10)
        for name in OBJECTIVES
    ]
    table = pd.DataFrame(rows).assign(wrong_sign=0.1)
    table.loc[table["objective"] == "dlr", "wrong_sign"] = np.nan
    figure = pictures.attacks_picture(table)
    assert len(labels(figure)) == len(OBJECTIVES)
    assert [len(axis.lines) for axis in figure.axes] == [7, 7, 6]
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == [50, 50]


def test_scores() -> None:
    rows = [
        {"epochs": e, "rows": "train", "loss": loss, "seed": 0, "zero_share": 0.1, "rank_correlation": 0.9}
        | {"confident": 9}
        for e in scores.EPOCHS
        for loss in ("torch", "exact")
    ]
    truth = np.array([1e-9, 1e-3])
    live = {"truth": truth, "exact": truth, "torch": np.array([0.0, 1e-3])}
    figure = pictures.scores_picture(pd.DataFrame(rows), live)
    drawn = np.asarray(figure.axes[0].collections[1].get_offsets())
    assert drawn[:, 1].tolist() == pytest.approx([1e-10, 1e-3])
    assert labels(figure) == ["torch", "exact"]


def test_ordinary_training() -> None:
    rows = [
        {
            **{"optimizer": o, "schedule": s, "noise": noise, "loss": loss, "rate": rate, "seed": 0},
            "test_accuracy": 0.9,
        }
        for o, rates in ordinary.RATES.items()
        for s in ("constant", "decaying")
        for noise in (0.0, 0.2)
        for loss in ordinary.LOSSES
        for rate in rates
    ]
    figure = pictures.ordinary_picture(pd.DataFrame(rows))
    assert len(figure.axes) == 2
    assert labels(figure) == list(ordinary.LABELS.values())
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "SGD, decaying, 0.3" in ticks
    assert len(ticks) == 2 * sum(map(len, ordinary.RATES.values()))
    for line in figure.axes[0].lines:
        assert set(np.asarray(line.get_xdata()).tolist()) == {90.0}
