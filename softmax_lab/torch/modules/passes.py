"""What a forward pass saw, for its recomputation.

Activation checkpointing runs the pass again, inside the backward pass.

A module that counts in its forward pass must not count there once more. It must compute from the counts of
the first pass, or value and gradient would be those of two functions. Whatever checkpoints (torch's two
kinds, selective or nested, or another package's) runs the first pass without a graph or under hooks on saved
tensors. So only such passes are remembered, and others cost nothing.

A recomputation looks for the pass with the same labels and, among several, the same norm of the logits:
contents, since the tensors may be copies. A pass is forgotten once its backward pass is over, unless that
keeps its graph. Nothing is guessed: where no pass fits, or several that saw different counts, it is an error.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .._base.autograd import graph_is_kept, is_recomputation, saved_tensors_are_watched
from .._base.labels import Labels
from .._base.tensors import exact_dtype

__all__ = ["IN_FLIGHT", "FirstPasses", "distributed", "may_be_repeated"]

IN_FLIGHT = 64  #: forward passes that are remembered until their backward pass


def may_be_repeated() -> bool:
    """Whether this may be the first pass of a checkpoint."""
    return not torch.is_grad_enabled() or saved_tensors_are_watched()


def distributed() -> bool:
    """Whether several processes may share a batch."""
    return dist.is_available() and dist.is_initialized()


class _Pass:
    """A remembered pass."""

    def __init__(self, key: _Key, state: Any, *, used: bool) -> None:
        self.key, self.state, self.used, self.kept = key, state, used, False


class _Key:
    """The contents of a batch in two numbers, which stay on its device until they are asked for."""

    def __init__(self, labels: Labels, logits: Tensor) -> None:
        given = torch.where(labels.live, labels.label, -1).reshape(-1)
        # the products wrap around
        mixed = (given + torch.arange(len(given), device=given.device) * 0x1F123BB5) * 0x5851F42D4C957F2D
        mixed = (mixed ^ (mixed >> 29)) * 0x369DEA0F31A53F85
        self._of_labels = (mixed ^ (mixed >> 32)).sum()
        wide = exact_dtype(logits.device)
        self._of_logits = torch.linalg.vector_norm(
            logits.to(torch.float32) if logits.dtype.itemsize < 4 else logits, dtype=wide
        )
        self.shape = logits.shape

    def values(self) -> tuple[Any, str]:
        # a NaN as text equals itself
        return (self.shape, self._of_labels.item()), repr(self._of_logits.item())


class FirstPasses:
    """The passes of one module whose backward pass is yet to come."""

    _all: ClassVar[weakref.WeakValueDictionary[int, FirstPasses]] = weakref.WeakValueDictionary()
    _handles = itertools.count()

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.lost = False  # whether one has been dropped for want of room
        self._passes: list[_Pass] = []
        self.handle = next(self._handles)  # by which the compiled operator finds it
        self._all[self.handle] = self

    def __reduce__(self) -> Any:
        return FirstPasses, (self.group,)  # a copy of a module has its own

    def __deepcopy__(self, _: Any) -> FirstPasses:
        return FirstPasses(self.group)

    def remember(self, key: _Key, state: Any, *, used: bool = False) -> None:
        self._passes.append(_Pass(key, state, used=used))
        if len(self._passes) > IN_FLIGHT:
            self.lost = not self._passes.pop(0).used or self.lost

    def forget_finished(self) -> None:
        """Forget what has been computed again; not to be called inside a backward pass."""
        self._passes = [one for one in self._passes if one.kept or not one.used]
        self.lost = self.lost and bool(self._passes)

    def like(self, key: _Key) -> list[_Pass]:
        """Return the passes of this batch, and note that their recomputation has come."""
        labels, logits = key.values()
        alike = [one for one in self._passes if one.key.values()[0] == labels]
        alike = [one for one in alike if one.key.values()[1] == logits] or alike
        for one in alike:
            one.used, one.kept = True, one.kept or graph_is_kept()
        return alike

    # ---- a batch that is seen once or twice ----

    def batch_seen(self, labels: Labels, logits: Tensor) -> bool:
        """Whether a batch that gradients flow through has been here before.

        The answer is True for all but the first of its passes.
        """
        if not is_recomputation():
            if may_be_repeated():
                with _bookkeeping():
                    self.remember(_Key(labels, logits), None)
            return False
        with _bookkeeping():
            key = _Key(labels, logits)
            if self.like(key):
                return True
            if self.lost:
                raise RuntimeError(_UNKNOWN)
            # a checkpoint whose first pass had no graph: this is the pass that has one
            self.remember(key, None, used=True)
        return False

    # ---- counts ----

    def count(
        self, counts: Tensor, number: float, labels: Labels, logits: Tensor, *, training: bool
    ) -> tuple[Tensor, float | Tensor]:
        """Add a batch to the counts, where this is its first pass in training mode.

        Return the counts and the number to compute with.

        ``number`` is a setting that may change between a pass and its recomputation.
        """
        if torch.compiler.is_compiling():
            # a product keeps the number an input of the graph
            one = torch.ones((), dtype=torch.float64, device="cpu")
            call = torch.ops.softmax_lab.count
            result: tuple[Tensor, Tensor] = call(
                counts, one * number, *labels, logits.detach(), training, self.handle
            )
            return result
        return self._count(counts, number, labels, logits, training)

    def _count(
        self, counts: Tensor, number: float, labels: Labels, logits: Tensor, training: bool
    ) -> tuple[Tensor, float]:
        if is_recomputation():
            with _bookkeeping():
                found = self._state_of(_Key(labels, logits), training)
            return found or (counts, number)
        self.forget_finished()
        if training:
            with torch.no_grad():
                counts += _seen(labels, len(counts), self.group)
        if counts.is_meta or not may_be_repeated():
            return counts, number
        with _bookkeeping():
            state = counts.clone(), number
            self.remember(_Key(labels, logits), state)
        return state

    def _state_of(self, key: _Key, training: bool) -> tuple[Tensor, float] | None:
        """Return what the first pass of this batch saw.

        None where nothing is counted and nothing is known of one.
        """
        found: list[tuple[Tensor, float]] = [one.state for one in self.like(key)]
        if not found:
            if training:
                raise RuntimeError(_UNKNOWN)
            return None
        if any(number != found[0][1] or not torch.equal(counts, found[0][0]) for counts, number in found[1:]):
            raise RuntimeError(_SEVERAL)
        return found[0]


_UNKNOWN = (
    "a loss that counts was called inside a backward pass with a batch that no forward pass of it has seen "
    f"(or more than {IN_FLIGHT} forward passes ago); a recomputation must have the labels of its first pass: "
    "use less accumulation, or keep the loss outside of the checkpoint"
)
_SEVERAL = (
    "a checkpoint recomputes a batch that several forward passes have seen alike, with other counts each, "
    "before their backward passes; call backward after each of them, or keep the loss outside of the "
    "checkpoint"
)


@contextmanager
def _bookkeeping() -> Iterator[None]:
    """Work that no graph and no dispatch mode sees.

    A selective checkpoint would look for it in the other pass.
    """
    with torch.no_grad(), _disable_current_modes():
        yield


def _seen(labels: Labels, num_classes: int, group: Any) -> Tensor:
    """Return how many rows of all processes have each label, (K,) int64."""
    label, live = labels.label.reshape(-1), labels.live.reshape(-1)
    found = torch.zeros(num_classes, dtype=torch.int64, device=label.device).index_add_(0, label, live.long())
    if distributed():
        dist.all_reduce(found, group=group)
    return found


# ---- compiled code decides when it runs, not when it is traced ----

_LIBRARY = torch.library.Library("softmax_lab", "FRAGMENT")
_LIBRARY.define(
    "count(Tensor(a!) counts, Tensor number, Tensor label, Tensor live, Tensor logits, bool training, int "
    "handle) -> (Tensor, Tensor)"
)


def _count_now(
    counts: Tensor, number: Tensor, label: Tensor, live: Tensor, logits: Tensor, training: bool, handle: int
) -> tuple[Tensor, Tensor]:
    found, value = FirstPasses._all[handle]._count(
        counts, float(number), Labels(label, live), logits, training
    )
    return found.clone(), torch.full_like(number, value)


def _count_shapes(counts: Tensor, number: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(counts), torch.empty_like(number)


_LIBRARY.impl("count", _count_now, "CompositeExplicitAutograd")
torch.library.register_fake("softmax_lab::count", _count_shapes, lib=_LIBRARY)
