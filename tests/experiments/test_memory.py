"""The memory of the process is that of what it holds.

Each question is asked in a small process of its own: a system that takes idle memory back from a large one
would hide what is allocated.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZE = 1 << 27


def _in_a_process_of_its_own(code: str) -> list[int]:
    """Return the numbers that a program prints, ``memory`` and ``np`` imported."""
    program = f"import numpy as np\nfrom experiments import memory\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_what_is_allocated_is_seen() -> None:
    before, peak, after = _in_a_process_of_its_own(
        "memory.forget_peak()\n"
        "before = memory.resident()\n"
        f"held = np.ones({SIZE}, np.uint8)\n"
        "print(before, memory.peak(), memory.resident())\n"
    )
    assert peak >= before + 0.9 * SIZE
    assert peak >= after - (1 << 22)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a process's peak")
def test_a_peak_is_forgotten() -> None:
    high, low = _in_a_process_of_its_own(
        f"held = np.ones({SIZE}, np.uint8)\n"
        "high = memory.peak()\n"
        "del held\n"
        "memory.forget_peak()\n"
        "print(high, memory.peak())\n"
    )
    assert low <= high - 0.9 * SIZE
