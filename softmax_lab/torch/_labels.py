"""Class indices of any integer type, and which rows count: the one place where a label is compared with ``ignore_index``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Labels", "labels_of"]


class Labels(NamedTuple):
    """Labels as int64, 0 where a row does not count, and which rows count; both of the target's shape."""

    label: Tensor
    live: Tensor


def labels_of(target: Tensor, ignore_index: int) -> Labels:
    """Return the labels of a class-index target.

    Widened before they are compared: in uint8 the usual ``ignore_index`` of -100 would be class 156.
    """
    given = target.long()
    live = given != ignore_index
    return Labels(torch.where(live, given, 0), live)
