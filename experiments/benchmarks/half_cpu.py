"""What it costs that a gradient in half precision waits for its last factor: ``python -m
experiments.benchmarks.half_cpu``.

A gradient that is written in the forward pass is rounded with a mean's 1 / N in it, before the upstream
gradient (a loss scale) is known: "one pass" does that, by the same loops, and multiplies afterwards. The
package keeps five numbers a row instead, and makes the gradient in the backward pass: two passes, one
rounding. Both run beside torch's own loss on the same leaf of logits, under autocast, one after the other as
in :mod:`.cpu`. ``zeros`` is the share of the gradient's entries that are 0. Rows are appended to
``experiments/results/half_cpu.csv`` as they come.
"""

from __future__ import annotations

import argparse
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
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula.fields import packed

from .cpu import SHAPES, append, limit_threads, measure, processor, versions

RESULTS = Path(__file__).parents[1] / "results" / "half_cpu.csv"
DTYPES = ("bfloat16", "float16")
SCALES = (1.0, 65536.0)
COLUMNS = (
    "when",
    "processor",
    "threads",
    "versions",
    "dtype",
    "n",
    "k",
    "scale",
    "provider",
    "ms",
    "ms_20",
    "ms_80",
    "repeats",
    "zeros",
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


def rows_of(dtype: str, shape: tuple[int, int], budget: float) -> Iterator[dict[str, Any]]:
    """Measure every provider at both scales."""
    n, k = shape
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(n, k, generator=generator)).to(getattr(torch, dtype)).requires_grad_()
    target = torch.randint(0, k, (n,), generator=generator)
    common = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "processor": processor(),
        "threads": sl.get_num_threads(),
        "versions": versions(),
        "dtype": dtype,
        "n": n,
        "k": k,
    }
    for scale in SCALES:
        for name, gradient in PROVIDERS.items():
            zeros = float((gradient(logits, target, scale) == 0).float().mean())
            times = measure(
                lambda gradient=gradient, scale=scale: gradient(logits, target, scale),  # type: ignore[misc]
                budget=budget,
            )
            low, middle, high = np.percentile(times, [20, 50, 80])
            yield common | {
                "scale": scale,
                "provider": name,
                "ms": round(middle, 4),
                "ms_20": round(low, 4),
                "ms_80": round(high, 4),
                "repeats": len(times),
                "zeros": round(zeros, 6),
            }


def told(row: dict[str, Any]) -> str:
    """Return a measurement as a line."""
    where = f"{row['dtype']:8} {row['n']:>6}x{row['k']:<6} {row['scale']:7g} {row['provider']:12}"
    return f"{where} {row['ms']:9.3f} ms, {row['zeros']:.1%} zeros"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shapes of the table."""
    parser = argparse.ArgumentParser(
        description="Time the loss in half precision with its gradient in one pass and in two."
    )
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES), choices=DTYPES)
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
    shapes = [tuple(shape) for shape in options.shape] if options.shape else SHAPES
    for dtype in options.dtype:
        for shape in tqdm(shapes, unit="shape", desc=dtype, disable=None):
            append(rows_of(dtype, shape, options.budget), options.out, COLUMNS, told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
