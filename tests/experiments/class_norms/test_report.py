"""Ratios and trends of norms that are made up with a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments import class_norms as cn
from experiments.class_norms import report

COUNTS = (100, 40, 10, 5, 1)


def made_up(power: float = 1.0, *, seeds: int = 3, odd: float = 1.0) -> pd.DataFrame:
    """Return rows whose sums go with the count to a power, those of the rarest class times ``odd``."""
    lines = []
    for seed in range(seeds):
        for step, own in ((0, power), (20, power / 2)):
            for c, count in enumerate(COUNTS):
                sums = (1 + seed) * count**own * (odd if c == len(COUNTS) - 1 else 1.0)
                norms = {
                    f"{layer}_{norm}": value
                    for layer in ("logit", "weight")
                    for norm, value in (("sum", sums), ("mean", sums / count), ("sample", 2 * sums / count))
                }
                lines.append(
                    {"dataset": "a", "rho": 100.0, "seed": seed, "step": step, "class": c, "count": count}
                    | norms
                )
    return pd.DataFrame(lines)


def test_ratios_are_of_the_first_class_over_the_last() -> None:
    found = cn.ratios(made_up(odd=2.0)).xs(0, level="step")
    np.testing.assert_allclose(found["logit_sum"], 50.0)
    np.testing.assert_allclose(found["weight_sample"], 0.5)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_a_trend_is_rho_to_the_power(power: float) -> None:
    found = cn.trends(made_up(power))
    np.testing.assert_allclose(found.xs(0, level="step")["logit_sum"], 100.0**power)
    np.testing.assert_allclose(found.xs(20, level="step")["logit_sum"], 100.0 ** (power / 2))
    np.testing.assert_allclose(found.xs(0, level="step")["weight_mean"], 100.0 ** (power - 1))


def test_one_odd_class_moves_a_trend_less_than_a_ratio() -> None:
    rows = made_up(odd=0.5)
    ratio, trend = (
        found.xs((0, 0), level=("seed", "step"))["logit_sum"].item()
        for found in (cn.ratios(rows), cn.trends(rows))
    )
    assert ratio == pytest.approx(200.0)
    assert 100.0 < trend < 200.0


def test_intervals_are_of_the_logarithm() -> None:
    found = cn.over_rho(cn.ratios(made_up()), "a", 0, "logit_sum")
    assert (found.low, found.high) == pytest.approx((np.log(100.0),) * 2)
    assert found.pairs == 3


def test_the_table_has_geometric_means_and_ends() -> None:
    rows = made_up()
    assert report.last_step(rows, "a") == 20
    found = cn.table(cn.ratios(rows), {"a": [0, 20]})
    assert found.loc[("a", 0), ("logit gradient", "sum")] == "100 (100 to 100)"
    assert found.loc[("a", 20), ("weight gradient", "per-sample")] == "0.1 (0.1 to 0.1)"


def test_the_picture_has_a_panel_a_layer_and_set() -> None:
    figure = cn.picture(cn.trends(made_up()), {"a": "Set A"})
    assert [axis.get_title() for axis in figure.axes] == ["Set A, logit gradient", "Set A, weight gradient"]
    line = figure.axes[0].lines[0]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([100.0, 10.0])
