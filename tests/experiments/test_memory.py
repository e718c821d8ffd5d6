"""The memory of the process is that of what it holds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from experiments import memory

SIZE = 1 << 26


def test_what_is_allocated_is_seen() -> None:
    memory.forget_peak()
    before = memory.resident()
    held = np.ones(SIZE, np.uint8)
    assert memory.peak() >= before + 0.9 * held.nbytes
    assert memory.peak() >= memory.resident() - (1 << 22)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a process's peak")
def test_a_peak_is_forgotten() -> None:
    held = np.ones(SIZE, np.uint8)
    high = memory.peak()
    del held
    memory.forget_peak()
    assert memory.peak() <= high - 0.9 * SIZE
