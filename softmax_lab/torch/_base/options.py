"""What a loss is told beside its tensors."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Options"]


class Options(NamedTuple):
    """The options of a loss, in the order of an operator's arguments."""

    reduction: str = "mean"
    empty: str = "nan"
    ignore_index: int = -100
    dim: int = -1
    signed: bool = False  # a target distribution may hold anything: negative, infinite and NaN entries
