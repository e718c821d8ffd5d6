"""Three results of every loss: tuned, the oracle's choice, and one default for all settings.

The rows are those of today's rule (`experiments.long_tail.grid`). A loss has a result once all that it rests
on has been run: of a default the final seeds; of what is tuned every setting on held-out rows, and the final
seeds of the one that they choose; of the oracle every setting on the final seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import Any

import pandas as pd

from experiments import differences, long_tail
from experiments.long_tail import RULE, Config, grid

from .numbers import GLUE, PLACE, Rows, clean

__all__ = [
    "CHOICES",
    "choice_table",
    "choices",
    "compared",
    "parts_table",
    "regret_at",
    "regret_by_choice",
    "results",
    "worst_by_choice",
]

CHOICES = ("tuned", "oracle", "default")


def choices(rows: Rows) -> pd.DataFrame:
    """Return the settings that each choice takes, a row a setting and loss: JSON, as the rows have them.

    *tuned* is what the held-out rows choose; *oracle* is the best mean on the test rows, which no one could
    have chosen; *default* was named before (`experiments.long_tail.grid.DEFAULTS`). A choice that rests on
    runs that are missing is NaN.
    """
    today = [row for row in rows if row["rule"] == RULE]
    return _choices(today, _final(today))


def _choices(rows: Rows, table: pd.DataFrame) -> pd.DataFrame:
    keys, lines = {row["key"] for row in rows}, {}
    for (*place, loss, epochs), part in table.groupby([*PLACE, "loss", "epochs"]):
        base = _base(place, loss, epochs)
        taken = {
            "tuned": _tuned(base, rows, keys),
            "oracle": _oracle(base, part, keys),
            "default": _there(base, grid.DEFAULTS[loss], keys),
        }
        if any(taken.values()):
            lines[(*place, loss)] = taken
    # an index of no tuples has no types: the rho of nothing must be a number too
    index = pd.MultiIndex.from_tuples(lines or [("", "", 0.0, "")], names=[*PLACE, "loss"])[: len(lines)]
    return pd.DataFrame(list(lines.values()), index=index, columns=list(CHOICES), dtype=object)


def _base(place: Sequence[Any], loss: str, epochs: int) -> Config:
    dataset, protocol, rho = place
    base = Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss)
    return base if base.length == epochs else replace(base, epochs=int(epochs))


def _there(base: Config, settings: grid.Settings, keys: Set[str]) -> str | None:
    """Return settings as JSON if they have all final seeds."""
    wanted = {replace(base, settings=settings, seed=seed).key for seed in grid.FINAL_SEEDS[base.family]}
    return json.dumps(dict(settings)) if wanted <= keys else None


def _tuned(base: Config, rows: Rows, keys: Set[str]) -> str | None:
    if any(config.key not in keys for config in grid.tune(base)):
        return None
    return _there(base, grid.chosen(base, rows), keys)


def _oracle(base: Config, part: pd.DataFrame, keys: Set[str]) -> str | None:
    if any(config.key not in keys for config in grid.every(base)):
        return None
    return str(part.groupby("settings", sort=False)["balanced_accuracy"].mean().idxmax())


def results(rows: Rows) -> dict[str, pd.DataFrame]:
    """Return the final rows that each choice takes."""
    today = [row for row in rows if row["rule"] == RULE]
    table = _final(today)
    picked = _choices(today, table)
    keys = [*PLACE, "loss", "settings"]
    return {
        choice: table.merge(picked[choice].dropna().rename("settings").reset_index(), on=keys)
        for choice in CHOICES
    }


def choice_table(rows: Rows, dataset: str, protocol: str, rho: float) -> pd.DataFrame:
    """Return balanced accuracy by each choice in one setting, and what was tuned, a row a loss.

    Mean and standard error over the seeds; a cell is empty where runs are missing. The best by *tuned* stands
    first, or by *default* where not every loss has been tuned.
    """
    picked, parts = choices(rows), {}
    for choice, table in results(rows).items():
        here = table[(table[PLACE] == [dataset, protocol, rho]).all(axis=1)]
        parts[choice] = here.groupby("loss")["balanced_accuracy"].agg(["mean", "sem"])
    means = pd.DataFrame({choice: part["mean"] for choice, part in parts.items()})
    means = means.sort_values("default" if means["tuned"].isna().any() else "tuned", ascending=False)
    shown = pd.DataFrame(
        {
            choice: {loss: _with_error(line) for loss, line in part.iterrows()}
            for choice, part in parts.items()
        },
        index=means.index,
        dtype=object,
    ).fillna("")
    shown["chosen"] = [_named(picked.loc[(dataset, protocol, rho, loss), "tuned"]) for loss in shown.index]
    return shown.rename_axis("loss")


_PARTS = ["balanced_accuracy", "head", "mid", "tail", "ece"]


def parts_table(rows: Rows, dataset: str, protocol: str, rho: float, choice: str = "default") -> pd.DataFrame:
    """Return the mean recalls of the frequent, middle and rare classes in one setting, a row a loss.

    Mean and standard error over the seeds, in percent, by one choice; the best balanced accuracy first. A
    third of the classes, rounded down, are head and tail each. The calibration error stands beside them.
    """
    table = results(rows)[choice]
    here = table[(table[PLACE] == [dataset, protocol, rho]).all(axis=1)].groupby("loss")
    means = here["balanced_accuracy"].mean().sort_values(ascending=False)
    shown = {name: here[name].agg(["mean", "sem"]).apply(_with_error, axis=1) for name in _PARTS}
    return pd.DataFrame(shown).loc[means.index].rename_axis("loss")


def _with_error(line: pd.Series) -> str:
    return f"{line['mean']:.1f}{GLUE}±{GLUE}{line['sem']:.1f}"


def _named(settings: Any) -> str:
    """Return settings in words; nothing where none were chosen."""
    known = json.loads(settings) if isinstance(settings, str) else {}
    return ", ".join(f"{name} {value:g}" for name, value in known.items())


def regret_by_choice(rows: Rows) -> pd.DataFrame:
    """Return how many points each loss is below the best that any could reach, by choice and setting.

    There is a row a loss, and a column a choice and setting; NaN where runs are missing. The yardstick is the
    same for all three choices: the best result of the setting by any of them, whosever it is. It came out
    best, so all are told a little further behind than they are.
    """
    taken = results(rows)
    best = _best(taken)
    means = {
        choice: table.groupby([*PLACE, "loss"])["balanced_accuracy"].mean() for choice, table in taken.items()
    }
    parts = {choice: (best - of).unstack("loss").T for choice, of in means.items()}
    return pd.concat(parts, axis="columns", names=["choice"])


def regret_at(rows: Rows, loss: str, settings: grid.Settings) -> pd.Series:
    """Return how many points a loss with one setting for all is below the best of each setting of the grid.

    The yardstick is that of `regret_by_choice`. There is an entry where all final seeds were run.
    """
    today = [row for row in rows if row["rule"] == RULE]
    table, best = _final(today), _best(results(rows))
    here = table[(table["loss"] == loss) & (table["settings"] == json.dumps(dict(settings)))]
    grouped = here.groupby(PLACE)["balanced_accuracy"]
    seeds = {place: len(grid.FINAL_SEEDS[_base(place, loss, 0).family]) for place in grouped.groups}
    whole = grouped.size() == pd.Series(seeds, dtype=int).rename_axis(PLACE)
    return (best - grouped.mean()[whole]).dropna()


def _best(taken: dict[str, pd.DataFrame]) -> pd.Series:
    """The best mean of each setting by any choice, whosever it is."""
    means = [table.groupby([*PLACE, "loss"])["balanced_accuracy"].mean() for table in taken.values()]
    return pd.concat(means).groupby(PLACE).max()


def worst_by_choice(rows: Rows) -> pd.DataFrame:
    """Return the regret of each loss in its worst setting, a column a choice; the best default first.

    By a choice only those losses count that have it in every setting that has it: another may do worse where
    it was not run.
    """
    regret = regret_by_choice(rows)
    worst = {choice: regret[choice].dropna().max(axis=1) for choice in CHOICES}
    return pd.DataFrame(worst).sort_values("default", kind="stable")


def compared(rows: Rows, loss: str, other: str, choice: str) -> pd.DataFrame:
    """Return one loss less another by the same choice, a row a setting, as `differences` tells it."""
    return differences.differences(dict(_pairs(results(rows)[choice], loss, other))).rename_axis(PLACE)


def _pairs(table: pd.DataFrame, loss: str, other: str) -> Iterator[tuple[Any, pd.Series]]:
    for place, part in table.groupby(PLACE):
        wide = part.pivot(index="seed", columns="loss", values="balanced_accuracy")
        if {loss, other} <= set(wide):
            yield place, (wide[loss] - wide[other]).dropna()


def _final(rows: Rows) -> pd.DataFrame:
    """Return the runs of the grid's settings on final seeds."""
    table = clean(long_tail.frame(rows))
    keep = [
        part[part["key"].isin({config.key for config in grid.every(_base(place, loss, epochs))})]
        for (*place, loss, epochs), part in table.groupby([*PLACE, "loss", "epochs"])
        if loss in grid.GRIDS
    ]
    return pd.concat(keep) if keep else table.iloc[:0]
