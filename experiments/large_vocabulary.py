r"""Does a softmax over 50,001 classes train alike on one process and on two? And what would ten million
classes cost? (chapter 10)

The text is synthetic, since no corpus is the same on every machine: tokens are drawn from Zipf's law, and
after each token its own successor follows with probability one half. A table of embeddings and a softmax
layer learn it. On one process that is ``slt.linear_cross_entropy``; on two, each holds half of the layer's
rows and ``slt.parallel.linear_cross_entropy`` does the same.

``python -m experiments.large_vocabulary`` trains on one and on two processes, in float32 and for fewer steps
in float64, and measures what the cost formula needs: all-reduces of many sizes, the speed of one core, and
whole steps at several sizes to hold the formula against. It writes
``experiments/results/large_vocabulary*.csv`` and takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

import softmax_lab as sl
from experiments.benchmarks.linear_cpu import forget_peak, peak, resident
from softmax_lab.torch import parallel
from softmax_lab.torch.linear import linear_cross_entropy

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
TRAINING, ALL_REDUCE, RATES, STEPS = (
    RESULTS / f"large_vocabulary{part}.csv" for part in ("", "_all_reduce", "_rates", "_steps")
)
SIZES = (12_501, 50_001, 200_001)  # classes of the steps that are timed
FOLLOW = 0.5  # probability that a token is followed by its own successor
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


# ---- the text ----


def zipf(vocabulary: int) -> NDArray[np.float64]:
    """Return Zipf's law over the tokens (V,): the probability of the r-th is in proportion to 1/r."""
    weights = 1.0 / np.arange(1, vocabulary + 1)
    return np.asarray(weights / weights.sum())


def text(length: int, vocabulary: int, seed: int) -> NDArray[np.int64]:
    """Return tokens (length,): the successor of the token before with probability one half, else a draw from
    Zipf's law.
    """
    rng = np.random.default_rng(seed)
    successor = rng.permutation(vocabulary)
    tokens = rng.choice(vocabulary, length, p=zipf(vocabulary))
    follows = rng.random(length) < FOLLOW
    for i in range(1, length):
        if follows[i]:
            tokens[i] = successor[tokens[i - 1]]
    return tokens


def floor(vocabulary: int) -> float:
    """Return the expected loss of a model that knows the law of the text, which none can beat.

    After a token whose successor is s, the next one is k with probability [k = s] / 2 + p_k / 2; successors
    are a random permutation, so s is any token alike.
    """
    other = (1 - FOLLOW) * zipf(vocabulary)
    known = FOLLOW + other
    terms = other * np.log(other)
    return float(np.mean(terms - known * np.log(known)) - terms.sum())


# ---- training ----


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
    """Return a record a step. Every process draws the whole layer, so that all start alike, and keeps its own
    rows of it.
    """
    loss = parallel.linear_cross_entropy if dist.is_initialized() else linear_cross_entropy
    loss(torch.zeros(1, 1), torch.zeros(2000, 1), torch.tensor([0]))  # loads what is loaded once
    held = resident()
    embedding, weight = layers(setting, rank, processes)
    tokens = torch.from_numpy(text(setting.rows * setting.steps + 1, setting.vocabulary, setting.seed))
    optimizer = torch.optim.Adagrad(
        [embedding, weight], lr=setting.learning_rate, initial_accumulator_value=FLOOR
    )
    records = []
    forget_peak()
    with counted() as collectives:
        for step in range(setting.steps):
            start, before = time.perf_counter(), (collectives.calls, collectives.bytes, collectives.seconds)
            at = slice(step * setting.rows, (step + 1) * setting.rows)
            hidden = torch.nn.functional.embedding(tokens[:-1][at], embedding)
            value = loss(hidden, weight, tokens[1:][at], chunk_bytes=setting.chunk_bytes)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seconds, most = time.perf_counter() - start, (peak() - held) / 1e6
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


def in_processes(
    processes: int, threads: int, part: str, setting: dict[str, Any], *, alone: bool = False
) -> list[list[list[Any]]]:
    """Run a part of this module on fresh processes started by torchrun (``alone``: one without a group).

    Return their rows by rank.
    """
    torchrun = (
        [] if alone else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            *torchrun,
            "-m",
            "experiments.large_vocabulary",
            "--part",
            part,
            json.dumps(setting),
            folder,
        ]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{processes} processes ended with status {done.returncode}:\n{done.stderr[-3000:]}"
            )
        return [
            json.loads((Path(folder) / f"{rank}.json").read_text(encoding="utf-8"))
            for rank in range(processes)
        ]


