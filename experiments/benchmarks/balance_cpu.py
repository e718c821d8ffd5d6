"""What balance costs on the CPU: ``python -m experiments.benchmarks.balance_cpu``.

"loss" is value and gradient of the balancing loss through autograd, over those of plain
``slt.cross_entropy``, on logits N x K. "monitor" is a training step with a
:class:`softmax_lab.torch.GradientMonitor` over the same step without, for the networks of the long-tail grid;
a monitor that measures every tenth step costs a tenth of it. Pairs are timed in turn, so that both see the
same machine. Rows are appended to ``experiments/results/balance_cpu.csv``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import machine, tables
from experiments.long_tail import make_network

from . import _command
from ._command import Benchmark, Job, Row
from ._timing import Call, in_turn

RESULTS = tables.RESULTS / "balance_cpu.csv"
COLUMNS = ("when", "processor", "versions", "task", "case", "n", "k", "ms", "ms_plain", "ratio", "repeats")
SHAPES = ((65536, 10), (4096, 1000), (512, 32768))
#: (network, images N C H W or features N D, classes)
NETWORKS = (("mlp", (128, 1600), 10), ("convnet", (128, 3, 32, 32), 10), ("convnet", (128, 3, 32, 32), 100))


def ratio(call: Call, plain: Call, *, budget: float, repeats: int = 15) -> Row:
    """Return median times, their ratio as the median over pairs, and how many pairs there were."""
    times = in_turn(call, plain, warm_ups=3, repeats=repeats, budget=budget)
    ours, theirs = (statistics.median(part) for part in times)
    ratios = statistics.median(a / b for a, b in zip(*times, strict=True))
    cells = {"ms": ours, "ms_plain": theirs, "ratio": ratios}
    return {name: round(value, 4) for name, value in cells.items()} | {"repeats": len(times[0])}


def loss_call(loss: Callable[..., torch.Tensor], n: int, k: int) -> Call:
    """Return the call that computes value and gradient."""
    generator = torch.Generator().manual_seed(0)
    z = (2 * torch.randn(n, k, generator=generator)).requires_grad_()
    y = torch.randint(0, k, (n,), generator=generator)

    def run() -> None:
        loss(z, y).backward()
        z.grad = None

    return run


def loss_rows(budget: float) -> Iterator[Row]:
    """Yield the costs of the balancing loss.

    Its counts are given, or gathered while training; with those given it is also summed instead of averaged,
    and smoothed.
    """
    for n, k in SHAPES:
        counts = np.maximum(1, (5000 * 0.01 ** (np.arange(k) / (k - 1))).astype(int))
        cases: dict[str, Callable[..., torch.Tensor]] = {
            "counts given": slt.GradientBalancedLoss(counts),
            "summed": slt.GradientBalancedLoss(counts, reduction="sum"),
            "smoothed": slt.GradientBalancedLoss(counts, eps=0.05),
            "counts gathered": slt.GradientBalancedLoss(k),
        }
        for case, loss in cases.items():
            plain = partial(slt.cross_entropy, reduction="sum" if case == "summed" else "mean")
            found = ratio(loss_call(loss, n, k), loss_call(plain, n, k), budget=budget)
            yield {"task": "loss", "case": case, "n": n, "k": k} | found


def step_call(network: str, shape: tuple[int, ...], classes: int, *, watched: bool) -> Call:
    """Return the call that does one training step."""
    torch.manual_seed(0)
    x, y = torch.randn(shape), torch.randint(0, classes, shape[:1])
    model, loss = make_network(network, shape[1], classes), slt.SoftmaxLoss(sl.LossSpec())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    layer = model[-1]
    assert isinstance(layer, nn.Linear)
    if watched:
        slt.GradientMonitor(loss, classifier=layer, every=1)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return run


def monitor_rows(budget: float) -> Iterator[Row]:
    """Yield what a monitor adds to a step."""
    for network, shape, classes in NETWORKS:
        watched, alone = (step_call(network, shape, classes, watched=watched) for watched in (True, False))
        yield {"task": "monitor", "case": network, "n": shape[0], "k": classes} | ratio(
            watched, alone, budget=budget
        )


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:8} {row['case']:16} {row['n']:>6} x {row['k']:<6}"
    return f"{where} {row['ms']:9.3f} ms, {row['ratio']:.3f} of plain"


def about() -> Row:
    """Return when, on what and with which versions something is measured."""
    return {name: value for name, value in machine.circumstances().items() if name in COLUMNS}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_budget(parser, 4.0, "fifteen pairs")


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job for the loss and one for the monitor."""
    return [
        Job("loss", lambda: loss_rows(options.budget)),
        Job("monitor", lambda: monitor_rows(options.budget)),
    ]


BENCHMARK = Benchmark(
    "Time the balancing loss and the monitor on the CPU.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
    about,
)
main = BENCHMARK.main


if __name__ == "__main__":
    raise SystemExit(main())
