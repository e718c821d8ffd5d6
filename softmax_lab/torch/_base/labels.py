"""Class indices, in one place: widened before they are compared, and looked at before use as an index."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from .tensors import as_array, at_hand

__all__ = ["Labels", "checked", "labels_of"]

_LIBRARY = torch.library.Library("softmax_lab", "FRAGMENT")
_LIBRARY.define("labels(Tensor target, int num_classes, int ignore_index) -> Tensor")


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


def checked(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Return class indices as int64.

    ``IndexError`` names the first that is out of range, where values are at hand.

    In a compiled graph the operator looks when it runs. On another device than the CPU what indexes with the
    label asserts.
    """
    if torch.compiler.is_compiling():
        result: Tensor = torch.ops.softmax_lab.labels(target, num_classes, ignore_index)
        return result
    values = at_hand(target)
    if values is not None:
        _checks.labels(values, num_classes, ignore_index, values.shape)
    return target.long()


def _on_cpu(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    _checks.labels(as_array(target), num_classes, ignore_index, tuple(target.shape))
    return target.to(torch.int64, copy=True)  # an operator's output is no view of its input


def _elsewhere(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return target.to(torch.int64, copy=True)


_LIBRARY.impl("labels", _on_cpu, "CPU")
_LIBRARY.impl("labels", _elsewhere, "CompositeExplicitAutograd")
torch.library.register_fake(
    "softmax_lab::labels", lambda target, *_: target.new_empty(target.shape, dtype=torch.int64), lib=_LIBRARY
)
