"""The log of the mean loss as a module."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import Empty, Reduction
from ...spec import LossSpec, refuse_in_log
from .._base import checks
from .._operators import log_calls
from .softmax_loss import SoftmaxLoss

__all__ = ["LogCrossEntropyLoss"]


class LogCrossEntropyLoss(SoftmaxLoss):
    """:func:`softmax_lab.torch.log_cross_entropy` with a spec, as a module.

    Its spec and its state are those of :class:`softmax_lab.torch.SoftmaxLoss`. Shapes, errors and the source
    are the function's.

    .. versionadded:: 0.2

    Parameters
    ----------
    spec : LossSpec
        With the fields that the function takes.
    reduction, ignore_index, dim, empty
        As in :func:`softmax_lab.torch.log_cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> loss = slt.LogCrossEntropyLoss()
    >>> loss(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]))
    tensor(-1000.)
    """

    _writer = "LogCrossEntropyLoss"

    def __init__(
        self,
        spec: LossSpec = LossSpec(),
        *,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        dim: int = -1,
        empty: Empty = "nan",
    ) -> None:
        if isinstance(spec, LossSpec):
            refuse_in_log(spec, False)
        super().__init__(spec, reduction=reduction, ignore_index=ignore_index, dim=dim, empty=empty)

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss; arguments as in :func:`softmax_lab.torch.log_cross_entropy`."""
        options = checks.log_loss(logits, target, self._spec, sample_weight, self.options)
        spec = self._fields_on(logits.device) if torch.compiler.is_compiling() else self._spec
        return log_calls.loss(logits, target, spec, sample_weight, options)
