"""The film of one run: the pull up and the push down of every class, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

import softmax_lab.torch as slt
from experiments.curves import NARROW
from experiments.long_tail import Config, make_problem, train
from softmax_lab.plotting import DIVERGING

__all__ = ["early_ratio", "film", "film_picture"]


def film(
    losses: Sequence[str],
    *,
    dataset: str = "digits",
    protocol: str = "mlp",
    rho: float = 100.0,
    seed: int = 0,
    epochs: int = 0,
    every: int = 10,
    data: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Train with each loss while a monitor watches; return the monitors' tables, by loss."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)  # more would spend their time on finding each other
    try:
        for loss in losses:
            found[loss] = _watched(
                Config(dataset=dataset, protocol=protocol, rho=rho, loss=loss, seed=seed, epochs=epochs),
                every,
                data,
            )
    finally:
        torch.set_num_threads(threads)
    return found


def _watched(config: Config, every: int, data: str | None) -> pd.DataFrame:
    """Train while a monitor watches; return its table."""
    seen: list[slt.GradientMonitor] = []

    def watch(network: Any, module: Any) -> None:
        seen.append(slt.GradientMonitor(module, classifier=network[-1], momentum=0.8, every=every))

    train(config, make_problem(config, data), watch=watch)
    seen[0].close()
    return seen[0].frame()


def early_ratio(table: pd.DataFrame, classes: Sequence[int], steps: int = 300) -> float:
    """Return positive over negative mass of some classes in the first steps of a film."""
    part = table[(table["step"] <= steps) & table["class"].isin(classes)]
    return float(part["positive_mass"].sum() / part["negative_mass"].sum())


def film_picture(
    films: dict[str, pd.DataFrame], *, names: Callable[[str], str] = str, limit: float = 10.0
) -> Figure:
    """Draw positive over negative mass, a panel a loss.

    Classes go down, from the most frequent, and steps to the right.
    """
    figure = Figure(figsize=(NARROW, 1.6 + 1.5 * len(films)), layout="constrained")
    panels = figure.subplots(len(films), 1, sharex=True, squeeze=False)[:, 0]
    norm = TwoSlopeNorm(0.0, -np.log10(limit), np.log10(limit))
    for axis, (loss, table) in zip(panels, films.items(), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log10(table["positive_mass"] / table["negative_mass"])
        grid = table.assign(ratio=ratio).pivot(index="class", columns="step", values="ratio")
        mesh = axis.pcolormesh(
            grid.columns,
            grid.index,
            grid.to_numpy(),
            cmap=DIVERGING,
            norm=norm,
            shading="nearest",
            rasterized=True,
        )
        axis.set_facecolor("0.8")
        axis.set(
            title=names(loss), ylabel="class", yticks=range(0, len(grid.index), max(1, len(grid.index) // 5))
        )
        axis.invert_yaxis()
        axis.grid(False)
    panels[-1].set_xlabel("training step")
    bar = figure.colorbar(
        mesh, ax=panels, location="bottom", aspect=40, label="pull up / push down", extend="both"
    )
    ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
    bar.set_ticks(ticks, labels=[f"{10**t:.2g}" for t in ticks])
    return figure
