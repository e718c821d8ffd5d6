"""Sums over the seeds: means, paired differences, and how far a loss is behind the best."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from experiments.differences import differences

from .rows import COLUMNS, MEASURES

__all__ = ["frame", "paired", "regret", "summary"]


# what two losses must share to be compared
SETTING = ["dataset", "protocol", "rho", "noise", "absent", "permuted"]


def frame(rows: Iterable[dict[str, str]]) -> pd.DataFrame:
    """Return rows of the final part as a table with numbers."""
    table = pd.DataFrame([row for row in rows if row["part"] == "final"], columns=list(COLUMNS))
    numbers = ["rho", "seed", "noise", "absent", "epochs", *MEASURES]
    return table.astype(dict.fromkeys(numbers, float)).assign(permuted=table["permuted"] == "True")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and the standard error over the seeds of every measure.

    There is a row a setting, loss and its hyper-parameters.
    """
    grouped = table.groupby([*SETTING, "loss", "settings"], sort=False)[list(MEASURES)]
    parts = {"mean": grouped.mean(), "error": grouped.sem()}
    table = pd.concat(parts, axis=1)
    table[("seeds", "")] = grouped.size()
    return table


def paired(
    table: pd.DataFrame, loss: str, other: str, measure: str = "balanced_accuracy", *, level: float = 0.95
) -> pd.DataFrame:
    """Return the mean difference of two losses over the seeds that both have, a row a setting.

    Interval, p-value and whether it is more than chance are those of `experiments.differences`, over all
    settings of the table.

    Each loss must have one choice of hyper-parameters in each setting.
    """
    wide = table[table["loss"].isin([loss, other])].pivot(
        index=[*SETTING, "seed"], columns="loss", values=measure
    )
    between = (wide[loss] - wide[other]).dropna()
    return differences(dict(iter(between.groupby(SETTING))), level=level).rename_axis(SETTING)


def regret(table: pd.DataFrame, ours: str = "gradient_balanced") -> pd.DataFrame:
    """Return how far every loss is below the best fixed one in each setting (negative: above it).

    Ours do not count as fixed.
    """
    means = table.groupby([*SETTING, "loss"])["balanced_accuracy"].mean().unstack("loss")
    fixed = [name for name in means if not str(name).startswith(ours)]
    return -means.sub(means[fixed].max(axis=1), axis=0)
