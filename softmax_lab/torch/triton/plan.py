"""How a row is cut: from the number of classes alone, so that no bit of a row depends on the batch."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

__all__ = ["PART", "SHORT", "WHOLE", "Held", "Plan", "held", "plan"]

# Compiled for the architecture sm_90, the plain loss and the maps keep all of a tile in registers
# (tests/torch/triton/compiled.py).
WHOLE = 16384  # classes of a row that one program holds in registers: 16 for each of 1024 threads
PART = 4096  # classes of a part of a longer row: beside 8 logits a thread come 32 running sums
SHORT = 256  # entries of a program's tile of several short rows: 8 for each thread of a warp

ALONE = 16384  # classes of a plain row that one program reads once
TOGETHER = 1024  # entries of a warp's tile: 32 a thread, beside which what is done once a row is little
SEGMENT = 8192  # classes of a segment of a row that several programs hold
MOST_SEGMENTS = 128  # no card that this is made for runs fewer programs at once


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


class Held(NamedTuple):
    """How rows are held that are read once (:mod:`.plain`)."""

    rows: int  # of a program
    block: int
    segments: int  # programs that share a row
    warps: int
    registers: int  # of a thread, at most, where programs share rows
    resident: int  # programs that a multiprocessor then surely runs at once


@lru_cache
def held(num_classes: int) -> Held | None:
    """Return how rows of so many classes are held, or None where they have to be read twice."""
    if num_classes <= ALONE:
        block = 1 << max(num_classes - 1, 1).bit_length()
        rows = max(1, TOGETHER // block)
        return Held(rows, block, 1, rows * block // TOGETHER, 0, 0)
    segments = -(-num_classes // SEGMENT)
    return Held(1, SEGMENT, segments, 8, 128, 2) if segments <= MOST_SEGMENTS else None
