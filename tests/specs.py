"""Specs that between them switch on every field of the family, alone and together, for K classes."""

from __future__ import annotations

import numpy as np

from softmax_lab import LossSpec

K = 6


def _per_class(seed: int, low: float, high: float) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).uniform(low, high, K))


def _prior() -> np.ndarray:
    weights = np.arange(1.0, K + 1)
    return np.asarray(weights / weights.sum())


INDEX_SPECS: dict[str, LossSpec] = {
    "plain": LossSpec(),
    "temperature": LossSpec(temperature=0.3),
    "scale": LossSpec(scale=1.7),
    "scale per class": LossSpec(scale=_per_class(0, 0.2, 2.0)),
    "bias": LossSpec(bias=_per_class(1, -3, 1)),
    "bias matrix": LossSpec(bias=np.random.default_rng(2).normal(size=(K, K))),
    "margin": LossSpec(margin=0.4, temperature=1 / 30),
    "margin per class": LossSpec(margin=_per_class(3, 0.0, 1.0)),
    "smoothing": LossSpec(smoothing=0.1),
    "smoothing per class": LossSpec(smoothing=_per_class(4, 0.0, 0.6)),
    "prior": LossSpec(smoothing=0.2, prior=_prior()),
    "class weight": LossSpec(class_weight=_per_class(5, 0.1, 4.0)),
    "gate": LossSpec(class_weight=_per_class(6, 1.0, 50.0), gate=4.0),
    "focal": LossSpec(gamma=2.0),
    "focal below one": LossSpec(gamma=0.5),
    "z-loss": LossSpec(z_loss=1e-2),
    "soft cap": LossSpec(softcap=5.0),
    "poly": LossSpec(poly=2.0),
    "poly at its end": LossSpec(poly=-1.0),
    "poly, focal and smoothed": LossSpec(poly=-1.0, gamma=2.0, smoothing=0.1),
    "everything": LossSpec(
        temperature=0.7,
        scale=_per_class(7, 0.5, 1.5),
        bias=_per_class(8, -2, 0),
        margin=_per_class(9, 0, 0.5),
        smoothing=_per_class(10, 0.0, 0.3),
        prior=_prior(),
        class_weight=_per_class(11, 0.5, 3.0),
        gate=1.5,
        gamma=1.5,
        z_loss=1e-3,
        softcap=20.0,
        poly=0.5,
    ),
}

#: those that also make sense for a distribution as the target
SOFT_SPECS = {name: spec for name, spec in INDEX_SPECS.items() if not spec.needs_class_index}
