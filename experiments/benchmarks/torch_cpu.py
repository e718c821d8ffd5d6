"""Forward and backward through torch's autograd on the CPU, beside torch's own loss: ``python -m
experiments.benchmarks.torch_cpu``.

Two tasks. "loss" is value and gradient of a leaf of logits, N x K; its memory is the most that the process
held during a call beyond what it held before, in multiples of the logits (the gradient itself is one). "step"
is a whole training step of a small network, forward, backward and SGD, that differs in nothing but the loss:
at 10 classes on the real digits, beyond that on normal vectors. Providers run one after the other in one
process on the same numbers, as in :mod:`.cpu`; "copy" is an out-of-place copy of the logits. Rows are
appended to ``experiments/results/torch_cpu.csv`` as they come.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.data import digits

from .cpu import SHAPES, append, limit_threads, measure, processor, versions
from .linear_cpu import forget_peak, peak, resident

RESULTS = Path(__file__).parents[1] / "results" / "torch_cpu.csv"
#: (batch, classes) of the training step
STEPS = ((256, 10), (512, 1000), (256, 32768))
DTYPES = ("float32", "bfloat16", "float16")
HIDDEN = 128
COLUMNS = (
    "when",
    "processor",
    "threads",
    "versions",
    "task",
    "dtype",
    "n",
    "k",
    "provider",
    "ms",
    "ms_20",
    "ms_80",
    "repeats",
    "buffers",
    "value",
)

Loss = Callable[[Tensor, Tensor], Tensor]
Call = Callable[[], Any]


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
}
TASKS = ("loss", "step")


def loss_call(loss: Loss, n: int, k: int, dtype: str) -> Call:
    """Return the call that computes value and gradient of a leaf, lets go of the gradient and returns the
    value.
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

    NaN where none can tell.
    """
    if not sys.platform.startswith("linux"):
        return float("nan")
    call()
    gc.collect()
    # memory that was freed but not given back would hide what the call takes
    ctypes.CDLL(None).malloc_trim(0)
    forget_peak()
    before = resident()
    call()
    return (peak() - before) / size


def rows_of(
    task: str, shape: tuple[int, int], dtype: str, providers: Sequence[str], budget: float
) -> Iterator[dict[str, Any]]:
    """Measure every provider on one task and shape, the copy first."""
    n, k = shape
    common = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "processor": processor(),
        "threads": sl.get_num_threads(),
        "versions": versions(),
        "task": task,
        "dtype": dtype,
        "n": n,
        "k": k,
    }
    makers: dict[str, Callable[[], Call]] = {"copy": lambda: copy_call(n, k, dtype)}
    for name in providers:
        makers[name] = lambda make=PROVIDERS[name]: (  # type: ignore[misc]
            loss_call(make(), n, k, dtype) if task == "loss" else step_call(make(), n, k)
        )
    for name, make in makers.items():
        call = make()
        # before training moves on: the same for every provider
        first = float(call()) if name != "copy" else float("nan")
        times = measure(call, budget=budget)
        low, middle, high = np.percentile(times, [20, 50, 80])
        taken = (
            buffers(call, n * k * getattr(torch, dtype).itemsize)
            if task == "loss" and name != "copy"
            else float("nan")
        )
        yield common | {
            "provider": name,
            "ms": round(middle, 4),
            "ms_20": round(low, 4),
            "ms_80": round(high, 4),
            "repeats": len(times),
            "buffers": round(taken, 3),
            "value": round(first, 6),
        }


def told(row: dict[str, Any]) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:5} {row['dtype']:8} {row['n']:>6}x{row['k']:<6} {row['provider']:14}"
    return f"{where} {row['ms']:9.3f} ms {row['buffers']:6} buffers, loss {row['value']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both tasks on the shapes of the table."""
    parser = argparse.ArgumentParser(
        description="Time the loss through torch's autograd on the CPU, alone and in a training step."
    )
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument(
        "--dtype",
        nargs="+",
        default=list(DTYPES),
        choices=[*DTYPES, "float64"],
        help="of the logits; the step is float32",
    )
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--provider", nargs="+", default=list(PROVIDERS), choices=list(PROVIDERS))
    parser.add_argument(
        "--shape", nargs=2, type=int, action="append", metavar=("N", "K"), help="only these shapes"
    )
    parser.add_argument(
        "--budget", type=float, default=0.5, help="seconds a measurement, beyond seven repetitions"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    torch.set_num_threads(options.threads)
    given = [tuple(shape) for shape in options.shape] if options.shape else None
    for task in options.task:
        for dtype in options.dtype if task == "loss" else ["float32"]:
            for shape in tqdm(
                given or (SHAPES if task == "loss" else STEPS),
                unit="shape",
                desc=f"{task} {dtype}",
                disable=None,
            ):
                append(
                    rows_of(task, shape, dtype, options.provider, options.budget), options.out, COLUMNS, told
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
