"""A softmax layer of 20,001 classes whose rows are spread over two processes, in a few steps of training.

Each process holds half of the weight, and neither its logits nor the other's half ever exist there. The
losses are those of one process.

    python examples/large_vocabulary.py                                    one process
    torchrun --standalone --nproc-per-node 2 examples/large_vocabulary.py  two
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

import softmax_lab.torch as slt

CLASSES, WIDTH, ROWS, STEPS = 20_001, 32, 64, 5


def main() -> list[float]:
    """Return the losses of the steps, the same on every process."""
    torch.manual_seed(0)
    whole = torch.randn(CLASSES, WIDTH) / WIDTH**0.5
    table = torch.nn.Parameter(torch.randn(CLASSES, WIDTH))  # the hidden rows; the same on every process
    pairs = torch.randint(CLASSES, (STEPS, 2, ROWS))

    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    weight = torch.nn.Parameter(whole.tensor_split(world)[rank].clone())
    optimizer = torch.optim.SGD([table, weight], lr=1.0)

    losses = []
    for given, target in pairs:
        hidden = table[given]
        value = (
            slt.parallel.linear_cross_entropy(hidden, weight, target)
            if world > 1
            else slt.linear_cross_entropy(hidden, weight, target)
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    print(
        f"process {rank} of {world} holds {len(weight)} classes; losses {[round(each, 4) for each in losses]}"
    )
    return losses


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    main()
    if dist.is_initialized():
        dist.destroy_process_group()
