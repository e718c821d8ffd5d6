"""Deferred reweighting: the weights come at the right epoch, and the epoch is saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from tests.specs import K
from tests.torch.modules.test_softmax_loss import Y, Z, reloaded

COUNTS = np.array([500, 120, 40, 12, 9, 1])


def test_deferred_reweighting_changes_its_weights_at_the_right_epoch() -> None:
    first, weights = sl.losses.ldam(COUNTS), sl.losses.class_balanced(COUNTS).class_weight
    module = slt.DeferredReweighting(first, weights, start=2)
    seen = []
    for _ in range(4):
        seen.append(module.spec)
        assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, module.spec))
        module.step()
    second = LossSpec(temperature=first.temperature, margin=first.margin, class_weight=weights)
    assert seen == [first, first, second, second]
    assert repr(module).endswith("start=2, epoch=4)")


def test_deferred_reweighting_resumes_where_it_was() -> None:
    weights = np.linspace(0.5, 2.0, K)
    module = slt.DeferredReweighting(LossSpec(gamma=1.0), weights, start=2)
    module.step()
    again = reloaded(module, slt.DeferredReweighting(LossSpec(), np.ones(K), start=9))
    assert isinstance(again, slt.DeferredReweighting)
    assert again.spec == LossSpec(gamma=1.0)
    again.step()
    assert again.spec == LossSpec(gamma=1.0, class_weight=weights)


def test_a_number_of_epochs_is_not_cut_off() -> None:
    with pytest.raises(TypeError, match=r"must be a whole number; got 1\.5"):
        slt.DeferredReweighting(LossSpec(), [1.0, 2.0], start=1.5)  # type: ignore[arg-type]
