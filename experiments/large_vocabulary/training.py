"""Training on one process and on several, which should give the same losses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

import softmax_lab as sl
from experiments import memory
from softmax_lab.torch import parallel
from softmax_lab.torch.linear import linear_cross_entropy

from .corpus import text
from .processes import in_processes

# Adagrad's first step is as long whatever the gradient: without a floor, an entry whose gradient is nothing
# but rounding would move as far as any other, and two runs that differ by rounding would not stay together.
FLOOR = 1e-6  # of the sum of squared gradients


@dataclass(frozen=True)
class Setting:
    """One run: everything that decides its losses."""

    vocabulary: int = 50_001  # two processes get unequal shards
    width: int = 64
    rows: int = 512  # tokens a step
    steps: int = 300
    learning_rate: float = 0.2
    dtype: str = "float32"
    seed: int = 0
    chunk_bytes: int = 1 << 24


class Record(NamedTuple):
    """One step of one run; memory and collectives are those of the process that has most."""

    processes: int
    dtype: str
    step: int
    loss: float
    seconds: float
    peak_mb: float  # the most memory so far, beside that before the first tensor
    calls: int  # collectives
    kilobytes: float  # that they reduced
    waited: float  # seconds in them, the wait for the slower process included


class Collectives:
    """Counts all-reduces, their bytes, and the time in them."""

    def __init__(self) -> None:
        self.calls, self.bytes, self.seconds = 0, 0, 0.0

    def since(self, calls: int, number: int, seconds: float) -> tuple[int, float, float]:
        return self.calls - calls, (self.bytes - number) / 1e3, self.seconds - seconds


@contextmanager
def counted() -> Iterator[Collectives]:
    """Watch every all-reduce of this process."""
    seen, reduce = Collectives(), dist.all_reduce

    def watched(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = reduce(tensor, *arguments, **named)
        seen.seconds += time.perf_counter() - start
        seen.calls += 1
        seen.bytes += tensor.numel() * tensor.element_size()
        return result

    with mock.patch.object(dist, "all_reduce", watched):
        yield seen


def layers(setting: Setting, rank: int, processes: int) -> tuple[Tensor, Tensor]:
    """Return the table of embeddings, and this process's rows of the softmax layer: near equal shares."""
    generator, shape = torch.Generator().manual_seed(setting.seed), (setting.vocabulary, setting.width)
    embedding, weight = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    first, last = (-(-setting.vocabulary * r // processes) for r in (rank, rank + 1))
    dtype = getattr(torch, setting.dtype)
    return embedding.to(dtype).requires_grad_(), (weight / setting.width)[first:last].to(
        dtype
    ).requires_grad_()


def train(setting: Setting, rank: int = 0, processes: int = 1) -> list[Record]:
    """Return a record a step.

    Every process draws the whole layer, so that all start alike, and keeps its own rows of it.
    """
    loss = parallel.linear_cross_entropy if dist.is_initialized() else linear_cross_entropy
    loss(torch.zeros(1, 1), torch.zeros(2000, 1), torch.tensor([0]))  # loads what is loaded once
    held = memory.resident()
    embedding, weight = layers(setting, rank, processes)
    tokens = torch.from_numpy(text(setting.rows * setting.steps + 1, setting.vocabulary, setting.seed))
    optimizer = torch.optim.Adagrad(
        [embedding, weight], lr=setting.learning_rate, initial_accumulator_value=FLOOR
    )
    records = []
    memory.forget_peak()
    with counted() as collectives:
        for step in range(setting.steps):
            start, before = time.perf_counter(), (collectives.calls, collectives.bytes, collectives.seconds)
            at = slice(step * setting.rows, (step + 1) * setting.rows)
            hidden = torch.nn.functional.embedding(tokens[:-1][at], embedding)
            value = loss(hidden, weight, tokens[1:][at], chunk_bytes=setting.chunk_bytes)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seconds, most = time.perf_counter() - start, (memory.peak() - held) / 1e6
            records.append(
                Record(
                    processes, setting.dtype, step, value.item(), seconds, most, *collectives.since(*before)
                )
            )
    return records


def run(setting: Setting, processes: int, threads: int | None = None) -> list[Record]:
    """Train in fresh processes, each with its share of the threads, and return the records of all as one."""
    share = max(1, (threads or sl.get_num_threads()) // processes)
    ranks = [
        [Record(*row) for row in rows]
        for rows in in_processes(processes, share, "train", asdict(setting), alone=processes == 1)
    ]
    for rank in ranks[1:]:
        if [record.loss for record in rank] != [record.loss for record in ranks[0]]:
            raise ArithmeticError("the processes of one run do not agree on its losses")
    costs = ("seconds", "peak_mb", "calls", "kilobytes", "waited")
    return [
        records[0]._replace(**{name: max(getattr(r, name) for r in records) for name in costs})
        for records in zip(*ranks, strict=True)
    ]


def largest_difference(one: Sequence[Record], two: Sequence[Record]) -> float:
    """Return the largest relative difference of two runs' losses."""
    return max(abs(a.loss - b.loss) / a.loss for a, b in zip(one, two, strict=True))
