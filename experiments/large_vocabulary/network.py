"""What a message costs: all-reduces of many sizes, and the two numbers that fit them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist


class Reduced(NamedTuple):
    """All-reduces of one size: the median time of one."""

    processes: int
    bytes: int
    microseconds: float


def time_all_reduce(sizes: Sequence[int], repeats: int = 21) -> list[Reduced]:
    """Return the time of a SUM of each size in bytes, as long as the slowest process takes."""
    found = []
    for size in sizes:
        tensor, times = torch.ones(max(1, size // 4)), []
        for _ in range(repeats):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(time.perf_counter() - start)
            tensor.fill_(1.0)
        slowest = torch.tensor(sorted(times)[repeats // 2])
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        found.append(Reduced(dist.get_world_size(), tensor.numel() * 4, 1e6 * slowest.item()))
    return found


class Network(NamedTuple):
    """What a message costs: seconds to start one hop, seconds a byte."""

    latency: float
    a_byte: float


def fit_network(measured: Sequence[Reduced]) -> Network:
    """Return latency and time a byte of a ring, fitted to times of all sizes by their relative error.

    A ring over P processes makes 2 (P - 1) hops, each of 1/P of the message.
    """
    hops = np.array([2 * (m.processes - 1) for m in measured], dtype=float)
    moved = np.array([2 * (m.processes - 1) / m.processes * m.bytes for m in measured])
    seconds = np.array([1e-6 * m.microseconds for m in measured])
    latency, a_byte = np.linalg.lstsq(
        np.stack([hops, moved], 1) / seconds[:, None], np.ones(len(seconds)), rcond=None
    )[0]
    return Network(float(latency), float(a_byte))
