"""A gradient in half precision, in one pass and in two: ``python -m experiments.benchmarks.half_cpu``.

A gradient that is written in the forward pass is rounded with a mean's 1 / N in it, before the upstream
gradient (a loss scale) is known. "one pass" does that, by the same loops, and multiplies afterwards. The
package keeps five numbers a row instead, and makes the gradient in the backward pass: two passes, one
rounding. Both run beside torch's own loss on the same leaf of logits, under autocast, one after the other as
in :mod:`.cpu`. ``zeros`` is the share of the gradient's entries that are 0. Rows are appended to
``experiments/results/half_cpu.csv`` as they come.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import machine, tables
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula.fields import packed

from . import _command
from ._command import Benchmark, Job, Row, Shape
from ._timing import measure, quantiles
from .cpu import SHAPES

RESULTS = tables.RESULTS / "half_cpu.csv"
DTYPES = ("bfloat16", "float16")
SCALES = (1.0, 65536.0)
COLUMNS = (
    *("when", "processor", "threads", "versions"),
    *("dtype", "n", "k", "scale", "provider"),
    *("ms", "ms_20", "ms_80", "repeats", "zeros"),
)

#: from logits, target and loss scale to the gradient
Gradient = Callable[[Tensor, Tensor, float], Tensor]


def through_autograd(loss: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """Return what runs a loss forward and backward."""

    def gradient(logits: Tensor, target: Tensor, scale: float) -> Tensor:
        with torch.autocast("cpu", dtype=logits.dtype):
            value = loss(logits, target)
        (found,) = torch.autograd.grad(value * scale, logits)
        return found

    return gradient


def one_pass(logits: Tensor, target: Tensor, scale: float) -> Tensor:
    """Return the gradient as the forward pass writes it, multiplied when the scale is known."""
    arguments = (target, *packed(sl.LossSpec(), logits), None, *Options(dim=1))
    with torch.no_grad():
        found: Tensor = torch.ops.softmax_lab.cross_entropy(logits, *arguments, True)[1]
        return found if scale == 1.0 else found.mul_(scale)


PROVIDERS: dict[str, Gradient] = {
    "softmax_lab": through_autograd(slt.functional.cross_entropy),
    "one pass": one_pass,
    "torch": through_autograd(nn.functional.cross_entropy),
}


def rows_of(dtype: str, shape: Shape, budget: float) -> Iterator[Row]:
    """Yield a row a provider at both scales."""
    n, k = shape
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(n, k, generator=generator)).to(getattr(torch, dtype)).requires_grad_()
    target = torch.randint(0, k, (n,), generator=generator)
    for scale in SCALES:
        for name, gradient in PROVIDERS.items():

            def call(gradient: Gradient = gradient, scale: float = scale) -> Tensor:
                return gradient(logits, target, scale)

            zeros = float((call() == 0).float().mean())
            key = {"dtype": dtype, "n": n, "k": k, "scale": scale, "provider": name}
            yield key | quantiles(measure(call, budget=budget)) | {"zeros": round(zeros, 6)}


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['dtype']:8} {row['n']:>6}x{row['k']:<6} {row['scale']:7g} {row['provider']:12}"
    return f"{where} {row['ms']:9.3f} ms, {row['zeros']:.1%} zeros"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_threads(parser)
    _command.add_choice(parser, "dtype", DTYPES)
    _command.add_shapes(parser)
    _command.add_budget(parser, 0.5)


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a type and shape."""
    machine.limit_threads(options.threads)
    torch.set_num_threads(options.threads)
    return [
        Job(
            f"{dtype} {n}x{k}",
            lambda dtype=dtype, n=n, k=k: rows_of(dtype, (n, k), options.budget),  # type: ignore[misc]
        )
        for dtype in options.dtype
        for n, k in options.shape or SHAPES
    ]


BENCHMARK = Benchmark(
    "Time the loss in half precision with its gradient in one pass and in two.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
)
main = BENCHMARK.main


if __name__ == "__main__":
    raise SystemExit(main())
