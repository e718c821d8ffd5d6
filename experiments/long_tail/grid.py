"""What is run: the settings of every loss, the choice among them, and the studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from .config import Config

__all__ = ["FINAL_SEEDS", "GRIDS", "STUDIES", "TUNING_SEEDS", "chosen"]


RHOS = (1.0, 10.0, 100.0, 200.0)
TUNING_SEEDS, FINAL_SEEDS = (100, 101), (0, 1, 2, 3, 4)  # never the same: the final ones are touched once
Settings = tuple[tuple[str, float], ...]


def _settings(**values: Sequence[float]) -> list[Settings]:
    """Return one setting for each place of the sequences."""
    return [tuple(sorted(zip(values, each, strict=True))) for each in zip(*values.values(), strict=True)]


#: four settings for every loss that has a hyper-parameter, and the empty one for those that have none
GRIDS: dict[str, list[Settings]] = {
    "plain": [()],
    "weighted": _settings(power=(0.25, 0.5, 0.75, 1.0)),
    "class_balanced": _settings(beta=(0.9, 0.99, 0.999, 0.9999)),
    "label_smoothing": _settings(eps=(0.02, 0.05, 0.1, 0.2)),
    "label_aware_smoothing": _settings(head=(0.1, 0.2, 0.3, 0.4), tail=(0.0, 0.0, 0.05, 0.1)),
    "focal": _settings(gamma=(0.5, 1.0, 2.0, 3.0)),
    "ldam": _settings(max_margin=(0.1, 0.3, 0.5, 0.8)),
    "balanced_softmax": [()],
    "logit_adjusted": _settings(tau=(0.5, 0.75, 1.25, 1.5)),
    "cdt": _settings(gamma=(0.05, 0.1, 0.2, 0.3)),
    "vs": _settings(gamma=(0.05, 0.15, 0.05, 0.15), tau=(1.0, 1.0, 1.25, 1.25)),
    "seesaw": _settings(p=(0.4, 0.8, 1.0, 1.2)),
    "equalization": _settings(drop=(0.5, 0.8, 0.9, 0.95)),
    "plain_drw": _settings(beta=(0.999, 0.9999, 0.999, 0.9999), start=(0.6, 0.6, 0.8, 0.8)),
    "ldam_drw": _settings(max_margin=(0.1, 0.3, 0.5, 0.8)),
    "balanced_softmax_drw": _settings(beta=(0.999, 0.9999, 0.999, 0.9999), start=(0.6, 0.6, 0.8, 0.8)),
    "seesaw_online": _settings(p=(0.4, 0.8, 0.4, 0.8), q=(1.0, 1.0, 2.0, 2.0)),
    "gradient_balanced": _settings(tau=(1.0, 1.1, 1.1, 1.1), gate=(4.0, 4.0, 2.0, 8.0)),
    "gradient_balanced_smoothed": _settings(eps=(0.02, 0.05, 0.1, 0.2)),
    "gradient_balanced_gathered": [()],
    "gradient_balanced_steered": _settings(rate=(0.1, 0.25, 0.5, 1.0)),
}
#: of ours, each part by itself about the values that the loss has by default
VARIED: dict[str, tuple[float, ...]] = {
    "tau": (0.8, 1.0, 1.1, 1.25, 1.5),
    "strength": (0.0, 0.5, 1.5),
    "gate": (0.0, 1.0, 2.0, 8.0),
    "eps": (0.02, 0.05, 0.1),
}


def tune(base: Config) -> list[Config]:
    """Return every setting of a loss that has a choice, on the tuning seeds."""
    settings = GRIDS[base.loss]
    return (
        [replace(base, part="tune", settings=s, seed=seed) for s in settings for seed in TUNING_SEEDS]
        if len(settings) > 1
        else []
    )


def final(base: Config, rows: Iterable[dict[str, str]]) -> list[Config]:
    """Return the chosen setting on the final seeds."""
    return [replace(base, settings=chosen(base, rows), seed=seed) for seed in FINAL_SEEDS]


def chosen(base: Config, rows: Iterable[dict[str, str]]) -> Settings:
    """Return the setting with the best mean balanced accuracy on the tuning rows; of equals the first.

    Raises
    ------
    ValueError
        Where a tuning run is missing: a choice from some of them would depend on which came first.
    """
    options = GRIDS[base.loss]
    if len(options) == 1:
        return options[0]
    by_key = {row["key"]: float(row["balanced_accuracy"]) for row in rows}
    # the further studies use what was chosen without them
    clean = replace(base, noise=0.0, absent=0, permuted=False)
    wanted = tune(clean)
    missing = sum(config.key not in by_key for config in wanted)
    if missing:
        raise ValueError(
            f"{base.loss} at rho {base.rho:g} has {missing} of {len(wanted)} tuning runs to do: run the "
            f"part tune first"
        )
    score = {
        option: float(np.mean([by_key[c.key] for c in wanted if c.settings == option])) for option in options
    }
    return max(options, key=score.__getitem__)


def ablation(base: Config) -> list[Config]:
    """Return the settings of `VARIED`, for our loss alone."""
    settings = (
        [((name, value),) for name, values in VARIED.items() for value in values]
        if base.loss == "gradient_balanced"
        else []
    )
    return [replace(base, settings=each, seed=seed) for each in settings for seed in FINAL_SEEDS]


STUDIES: dict[str, Callable[[Config, list[dict[str, str]]], list[Config]]] = {
    "tune": lambda base, rows: tune(base),
    "final": final,
    "noise": lambda base, rows: [
        c for share in (0.1, 0.2, 0.4) for c in final(replace(base, noise=share), rows)
    ],
    "absent": lambda base, rows: final(replace(base, absent=1), rows),
    "permuted": lambda base, rows: final(replace(base, permuted=True), rows),
    "ablation": lambda base, rows: ablation(base),
}
