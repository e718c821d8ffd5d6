"""Locks, graphs and threads are told as they are, and left as they were."""

from __future__ import annotations

import importlib.util
import sys
import time

import numpy as np
import pytest

from experiments import frameworks


def test_sleeping_releases_the_lock_and_one_long_call_does_not() -> None:
    sleeping = frameworks.lock_release(lambda: time.sleep(0.05), repeats=9)
    objects = np.arange(2_000_000).astype(object)
    held = frameworks.lock_release(lambda: np.add(objects, objects), repeats=9)
    assert sleeping.share > 0.4
    assert held.share < sleeping.share / 2
    assert sleeping.seconds >= 0.045


def test_a_call_that_keeps_the_lock_leaves_no_turn() -> None:
    interval = sys.getswitchinterval()
    assert frameworks.turns_beside(lambda: sum(range(10)), calls=2000) == 0
    assert frameworks.turns_beside(lambda: time.sleep(1e-4), calls=50) > 5
    assert sys.getswitchinterval() == interval


def test_torch_modes_leave_the_threads_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    modes = frameworks.torch_modes()
    assert torch.get_num_threads() == before
    assert modes["graph of cross_entropy"].startswith("NllLossBackward")


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_tensorflow_in_a_fresh_process() -> None:
    assert frameworks.tensorflow_nan_row(onednn=False) == "nan nan nan nan"
