"""Time and memory of a linear layer's loss on the CPU: ``python -m experiments.benchmarks.linear_cpu``.

Each provider works in a process of its own, on the same numbers: a small warm-up, then one forward and
backward pass, timed. Its memory is the highest during the pass, counted from what the process held just
before (the arguments, and the libraries that the warm-up brought in). No method can do without three matrix
products. They are timed in the same process directly before and after, on chunks of the same size; a time is
also given as a multiple of theirs. Rows are appended to ``experiments/results/linear_cpu.csv``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import softmax_lab as sl
from experiments import memory, tables
from softmax_lab.torch._machinery import chunks
from softmax_lab.torch.linear import linear_cross_entropy

from . import _command
from ._command import Benchmark, Job, Row
from ._timing import seconds

RESULTS = tables.RESULTS / "linear_cpu.csv"
COLUMNS = (
    *("when", "processor", "threads", "versions"),
    *("dtype", "n", "d", "v", "provider"),
    *("seconds", "products", "ratio", "peak_mb", "loss"),
)
DTYPES = ("float16", "bfloat16", "float32", "float64")
#: options that a process of its own is given, too
SIZES = ("rows", "width", "classes", "dtype", "threads")


class Layer(NamedTuple):
    """Arguments of the loss; gradients are wanted of both tensors."""

    hidden: Tensor  # (N, D)
    weight: Tensor  # (V, D)
    target: Tensor  # (N,)

    def rows(self, n: int) -> Layer:
        """Return the same layer for its first rows."""
        return Layer(self.hidden.detach()[:n].clone().requires_grad_(), self.weight, self.target[:n])


def make_layer(n: int, d: int, v: int, dtype: str = "float32", seed: int = 0) -> Layer:
    """Return normal hidden rows, a weight that gives logits of standard deviation 1, and uniform labels."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator).to(getattr(torch, dtype)).requires_grad_()
    weight = (torch.randn(v, d, generator=generator) / d**0.5).to(getattr(torch, dtype)).requires_grad_()
    return Layer(hidden, weight, torch.randint(0, v, (n,), generator=generator))


# ---- providers: each takes a layer, leaves the gradients in it and returns the loss ----


def products(layer: Layer) -> Tensor:
    """Do the arithmetic alone, a chunk at a time.

    That is the logits, and the products of their gradient with the weight and with the hidden rows.
    """
    hidden, weight = layer.hidden.detach(), layer.weight.detach()
    step = chunks.chunk_rows(len(weight), weight.dtype, chunks.CHUNK_BYTES)
    chunk, to_hidden, to_weight = (
        weight.new_empty(step, len(weight)),
        torch.empty_like(hidden),
        torch.zeros_like(weight),
    )
    for part in chunks.parts(None, len(hidden), step):
        rows = hidden[part]
        z = chunk[: len(rows)]
        torch.mm(rows, weight.t(), out=z)
        torch.mm(z, weight, out=to_hidden[part])
        to_weight.addmm_(z.t(), rows)
    return to_weight.new_zeros(())


def softmax_lab(layer: Layer) -> Tensor:
    return _backward(linear_cross_entropy(layer.hidden, layer.weight, layer.target))


def torch_materialised(layer: Layer) -> Tensor:
    return _backward(torch.nn.functional.cross_entropy(layer.hidden @ layer.weight.T, layer.target))


def torch_chunked(layer: Layer) -> Tensor:
    """torch's own ``linear_cross_entropy``, from 2.13 on, with the chunks that it chooses."""
    loss: Any = torch.nn.functional.linear_cross_entropy  # type: ignore[attr-defined, unused-ignore]
    options: Any = torch.nn.LinearCrossEntropyOptions()  # type: ignore[attr-defined, unused-ignore]
    return _backward(loss(layer.hidden, layer.weight, layer.target, options=options))


def _backward(loss: Tensor) -> Tensor:
    loss.backward()
    return loss.detach()


PROVIDERS: dict[str, Callable[[Layer], Tensor]] = {
    "products": products,
    "softmax_lab": softmax_lab,
    "torch materialised": torch_materialised,
    "torch chunked": torch_chunked,
}


# ---- one measurement ----


def measure(provider: str, layer: Layer) -> Row:
    """Return time, memory and loss of one pass; the gradients are part of the memory."""
    run = PROVIDERS[provider]
    run(layer.rows(8))  # brings in what is loaded or compiled on the first call
    layer.weight.grad = None
    before = seconds(lambda: products(layer))
    memory.forget_peak()
    held = memory.resident()
    losses: list[Tensor] = []
    taken = seconds(lambda: losses.append(run(layer)))
    highest = memory.peak() - held
    floor = (before + seconds(lambda: products(layer))) / 2
    return {
        "seconds": round(taken, 3),
        "products": round(floor, 3),
        "ratio": round(taken / floor, 3),
        "peak_mb": round(highest / 1e6, 1),
        "loss": round(losses[0].item(), 6),
    }


def measure_apart(provider: str, options: argparse.Namespace) -> Row:
    """Return the row of one measurement in a fresh process."""
    flags = [word for name in SIZES for word in (f"--{name}", str(getattr(options, name)))]
    command = ["-m", "experiments.benchmarks.linear_cpu", "--child", "--provider", provider, *flags]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    return {
        "threads": options.threads,
        "dtype": options.dtype,
        "n": options.rows,
        "d": options.width,
        "v": options.classes,
        "provider": provider,
        **json.loads(done.stdout),
    }


def measure_here(options: argparse.Namespace) -> Row:
    """Return what one measurement in this process finds."""
    torch.set_num_threads(options.threads)
    sl.set_num_threads(options.threads)
    layer = make_layer(options.rows, options.width, options.classes, options.dtype)
    return measure(options.provider[0], layer)


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    times = f"{row['seconds']:8.2f} s {row['ratio']:6.2f} x products"
    return f"{row['provider']:20} {times} {row['peak_mb']:8.1f} MB"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=64000)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    _command.add_threads(parser)
    _command.add_choice(parser, "provider", PROVIDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--child", action="store_true", help="measure in this process and print one line of JSON"
    )


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a round and provider."""
    return [
        Job(provider, lambda provider=provider: [measure_apart(provider, options)])  # type: ignore[misc]
        for _ in range(options.rounds)
        for provider in options.provider
    ]


BENCHMARK = Benchmark(
    "Time and memory of a linear layer's loss on the CPU.", RESULTS, COLUMNS, add_options, jobs, line
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every provider, each in a process of its own; as such a process, measure one."""
    options = BENCHMARK.parse(arguments)
    if options.child:
        print(json.dumps(measure_here(options)))
    else:
        BENCHMARK.run(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
