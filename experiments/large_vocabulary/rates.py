"""What a core does in a second, and whole steps to hold the formula against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softmax_lab.torch import parallel

from .cost import Problem, Rates


class Step(NamedTuple):
    """Whole steps of a softmax layer, one core a process: the median time of one."""

    processes: int
    classes: int
    rows: int
    width: int
    chunk_bytes: int
    seconds: float

    @property
    def problem(self) -> Problem:
        return Problem(self.classes, self.processes, self.rows, self.width, self.chunk_bytes)


def softmax_layer(classes: int, rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random hidden rows, this process's rows of a weight, and labels.

    Hidden rows and labels are alike on every process.
    """
    generator = torch.Generator().manual_seed(0)
    hidden, target = (
        torch.randn(rows, width, generator=generator),
        torch.randint(0, classes, (rows,), generator=generator),
    )
    rank, world = dist.get_rank(), dist.get_world_size()
    columns = classes * (rank + 1) // world - classes * rank // world
    return (
        hidden.requires_grad_(),
        torch.randn(columns, width, generator=generator).div_(width).requires_grad_(),
        target,
    )


def time_steps(sizes: Sequence[int], rows: int, width: int, chunk_bytes: int, repeats: int) -> list[Step]:
    """Return the time of a step (loss, gradients, Adagrad) at each number of classes."""
    found = []
    for classes in sizes:
        seconds = median_seconds(a_step(classes, rows, width, chunk_bytes), repeats)
        found.append(Step(dist.get_world_size(), classes, rows, width, chunk_bytes, seconds))
    return found


def a_step(classes: int, rows: int, width: int, chunk_bytes: int) -> Callable[[], None]:
    """Return what takes one step of a layer that is made here."""
    hidden, weight, target = softmax_layer(classes, rows, width)
    optimizer = torch.optim.Adagrad([weight], lr=1e-3)

    def step() -> None:
        dist.barrier()
        optimizer.zero_grad()
        parallel.linear_cross_entropy(hidden, weight, target, chunk_bytes=chunk_bytes).backward()
        optimizer.step()

    return step


def measure_rates(classes: int, rows: int, width: int, repeats: int) -> Rates:
    """Return what a process of the group does in a second while the others do the same."""
    hidden, weight, target = softmax_layer(classes, rows, width)
    weight.grad = torch.ones_like(weight)
    h, w, optimizer = hidden.detach(), weight.detach(), torch.optim.Adagrad([weight], lr=1e-3)
    z, total = torch.empty(rows, len(w)), torch.zeros_like(w)

    def products() -> None:
        torch.mm(h, w.t(), out=z)
        torch.mm(z, w)
        total.addmm_(z.t(), h)

    logits = (h @ w.t()).requires_grad_()
    products_s = median_seconds(products, repeats)
    loss_s = median_seconds(lambda: parallel.cross_entropy(logits, target).backward(), repeats)
    return Rates(
        6 * rows * width * len(w) / products_s,
        rows * len(w) / loss_s,
        weight.numel() / median_seconds(optimizer.step, repeats),
    )


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time after one call that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2]
