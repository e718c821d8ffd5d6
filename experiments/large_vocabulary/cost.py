"""The cost formula: seconds and memory of a step on many workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .network import Network


@dataclass(frozen=True)
class Problem:
    """A step of training on P workers, each with K/P classes; hidden rows are the same on all."""

    classes: int
    workers: int
    rows: int
    width: int
    chunk_bytes: int = 1 << 26
    item: int = 4  # bytes a number of the layer

    @property
    def columns(self) -> float:
        return self.classes / self.workers

    @property
    def chunks(self) -> int:
        return math.ceil(self.rows / max(1, self.chunk_bytes // math.ceil(self.item * self.columns)))


class Rates(NamedTuple):
    """What a worker does in a second."""

    operations: float  # floating-point, in the products
    logits: float  # through the loss: exponentials and gradient
    updates: float  # entries of the weight through the optimizer


def step_seconds(problem: Problem, rates: Rates, network: Network) -> dict[str, float]:
    r"""Return the seconds of a step by part; all are on the path, since nothing is overlapped.

    .. math::

        \underbrace{\frac{6 N D K}{P F}}_{\text{products}} + \underbrace{\frac{N K}{P E}}_{\text{loss}}
        + \underbrace{\frac{K D}{P U}}_{\text{optimizer}}
        + \underbrace{2 (P-1) \Bigl(2 C \tau + \frac{24 N \beta}{P}\Bigr)}_{\text{row numbers}}
        + \underbrace{2 (P-1) \Bigl(\tau + \frac{b N D \beta}{P}\Bigr)}_{\text{hidden gradient}}

    N rows, D width, K classes, P workers; F, E and U the rates, C chunks of rows, tau the latency of a hop,
    beta the time a byte, b bytes a number. The row numbers are one maximum and two sums a row, in float64.
    These are the 2 C + 1 all-reduces of a call that is given ``sizes``; without, there is one more of six
    integers a worker, which is left out.
    """
    p, n, d = problem.workers, problem.rows, problem.width
    hops = 2 * (p - 1)
    return {
        "products": 6 * n * d * problem.columns / rates.operations,
        "loss": n * problem.columns / rates.logits,
        "optimizer": problem.columns * d / rates.updates,
        "row numbers": hops * (2 * problem.chunks * network.latency + 24 * n / p * network.a_byte),
        "hidden gradient": hops * (network.latency + problem.item * n * d / p * network.a_byte),
    }


def replicated_gradient_seconds(problem: Problem, network: Network) -> float:
    """Return the time to sum the whole weight's gradient over workers that each hold all classes.

    That is data parallelism.
    """
    hops = 2 * (problem.workers - 1)
    return hops * (
        network.latency + problem.item * problem.classes * problem.width / problem.workers * network.a_byte
    )


def worker_bytes(problem: Problem, states: int = 1) -> dict[str, float]:
    """Return the memory of one worker by part.

    The parts are the layer with gradient and optimizer states, a chunk, and the hidden rows.
    """
    layer = problem.item * problem.columns * problem.width
    rows = problem.item * problem.rows * problem.width
    chunk = min(
        max(problem.chunk_bytes, problem.item * problem.columns),
        problem.item * problem.rows * problem.columns,
    )
    return {
        "weight": layer,
        "gradient": layer,
        "optimizer": states * layer,
        "chunk": chunk,
        "hidden rows": 2 * rows,
    }
