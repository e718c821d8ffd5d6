"""What the stored runs say: tables and pictures for the notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import large_vocabulary as lv
from experiments.curves import NARROW
from softmax_lab.plotting import COLORS

__all__ = [
    "TARGET",
    "cost_picture",
    "cost_table",
    "formula_table",
    "measured_network",
    "measured_rates",
    "memory_table",
    "network_picture",
    "run_table",
    "shown",
    "training_picture",
]

#: ten million classes on 64 workers: 1,024 rows of 512 numbers a step
TARGET = lv.Problem(classes=10_000_000, workers=64, rows=1024, width=512)
LOOK = {
    "products": "blue",
    "loss": "green",
    "optimizer": "sky",
    "row numbers": "orange",
    "hidden gradient": "vermillion",
}


def records(processes: int, dtype: str = "float32") -> list[lv.Record]:
    """Return the stored steps of one run."""
    return [r for r in lv.read(lv.TRAINING, lv.Record) if (r.processes, r.dtype) == (processes, dtype)]


def run_table() -> pd.DataFrame:
    """Return a row a run: its last loss, time and memory.

    A column says how far its losses are from those of one process.
    """
    rows = []
    for dtype in ("float32", "float64"):
        for processes in (1, 2):
            run = records(processes, dtype)
            rows.append(
                {
                    "type": dtype,
                    "processes": processes,
                    "steps": len(run),
                    "first loss": run[0].loss,
                    "last loss": run[-1].loss,
                    "largest relative difference": lv.largest_difference(records(1, dtype), run),
                    "ms a step": 1e3 * float(np.median([r.seconds for r in run])),
                    "peak MB a process": run[-1].peak_mb,
                    "all-reduces a step": run[-1].calls,
                    "kB reduced a step": run[-1].kilobytes,
                    "ms in them": 1e3 * float(np.median([r.waited for r in run])),
                }
            )
    return pd.DataFrame(rows).set_index(["type", "processes"])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return `run_table` as text, to be read: a column a run."""
    formats = {
        "steps": ",.0f",
        "first loss": ".3f",
        "last loss": ".3f",
        "largest relative difference": ".0e",
        "all-reduces a step": ".0f",
    }
    text = {
        name: [f"{value:{formats.get(name, ',.1f')}}" if value else "0" for value in table[name]]
        for name in table
    }
    return pd.DataFrame(text, index=table.index).T


def measured_network(processes: int = 2) -> lv.Network:
    """Return latency and time a byte fitted to the stored all-reduces of so many processes.

    Two processes had a core each. Four took turns on two cores, which says more about the cores than about
    messages.
    """
    return lv.fit_network([m for m in lv.read(lv.ALL_REDUCE, lv.Reduced) if m.processes == processes])


def measured_rates() -> lv.Rates:
    """Return the stored rates of a core."""
    (rates,) = lv.read(lv.RATES, lv.Rates)
    return lv.Rates(*rates)


def formula_table() -> pd.DataFrame:
    """Return the stored whole steps beside what the formula says of them."""
    rates = measured_rates()
    rows = []
    for step in lv.read(lv.STEPS, lv.Step):
        network = measured_network(step.processes) if step.processes > 1 else lv.Network(0.0, 0.0)
        said = sum(lv.step_seconds(step.problem, rates, network).values())
        place = {"processes": step.processes, "classes": step.classes}
        rows.append(
            place
            | {
                "measured (ms)": 1e3 * step.seconds,
                "formula (ms)": 1e3 * said,
                "measured / formula": step.seconds / said,
            }
        )
    return pd.DataFrame(rows).set_index(["processes", "classes"])


def cost_table(problem: lv.Problem = TARGET, workers: Sequence[int] = (1, 8, 64, 512)) -> pd.DataFrame:
    """Return the seconds of a step by part, a column a number of workers.

    They follow from the measured rates and network.
    """
    rates, network = measured_rates(), measured_network()
    parts = {p: lv.step_seconds(replace(problem, workers=p), rates, network) for p in workers}
    table = pd.DataFrame(parts).rename_axis(index="seconds a step", columns="workers")
    table.loc["whole step"] = table.sum()
    return table


