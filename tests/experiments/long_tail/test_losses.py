"""A loss by its name is the registered one with these settings, or what is made of it."""

from __future__ import annotations

import numpy as np
import pytest

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments.long_tail import LOSSES, make_loss
from experiments.long_tail.losses import NOT_IN_THE_GRID, Context

CONTEXT = Context(np.array([50, 5, 0]), 10)


@pytest.mark.parametrize("name", sorted(set(sl.losses.REGISTRY) - {"weighted", *NOT_IN_THE_GRID}))
def test_a_registered_loss_has_its_spec(name: str) -> None:
    factory = sl.losses.REGISTRY[name]
    needs_counts = name not in ("plain", "focal", "label_smoothing")
    loss = make_loss(name, CONTEXT)
    assert isinstance(loss, slt.SoftmaxLoss)
    assert loss.spec == (factory(CONTEXT.counts) if needs_counts else factory())
    assert name in LOSSES


def test_weights_are_a_power_of_the_inverse_counts() -> None:
    loss = make_loss("weighted", CONTEXT, (("power", 0.5),))
    # a class without samples counts as one
    ratio = np.asarray(loss.spec.class_weight) / np.asarray(loss.spec.class_weight)[0]  # type: ignore[union-attr]
    np.testing.assert_allclose(ratio, np.sqrt(50 / np.array([50, 5, 1])))


def test_weights_come_late_in_a_deferred_loss() -> None:
    loss = make_loss("plain_drw", CONTEXT, (("beta", 0.9), ("start", 0.2)))
    assert isinstance(loss, slt.DeferredReweighting)
    specs = []
    for _ in range(3):
        specs.append(loss.spec)
        loss.step()
    assert [spec.class_weight is None or np.ndim(spec.class_weight) == 0 for spec in specs] == [
        *(True, True, False)
    ]
    expected = sl.losses.class_balanced(CONTEXT.counts, 0.9).class_weight
    np.testing.assert_allclose(np.asarray(specs[2].class_weight), np.asarray(expected))
