"""What is run: the settings of every loss, the choice among them, and the studies.

Every loss that has a hyper-parameter gets six settings. One of them, its default, is named in advance: it is
what the package gives, which is what the loss's paper gives where that names a value. (Ours has no paper: its
default comes from earlier trials on such data, which is an advantage.) The settings of ours are as far apart
as those of logit adjustment, over the same tau.

Three results are told of a loss: with the setting that the held-out rows choose, with the best of all
settings on the test rows (the *oracle*, which nobody could have chosen), and with its default everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from .config import Config

__all__ = ["CORE", "DEFAULTS", "FINAL_SEEDS", "GATE", "GRIDS", "STUDIES", "TUNING_SEEDS", "chosen"]


RHOS = (1.0, 10.0, 100.0)
#: by family of data sets; never the same: no choice looks at the test rows of a final seed's own draw
TUNING_SEEDS: dict[str, tuple[int, ...]] = {"digits": tuple(range(100, 110)), "cifar": (100, 101)}
FINAL_SEEDS: dict[str, tuple[int, ...]] = {"digits": tuple(range(20)), "cifar": (0, 1, 2, 3, 4)}
#: what is run first: each way of correcting for a tail once
CORE = (
    *("plain", "logit_adjusted", "gradient_balanced", "weighted", "class_balanced"),
    *("label_aware_smoothing", "focal", "ldam", "vs", "seesaw"),
)
Settings = tuple[tuple[str, float], ...]


def _settings(**values: Sequence[float]) -> list[Settings]:
    """Return one setting for each place of the sequences."""
    return [tuple(sorted(zip(values, each, strict=True))) for each in zip(*values.values(), strict=True)]


_TAU = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_OUR_TAU = (0.5, 0.75, 1.1, 1.25, 1.5, 2.0)
_DEFERRED = {
    "beta": (0.999, 0.999, 0.999, 0.9999, 0.9999, 0.9999),
    "start": (0.6, 0.8, 0.9, 0.6, 0.8, 0.9),
}
#: six settings for every loss that has a hyper-parameter, and the empty one for plain cross-entropy
GRIDS: dict[str, list[Settings]] = {
    "plain": [()],
    "weighted": _settings(power=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5)),
    "class_balanced": _settings(beta=(0.9, 0.97, 0.99, 0.997, 0.999, 0.9999)),
    "label_smoothing": _settings(eps=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "label_aware_smoothing": _settings(
        head=(0.1, 0.2, 0.3, 0.4, 0.4, 0.5), tail=(0.0, 0.0, 0.0, 0.0, 0.1, 0.1)
    ),
    "focal": _settings(gamma=(0.5, 1.0, 1.5, 2.0, 3.0, 5.0)),
    "ldam": _settings(max_margin=(0.1, 0.2, 0.3, 0.5, 0.8, 1.2)),
    "logit_adjusted": _settings(tau=_TAU),  # Balanced Softmax is tau = 1
    "cdt": _settings(gamma=(0.05, 0.1, 0.15, 0.2, 0.3, 0.4)),
    "vs": _settings(gamma=(0.15, 0.05, 0.15, 0.3, 0.15, 0.15), tau=(0.75, 1.0, 1.0, 1.0, 1.25, 1.5)),
    "seesaw": _settings(p=(0.4, 0.6, 0.8, 1.0, 1.2, 1.6)),
    "equalization": _settings(drop=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
    "plain_drw": _settings(**_DEFERRED),
    "ldam_drw": _settings(max_margin=(0.1, 0.2, 0.3, 0.5, 0.8, 1.2)),
    "balanced_softmax_drw": _settings(**_DEFERRED),
    "seesaw_online": _settings(p=(0.4, 0.8, 1.2, 0.4, 0.8, 1.2), q=(1.0, 1.0, 1.0, 2.0, 2.0, 2.0)),
    "gradient_balanced": _settings(tau=_OUR_TAU, gate=(4.0,) * 6),
    "gradient_balanced_smoothed": _settings(eps=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "gradient_balanced_gathered": _settings(tau=_OUR_TAU),
    "gradient_balanced_steered": _settings(rate=(0.05, 0.1, 0.25, 0.5, 0.75, 1.0)),
}
#: the setting that is named in advance
DEFAULTS: dict[str, Settings] = {
    "plain": (),
    "weighted": (("power", 1.0),),
    "class_balanced": (("beta", 0.999),),
    "label_smoothing": (("eps", 0.1),),
    "label_aware_smoothing": (("head", 0.4), ("tail", 0.1)),
    "focal": (("gamma", 2.0),),
    "ldam": (("max_margin", 0.5),),
    "logit_adjusted": (("tau", 1.0),),
    "cdt": (("gamma", 0.2),),
    "vs": (("gamma", 0.3), ("tau", 1.0)),
    "seesaw": (("p", 0.8),),
    "equalization": (("drop", 0.9),),
    "plain_drw": (("beta", 0.9999), ("start", 0.8)),
    "ldam_drw": (("max_margin", 0.5),),
    "balanced_softmax_drw": (("beta", 0.9999), ("start", 0.8)),
    "seesaw_online": (("p", 0.8), ("q", 2.0)),
    "gradient_balanced": (("gate", 4.0), ("tau", 1.1)),
    "gradient_balanced_smoothed": (("eps", 0.05),),
    "gradient_balanced_gathered": (("tau", 1.1),),
    "gradient_balanced_steered": (("rate", 0.5),),
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
    settings, seeds = GRIDS[base.loss], TUNING_SEEDS[base.family]
    return (
        [replace(base, part="tune", settings=s, seed=seed) for s in settings for seed in seeds]
        if len(settings) > 1
        else []
    )


def every(base: Config) -> list[Config]:
    """Return every setting of a loss on the final seeds: what the oracle chooses from."""
    return [
        replace(base, settings=settings, seed=seed)
        for settings in GRIDS[base.loss]
        for seed in FINAL_SEEDS[base.family]
    ]


def default(base: Config) -> list[Config]:
    """Return the setting that is named in advance, on the final seeds."""
    return [replace(base, settings=DEFAULTS[base.loss], seed=seed) for seed in FINAL_SEEDS[base.family]]


def final(base: Config, rows: Iterable[dict[str, str]]) -> list[Config]:
    """Return the chosen setting on the final seeds."""
    settings = chosen(base, rows)
    return [replace(base, settings=settings, seed=seed) for seed in FINAL_SEEDS[base.family]]


def chosen(base: Config, rows: Iterable[dict[str, str]]) -> Settings:
    """Return the setting with the best mean balanced accuracy on the held-out rows.

    Of equals (to four digits) it is the default where that is among them, and else the first.


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
        option: round(float(np.mean([by_key[c.key] for c in wanted if c.settings == option])), 4)
        for option in options
    }
    return max(options, key=lambda option: (score[option], option == DEFAULTS[base.loss]))


