"""What two processes check of losses inside ``DistributedDataParallel``.

``test_state`` starts it, once for all cases.

Each writes ``rank<r>.pt``: what it computed from its half of each batch, for the test to compare with one
process on all of it.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import softmax_lab.torch as slt
from softmax_lab import _dispatch
from tests.limits import HANG

K, D, N, STEPS = 4, 3, 12, 4


class Model(nn.Module):
    """A linear layer with its loss inside, as programs have it that wrap the whole of it."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Linear(D, K, dtype=torch.float64)
        self.loss = loss
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, K * D).view(K, D))
            self.layer.bias.zero_()

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        value: Tensor = self.loss(3 * self.layer(hidden), target)
        return value


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Rows whose first half has other classes than the second."""
    generator = torch.Generator().manual_seed(step)
    hidden = torch.randn(N, D, dtype=torch.float64, generator=generator)
    low, high = (
        torch.randint(0, 2, (N // 2,), generator=generator),
        torch.randint(1, K, (N // 2,), generator=generator),
    )
    return hidden, torch.cat([low, high])


def losses() -> dict[str, nn.Module]:
    return {"seesaw": slt.SeesawLoss(K), "gathered": slt.GradientBalancedLoss(K, eps=0.05)}


def run(part: slice) -> dict[str, dict[str, Any]]:
    """Train on a part of every batch."""
    found = {}
    for name, loss in losses().items():
        plain = Model(loss)
        model = DistributedDataParallel(plain) if dist.is_initialized() else plain
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.3)
        seen = []
        for step in range(STEPS):
            hidden, target = batch(step)
            optimizer.zero_grad()
            model(hidden[part], target[part]).backward()
            optimizer.step()
            seen.append(plain.get_buffer("loss.counts").clone())
        found[name] = {
            "weight": plain.layer.weight.detach(),
            "counts": torch.stack(seen),
            "state": plain.state_dict(),
        }
    return found


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    _dispatch.kernels = lambda: None  # type: ignore[assignment]  # the reference: nothing to load or compile
    meeting, wait = f"file://{folder / 'meeting'}", timedelta(seconds=HANG)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=wait)
    torch.save(run(slice(0, N // 2) if rank == 0 else slice(N // 2, N)), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
