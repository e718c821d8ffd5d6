"""What two processes check of the log of the mean loss inside ``DistributedDataParallel``.

``test_accumulator`` starts it. Each writes ``rank<r>.pt``: the gradients of its parts, for the test to
compare with one process on the joined batch.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import softmax_lab.torch as slt
from tests.limits import HANG

from .batches import ROWS, WEIGHTS, X, Y, model

#: the rows of each process, part by part
PARTS = ((slice(0, 2), slice(2, 6)), (slice(6, 11), slice(11, ROWS)))


def main(rank: int, folder: Path) -> None:
    meeting, wait = f"file://{folder / 'store'}", timedelta(seconds=HANG)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=wait)
    own: nn.Module = DistributedDataParallel(model())
    parts = slt.LogMeanAccumulator(own.parameters())
    for rows in PARTS[rank]:
        value = slt.log_cross_entropy(own(X[rows]), Y[rows], sample_weight=WEIGHTS[rows])
        parts.backward(value, WEIGHTS[rows].sum())
    torch.save(
        {"value": parts.value, "gradients": [p.grad for p in own.parameters()]}, folder / f"rank{rank}.pt"
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
