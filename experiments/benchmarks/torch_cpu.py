"""The loss through torch's autograd on the CPU: ``python -m experiments.benchmarks.torch_cpu``.

There are two tasks. "loss" is value and gradient of a leaf of logits, N x K. Its memory is the most that the
process held during a call beyond what it held before, in multiples of the logits (the gradient itself is
one). "step" is a whole training step of a small network, forward, backward and SGD, that differs in nothing
but the loss: at 10 classes on the real digits, beyond that on normal vectors. Providers run one after the
other in one process on the same numbers, as in :mod:`.cpu`; "copy" is an out-of-place copy of the logits.
Rows are appended to ``experiments/results/torch_cpu.csv`` as they come.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

import softmax_lab.torch as slt
from experiments import machine, memory, tables, two_lines
from softmax_lab.data import digits

from . import _command
from ._command import Benchmark, Job, Row, Shape
from ._timing import Call, measure, quantiles
from .cpu import SHAPES

RESULTS = tables.RESULTS / "torch_cpu.csv"
#: (batch, classes) of the training step
STEPS = ((256, 10), (512, 1000), (256, 32768))
DTYPES = ("float32", "bfloat16", "float16")
HIDDEN = 128
COLUMNS = (
    *("when", "processor", "threads", "versions"),
    *("task", "dtype", "n", "k", "provider"),
    *("ms", "ms_20", "ms_80", "repeats", "buffers", "value"),
)

Loss = Callable[[Tensor, Tensor], Tensor]
TWO_LINES = "two lines"  # what a page advises those who install nothing; measured where it is asked for


def compiled() -> Loss:
    # each shape is compiled anew, and there is a limit to how often one function may be
    torch.compiler.reset()
    loss: Loss = torch.compile(nn.functional.cross_entropy, fullgraph=True, dynamic=False)
    return loss


#: makes each provider's loss; the compiler is only asked where it is wanted
PROVIDERS: dict[str, Callable[[], Loss]] = {
    "softmax_lab": lambda: slt.functional.cross_entropy,
    "torch": lambda: nn.functional.cross_entropy,
    "torch.compile": compiled,
    TWO_LINES: lambda: two_lines.loss,
}
TASKS = ("loss", "step")


def loss_call(loss: Loss, n: int, k: int, dtype: str) -> Call:
    """Return the call that computes value and gradient of a leaf.

    It lets go of the gradient and returns the value.
    """
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(n, k, generator=generator)).to(getattr(torch, dtype)).requires_grad_()
    target = torch.randint(0, k, (n,), generator=generator)

    def run() -> Tensor:
        value = loss(logits, target)
        value.backward()
        logits.grad = None
        return value.detach()

    return run


def step_call(loss: Loss, n: int, k: int) -> Call:
    """Return the call that does one training step of a small network, and returns the loss before it."""
    inputs, target = batch(n, k)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, k))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def run() -> Tensor:
        optimizer.zero_grad()
        value = loss(model(inputs), target)
        value.backward()
        optimizer.step()
        return value.detach()

    return run


def batch(n: int, k: int) -> tuple[Tensor, Tensor]:
    """Return the first digits at 10 classes, normal vectors with uniform labels beyond."""
    if k == 10:
        images, labels = digits()
        return torch.tensor(images[:n], dtype=torch.float32), torch.tensor(labels[:n])
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 64, generator=generator), torch.randint(0, k, (n,), generator=generator)


def copy_call(n: int, k: int, dtype: str) -> Call:
    source = torch.zeros(n, k, dtype=getattr(torch, dtype))
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def buffers(call: Call, size: int) -> float:
    """Return the most memory that a call took beyond what was held before it, in units of ``size`` bytes.

    It is NaN where the system does not tell.
    """
    if not sys.platform.startswith("linux"):
        return float("nan")
    call()
    gc.collect()
    # memory that was freed but not given back would hide what the call takes
    ctypes.CDLL(None).malloc_trim(0)
    memory.forget_peak()
    before = memory.resident()
    call()
    return (memory.peak() - before) / size


def rows_of(task: str, shape: Shape, dtype: str, providers: Sequence[str], budget: float) -> Iterator[Row]:
    """Yield a row a provider on one task and shape, the copy first."""
    n, k = shape
    common = {"task": task, "dtype": dtype, "n": n, "k": k}
    for name in ("copy", *providers):
        call = make_call(name, task, shape, dtype)
        # before training moves on: the same for every provider
        first = float("nan") if name == "copy" else float(call())
        times = measure(call, budget=budget)
        alone = task == "loss" and name != "copy"
        taken = buffers(call, n * k * getattr(torch, dtype).itemsize) if alone else float("nan")
        found = {"buffers": round(taken, 3), "value": round(first, 6)}
        yield common | {"provider": name} | quantiles(times) | found


def make_call(provider: str, task: str, shape: Shape, dtype: str) -> Call:
    """Return what is timed."""
    if provider == "copy":
        return copy_call(*shape, dtype)
    loss = PROVIDERS[provider]()
    return loss_call(loss, *shape, dtype) if task == "loss" else step_call(loss, *shape)


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:5} {row['dtype']:8} {row['n']:>6}x{row['k']:<6} {row['provider']:14}"
    return f"{where} {row['ms']:9.3f} ms {row['buffers']:6} buffers, loss {row['value']}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_threads(parser)
    _command.add_choice(
        parser, "dtype", (*DTYPES, "float64"), DTYPES, help="of the logits; the step is float32"
    )
    _command.add_choice(parser, "task", TASKS)
    _command.add_choice(parser, "provider", PROVIDERS, [name for name in PROVIDERS if name != TWO_LINES])
    _command.add_shapes(parser)
    _command.add_budget(parser, 0.5)


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a task, type and shape."""
    machine.limit_threads(options.threads)
    torch.set_num_threads(options.threads)
    return [
        Job(
            f"{task} {dtype} {n}x{k}",
            lambda task=task, dtype=dtype, n=n, k=k: rows_of(  # type: ignore[misc]
                task, (n, k), dtype, options.provider, options.budget
            ),
        )
        for task in options.task
        for dtype in (options.dtype if task == "loss" else ["float32"])
        for n, k in options.shape or (SHAPES if task == "loss" else STEPS)
    ]


BENCHMARK = Benchmark(
    "Time the loss through torch's autograd on the CPU, alone and in a training step.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
)
main = BENCHMARK.main


if __name__ == "__main__":
    raise SystemExit(main())
