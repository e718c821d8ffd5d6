"""What the stored runs say: tables and a picture."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from experiments import curves

from .config import LOSSES
from .rows import MEASURES, Row

__all__ = ["LABELS", "accuracy_picture", "accuracy_table", "frame", "paired_table", "settings"]

#: what is compared shares these
SETTING = ["rho", "epochs", "hardware"]
LABELS = {
    "plain": "cross-entropy",
    "logit_adjusted": "logit adjustment",
    "gradient_balanced": "gradient balancing",
    "balanced_softmax": "Balanced Softmax",
    "vs": "VS",
    "ldam_drw": "LDAM-DRW",
}
_NUMBERS = {"rho": float, "epochs": int, "seed": int, "epoch": int, "seconds": float, "runs": int}


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return stored rows with numbers."""
    return pd.DataFrame(list(rows)).astype(_NUMBERS | dict.fromkeys(MEASURES, float))


def settings(table: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return the settings that there are, in the order of the rows."""
    return list(table[SETTING].drop_duplicates().itertuples(index=False, name=None))


def of_setting(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return the rows of one setting."""
    chosen = table["epoch"] > 0
    for name, value in zip(SETTING, setting, strict=True):
        chosen &= table[name] == value
    if not chosen.any():
        raise ValueError(f"there are no rows for {setting}")
    return table[chosen]


def at_the_end(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return the rows of the last epoch of one setting."""
    rows = of_setting(table, setting)
    return rows[rows["epoch"] == rows["epochs"]]


def accuracy_table(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return a row a loss: balanced accuracy (%) with half its 95 % t interval over the seeds, and its parts.

    ``many``, ``medium`` and ``few`` are the classes with more than 100, 20 to 100 and fewer than 20 images.
    """
    rows, found = at_the_end(table, setting), []
    for name in losses_in(rows):
        own = rows[rows["loss"] == name]
        mean, half = curves.interval(own["balanced_accuracy"])
        parts = {part: own[part].mean() for part in ("many", "medium", "few")}
        row = {"loss": LABELS[name], "seeds": len(own), "balanced accuracy (%)": mean, "± (95 %)": half}
        found.append({**row, **parts, "seconds": own["seconds"].mean(), "runs at once": own["runs"].max()})
    return pd.DataFrame(found).set_index("loss")


def paired_table(table: pd.DataFrame, setting: tuple[object, ...], against: str) -> pd.DataFrame:
    """Return each loss's balanced accuracy less that of another, seed by seed, with its 95 % t interval."""
    wide = at_the_end(table, setting).pivot_table(index="seed", columns="loss", values="balanced_accuracy")
    found = []
    for name in (each for each in LOSSES if each in wide and each != against):
        difference = (wide[name] - wide[against]).dropna()
        mean, half = curves.interval(difference)
        place = {"loss": LABELS[name], "seeds": len(difference), "difference": mean}
        found.append({**place, "low": mean - half, "high": mean + half})
    return pd.DataFrame(found).set_index("loss")


def losses_in(rows: pd.DataFrame) -> list[str]:
    """Return the losses of rows in the order of the study."""
    return [name for name in LOSSES if name in set(rows["loss"])]


def accuracy_picture(table: pd.DataFrame, setting: tuple[object, ...]) -> Figure:
    """Draw balanced accuracy over epochs and over seconds: means of the seeds, bands of all of them."""
    rows = of_setting(table, setting)
    found = [
        curves.curve_of(rows[rows["loss"] == name], LABELS[name], "epoch", "balanced_accuracy")
        for name in losses_in(rows)
    ]
    look = curves.looks(list(LABELS.values()))
    return curves.curves_picture(found, look, steps="epochs", measure="balanced accuracy (%)")
