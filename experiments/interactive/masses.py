"""The gradient mass of every class along a training run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .panels import make_axis, make_bars, make_line, make_panel, make_point, visible
from .picture import Change, Control, Interactive

__all__ = ["film"]


def film(films: dict[str, pd.DataFrame], positions: int = 41, early: int = 100) -> Interactive:
    """The gradient mass of each class along a training run: up and down, and their ratio, loss by loss.

    ``films`` are the tables of ``GradientMonitor.frame()`` by loss, over the same steps. The film opens at
    the step that is nearest to ``early``: the classes are furthest from balance early in training.
    """
    losses, first = tuple(films), next(iter(films.values()))
    steps = np.unique(first["step"])
    steps = np.unique(steps[np.round(np.geomspace(1, len(steps), positions)).astype(int) - 1])
    classes = [str(c) for c in np.unique(first["class"])]
    grids = {
        loss: {
            name: table.pivot(index="step", columns="class", values=name).loc[steps].to_numpy()
            for name in ("positive_mass", "negative_mass")
        }
        for loss, table in films.items()
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {loss: masses["positive_mass"] / masses["negative_mass"] for loss, masses in grids.items()}
    largest = max(float(np.nanmax(part)) for masses in grids.values() for part in masses.values())
    category = make_axis("class, the most frequent first", type="category")
    panels = (
        make_panel(
            "gradient mass of each class",
            [make_bars(classes, [], "blue", "pull up"), make_bars(classes, [], "orange", "push down")],
            x=category,
            y=make_axis("mass", low=1e-3, high=10.0 ** np.ceil(np.log10(largest)), log=True),
            legend=True,
        ),
        make_panel(
            "pull up / push down",
            [make_point(classes, []), make_line([classes[0], classes[-1]], [1, 1], "grey", width=1.0)],
            x=category,
            y=make_axis("ratio", low=0.02, high=50.0, log=True),
        ),
    )
    by = ("loss", "step")
    every = [(loss, i) for loss in losses for i in range(len(steps))]
    changes = (
        Change(0, 0, "y", by, tuple(visible(grids[loss]["positive_mass"][i]) for loss, i in every)),
        Change(0, 1, "y", by, tuple(visible(grids[loss]["negative_mass"][i]) for loss, i in every)),
        Change(1, 0, "y", by, tuple(visible(ratio[loss][i]) for loss, i in every)),
    )
    said = tuple(
        f"{loss}, step {steps[i]}: pull over push {ratio[loss][i][0]:.2g} for the most frequent class, "
        f"{ratio[loss][i][-1]:.2g} for the rarest"
        for loss, i in every
    )
    controls = (
        Control("loss", "loss", losses, choice=True),
        Control(
            "step", "training step", tuple(str(step) for step in steps), int(np.abs(steps - early).argmin())
        ),
    )
    alt = (
        f"Two panels over the classes from the most frequent to the rarest, early in training with the loss "
        f"{losses[0]}: "
        "bars of the mass that pulls logits up and of the mass that pushes them down, and their ratio."
    )
    caption = (
        "Gradient mass of each class at a step of training: what its own rows pull its logit up by, what "
        "the other rows push it down by, "
        "and the ratio of the two, 1 (the line) in balance. Moving averages over the steps; a class without "
        "rows so far has no pull."
    )
    return Interactive(panels, controls, changes, said, alt, caption)
