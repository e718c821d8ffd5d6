"""What balance costs on the CPU: ``python -m experiments.benchmarks.balance_cpu``.

"loss": value and gradient of the balancing loss through autograd over those of plain ``slt.cross_entropy``,
on logits N x K. "monitor": a training step with a :class:`softmax_lab.torch.GradientMonitor` over the same
step without, for the networks of the long-tail grid; a monitor that measures every tenth step costs a tenth
of it. Pairs are timed in turn, so that both see the same machine. Rows are appended to
``experiments/results/balance_cpu.csv``.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments.long_tail_training import make_network

from .cpu import processor, versions

RESULTS = Path(__file__).parents[1] / "results" / "balance_cpu.csv"
COLUMNS = ("when", "processor", "versions", "task", "case", "n", "k", "ms", "ms_plain", "ratio", "repeats")
SHAPES = ((65536, 10), (4096, 1000), (512, 32768))
#: (network, images N C H W or features N D, classes)
NETWORKS = (("mlp", (128, 1600), 10), ("convnet", (128, 3, 32, 32), 10), ("convnet", (128, 3, 32, 32), 100))

Call = Callable[[], Any]


def ratio(call: Call, plain: Call, *, budget: float, repeats: int = 15) -> dict[str, float]:
    """Return median times, their ratio as the median over pairs, and how many pairs there were."""
    pairs: list[tuple[float, float]] = []
    for _ in range(3):
        call(), plain()
    begin = time.perf_counter()
    while len(pairs) < repeats or (time.perf_counter() - begin < budget and len(pairs) < 1000):
        pairs.append((_seconds(call), _seconds(plain)))
    ours, theirs = (1000 * statistics.median(part) for part in zip(*pairs, strict=True))
    return {
        "ms": ours,
        "ms_plain": theirs,
        "ratio": statistics.median(a / b for a, b in pairs),
        "repeats": len(pairs),
    }


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def loss_call(loss: Callable[..., torch.Tensor], n: int, k: int) -> Call:
    """Return the call that computes value and gradient."""
    generator = torch.Generator().manual_seed(0)
    z = (2 * torch.randn(n, k, generator=generator)).requires_grad_()
    y = torch.randint(0, k, (n,), generator=generator)

    def run() -> None:
        loss(z, y).backward()
        z.grad = None

    return run


def loss_rows(budget: float) -> Iterator[dict[str, Any]]:
    """Yield the costs of the balancing loss: with counts given, summed instead of averaged, smoothed, and
    counts gathered.
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
        slt.GradientMonitor(loss, classifier=layer)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return run


def monitor_rows(budget: float) -> Iterator[dict[str, Any]]:
    """Yield what a monitor adds to a step."""
    for network, shape, classes in NETWORKS:
        watched, alone = (step_call(network, shape, classes, watched=watched) for watched in (True, False))
        yield {"task": "monitor", "case": network, "n": shape[0], "k": classes} | ratio(
            watched, alone, budget=budget
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and append."""
    parser = argparse.ArgumentParser(description="Time the balancing loss and the monitor on the CPU.")
    parser.add_argument(
        "--budget", type=float, default=4.0, help="seconds a measurement, beyond fifteen pairs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = not options.out.is_file()
    about = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "processor": processor(),
        "versions": versions(),
    }
    with options.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        for rows in (loss_rows, monitor_rows):
            for row in rows(options.budget):
                writer.writerow(
                    about
                    | {
                        name: round(value, 4) if isinstance(value, float) else value
                        for name, value in row.items()
                    }
                )
                file.flush()
                print(
                    f"{row['task']:8} {row['case']:16} {row['n']:>6} x {row['k']:<6} {row['ms']:9.3f} ms, "
                    f"{row['ratio']:.3f} of plain"
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
