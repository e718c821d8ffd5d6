"""One line in a program that exists: its losses become this package's, and its own again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ._patches import causal_lm, stand_in
from ._patches.places import Attribute, Replaced

__all__ = ["Patch", "patch", "patched"]

_lock = threading.RLock()
_on: set[Patch] = set()
_replaced: list[Replaced] = []


class Patch:
    """A patch that is on until it is undone; :func:`patch` makes it.

    .. versionadded:: 0.2
    """

    def undo(self) -> None:
        """Take the patch away; a second time does nothing.

        The losses stay this package's while other patches are on. With the last one each place holds again
        what it held before the first, and what somebody else has put there meanwhile stays.
        """
        with _lock:
            _on.discard(self)
            if not _on:
                stand_in.switch(False)
                while _replaced:
                    _replaced.pop().undo()


def patch() -> Patch:
    """Put this package's losses in the place of torch's and transformers', until ``undo`` of what comes back.

    For a program that cannot be put into a ``with`` block; :func:`patched` says what is replaced.

    .. versionadded:: 0.2

    Returns
    -------
    Patch
        Its method ``undo()`` takes the patch away.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> loss, logits, target = torch.nn.CrossEntropyLoss(), torch.tensor([[40.0, 0.0]]), torch.tensor([0])
    >>> patch = slt.patch()
    >>> loss(logits, target)
    tensor(4.2484e-18)
    >>> patch.undo()
    >>> loss(logits, target)
    tensor(0.)

    See Also
    --------
    patched : the same for the length of a block, also where the block ends with an error.
    """
    with _lock:
        made = Patch()
        _on.add(made)
        taken = [each.place for each in _replaced]
        for place, ours in _replacements():
            if place not in taken:
                _replaced.append(Replaced.by(place, ours))
        stand_in.switch(True)
    return made


@contextmanager
def patched() -> Iterator[None]:
    """Run a block, or a function that it decorates, with this package's losses in the place of torch's.

    Replaced are, everywhere in the process:

    - ``torch.nn.functional.cross_entropy``, by :func:`softmax_lab.torch.functional.cross_entropy`, which has
      its signature and its semantics, and says what differs;
    - with it ``torch.nn.CrossEntropyLoss``, also of modules that were made before, and every loss of other
      libraries that calls the function by its module. Who imported the function by name keeps torch's;
    - the loss of transformers' causal language models, where transformers is imported by then: called with
      ``labels`` and with gradients on, a model whose last layer is a plain ``nn.Linear`` has
      :func:`softmax_lab.torch.linear_cross_entropy` of its hidden rows, and logits never exist. The output's
      ``logits`` are computed when something reads them, which has to be before the optimizer's step.
      Quantised, sharded, adapted and hooked last layers, losses of the program's own, compiled models and
      ``model.forward(...)`` keep their logits, and have the function above.

    Blocks may be nested, in threads too, and end with an error: with the last one everything is as it was.
    Compiled code is not kept over a change: ``torch.compile`` compiles again. What is scripted has torch's.

    .. versionadded:: 0.2

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> logits, target = torch.tensor([[40.0, 0.0]]), torch.tensor([0])
    >>> with slt.patched():
    ...     torch.nn.functional.cross_entropy(logits, target)
    tensor(4.2484e-18)
    >>> torch.nn.functional.cross_entropy(logits, target)
    tensor(0.)

    See Also
    --------
    patch : the same until it is undone by hand.
    softmax_lab.torch.functional.cross_entropy : the drop-in to call by its name.
    """
    made = patch()
    try:
        yield
    finally:
        made.undo()


def _replacements() -> Iterator[tuple[Attribute, Any]]:
    yield Attribute(torch.nn.functional, "cross_entropy"), stand_in.cross_entropy
    yield from causal_lm.replacements()
