"""Time and memory of a call on a device."""

from __future__ import annotations

import gc
import statistics
import time

import torch

from experiments.benchmarks._timing import Call

FLUSH = 256 << 20  # bytes written between two repetitions


class Clock:
    """Times calls on a device: the median of at least seven, in milliseconds.

    There are as many as about ``budget`` seconds hold.
    """

    def __init__(self, device: str, budget: float) -> None:
        self.device, self.budget = device, budget
        self.flush = torch.empty(FLUSH if device == "cuda" else 1, dtype=torch.int8, device=device)

    def __call__(self, call: Call) -> tuple[float, int]:
        for _ in range(3):
            call()
        first = self._once(call)
        repeats = int(min(max(7, self.budget / max(first / 1000, 1e-6)), 100))
        return statistics.median(self._once(call) for _ in range(repeats)), repeats

    def _once(self, call: Call) -> float:
        self.flush.zero_()
        if self.device != "cuda":
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))


def peak_mb(call: Call, device: str) -> float:
    """Return the megabytes (2^20) that a call takes beyond what is held before it."""
    if device != "cuda":
        return float("nan")
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
