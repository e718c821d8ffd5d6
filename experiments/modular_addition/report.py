"""What the stored runs say: a table and a picture for each setting, for chapter 11."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from experiments import curves

from .losses import LOSSES
from .rows import Row
from .training import MEASURES

__all__ = ["accuracy_picture", "accuracy_table", "frame", "rate_table", "settings"]

#: what is compared shares these
SETTING = ["protocol", "p", "share", "steps", "hardware"]
SOLVED = 0.95  # test accuracy
_NUMBERS = {"p": int, "share": float, "steps": int, "seed": int, "step": int, "lr": float, "seconds": float}


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return stored rows with numbers; a loss's name as pictures have it in ``label``."""
    table = pd.DataFrame(list(rows))
    table = table.astype(_NUMBERS | dict.fromkeys(MEASURES, float) | {"models": int})
    table["area"] = pd.to_numeric(table["area"])
    table["label"] = [LOSSES[name].label for name in table["loss"]]
    return table


def settings(table: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return the settings that there are, in the order of the rows."""
    return list(table[SETTING].drop_duplicates().itertuples(index=False, name=None))


def of_setting(table: pd.DataFrame, setting: tuple[object, ...], part: str) -> pd.DataFrame:
    """Return the rows of one setting and part."""
    chosen = table["part"] == part
    for name, value in zip(SETTING, setting, strict=True):
        chosen &= table[name] == value
    if not chosen.any():
        raise ValueError(f"there are no rows of the part {part} for {setting}")
    return table[chosen]


def losses_in(rows: pd.DataFrame) -> list[str]:
    """Return the losses of rows in the order of the registry."""
    return [name for name in LOSSES if name in set(rows["loss"])]


def accuracy_table(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return a row a loss: what the final seeds reach, when, in which time, and what is lost on the way.

    Accuracy is in percent with half the width of its 95 % t interval over the seeds. A seed has solved the
    task at the first evaluation from `SOLVED` on; the median counts those that never do as later than all.
    """
    rows = of_setting(table, setting, "final")
    found = []
    for name in losses_in(rows):
        own = rows[rows["loss"] == name]
        last = own[own["step"] == own["step"].max()]
        mean, half = curves.interval(100 * last["test_accuracy"])
        found.append(
            {
                "loss": LOSSES[name].label,
                "learning rate": last["lr"].iloc[0],
                "seeds": len(last),
                "test accuracy (%)": mean,
                "± (95 %)": half,
                "worst seed (%)": 100 * last["test_accuracy"].min(),
                f"steps to {SOLVED:.0%}": steps_to_solve(own),
                "ms a step": 1000 * float((last["seconds"] / last["step"]).mean()),
                "target's gradient is 0 (%)": 100 * last["zero_share"].mean(),
                "gap": last["gap"].mean(),
                "length of the weights": last["weight_norm"].mean(),
            }
        )
    return pd.DataFrame(found).set_index("loss")


def steps_to_solve(rows: pd.DataFrame) -> float:
    """Return the median over seeds of the first step from `SOLVED` on; infinite where half have none."""
    first = [
        own.loc[own["test_accuracy"] >= SOLVED, "step"].min() for _, own in rows.groupby("seed", sort=True)
    ]
    return float(pd.Series(first, dtype=float).fillna(float("inf")).median())


def rate_table(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return the mean test accuracy (%) of the tuning seeds, a row a loss and a column a learning rate."""
    rows = of_setting(table, setting, "tune")
    means = rows.pivot_table(index="label", columns="lr", values="test_accuracy", aggfunc="mean")
    return 100 * means.reindex([LOSSES[name].label for name in losses_in(rows)])


def accuracy_picture(table: pd.DataFrame, setting: tuple[object, ...]) -> Figure:
    """Draw test accuracy over steps and over seconds: means of the final seeds, bands of all of them.

    The seconds are those of all seeds of a loss, which train at once.
    """
    rows = of_setting(table, setting, "final")
    found = [
        curves.curve_of(rows[rows["loss"] == name], LOSSES[name].label, "step", "test_accuracy")
        for name in losses_in(rows)
    ]
    look = curves.looks([method.label for method in LOSSES.values()])
    return curves.curves_picture(found, look, steps="steps", measure="test accuracy")
