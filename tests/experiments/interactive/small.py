"""The pictures, made small."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments import interactive


def films() -> dict[str, pd.DataFrame]:
    step, label = (part.ravel() for part in np.meshgrid(np.arange(1, 6), np.arange(3), indexing="ij"))
    table = pd.DataFrame(
        {"step": step, "class": label, "positive_mass": 1.0 + label, "negative_mass": 1.0 * step}
    )
    return {"plain": table, "other": table.assign(negative_mass=0.0)}


PICTURES = {
    "three": lambda: interactive.three_classes((-1.0, 0.0, 1.0, 2.0, 3.0), grid=4),
    "temperature": lambda: interactive.temperature(positions=7),
    "precision": lambda: interactive.precision((0, 20, 40), ("softmax_lab", "numpy")),
    "film": lambda: interactive.film(films(), positions=4, early=2),
    "saturation": lambda: interactive.saturation(factors=(0.0, 1.0, 4.0)),
    "two": lambda: interactive.two_classes((-1.0, 0.0, 2.0)),
    "lost": lambda: interactive.lost_component((0.0, 20.0)),
}
#: those that show the triangle, and on which panel
TRIANGLES = {"three": 3, "saturation": 1, "temperature": 1, "two": 1}
