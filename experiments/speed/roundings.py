"""The curve of error against time: one float32 loop at several precisions, from one run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.benchmarks import rounding
from softmax_lab.plotting import COLORS

from .stored import TASKS, shape_words

__all__ = ["rounding_curve", "rounding_picture"]

WORDS = TASKS | {"logsumexp": "log-sum-exp"}
#: colour and marker of each precision, its name, and where beside the point that stands
LOOK = {
    "wide": ("blue", "^", "float64", ("center", "top", 0, -8)),
    "softmax_lab": ("green", "*", "softmax_lab", ("left", "bottom", 2, 6)),
    "single": ("orange", "s", "one float", ("right", "top", 2, -7)),
    "shifted": ("vermillion", "o", "shifted", ("center", "bottom", 0, 7)),
}
KEY = ["task", "precision", "n", "k"]


def rounding_curve(path: Path = rounding.RESULTS, *, threads: int = 1) -> pd.DataFrame:
    """Return a row a (task, N x K, precision), the most accurate first.

    Columns are ``ms``, ``copies`` (times as long as a copy), ``of ours`` (times as long as the package),
    ``max_ulp`` and ``max_ulp_confident``. Of the rows with ``threads`` threads those of the processor that
    was measured last count, and of each measurement the newest. One thread shows the loop itself: two take
    about as long to be woken as a part of the smaller shape does.

    Raises
    ------
    ValueError
        Where the file holds nothing for that number of threads.
    """
    table = pd.read_csv(path)
    own = table[table["threads"] == threads].sort_values("when", kind="stable")
    if own.empty:
        raise ValueError(
            f"{path.name} must hold rows with {threads} threads: "
            f"run python -m experiments.benchmarks.rounding --threads {threads}"
        )
    own = own[own["processor"] == own["processor"].iloc[-1]].drop_duplicates(KEY, keep="last")
    place = ["task", "n", "k"]
    ours = own[own["precision"] == rounding.OURS].set_index(place)["ms"].rename("ours")
    own = own[own["precision"] != rounding.FLOOR].join(ours, on=place)
    order = {
        "task": {task: i for i, task in enumerate(rounding.TASKS)},
        "precision": {name: i for i, name in enumerate(rounding.PRECISIONS)},
    }
    own = own.sort_values(
        ["n", "k", "task", "precision"],
        key=lambda column: column.map(order[str(column.name)]) if column.name in order else column,
        kind="stable",
    )
    shapes = [shape_words(shape) for shape in zip(own["n"], own["k"], strict=True)]
    return (
        own.assign(**{"N x K": shapes, "of ours": own["ms"] / own["ours"]})
        .set_index(["task", "N x K", "precision"])
        .rename(index=WORDS, level="task")[["ms", "copies", "of ours", "max_ulp", "max_ulp_confident"]]
    )


def rounding_picture(table: pd.DataFrame) -> Figure:
    """Draw error against time, both better to the lower left: a row a task, a column a shape.

    ``table`` is what `rounding_curve` returns. The errors are those of the rows drawn as the timed ones.
    """
    tasks, shapes = (list(dict.fromkeys(table.index.get_level_values(i))) for i in (0, 1))
    figure = Figure(figsize=(0.2 + 2.7 * len(shapes), 0.4 + 2.3 * len(tasks)), layout="constrained")
    axes = figure.subplots(len(tasks), len(shapes), squeeze=False, sharex="col", sharey=True)
    for line, task in zip(axes, tasks, strict=True):
        for axis, shape in zip(line, shapes, strict=True):
            _panel(axis, table.xs((task, shape), level=(0, 1)))
            axis.set_title(f"{task},\n{shape}")
        line[0].set_ylabel("worst error (ulp)")
    for axis in axes[-1]:
        axis.set_xlabel("time / copy")
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    axis.axhline(1, color="black", linewidth=0.9, linestyle=":")
    axis.plot(rows["copies"], rows["max_ulp"], color=COLORS["grey"], linewidth=0.9, zorder=2)
    for name, row in rows.iterrows():
        color, marker, words, (side, level, right, up) = LOOK[str(name)]
        size = 11 if name == rounding.OURS else 6
        point = (row["copies"], row["max_ulp"])
        axis.plot(*point, marker, color=COLORS[color], markersize=size, zorder=3)
        axis.annotate(
            words,
            point,
            xytext=(right, up),
            textcoords="offset points",
            ha=side,
            va=level,
            fontsize=9,
            color=COLORS[color],
        )
    axis.set_yscale("log")
    axis.margins(0.4, 0.25)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
