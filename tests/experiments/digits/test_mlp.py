"""The small network's gradient against finite differences.

Networks trained side by side are as networks trained alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import softmax_lab as sl
from experiments.digits import mlp

SPECS = {
    "plain": sl.LossSpec(),
    "temperature": sl.LossSpec(temperature=3.0),
    "balanced_softmax": sl.losses.balanced_softmax(np.arange(10, 0, -1)),
    "class_balanced": sl.losses.class_balanced(np.arange(10, 0, -1)),
}


def _targets(rng: np.random.Generator, soft: bool, rows: int = 7) -> NDArray[Any]:
    return rng.dirichlet(np.ones(10), size=rows) if soft else rng.integers(10, size=rows)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_gradient_matches_finite_differences(name: str, soft: bool) -> None:
    rng = np.random.default_rng(0)
    network = mlp.initial_network(seed=0, hidden=5, inputs=4)
    images, targets = rng.normal(size=(7, 4)), _targets(rng, soft)
    _, gradient = mlp.loss_and_gradient(network, images, targets, SPECS[name])
    for parameter, slope in zip(network, gradient, strict=True):
        for index in np.ndindex(parameter.shape):
            numeric = _central_difference(
                parameter, index, lambda: mlp.loss_and_gradient(network, images, targets, SPECS[name])[0]
            )
            assert slope[index] == pytest.approx(numeric, rel=1e-6, abs=1e-9)


def _central_difference(
    parameter: mlp.Array, index: tuple[int, ...], loss: Callable[[], float], step: float = 1e-5
) -> float:
    centre = parameter[index]
    values = []
    for shift in (step, -step):
        parameter[index] = centre + shift
        values.append(loss())
    parameter[index] = centre
    return float((values[0] - values[1]) / (2 * step))


@pytest.mark.parametrize(
    "spec",
    [sl.LossSpec(), sl.losses.gradient_balanced(np.arange(1, 11)), sl.losses.weighted(np.arange(1.0, 11.0))],
    ids=["plain", "gated", "weighted"],
)
def test_networks_side_by_side_do_not_mix(spec: sl.LossSpec) -> None:
    """Each is divided by the weight of its own rows."""
    rng = np.random.default_rng(0)
    alone = [mlp.initial_network(seed, hidden=5, inputs=4) for seed in range(3)]
    together = mlp.Network(*(np.stack(parts) for parts in zip(*alone, strict=True)))
    images, labels = rng.normal(size=(3, 7, 4)), rng.integers(10, size=(3, 7))
    value, gradient = mlp.loss_and_gradient(together, images, labels, spec)
    each = [
        mlp.loss_and_gradient(network, x, y, spec)
        for network, x, y in zip(alone, images, labels, strict=True)
    ]
    assert value == pytest.approx(sum(loss for loss, _ in each))
    for name in mlp.Network._fields:
        np.testing.assert_allclose(
            getattr(gradient, name), [getattr(g, name) for _, g in each], rtol=1e-12, atol=1e-15
        )


def test_momentum_and_learning_rates() -> None:
    """With a constant gradient of 1, the n-th step is -(1 + m + ... + m^{n-1}) times the rate.

    The rate is the parameter's own.
    """
    network = mlp.initial_network(seed=0, hidden=2, inputs=2)
    ones = mlp.Network(*(np.ones_like(p) for p in network))
    *_, last = mlp.sgd(
        network, lambda net, rows: ones, [np.arange(1)] * 3, learning_rate=(1.0, 0.1, 0.0, 0.2), momentum=0.5
    )
    moved = [float(np.mean(before - after)) for before, after in zip(network, last, strict=True)]
    assert moved == pytest.approx([4.25, 0.425, 0.0, 0.85])  # 1 + 1.5 + 1.75


def test_one_learning_rate_for_all() -> None:
    network = mlp.initial_network(seed=0, hidden=2, inputs=2)
    (one,) = mlp.sgd(network, lambda net, rows: net, [np.arange(1)], learning_rate=0.1, momentum=0.9)
    np.testing.assert_allclose(one.w1, 0.9 * network.w1, rtol=1e-15)
