"""What two processes check of the balancing loss and the monitor.

``test_balanced`` starts it, once for all cases.

Each writes ``rank<r>.pt``: what it computed from its part of the batch, for the test to compare with one
process on all of it.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

import softmax_lab.torch as slt
from softmax_lab import _dispatch
from tests.limits import HANG

COUNTS = np.array([60, 20, 5, 0])
K, D, STEPS = len(COUNTS), 3, 3
#: rows of each process in each step: uneven, and once none that counts
PARTS = ((slice(0, 9), slice(9, 14)), (slice(0, 2), slice(2, 14)), (slice(0, 12), slice(12, 14)))
IGNORED = -100


def problem(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden rows, labels and sample weights; the last two rows of the last step are ignored."""
    rng = np.random.default_rng(step)
    hidden, target = torch.from_numpy(rng.normal(size=(14, D))), torch.from_numpy(rng.integers(0, K - 1, 14))
    if step == STEPS - 1:
        target[12:] = IGNORED
    return hidden, target, torch.from_numpy(rng.uniform(0.5, 2.0, 14))


def run(parts: list[slice], counts: Any, *, weighted: bool) -> dict[str, Any]:
    """Train a linear layer for some steps on the parts of this process.

    DDP's average of the gradients is taken by hand.
    """
    layer = torch.nn.Linear(D, K, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, K * D).view(K, D))
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    loss = slt.GradientBalancedLoss(counts, eps=0.05)
    values = []
    with slt.GradientMonitor(loss, classifier=layer, momentum=0.5) as monitor:
        for step, part in enumerate(parts):
            hidden, target, weight = (tensor[part] for tensor in problem(step))
            optimizer.zero_grad()
            value = loss(3 * layer(hidden), target, weight if weighted else None)
            value.backward()
            shared = value.detach().clone()
            if dist.is_initialized():
                for part_of in (shared, *(p.grad for p in layer.parameters())):
                    assert part_of is not None
                    dist.all_reduce(part_of)
                    part_of /= dist.get_world_size()
            values.append(float(shared))
            optimizer.step()
            hidden, target, _ = (tensor[part] for tensor in problem(step + 100))
            loss.observe(layer(hidden), target)
    return {
        "values": values,
        "weight": layer.weight.detach(),
        "tau": loss.tau,
        "counts": loss.counts,
        "statistics": {name: torch.from_numpy(value) for name, value in monitor.latest.items()},
    }


def cases(parts: list[slice]) -> dict[str, dict[str, Any]]:
    """Every combination of counts and sample weights."""
    return {
        f"{name}, weighted={weighted}": run(parts, counts, weighted=weighted)
        for name, counts in (("given", COUNTS), ("gathered", K))
        for weighted in (False, True)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("rank", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    _dispatch.kernels = lambda: None  # type: ignore[assignment]  # the reference: nothing to load or compile
    dist.init_process_group(
        "gloo",
        init_method=f"file://{options.folder / 'meeting'}",
        rank=options.rank,
        world_size=2,
        timeout=timedelta(seconds=HANG),
    )
    found = cases([both[options.rank] for both in PARTS])
    torch.save(found, options.folder / f"rank{options.rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
