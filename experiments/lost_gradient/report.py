"""What the stored rows say, as tables and sentences for chapter 11: means over seeds, lowest and highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments import curves
from experiments.modular_addition.losses import LOSSES
from experiments.modular_addition.report import points

from . import ordinary

__all__ = [
    "OBJECTIVE_LABELS",
    "apart",
    "apart_in_words",
    "at_end",
    "attack_table",
    "best_rates",
    "difference",
    "distance",
    "lost_from",
    "margin_table",
    "ordinary_table",
    "rates_table",
    "score_table",
    "spread",
    "told_apart",
]

OBJECTIVE_LABELS = {
    **{name: LOSSES[name].label for name in ("torch", "torch_float64", "mended", "exact")},
    "log_mean": "log of the loss",
    "carlini_wagner": "Carlini-Wagner",
    "dlr": "DLR",
}


def spread(values: Sequence[float] | pd.Series[float], digits: int = 1) -> str:
    """Return the mean of some values with the lowest and the highest: ``5.0 (4.1 to 6.2)``."""
    x = np.asarray(values, dtype=float)
    return f"{x.mean():.{digits}f} ({x.min():.{digits}f} to {x.max():.{digits}f})"


def difference(first: pd.Series[float], second: pd.Series[float], factor: float = 100.0) -> str:
    """Return the first less the second, seed by seed, as a phrase in points.

    Raises
    ------
    ValueError
        Where the two have other seeds.
    """
    a, b = first.sort_index(), second.sort_index()
    if list(a.index) != list(b.index):
        raise ValueError(f"both must have the same seeds; got {list(a.index)} and {list(b.index)}")
    return points(*curves.interval(factor * (a - b)))


def distance(cosine: pd.Series[float]) -> pd.Series[float]:
    """Return the angle in degrees that has this cosine."""
    return np.degrees(np.arccos(cosine.clip(-1.0, 1.0)))


def at_end(table: pd.DataFrame, classes: int, descent: str) -> pd.DataFrame:
    """Return the rows of a setting's last step, with the angle to the SVM in degrees."""
    rows = table[(table["classes"] == classes) & (table["descent"] == descent)]
    if rows.empty:
        raise ValueError(f"there are no rows of {classes} classes and {descent} steps")
    rows = rows[rows["step"] == rows["step"].max()]
    return rows.assign(angle=distance(rows["cosine"]), angle_with_mean=distance(rows["cosine_with_mean"]))


def lost_from(table: pd.DataFrame, classes: int, descent: str, loss: str, share: float = 0.5) -> int | None:
    """Return the first step at which a share of the target's gradients is 0, on average over seeds."""
    rows = table[(table["classes"] == classes) & (table["descent"] == descent) & (table["loss"] == loss)]
    zero = rows.groupby("step")["zero_share"].mean()
    return int(zero.index[zero >= share][0]) if (zero >= share).any() else None


def margin_table(table: pd.DataFrame, classes: int, descent: str) -> pd.DataFrame:
    """Return a row a loss after the last step: the angle to the SVM, the margin, and what is lost."""
    rows = at_end(table, classes, descent)
    found = {}
    for name in (each for each in LOSSES if each in set(rows["loss"])):
        own, lost = rows[rows["loss"] == name], lost_from(table, classes, descent, name)
        found[LOSSES[name].label] = {
            "angle (degrees)": spread(own["angle"], 2),
            "with the mean": spread(own["angle_with_mean"], 2),
            "margin (% of the SVM's)": spread(100 * own["margin"]),
            "zero (%)": f"{100 * own['zero_share'].mean():.0f}",
            "half are zero from step": "never" if lost is None else f"{lost:,}",
            "gap": f"{own['gap'].mean():,.0f}",
        }
    return pd.DataFrame(found).T


def attack_table(table: pd.DataFrame, network: str, measure: str, digits: int = 1) -> pd.DataFrame:
    """Return a measure in percent, the mean over seeds: a row an objective, a column a factor."""
    rows = table[table["network"] == network]
    means = 100 * rows.pivot_table(index="objective", columns="factor", values=measure, dropna=False)
    means = means.reindex([name for name in OBJECTIVE_LABELS if name in means.index]).dropna(how="all")
    means.index = pd.Index([OBJECTIVE_LABELS[name] for name in means.index], name="objective")
    return means.map(lambda value: f"{value:.{digits}f}")


def apart(
    table: pd.DataFrame, network: str, factor: int, objective: str, other: str, measure: str = "robust"
) -> str:
    """Return how far an attack by one objective is from that by another, seed by seed, in points."""
    rows = table[(table["network"] == network) & (table["factor"] == factor)]
    first, second = (
        rows[rows["objective"] == name].set_index("seed")[measure] for name in (objective, other)
    )
    return difference(first, second)