def largest_difference(one: Sequence[Record], two: Sequence[Record]) -> float:
    """Return the largest relative difference of two runs' losses."""
    return max(abs(a.loss - b.loss) / a.loss for a, b in zip(one, two, strict=True))


# ---- the network ----


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


# ---- the cost of more ----


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
    """Return the time to sum the whole weight's gradient over workers that each hold all classes: data
    parallelism.
    """
    hops = 2 * (problem.workers - 1)
    return hops * (
        network.latency + problem.item * problem.classes * problem.width / problem.workers * network.a_byte
    )


def worker_bytes(problem: Problem, states: int = 1) -> dict[str, float]:
    """Return the memory of one worker by part: the layer with gradient and optimizer states, a chunk, hidden
    rows.
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


# ---- what this machine does, for the formula ----


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

    The first and the last are alike everywhere.
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


# ---- files and processes ----


def write(path: Path, rows: Sequence[Any]) -> None:
    """Write records as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0]._fields)
        for row in rows:
            writer.writerow(
                value if name == "loss" or isinstance(value, int | str) else f"{value:.5g}"
                for name, value in row._asdict().items()
            )


def read(path: Path, kind: Any) -> list[Any]:
    """Read a table of records."""
    types = get_type_hints(kind).values()
    with path.open(newline="", encoding="utf-8") as file:
        return [
            kind(*(convert(row[name]) for convert, name in zip(types, kind._fields, strict=True)))
            for row in csv.DictReader(file)
        ]


def work(part: str, setting: dict[str, Any], folder: Path) -> None:
    """Do this process's share of a part and leave its rows in the folder."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    parts: dict[str, Callable[..., Sequence[Any]]] = {
        "train": lambda **named: train(Setting(**named), rank, world),
        "all-reduce": time_all_reduce,
        "steps": time_steps,
        "rates": lambda **named: [measure_rates(**named)],
    }
    (folder / f"{rank}.json").write_text(json.dumps(parts[part](**setting)), encoding="utf-8")
    if dist.is_initialized():
        dist.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the tables."""
    parser = argparse.ArgumentParser(
        description="Train a softmax over 50,001 classes on one and on two processes."
    )
    parser.add_argument(
        "--part",
        nargs=3,
        metavar=("NAME", "SETTING", "FOLDER"),
        help="one process's share of a part, for torchrun",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=Setting.steps,
        help="of the training in float32; a tenth of them in float64",
    )
    options = parser.parse_args(arguments)
    if options.part:
        work(options.part[0], json.loads(options.part[1]), Path(options.part[2]))
        return 0
    single = Setting(steps=options.steps)
    double = replace(single, dtype="float64", steps=max(1, options.steps // 10))
    write(
        TRAINING,
        [
            record
            for setting in (single, double)
            for processes in (1, 2)
            for record in run(setting, processes)
        ],
    )
    layer = {"rows": single.rows, "width": single.width}
    sizes = {"sizes": [1 << power for power in range(6, 26)]}
    write(
        ALL_REDUCE,
        [Reduced(*row) for processes in (2, 4) for row in in_processes(processes, 1, "all-reduce", sizes)[0]],
    )
    write(
        RATES,
        [
            slowest(
                in_processes(
                    2, 1, "rates", {**layer, "rows": 128, "classes": single.vocabulary, "repeats": 11}
                )
            )
        ],
    )
    steps = {**layer, "sizes": SIZES, "chunk_bytes": single.chunk_bytes, "repeats": 7}
    write(
        STEPS, [Step(*row) for processes in (1, 2) for row in in_processes(processes, 1, "steps", steps)[0]]
    )
    return 0


def slowest(ranks: Sequence[Sequence[Sequence[float]]]) -> Rates:
    """Return the lowest of each rate over the processes."""
    return Rates(*(min(values) for values in zip(*(rows[0] for rows in ranks), strict=True)))


if __name__ == "__main__":
    raise SystemExit(main())
