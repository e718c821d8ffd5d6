"""The sums are SciPy's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import long_tail as lt
from tests.experiments.long_tail.toy import TOY, store


def made_up(table: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for rho in (10.0, 100.0):
        for seed in lt.FINAL_SEEDS["digits"]:
            easy = rng.normal()
            for loss, mean in {"plain": 50, "focal": 48, "gradient_balanced": 53}.items():
                store(
                    table,
                    replace(TOY, rho=rho, loss=loss, seed=seed),
                    balanced_accuracy=mean - 5 * (rho > 10) + easy + 0.1 * rng.normal(),
                )
    store(table, replace(TOY, part="tune"), balanced_accuracy=0.0)
    return lt.frame(lt.read(table))


def test_summary_differences_and_regret(table: Path) -> None:
    found = made_up(table)
    assert set(found["part"]) == {"final"}
    whole = lt.summary(found)
    assert (whole["seeds"] == len(lt.FINAL_SEEDS["digits"])).all()
    one = found[(found["loss"] == "plain") & (found["rho"] == 10)].set_index("seed")["balanced_accuracy"]
    other = found[(found["loss"] == "gradient_balanced") & (found["rho"] == 10)].set_index("seed")[
        "balanced_accuracy"
    ]
    line = whole.xs(("plain", 10.0), level=("loss", "rho"))
    assert line[("mean", "balanced_accuracy")].item() == pytest.approx(one.mean())
    assert line[("error", "balanced_accuracy")].item() == pytest.approx(stats.sem(one))
    difference = lt.paired(found, "gradient_balanced", "plain").xs(10.0, level="rho").iloc[0]
    interval = stats.ttest_rel(other, one).confidence_interval()
    np.testing.assert_allclose(
        difference[["difference", "low", "high"]].tolist(),
        [(other - one).mean(), interval.low, interval.high],
    )
    missed = lt.regret(found).xs(10.0, level="rho").iloc[0]
    assert missed["plain"] == 0
    assert missed["gradient_balanced"] == pytest.approx(one.mean() - other.mean())
