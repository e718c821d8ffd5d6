"""What the gate does: logit adjustment and ours over the same tau, seed by seed.

The rows are those of the study ``gate`` (`experiments.long_tail.grid`). A loss has a tau once all final seeds
have been run with it. The *best* tau of a loss has the best mean on the test rows, which nobody could have
chosen: where two losses are compared by it, it is looked for among the tau that both have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import long_tail
from experiments.curves import NARROW, interval, looks
from experiments.differences import Difference, difference, differences
from experiments.long_tail import Config, grid

from .numbers import GLUE, Rows

__all__ = [
    "TAU_LOSSES",
    "at_one_tau",
    "best_less_best",
    "best_tau_table",
    "less",
    "same_tail",
    "tau_picture",
    "tau_rows",
]

#: the losses of the study, and what they are called in its picture
TAU_LOSSES = {
    "logit_adjusted": "logit adjustment",
    "gradient_balanced": "with the gate",
    "gradient_balanced_summed": "with the gate, a sum",
    "logit_adjusted_margin": "τ + 1 on the label's side",
}
BASE = "logit_adjusted"
MEASURES = ("balanced_accuracy", "head", "mid", "tail")


def tau_rows(rows: Rows, rho: float = 100.0) -> pd.DataFrame:
    """Return the runs of the study on digits: loss, tau, seed and the measures.

    A tau of a loss for which a seed is missing is left out.
    """
    by_key = {row["key"]: row for row in rows}
    wanted = grid.gate(Config(rho=rho, loss="gradient_balanced"))
    there = [by_key[config.key] for config in wanted if config.key in by_key]
    table = long_tail.frame(there)
    table["tau"] = [json.loads(settings)["tau"] for settings in table["settings"]]
    seeds = table.groupby(["loss", "tau"])["seed"].transform("nunique")
    whole = table[seeds == len(grid.FINAL_SEEDS["digits"])]
    return whole[["loss", "tau", "seed", *MEASURES]].reset_index(drop=True)


def _wide(table: pd.DataFrame, loss: str, measure: str = "balanced_accuracy") -> pd.DataFrame:
    """Return a row a seed and a column a tau."""
    return table[table["loss"] == loss].pivot(index="seed", columns="tau", values=measure)


def _named(table: pd.DataFrame) -> dict[str, str]:
    """Return the losses that have rows, in their order, and their names."""
    have = set(table["loss"])
    return {loss: name for loss, name in TAU_LOSSES.items() if loss in have}


def _of_both(
    table: pd.DataFrame, loss: str, other: str, measure: str = "balanced_accuracy"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two losses at the tau that both have."""
    mine, theirs = (_wide(table, name, measure) for name in (loss, other))
    shared = mine.columns.intersection(theirs.columns)
    return mine[shared], theirs[shared]


def at_one_tau(
    table: pd.DataFrame, loss: str, other: str = BASE, measure: str = "balanced_accuracy"
) -> pd.DataFrame:
    """Return one loss less another at the same tau, a row a tau, as `differences` tells it."""
    mine, theirs = _of_both(table, loss, other, measure)
    return differences({tau: mine[tau] - theirs[tau] for tau in mine}).rename_axis("tau")


def less(table: pd.DataFrame, loss: str, tau: float, other: str, other_tau: float) -> Difference:
    """Return one loss at a tau less another at one of its own, seed by seed."""
    return difference(_wide(table, loss)[tau] - _wide(table, other)[other_tau])


def best_less_best(table: pd.DataFrame, loss: str, other: str = BASE, *, together: int = 1) -> Difference:
    """Return one loss at its best tau less another at its own, seed by seed.

    Both choose among the tau that both have.
    """
    mine, theirs = (each[each.mean().idxmax()] for each in _of_both(table, loss, other))
    return difference(mine - theirs, together=together)


def best_tau_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return each loss at the best of all its tau, and what it is ahead of logit adjustment.

    Measures are means with standard errors. Those ahead are `best_less_best`; their intervals hold together.
    """
    lines = {}
    named = _named(table)
    for loss, name in named.items():
        own = _wide(table, loss)
        tau = own.mean().idxmax()
        here = {measure: _wide(table, loss, measure)[tau] for measure in MEASURES}
        lines[name] = {
            "τ": f"{len(own.columns)}",
            "best τ": f"{tau:g}",
            **{
                measure.replace("_", " "): f"{values.mean():.1f}{GLUE}±{GLUE}{values.sem():.1f}"
                for measure, values in here.items()
            },
            "ahead": "" if loss == BASE else str(best_less_best(table, loss, together=len(named) - 1)),
        }
    return pd.DataFrame(lines).T.rename_axis("loss")


def same_tail(table: pd.DataFrame, loss: str, tau: float) -> float:
    """Return the tau at which logit adjustment has the tail recall that a loss has at ``tau``.

    It is interpolated between the means; NaN where logit adjustment's recall does not reach it.
    """
    means, wanted = _wide(table, BASE, "tail").mean(), _wide(table, loss, "tail").mean()[tau]
    x, y = means.index.to_numpy(float), means.to_numpy()
    after = int(np.argmax(y >= wanted))
    if after == 0:  # none, or the first
        return float("nan")
    return float(np.interp(wanted, y[after - 1 : after + 1], x[after - 1 : after + 1]))


def tau_picture(table: pd.DataFrame) -> Figure:
    """Draw balanced accuracy over tau, what each loss is ahead of logit adjustment, and tail over head.

    Bands are 95 % t intervals over the seeds: above of the mean, in the middle of paired differences.
    """
    figure = Figure(figsize=(NARROW, 9.6), layout="constrained")
    upper, middle, lower = figure.subplots(3, 1)
    look = looks(list(TAU_LOSSES))
    for loss, name in _named(table).items():
        _band(upper, _wide(table, loss), look[loss], name)
        if loss != BASE:
            mine, theirs = _of_both(table, loss, BASE)
            _band(middle, mine - theirs, look[loss], name)
        head, tail = (_wide(table, loss, part).mean() for part in ("head", "tail"))
        lower.plot(head, tail, marker="o", markersize=3.5, linewidth=1.4, **look[loss])
    middle.axhline(0.0, linewidth=1.4, **look[BASE])
    upper.set(xlabel="τ", ylabel="balanced accuracy (%)")
    middle.set(xlabel="τ", ylabel="ahead of logit adjustment (points)", title="differences at the same τ")
    lower.set(xlabel="recall of the three most frequent (%)", ylabel="recall of the three rarest (%)")
    handles, names = upper.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _band(axis: Axes, values: pd.DataFrame, look: Mapping[str, Any], name: str) -> None:
    """Draw the mean over the seeds with its interval."""
    taus = values.columns.to_numpy(float)
    means, half = np.array([interval(values[tau]) for tau in values]).T
    axis.plot(taus, means, marker="o", markersize=3.5, linewidth=1.4, label=name, **look)
    axis.fill_between(taus, means - half, means + half, color=look["color"], alpha=0.13, linewidth=0)
