"""Evidence for the verdict on claim 9.3, from the article's closing.

The claim is on gradient scaling together with label smoothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmax_lab as sl
from experiments import long_tail
from experiments.digits import balance as db
from experiments.long_tail import report as long_tail_report

STEPS = 500
OLD_SEEDS = 5  # of the grid's old rule, which chose what is stored
PRIOR_ONLY, SMOOTHED = "gradient_balanced, prior only", "gradient_balanced, smoothed"


@given(
    count=st.integers(1, 10**6),
    num_classes=st.integers(2, 12),
    eps=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_claim_9_3_equal_counts_leave_nothing_to_balance(
    count: int, num_classes: int, eps: float, seed: int
) -> None:
    """Equal counts are outside the condition.

    With them the loss is plain cross-entropy, and with smoothing it is label smoothing.
    """
    rng, counts = np.random.default_rng(seed), [count] * num_classes
    z, y = rng.normal(scale=5, size=(4, num_classes)), rng.integers(num_classes, size=4)
    for balanced, known in (
        (sl.losses.gradient_balanced(counts), sl.losses.plain()),
        (sl.losses.gradient_balanced(counts, eps=eps), sl.losses.label_smoothing(eps)),
    ):
        (value, gradient), (expected, expected_gradient) = (
            sl.cross_entropy_grad(z, y, spec, reduction="none") for spec in (balanced, known)
        )
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def recall() -> pd.DataFrame:
    """Return the test recall by loss and seed on digits at rho = 100: the chapter's runs with fewer steps."""
    losses = ("plain", PRIOR_ONLY, "gradient_balanced", SMOOTHED)
    return db.outcomes(db.grid((100.0,), losses=losses, steps=STEPS)).loc[100.0]


def test_claim_9_3_rare_classes_gain_where_counts_differ(recall: pd.DataFrame) -> None:
    gain = recall.loc[SMOOTHED] - recall.loc["plain"]
    assert len(gain) == 3
    assert (gain["tail"] > 0.2).all()
    assert (gain["all"] > 0.05).all()
    assert (gain["head"] < 0).all()


def test_claim_9_3_most_of_the_gain_is_neither_scaling_nor_smoothing(recall: pd.DataFrame) -> None:
    gain = {
        loss: recall.loc[loss] - recall.loc["plain"] for loss in (PRIOR_ONLY, "gradient_balanced", SMOOTHED)
    }
    assert (gain[PRIOR_ONLY]["tail"] > 0.7 * gain["gradient_balanced"]["tail"]).all()
    assert (gain["gradient_balanced"]["tail"] > gain[PRIOR_ONLY]["tail"]).all()
    # smoothing on top gains no balanced accuracy that exceeds the spread of the seeds
    spread = np.ptp(recall.loc["gradient_balanced"]["all"])
    assert (gain[SMOOTHED]["all"] - gain["gradient_balanced"]["all"] < spread).all()


def _complete() -> pd.DataFrame:
    """Return the rows of the stored grid in its complete settings.

    In those, ours, plain cross-entropy and the log-prior have all their seeds.
    """
    table = long_tail_report.clean(long_tail_report.chosen_rows(long_tail.read()))
    needed = table[table["loss"].isin(["plain", "balanced_softmax", *long_tail_report.OURS[:2]])]
    runs = needed.groupby(long_tail_report.PLACE).size()
    return table.merge(runs[runs == 4 * OLD_SEEDS].index.to_frame(index=False))


def test_claim_9_3_it_is_near_the_best_and_hardly_ahead() -> None:
    """Ahead of plain cross-entropy seed by seed.

    Near the best other loss everywhere, and hardly anywhere clearly ahead of it.
    """
    table = _complete()
    assert {"digits", "cifar10-jpeg"} <= set(table["dataset"])
    wide = table.pivot(
        index=[*long_tail_report.PLACE, "seed"], columns="loss", values=["balanced_accuracy", "head"]
    )
    accuracy, head = (
        wide[measure].sub(wide[measure]["plain"], axis=0) for measure in ("balanced_accuracy", "head")
    )
    gain, prior = (
        accuracy[loss].dropna().unstack("seed") for loss in ("gradient_balanced", "balanced_softmax")
    )
    rho = gain.index.get_level_values("rho")
    assert gain.shape[1] == OLD_SEEDS
    assert {float(r) for r in rho} == {1.0, 10.0, 100.0, 200.0}
    assert not ((table["dataset"] == "digits") & (table["rho"] > 100)).any()  # no class has less than one row
    assert (gain[rho >= 100] > 3).all(axis=None)
    assert (head["gradient_balanced"].unstack("seed")[rho >= 100].mean(axis=1) < 0).all()
    assert (prior[rho >= 100].mean(axis=1) > 0.5 * gain[rho >= 100].mean(axis=1)).all()
    assert (gain[rho == 10].mean(axis=1) > 0).all()
    assert (gain[rho == 1] == 0).all(axis=None)
    ours, smoothed = (long_tail_report.paired_with_best(table, name) for name in long_tail_report.OURS[:2])
    for paired in (ours, smoothed):
        assert (paired["difference"] > -1.5).all()
        assert (paired["clear"] <= 0).all()
        assert paired["best fixed"].nunique() > 1
    assert (ours["clear"] < 0).any()
    by_smoothing = long_tail.paired(table, "gradient_balanced_smoothed", "gradient_balanced")
    assert (by_smoothing["difference"] < 1.25).all()
    assert by_smoothing["difference"].mean() > 0
    long = by_smoothing.loc["digits"].loc[(slice(None), [100.0]), :]
    assert (long["low"] < 0).all()
    assert (long["high"] > 0).all()


def test_claim_9_3_the_gate_does_what_a_margin_does() -> None:
    """Of the stored runs on digits at rho = 100, over tau: ours at its best, with a sum at every tau."""
    table = long_tail_report.tau_rows(long_tail.read())
    gate, summed, margin = "gradient_balanced", "gradient_balanced_summed", "logit_adjusted_margin"
    for loss in (gate, summed):
        assert len(long_tail_report.at_one_tau(table, loss, margin)) == 9
        found = long_tail_report.best_less_best(table, loss, margin, together=2)
        assert not found.above
        assert found.within(0.5)
    at_each = long_tail_report.at_one_tau(table, summed, margin)
    assert (at_each["clear"] == 0).all()
    assert (at_each[["low", "high"]].abs() < 0.25).all(axis=None)
    # nowhere is the margin behind logit adjustment, and nowhere is the gate ahead of the margin
    assert (long_tail_report.at_one_tau(table, margin)["clear"] >= 0).all()
    assert (long_tail_report.at_one_tau(table, gate, margin)["clear"] <= 0).all()
