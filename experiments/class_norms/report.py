r"""What chapter 7 shows of the rows: how the norms of a set's classes compare, along training.

Two comparisons, both as a ratio of head to tail:

- `ratios`: the most frequent class over the rarest. Each is a single class, easy or hard.
- `trends`: a line through all classes. If a norm goes with the count to the power s, the trend is
  :math:`\rho^s`; s is fitted by least squares to the logarithms. A norm that is the same for all has the
  trend 1, one that goes with the count has :math:`\rho`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.curves import NARROW
from experiments.differences import Difference, difference
from softmax_lab.plotting import COLORS

__all__ = ["NORMS", "over_rho", "picture", "ratios", "table", "trends"]

NORMS = ("sum", "mean", "sample")
LAYERS = ("logit", "weight")
RUN = ["dataset", "rho", "seed", "step"]
_LOOK = {
    "sum": ("vermillion", "-", "o"),
    "mean": ("sky", "-", "s"),
    "sample": ("blue", "--", "^"),
}
NAMES = {"sum": "sum", "mean": "mean", "sample": "per-sample"}


def _columns() -> list[str]:
    return [f"{layer}_{norm}" for layer in LAYERS for norm in NORMS]


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each norm of the most frequent class over that of the rarest, a row a run and step."""
    ordered = rows.sort_values("class").groupby(RUN)[_columns()]
    return ordered.first() / ordered.last()


def trends(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each norm's trend from the rarest count to the most frequent, a row a run and step."""
    found = {}
    for place, part in rows.groupby(RUN):
        count = part["count"].to_numpy(float)
        x = np.log(count / count.min()) / np.log(count.max() / count.min())
        slopes = np.polyfit(x, np.log(part[_columns()].to_numpy(float)), 1)[0]
        found[place] = np.exp(slopes)
    return pd.DataFrame.from_dict(found, orient="index", columns=_columns()).set_axis(
        pd.MultiIndex.from_tuples(list(found), names=RUN), axis="index"
    )


def over_rho(compared: pd.DataFrame, dataset: str, step: int, norm: str, *, together: int = 1) -> Difference:
    """Return the logarithm of a comparison at a step, over the seeds, with its interval."""
    here = compared.xs((dataset, step), level=("dataset", "step"))[norm]
    return difference(np.log(here), together=together)


def last_step(rows: pd.DataFrame, dataset: str) -> int:
    """Return the step at which training of a set ended."""
    return int(rows.loc[rows["dataset"] == dataset, "step"].max())


def table(compared: pd.DataFrame, steps: dict[str, list[int]]) -> pd.DataFrame:
    """Return the comparison at some steps of each set: geometric mean, and the smallest and largest seed."""
    lines = {
        (dataset, step): compared.xs((dataset, step), level=("dataset", "step")).agg(_spread)
        for dataset, wanted in steps.items()
        for step in wanted
    }
    found = pd.DataFrame(lines).T.rename_axis(["set", "step"])
    found.columns = pd.MultiIndex.from_tuples(
        [(f"{name.split('_')[0]} gradient", NAMES[name.split("_")[1]]) for name in found.columns]
    )
    return found


def _spread(values: pd.Series) -> str:
    return f"{np.exp(np.log(values).mean()):.3g} ({values.min():.3g} to {values.max():.3g})"


def picture(compared: pd.DataFrame, names: dict[str, str]) -> Figure:
    """Draw a comparison along training: a row of panels a layer, a column a set.

    Lines are geometric means over the seeds; bands reach from the smallest seed to the largest.
    """
    figure = Figure(figsize=(NARROW, 5.6), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
    for column, (dataset, name) in enumerate(names.items()):
        part = compared.xs(dataset, level="dataset")
        rho = float(part.index.get_level_values("rho")[0])
        for row, layer in enumerate(LAYERS):
            axis = panels[row, column]
            for norm, (color, line, marker) in _LOOK.items():
                by_step = part[f"{layer}_{norm}"].droplevel("rho").unstack("seed")
                axis.plot(
                    by_step.index,
                    np.exp(np.log(by_step).mean(axis=1)),
                    line,
                    color=COLORS[color],
                    marker=marker,
                    markersize=4,
                    label=NAMES[norm],
                )
                axis.fill_between(
                    by_step.index,
                    by_step.min(axis=1),
                    by_step.max(axis=1),
                    color=COLORS[color],
                    alpha=0.2,
                    linewidth=0,
                )
            for level in (1.0, rho):
                axis.axhline(level, color=COLORS["grey"], linewidth=1, linestyle=":")
            axis.set_xscale("symlog", linthresh=10, linscale=0.5)
            axis.set_xlim(0, None)
            axis.set_yscale("log")
            axis.set_title(f"{name}, {layer} gradient")
    for axis in panels[:, 0]:
        axis.set_ylabel("norm, head / tail")
    for axis in panels[-1]:
        axis.set_xlabel("training step")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_LOOK))
    return figure