def memory_table(problem: lv.Problem = TARGET) -> pd.DataFrame:
    """Return megabytes of one worker by part: the problem's workers, and one that holds all classes."""
    parts = {
        f"{p} workers" if p > 1 else "one": lv.worker_bytes(replace(problem, workers=p))
        for p in (problem.workers, 1)
    }
    table = pd.DataFrame(parts) / 1e6
    table.loc["sum"] = table.sum()
    return table


# ---- pictures ----


def training_picture() -> Figure:
    """Draw the losses of both runs, and below how far apart they are."""
    figure = Figure(figsize=(NARROW, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    one, two = records(1), records(2)
    upper.plot([r.loss for r in one], color=COLORS["blue"], linewidth=4, alpha=0.45, label="one process")
    upper.plot(
        [r.loss for r in two],
        color=COLORS["vermillion"],
        linewidth=1.2,
        linestyle="--",
        label="two processes",
    )
    upper.axhline(
        lv.floor(lv.Setting.vocabulary), color="black", linestyle=":", linewidth=1, label="law of the text"
    )
    upper.set_ylabel("loss (nats a token)")
    upper.legend()
    for dtype, color in (("float32", "green"), ("float64", "purple")):
        pair = zip(records(1, dtype), records(2, dtype), strict=True)
        lower.plot(
            [max(abs(a.loss - b.loss) / a.loss, 1e-17) for a, b in pair],
            ".",
            color=COLORS[color],
            markersize=3,
            label=dtype,
        )
    lower.set_yscale("log")
    lower.set_ylabel("relative difference")
    lower.set_xlabel("step")
    lower.legend()
    return figure


def network_picture() -> Figure:
    """Draw the time of an all-reduce over its size, and the fit."""
    figure = Figure(figsize=(NARROW, 3.6), layout="constrained")
    axis = figure.subplots()
    measured = lv.read(lv.ALL_REDUCE, lv.Reduced)
    for processes, color, marker in zip(
        dict.fromkeys(m.processes for m in measured), ("blue", "vermillion"), "os", strict=False
    ):
        own = [m for m in measured if m.processes == processes]
        network = measured_network(processes)
        hops = 2 * (processes - 1)
        fitted = [1e6 * hops * (network.latency + m.bytes / processes * network.a_byte) for m in own]
        axis.plot(
            [m.bytes for m in own],
            [m.microseconds for m in own],
            marker,
            color=COLORS[color],
            label=f"{processes} processes",
        )
        axis.plot([m.bytes for m in own], fitted, "-", color=COLORS[color], linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("message (bytes)")
    axis.set_ylabel("time of an all-reduce (µs)")
    axis.legend()
    return figure


def cost_picture(problem: lv.Problem = TARGET) -> Figure:
    """Draw the formula's parts over the number of workers, and the measured steps beside the formula."""
    figure = Figure(figsize=(NARROW, 7.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 3))
    workers = [1 << p for p in range(11)]
    table = cost_table(problem, workers)
    for part, color in LOOK.items():
        own = table.loc[part]
        upper.plot(own.index[own > 0], own[own > 0], color=COLORS[color], label=part)
    upper.plot(workers, table.loc["whole step"], color="black", linewidth=2.4, label="whole step")
    upper.axvline(problem.workers, color="black", linestyle=":", linewidth=1)
    upper.set_xscale("log", base=2)
    upper.set_yscale("log")
    upper.set_xlabel("workers")
    upper.set_ylabel("seconds a step")
    upper.legend()
    held = formula_table().reset_index()
    for processes, marker, color in ((1, "o", "blue"), (2, "s", "vermillion")):
        own = held[held["processes"] == processes]
        lower.plot(
            own["formula (ms)"],
            own["measured (ms)"],
            marker,
            color=COLORS[color],
            label=f"{processes} process{'es'[: 2 * (processes > 1)]}",
        )
    ends = [held["formula (ms)"].min() / 1.5, held["measured (ms)"].max() * 1.5]
    lower.plot(ends, ends, color="black", linewidth=1, linestyle=":")
    lower.set_xscale("log")
    lower.set_yscale("log")
    lower.set_xlabel("formula (ms)")
    lower.set_ylabel("measured (ms)")
    lower.legend()
    return figure
