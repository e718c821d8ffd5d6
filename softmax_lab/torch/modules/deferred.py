"""A loss whose class weights come late in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from ... import _checks
from ...spec import LossSpec
from .softmax_loss import SoftmaxLoss
from .state import State

__all__ = ["DeferredReweighting"]


class DeferredReweighting(SoftmaxLoss):
    r"""Train with one spec first, and with class weights on top from epoch ``start`` on.

    The unweighted first phase learns the features, the weights then move the boundaries. Call :meth:`step` at
    the end of each epoch; the epoch is part of ``state_dict``.

    Parameters
    ----------
    spec : LossSpec
        Of the first phase, for example ``losses.ldam(counts)``.
    class_weight : array_like, shape ``(K,)``
        Of the second phase, for example ``losses.class_balanced(counts, beta=0.9999).class_weight``.
    start : int
        How many epochs the first phase takes; the paper's is 80 % of training.
    options
        As in :class:`SoftmaxLoss`.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> import softmax_lab.torch as slt
    >>> counts = [90, 10]
    >>> loss = slt.DeferredReweighting(
    ...     sl.losses.ldam(counts), sl.losses.class_balanced(counts).class_weight, start=1
    ... )
    >>> loss.spec == sl.losses.ldam(counts)
    True
    >>> loss.step()
    >>> loss.spec.class_weight.round(2)
    array([0.21, 1.79])

    References
    ----------
    K. Cao, C. Wei, A. Gaidon, N. Arechiga and T. Ma, "Learning imbalanced datasets with
    label-distribution-aware margin loss", NeurIPS 2019, algorithm 1.
    """

    _writer = "DeferredReweighting"

    def __init__(self, spec: LossSpec, class_weight: ArrayLike, start: int, **options: Any) -> None:
        super().__init__(spec, **options)
        self.start = _checks.whole("start", start, low=0)
        self.epoch = 0
        self._phases = (spec, replace(spec, class_weight=class_weight))
        self._choose()

    def step(self) -> None:
        """Count one more epoch."""
        self.epoch += 1
        self._choose()

    def _choose(self) -> None:
        wanted = self._phases[self.epoch >= self.start]
        if wanted is not self.spec:
            self.spec = wanted

    def _written(self) -> State:
        first, second = self._phases
        return State(self._writer, second.num_classes or 0, (self.start, self.epoch), (first, second))

    def _read(self, state: State) -> None:
        # an average of epochs is no whole number: the nearest is taken
        self.start, self.epoch = (
            round(_checks.number("an epoch", value, low=0.0)) for value in state.numbers
        )
        self._phases = (state.specs[0], state.specs[1])
        self._choose()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, start={self.start}, epoch={self.epoch}"
