"""The clock counts its repetitions."""

from __future__ import annotations

import math

from experiments.benchmarks.gpu.clock import Clock, peak_mb


def test_a_time_is_the_median_of_at_least_seven() -> None:
    calls: list[int] = []
    ms, repeats = Clock("cpu", 0.0)(lambda: calls.append(1))
    assert ms > 0
    assert repeats == 7
    assert len(calls) == 3 + 1 + 7  # the warm-up, and a first time that says how many fit


def test_memory_is_that_of_a_gpu() -> None:
    assert math.isnan(peak_mb(lambda: None, "cpu"))
