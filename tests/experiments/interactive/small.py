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
    "precision": lambda: interactive.precision(9, ("softmax_lab", "numpy")),
    "film": lambda: interactive.film(films(), positions=4),
}
