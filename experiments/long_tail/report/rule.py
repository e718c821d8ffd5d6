"""What the balancing rule does: the gate, and the decisions that smoothing moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import softmax_lab as sl
from experiments.curves import NARROW
from softmax_lab.plotting import COLORS

__all__ = ["gate_picture", "moved_decisions"]


def gate_picture(ratio: float = 100.0, gates: Iterable[float] = (0.0, 1.0, 2.0, 4.0, 8.0)) -> Figure:
    """Draw the row weight of the rarest class over its probability, a line a gate."""
    q = np.linspace(0.0, 1.0, 201)
    figure = Figure(figsize=(NARROW, 3.4), layout="constrained")
    axis = figure.subplots()
    for gate, color, line in zip(
        gates, ("grey", "sky", "green", "blue", "vermillion"), ("--", "-", "-", "-", "-"), strict=False
    ):
        weight = sl.balance.gated_weight(ratio, q, gate)
        axis.plot(q, weight, line, color=COLORS[color], label="no gate" if gate == 0 else f"g = {gate:g}")
    axis.set(
        xlabel="probability of the label, $q_y$",
        ylabel="row weight w",
        yscale="log",
        title=f"$W = n_{{max}}/n_y = {ratio:g}$",
    )
    axis.legend()
    return figure


def moved_decisions(
    counts: Any, eps: float, *, rows: int = 20_000, seed: int = 0, tau: float = 1.0
) -> pd.Series:
    """Return the share of decisions that smoothing moves, uniform and neutral.

    The class probabilities are drawn at random.

    Rows have P from a Dirichlet law; the minimiser of the smoothed loss is known
    (:func:`softmax_lab.balance.neutral_smoothing`), and what it decides is compared with the argmax of P over
    the prior to the power tau.
    """
    n = np.asarray(counts, dtype=float)
    bias = tau * np.log(n / n.sum())
    p = np.random.default_rng(seed).dirichlet(np.full(len(n), 0.3) * n / n.mean(), rows)
    fair = (np.log(np.maximum(p, 1e-300)) - bias).argmax(axis=1)
    by_class = eps * np.sqrt(n / n.max())
    ways: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {
        "uniform": (np.full(len(n), eps), bias, np.full(len(n), 1 / len(n))),
        "uniform, eps per class": (by_class, bias, np.full(len(n), 1 / len(n))),
    }
    for name, smoothing in (("neutral", np.full(len(n), eps)), ("neutral, eps per class", by_class)):
        ways[name] = (smoothing, *sl.balance.neutral_smoothing(bias, smoothing))
    moved = {}
    for name, (smoothing, shift, r) in ways.items():
        q = (1 - smoothing) * p + (p @ smoothing)[:, None] * r
        moved[name] = float(np.mean((np.log(np.maximum(q, 1e-300)) - shift).argmax(axis=1) != fair))
    return pd.Series(moved, name="decisions moved")
