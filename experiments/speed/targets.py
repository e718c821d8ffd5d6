"""The bars that were set before the loops were written, and whether they are met."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from experiments.benchmarks import cpu

from .comparisons import comparison
from .stored import TASKS, shape_words

__all__ = ["AIMS", "aims"]


#: what a bar is about, its number to be filled in
_ASKED: dict[str, str] = {
    "torch": "at least {:g} times as fast as eager PyTorch",
    "best": "at least {:g} times as fast as the fastest peer",
    "copies": "at most {:g} copies",  # by either of a shape's two copies
    "max_ulp": "at most {:g} ulp",
}


@dataclass(frozen=True)
class Aim:
    """A bar set before the loops were written.

    It is for a column of `comparison`, at its worst over the shapes of some widths.

    A bar in copies is judged by both copies that are timed at a shape, and met if it is met by both.
    """

    tasks: tuple[str, ...]
    dtype: str
    column: str
    bound: float
    classes: tuple[int, ...] = tuple(k for _, k in cpu.SHAPES)

    @property
    def asked(self) -> str:
        """The bar in words."""
        return _ASKED[self.column].format(self.bound).replace("1 times as fast as", "as fast as")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `comparison` that are judged."""
        return ("copies", "copies_before") if self.column == "copies" else (self.column,)

    @property
    def at_least(self) -> bool:
        """Whether more is better: true of ratios to a peer, not of copies and errors."""
        return self.column in ("torch", "best")


LONG = tuple(k for _, k in cpu.SHAPES if k >= 1000)
AIMS = (
    Aim(("loss",), "float32", "torch", 6.0),
    Aim(("loss",), "float32", "best", 1.5, (10,)),
    Aim(("loss",), "float32", "best", 2.5, LONG),
    Aim(("loss",), "float32", "copies", 2.5, LONG),
    Aim(("softmax",), "float32", "best", 1.0),
    Aim(("log_softmax",), "float32", "best", 1.0),
    Aim(("loss",), "float64", "torch", 3.0),
    Aim(tuple(TASKS), "float32", "max_ulp", 2.0),
    Aim(tuple(TASKS), "float64", "max_ulp", 4.0),
)


def aims(table: pd.DataFrame) -> pd.DataFrame:
    """Return the targets, the worst that was measured and where, and whether that is enough.

    A target in copies has two worst values, by the copy that has a row and by the one before; where only one
    of them is enough, it is met "by one copy of two".
    """
    return pd.DataFrame([_judged(table, aim) for aim in AIMS])


def _judged(table: pd.DataFrame, aim: Aim) -> dict[str, str]:
    compared = pd.concat({task: comparison(table, task) for task in aim.tasks}, names=["task"]).reset_index()
    rows = compared[(compared["dtype"] == aim.dtype) & compared["k"].isin(aim.classes)]
    target = {
        "of": ", ".join(TASKS[task] for task in aim.tasks),
        "type": aim.dtype,
        "target": aim.asked,
        "at K": _widths(aim.classes),
    }
    columns = [rows[name].dropna() for name in aim.columns if name in rows]
    if not columns or any(values.empty for values in columns):
        return target | {"worst": "not measured", "where": "–", "met": "–"}
    places = [values.idxmin() if aim.at_least else values.idxmax() for values in columns]
    worst = [float(values[place]) for values, place in zip(columns, places, strict=True)]
    where = dict.fromkeys(shape_words((rows.loc[place, "n"], rows.loc[place, "k"])) for place in places)
    met = [value >= aim.bound if aim.at_least else value <= aim.bound for value in worst]
    return target | {
        "worst": " or ".join(f"{value:.2f}" for value in worst),
        "where": " or ".join(where),
        "met": "yes" if all(met) else "by one copy of two" if any(met) else "no",
    }


def _widths(classes: tuple[int, ...]) -> str:
    return "all" if len(classes) == len(cpu.SHAPES) else ", ".join(f"{k:,}" for k in classes)