def score_table(table: pd.DataFrame, rows: str) -> pd.DataFrame:
    """Return a row a length of training and loss: what is left of the confident rows' ranking.

    A length after which no row is confident is left out.
    """
    own = table[(table["rows"] == rows) & (table["confident"] > 0)]
    found = []
    for (epochs, loss), each in own.groupby(["epochs", "loss"]):
        found.append(
            {
                "epochs": epochs,
                "loss": loss,
                "confident rows": spread(each["confident"], 0),
                "exactly 0 (%)": spread(100 * each["zero_share"]),
                "distinct values": spread(each["distinct"], 0),
                "rank correlation": spread(each["rank_correlation"], 3),
                "membership": spread(each["membership"], 3),
            }
        )
    return pd.DataFrame(found).set_index(["epochs", "loss"]).sort_index(ascending=[True, False])


def rates_table(table: pd.DataFrame, noise: float, measure: str = "test_accuracy") -> pd.DataFrame:
    """Return a measure's mean over seeds: a row an optimiser, schedule and loss, a column a rate.

    Accuracies and ECE are in percent.
    """
    rows = table[table["noise"] == noise]
    means = rows.groupby(["optimizer", "schedule", "loss", "rate"])[measure].agg(_mean).unstack("rate")
    factor = 1.0 if measure in ("test_loss", "gap") else 100.0
    return (factor * means).rename(index=ordinary.LABELS, level="loss")


def _mean(values: pd.Series[float]) -> float:
    """Return the mean, which is no number where one seed's is none: a diverged network does not vanish."""
    return float(values.mean(skipna=False))


def best_rates(table: pd.DataFrame, noise: float, optimizer: str, schedule: str) -> pd.DataFrame:
    """Return, for each loss, the rows of the rate with the best mean test accuracy, by loss and seed.

    The rate is chosen on the rows that are shown, for every loss alike: the best of those tried.
    """
    rows = table[
        (table["noise"] == noise) & (table["optimizer"] == optimizer) & (table["schedule"] == schedule)
    ]
    means = rows.groupby(["loss", "rate"])["test_accuracy"].mean()
    picked = [best for _, best in means.groupby("loss").idxmax().items()]
    return rows.set_index(["loss", "rate"]).loc[picked].reset_index().set_index(["loss", "seed"])


def ordinary_table(table: pd.DataFrame, noise: float) -> pd.DataFrame:
    """Return a row an optimiser, schedule and loss at its best rate of those tried: accuracy and calibration.

    The last column is the accuracy less that of torch's loss at its best rate, seed by seed.
    """
    found = []
    for optimizer in ordinary.RATES:
        for schedule in ("constant", "decaying"):
            best = best_rates(table, noise, optimizer, schedule)
            for loss, label in ordinary.LABELS.items():
                own = best.loc[loss]
                found.append(
                    {
                        "optimiser": optimizer,
                        "rate is": schedule,
                        "loss": label,
                        "best rate": f"{own['rate'].iloc[0]:g}",
                        "test accuracy (%)": spread(100 * own["test_accuracy"]),
                        "test loss (nats)": spread(own["test_loss"], 3),
                        "ECE (%)": spread(100 * own["ece"]),
                        "zero (%)": f"{100 * own['zero_share'].mean():.0f}",
                        "gap": f"{own['gap'].mean():.1f}",
                    }
                )
    return pd.DataFrame(found).set_index(["optimiser", "rate is", "loss"])


def told_apart(
    table: pd.DataFrame, loss: str, other: str, measure: str = "test_accuracy"
) -> tuple[int, int, int]:
    """Return in how many settings a loss's measure is above the other's, below it, and how many there are.

    A setting is a noise, an optimiser, a schedule and a rate. It counts where the 95 % interval of the
    difference, seed by seed, leaves out 0; by chance alone one in twenty would. A setting in which a seed has
    no such number is not counted.
    """
    keys = ["noise", "optimizer", "schedule", "rate"]
    wide = table.pivot(index=[*keys, "seed"], columns="loss", values=measure)
    above = below = settings = 0
    for _, rows in (wide[loss] - wide[other]).groupby(keys):
        if rows.isna().any():
            continue
        mean, half = curves.interval(rows)
        settings += 1
        above += bool(mean > half)
        below += bool(-mean > half)
    return above, below, settings


def apart_in_words(table: pd.DataFrame, loss: str, other: str, measure: str = "test_accuracy") -> str:
    """Return `told_apart` as a phrase."""
    above, below, settings = told_apart(table, loss, other, measure)
    if not above + below:
        return f"told apart in none of {settings} settings"
    return f"above in {above} and below in {below} of {settings} settings"
