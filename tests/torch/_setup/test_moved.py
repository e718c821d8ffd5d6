"""A module saved whole by an earlier version loads: its classes are found by their former places."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch._setup.moved import MOVED

COUNTS = [9, 1]
#: modules, and all the former places that their pickles name
WHOLE: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "SoftmaxLoss": (
        lambda: slt.SoftmaxLoss(sl.losses.balanced_softmax(COUNTS)),
        {"modules", "_composite", "_family"},
    ),
    "DeferredReweighting": (
        lambda: slt.DeferredReweighting(sl.losses.ldam(COUNTS), [1.0, 2.0], 1),
        {"modules", "_composite", "_family"},
    ),
    "SeesawLoss": (lambda: slt.SeesawLoss(2), {"modules", "_composite", "_family", "_passes"}),
    "GradientBalancedLoss": (
        lambda: slt.GradientBalancedLoss(COUNTS),
        {"balanced", "_composite", "_family", "_passes"},
    ),
}


def as_formerly(pickled: bytes) -> tuple[bytes, set[str]]:
    """Return a pickle with the former names of the modules, and those names.

    Protocol 2 writes each on a line of its own.
    """
    at_first = dict.fromkeys(("modules.softmax_loss", "modules.deferred", "modules.seesaw"), "modules")
    found = set()
    for now, former in (at_first | {now: former for former, now in MOVED.items()}).items():
        line = f"csoftmax_lab.torch.{now}\n".encode()
        if line in pickled:
            found.add(former)
            pickled = pickled.replace(line, f"csoftmax_lab.torch.{former}\n".encode())
    return pickled, found


@pytest.mark.parametrize("name", WHOLE)
def test_a_module_pickled_by_former_names_loads_and_computes_the_same(name: str) -> None:
    make, places = WHOLE[name]
    module = make()
    pickled, found = as_formerly(pickle.dumps(module, protocol=2))
    again: nn.Module = pickle.loads(pickled)
    z, y = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([1, 0])
    assert found == places
    assert type(again) is type(module)
    assert torch.equal(again(z, y), module(z, y))


def test_a_monitor_is_found_by_its_former_place() -> None:
    assert importlib.import_module("softmax_lab.torch.monitor").GradientMonitor is slt.GradientMonitor


def test_fields_pickled_before_a_field_was_added_are_neutral_in_it() -> None:
    fields = slt.SoftmaxLoss(sl.LossSpec(temperature=2.0))._fields
    shorter = type(fields)(*list(fields)[:-1])
    assert shorter == fields
