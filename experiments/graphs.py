"""Steps that a GPU takes many times without Python: captured once in a CUDA graph, and called elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Clock", "Repeated", "divisor", "repeated"]

Step = Callable[[], None]


class Repeated(NamedTuple):
    """A call that takes ``times`` steps, and how: "graph", or "eager" with the reason where there is one."""

    call: Step
    times: int
    mode: str

    def __call__(self, steps: int) -> None:
        """Take so many steps, a multiple of ``times``."""
        if steps % self.times:
            raise ValueError(f"steps must be a multiple of {self.times}; got {steps}")
        for _ in range(steps // self.times):
            self.call()


def repeated(step: Step, state: Sequence[Tensor], times: int) -> Repeated:
    """Return a call that takes ``times`` steps; on a GPU they are captured on the current stream's device.

    ``step`` reads and writes tensors that stay where they are, and never waits for the device. The steps
    that warm it up change ``state``, which is put back. Where the capture fails, the steps stay eager, and
    the mode says why.
    """
    if not state or not state[0].is_cuda:
        return Repeated(_loop(step, times), times, "eager")
    kept = [tensor.clone() for tensor in state]
    outer, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(outer)
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    outer.wait_stream(side)
    _put_back(state, kept)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    try:
        with torch.cuda.graph(graph):
            _loop(step, times)()
    except RuntimeError as error:
        torch.cuda.synchronize()
        _put_back(state, kept)
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return Repeated(_loop(step, times), times, f"eager: {why}")
    _put_back(state, kept)
    return Repeated(graph.replay, times, "graph")


def _loop(step: Step, times: int) -> Step:
    def steps() -> None:
        for _ in range(times):
            step()

    return steps


@torch.no_grad()
def _put_back(state: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    for tensor, value in zip(state, kept, strict=True):
        tensor.copy_(value)


def divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number that is not above ``most``."""
    return max(d for d in range(1, most + 1) if number % d == 0)


class Clock:
    """The seconds that a device works between `start` and `stop`, read at the end: nothing waits before."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._begun: list[object] = []
        self._spans: list[tuple[object, object]] = []

    def start(self) -> None:
        self._begun.append(self._now())

    def stop(self) -> None:
        self._spans.append((self._begun.pop(), self._now()))

    def _now(self) -> object:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> list[float]:
        """Return the sum of the spans up to and with each."""
        if self._cuda:
            torch.cuda.synchronize()
        total, found = 0.0, []
        for begin, end in self._spans:
            if self._cuda:
                total += begin.elapsed_time(end) / 1000  # type: ignore[attr-defined]
            else:
                total += end - begin  # type: ignore[operator]
            found.append(total)
        return found
