"""Three results of every loss: tuned, the oracle's choice, and one default for all settings.

The rows are those of today's rule (`experiments.long_tail.grid`). A loss counts in a setting once all of its
grid has been run there, on held-out rows and on the final seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from experiments import differences, long_tail
from experiments.long_tail import RULE, Config, grid

from .numbers import GLUE, PLACE, Rows, clean

__all__ = ["CHOICES", "choice_table", "choices", "compared", "regret_by_choice", "results", "worst_by_choice"]

CHOICES = ("tuned", "oracle", "default")


def choices(rows: Rows) -> pd.DataFrame:
    """Return the settings that each choice takes, a row a setting and loss: JSON, as the rows have them.

    *tuned* is what the held-out rows choose; *oracle* is the best mean on the test rows, which no one could
    have chosen; *default* was named before (`experiments.long_tail.grid.DEFAULTS`).
    """
    return _choices(rows, _complete(rows))


def _choices(rows: Rows, table: pd.DataFrame) -> pd.DataFrame:
    lines: dict[Any, dict[str, str]] = {}
    for (*place, loss), part in table.groupby([*PLACE, "loss"]):
        dataset, protocol, rho = place
        base = Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss)
        means = part.groupby("settings", sort=False)["balanced_accuracy"].mean()
        lines[(*place, loss)] = {
            "tuned": json.dumps(dict(grid.chosen(base, rows))),
            "oracle": str(means.idxmax()),
            "default": json.dumps(dict(grid.DEFAULTS[loss])),
        }
    # an index of no tuples has no types: the rho of nothing must be a number too
    index = pd.MultiIndex.from_tuples(lines or [("", "", 0.0, "")], names=[*PLACE, "loss"])[: len(lines)]
    return pd.DataFrame(list(lines.values()), index=index, columns=list(CHOICES))


def results(rows: Rows) -> dict[str, pd.DataFrame]:
    """Return the final rows that each choice takes."""
    table = _complete(rows)
    picked = _choices(rows, table)
    keys = [*PLACE, "loss", "settings"]
    return {
        choice: table.merge(picked[choice].rename("settings").reset_index(), on=keys) for choice in CHOICES
    }


def choice_table(rows: Rows, dataset: str, protocol: str, rho: float) -> pd.DataFrame:
    """Return balanced accuracy by each choice in one setting, and what was tuned, a row a loss.

    Mean and standard error over the seeds; the best *tuned* first.
    """
    lines: dict[str, dict[str, str]] = {}
    order: dict[str, float] = {}
    picked = choices(rows)
    for choice, table in results(rows).items():
        here = table[(table[PLACE] == [dataset, protocol, rho]).all(axis=1)]
        for loss, values in here.groupby("loss")["balanced_accuracy"]:
            lines.setdefault(loss, {})[choice] = f"{values.mean():.1f}{GLUE}±{GLUE}{values.sem():.1f}"
            order.setdefault(loss, values.mean())
    for loss, line in lines.items():
        settings = json.loads(picked.loc[(dataset, protocol, rho, loss), "tuned"])
        line["chosen"] = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    found = pd.DataFrame.from_dict(lines, orient="index", columns=[*CHOICES, "chosen"]).rename_axis("loss")
    return found.loc[sorted(order, key=order.__getitem__, reverse=True)]


def regret_by_choice(rows: Rows) -> pd.DataFrame:
    """Return how many points each loss is below the best that any could reach, by choice and setting.

    There is a row a loss, and a column a choice and setting. The yardstick is the same for all three choices:
    the best *oracle* result of the setting, whosever it is. It came out best, so all are told a little
    further behind than they are.
    """
    means = {
        choice: table.groupby([*PLACE, "loss"])["balanced_accuracy"].mean().unstack("loss")
        for choice, table in results(rows).items()
    }
    best = means["oracle"].max(axis=1)
    parts = {choice: -of.sub(best, axis=0).T for choice, of in means.items()}
    return pd.concat(parts, axis="columns", names=["choice"])


def worst_by_choice(rows: Rows) -> pd.DataFrame:
    """Return the regret of each loss in its worst setting, a column a choice; the best default first.

    Only losses that were run in every setting count: another may do worse where it was not.
    """
    regret = regret_by_choice(rows).dropna()
    worst = regret.T.groupby("choice").max().T[list(CHOICES)]
    return worst.sort_values("default", kind="stable")


def compared(rows: Rows, loss: str, other: str, choice: str) -> pd.DataFrame:
    """Return one loss less another by the same choice, a row a setting, as `differences` tells it."""
    return differences.differences(dict(_pairs(results(rows)[choice], loss, other))).rename_axis(PLACE)


def _pairs(table: pd.DataFrame, loss: str, other: str) -> Iterator[tuple[Any, pd.Series]]:
    for place, part in table.groupby(PLACE):
        wide = part.pivot(index="seed", columns="loss", values="balanced_accuracy")
        if {loss, other} <= set(wide):
            yield place, (wide[loss] - wide[other]).dropna()


def _complete(rows: Rows) -> pd.DataFrame:
    """Return the final rows of those losses and settings whose whole grid has been run."""
    today = [row for row in rows if row["rule"] == RULE]
    table, keys = clean(long_tail.frame(today)), {row["key"] for row in today}
    keep = []
    for (dataset, protocol, rho, loss, epochs), part in table.groupby([*PLACE, "loss", "epochs"]):
        if loss not in grid.GRIDS:
            continue
        base = Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss)
        base = base if base.length == epochs else replace(base, epochs=int(epochs))
        wanted = {config.key for config in (*grid.tune(base), *grid.every(base))}
        if wanted <= keys:
            keep.append(part[part["key"].isin(wanted)])
    return pd.concat(keep) if keep else table.iloc[:0]