def ablation(base: Config) -> list[Config]:
    """Return the settings of `VARIED`, for our loss alone."""
    settings = (
        [((name, value),) for name, values in VARIED.items() for value in values]
        if base.loss == "gradient_balanced"
        else []
    )
    return [replace(base, settings=each, seed=seed) for each in settings for seed in FINAL_SEEDS[base.family]]


#: of the study of the gate, by loss: what all its runs share, and tau; what the grid has too is run once
_TAUS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
GATE: dict[str, tuple[Settings, tuple[float, ...]]] = {
    "logit_adjusted": ((), _TAUS),
    "gradient_balanced": ((("gate", 4.0),), tuple(sorted({*_TAUS, *_OUR_TAU}))),
    "logit_adjusted_margin": ((), _TAUS),
    "gradient_balanced_summed": ((("gate", 4.0),), _TAUS),
}


def gate(base: Config) -> list[Config]:
    """Return four losses over tau, for the name of ours alone.

    They are logit adjustment, ours (strength 1), logit adjustment with ``tau + 1`` on the side of the label,
    and ours with a sum in place of the mean.
    """
    if base.loss != "gradient_balanced":
        return []
    return [
        replace(base, loss=loss, settings=(*own, ("tau", tau)), seed=seed)
        for loss, (own, taus) in GATE.items()
        for tau in taus
        for seed in FINAL_SEEDS[base.family]
    ]


STUDIES: dict[str, Callable[[Config, list[dict[str, str]]], list[Config]]] = {
    "whole": lambda base, rows: [*tune(base), *every(base)],
    "tune": lambda base, rows: tune(base),
    "default": lambda base, rows: default(base),
    "final": final,
    "noise": lambda base, rows: [
        c for share in (0.1, 0.2, 0.4) for c in final(replace(base, noise=share), rows)
    ],
    "absent": lambda base, rows: final(replace(base, absent=1), rows),
    "permuted": lambda base, rows: final(replace(base, permuted=True), rows),
    "ablation": lambda base, rows: ablation(base),
    "gate": lambda base, rows: gate(base),
}
