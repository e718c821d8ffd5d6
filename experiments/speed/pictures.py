"""The pictures of the stored measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from experiments.benchmarks import cpu
from experiments.curves import NARROW
from softmax_lab.plotting import COLORS

from .comparisons import bandwidth
from .loops import constant
from .stored import FLOOR, OURS, TASKS, at_shapes, shape_words

__all__ = ["accuracy_picture", "bandwidth_picture", "classes_picture", "cost_picture", "scaling_panels"]


#: colour and marker of each provider, in every picture
LOOK = {
    "softmax_lab": ("green", "*"),
    "torch": ("vermillion", "o"),
    "torch.compile": ("orange", "s"),
    "jax.jit": ("blue", "^"),
    "tf.function": ("purple", "D"),
    "scipy": ("sky", "v"),
    "copy": ("grey", ""),
}


def _panels(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(NARROW, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _legend(figure: Figure, handles: Sequence[Any], columns: int = 3) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _handle(name: str, **changes: Any) -> Line2D:
    color, marker = LOOK[name]
    style = {
        "color": COLORS[color],
        "marker": marker,
        "linestyle": "--" if name == FLOOR else "-",
        "label": name,
    }
    return Line2D([], [], **(style | changes))


def _widths_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_xticks(
        [2, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        ["2", "10", r"$10^2$", r"$10^3$", r"$10^4$", r"$10^5$", r"$10^6$"],
    )
    axis.minorticks_off()


def classes_picture(table: pd.DataFrame) -> Figure:
    """Draw the time a logit takes over K: a row a task, a column a type, a line a provider and the copy."""
    rows = at_shapes(table, cpu.SWEEP)
    dtypes = list(dict.fromkeys(rows["dtype"]))
    figure, axes = _panels(len(TASKS), len(dtypes), 1.1 + 2.5 * len(TASKS), sharex=True, sharey=True)
    for line, task in zip(axes, TASKS, strict=True):
        for axis, dtype in zip(line, dtypes, strict=True):
            _classes_panel(axis, rows[rows["dtype"] == dtype], task)
            axis.set_title(f"{TASKS[task]}, {dtype}")
        line[0].set_ylabel("time (ns a logit)")
    for axis in axes[-1]:
        axis.set_xlabel("number of classes K")
    _legend(figure, [_handle(name) for name in LOOK])
    return figure


def _classes_panel(axis: Axes, rows: pd.DataFrame, task: str) -> None:
    for name, (color, marker) in LOOK.items():
        measured = "loss" if name == FLOOR else task  # the floor is measured once
        own = rows[(rows["provider"] == name) & (rows["task"] == measured)]
        line, size, over = (
            ("--" if name == FLOOR else "-"),
            (8 if name == OURS else 4),
            (3 if name == OURS else 2),
        )
        axis.plot(own["k"], own["ns"], line, color=COLORS[color], marker=marker, markersize=size, zorder=over)
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    _widths_axis(axis)


def scaling_panels(ratios: pd.Series) -> Figure:
    """Draw times on one thread over times on two: a row a task, a column a type, a line a provider.

    The copy has a line too. The index of ``ratios`` is task, type, N, K and provider. Dotted lines are at one
    (the second thread brings nothing) and at two.
    """
    rows = ratios.rename("ratio").reset_index()
    dtypes = list(dict.fromkeys(rows["dtype"]))
    figure, axes = _panels(len(TASKS), len(dtypes), 1.1 + 2.3 * len(TASKS), sharex=True, sharey=True)
    for line, task in zip(axes, TASKS, strict=True):
        for axis, dtype in zip(line, dtypes, strict=True):
            _scaling_panel(axis, rows[rows["dtype"] == dtype], task)
            axis.set_title(f"{TASKS[task]}, {dtype}")
        line[0].set_ylabel("one thread / two threads")
    axes[0, 0].set_ylim(bottom=0)  # shared, and so set when every line is there
    for axis in axes[-1]:
        axis.set_xlabel("number of classes K")
    _legend(figure, [_handle(name) for name in LOOK if name in set(rows["provider"])])
    return figure


def _scaling_panel(axis: Axes, rows: pd.DataFrame, task: str) -> None:
    for level in (1.0, 2.0):
        axis.axhline(level, color="black", linewidth=0.9, linestyle=":")
    for name, (color, marker) in LOOK.items():
        measured = "loss" if name == FLOOR else task  # the floor is measured once
        own = rows[(rows["provider"] == name) & (rows["task"] == measured)].sort_values("k")
        if len(own):
            line, size = ("--" if name == FLOOR else "-"), (8 if name == OURS else 4)
            axis.plot(own["k"], own["ratio"], line, color=COLORS[color], marker=marker, markersize=size)
    _widths_axis(axis)


def accuracy_picture(table: pd.DataFrame) -> Figure:
    """Draw error against time, both better up and to the left: a column a task, a row a shape.

    Filled marks are float32, hollow ones float64.
    """
    rows = at_shapes(table[table["provider"] != FLOOR], cpu.SHAPES).dropna(subset="max_ulp")
    shapes = [shape for shape in cpu.SHAPES if shape[1] in set(rows["k"])]
    figure, axes = _panels(len(shapes), len(TASKS), 1.2 + 2.4 * len(shapes), sharex="row", sharey=True)
    for line, shape in zip(axes, shapes, strict=True):
        for axis, task in zip(line, TASKS, strict=True):
            _accuracy_panel(axis, rows[(rows["k"] == shape[1]) & (rows["task"] == task)])
            axis.set_title(f"{TASKS[task]}\n{shape_words(shape)}")
    axes[0, 0].invert_yaxis()  # shared by all
    axes[-1, len(TASKS) // 2].set_xlabel(r"$\leftarrow$ faster: time / copy")  # of all columns
    figure.supylabel(r"worst error (ulp): better $\rightarrow$", fontsize="medium")
    kinds = [
        Line2D([], [], color="black", marker="o", linestyle="", markerfacecolor=face, label=dtype)
        for dtype, face in {"float32": "black", "float64": "white"}.items()
        if dtype in set(rows["dtype"])
    ]
    _legend(figure, [*(_handle(name, linestyle="") for name in LOOK if name != FLOOR), *kinds])
    return figure


def _accuracy_panel(axis: Axes, rows: pd.DataFrame) -> None:
    for point in rows.itertuples():
        color, marker = LOOK[str(point.provider)]
        face, size = (
            (COLORS[color] if point.dtype == "float32" else "white"),
            (11 if point.provider == OURS else 6),
        )
        axis.plot(
            point.copies, point.max_ulp, marker, color=COLORS[color], markerfacecolor=face, markersize=size
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.margins(0.12)
    _plain_ticks(axis.xaxis, (1, 3))  # a panel is narrow
    _plain_ticks(axis.yaxis)


def _plain_ticks(side: Axis, digits: Sequence[int] = (1, 2, 5)) -> None:
    """Numbers like 2 and 50 on a logarithmic axis, not powers of ten."""
    side.set_major_locator(LogLocator(subs=digits))
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


_RATES = {
    "copy": ("grey", "s"),
    "loss": ("vermillion", "o"),
    "softmax": ("blue", "^"),
    "log_softmax": ("green", "D"),
}


def bandwidth_picture(table: pd.DataFrame) -> Figure:
    """Draw gigabytes a second over K beside the copy's, a panel a type.

    Lines are the sweep, hollow marks the benchmark's table.
    """
    swept, tabled = bandwidth(table, cpu.SWEEP), bandwidth(table, cpu.SHAPES)
    dtypes = list(dict.fromkeys(swept.index.get_level_values("dtype")))
    figure, axes = _panels(len(dtypes), 1, 1.2 + 3.0 * len(dtypes), sharex=True, sharey=True)
    for axis, dtype in zip(axes[:, 0], dtypes, strict=True):
        _bandwidth_panel(
            axis, swept.xs(dtype, level="dtype"), tabled[tabled.index.get_level_values("dtype") == dtype]
        )
        axis.set(title=dtype, ylabel="read + written once (GB/s)")
    axes[-1, 0].set_xlabel("number of classes K")
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            color=COLORS[color],
            marker=marker,
            linestyle="--" if name == FLOOR else "-",
            label=TASKS.get(name, name),
        )
        for name, (color, marker) in _RATES.items()
    ]
    handles.append(
        Line2D(
            [],
            [],
            color="black",
            marker="o",
            linestyle="",
            markersize=9,
            markerfacecolor="none",
            label="shape of the table",
        )
    )
    handles.append(Patch(color=COLORS["grey"], alpha=0.15, label="copy x 1.5 either way"))
    _legend(figure, handles, 2)
    return figure


def _bandwidth_panel(axis: Axes, swept: pd.DataFrame, tabled: pd.DataFrame) -> None:
    copied = swept["copy"]
    axis.fill_between(
        copied.index.get_level_values("k"),
        copied / 1.5,
        copied * 1.5,
        color=COLORS["grey"],
        alpha=0.15,
        linewidth=0,
    )
    for name, (color, marker) in _RATES.items():
        line = "--" if name == FLOOR else "-"
        axis.plot(
            swept.index.get_level_values("k"),
            swept[name],
            line,
            color=COLORS[color],
            marker=marker,
            markersize=4,
            zorder=3,
        )
        widths = tabled.index.get_level_values("k")
        axis.plot(widths, tabled[name], marker, color=COLORS[color], markersize=9, markerfacecolor="none")
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    _widths_axis(axis)


def cost_picture(over_rows: pd.Series, over_classes: dict[str, pd.Series]) -> Figure:
    """Draw `cost` on one thread: above over N, a line a number of classes; below over K, a line a task."""
    figure, axes = _panels(2, 1, 7.0)
    upper, lower = axes[:, 0]
    for (k, own), color, marker in zip(over_rows.groupby("k"), ("blue", "vermillion"), "os", strict=False):
        upper.plot(
            own.index.get_level_values("n"), own, f"{marker}-", color=COLORS[color], label=f"K = {k:,}"
        )
    for task, own in over_classes.items():
        color, marker = _RATES[task]
        lower.plot(
            own.index.get_level_values("k"),
            own,
            f"{marker}-",
            color=COLORS[color],
            markersize=4,
            label=TASKS[task],
        )
    for name, words in {
        "MOST_IN_SINGLES": "rows side\nby side",
        "CHUNK": "one\nchunk",
        "HELD_IN_SINGLES": "held\nwhole",
    }.items():
        lower.axvline(constant(name) + 0.5, color="black", linewidth=0.9, linestyle=":")
        place = {"xycoords": ("data", "axes fraction"), "xytext": (-3, 0), "textcoords": "offset points"}
        lower.annotate(words, (constant(name), 1), ha="right", va="top", **place)
    for axis in (upper, lower):
        axis.set_ylabel("time on one thread (ns a logit)")
    upper.set(xlabel="number of rows N", xscale="log", yscale="log")
    upper.legend()
    lower.set_xlabel("number of classes K")
    lower.set_ylim(bottom=0)
    _widths_axis(lower)
    _legend(figure, lower.get_legend_handles_labels()[0], 3)
    return figure
