"""How a row is cut: from the number of classes alone, so that no bit of a row depends on the batch."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PART", "SHORT", "WHOLE", "Plan", "plan"]

# Compiled for the architecture sm_90, the plain loss and the maps keep all of a tile in registers
# (tests/torch/triton/compiled.py).
WHOLE = 16384  # classes of a row that one program holds in registers: 16 for each of 1024 threads
PART = 4096  # classes of a part of a longer row: beside 8 logits a thread come 32 running sums
SHORT = 256  # entries of a program's tile of several short rows: 8 for each thread of a warp


class Plan(NamedTuple):
    """The shape of a program's tile, whether a row is held at once, and the warps that share it."""

    rows: int
    block: int
    whole: bool
    warps: int

    def grid(self, num_rows: int) -> tuple[int]:
        return (-(-num_rows // self.rows),)


def plan(num_classes: int) -> Plan:
    """Return the plan for rows of so many classes.

    A row that one program can hold is read once: its exponentials wait in registers for their sum. A longer
    one is read twice, in parts: for the online normaliser (Milakov and Gimelshein 2018), and again, last part
    first since that is still in the cache.
    """
    block = 1 << max(num_classes - 1, 1).bit_length()
    whole = block <= WHOLE
    block = block if whole else PART
    rows = max(1, SHORT // block)
    # 8 entries a thread; of long rows 16, since a row must fit twice into a processor's registers for one to
    # load while another stores
    entries = 8 if block <= 2048 or not whole else 16
    return Plan(rows, block, whole, max(rows * block // (32 * entries), 1))
