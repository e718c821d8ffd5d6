"""The seesaw loss, which depends on the scores of the moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import _checks as numpy_checks
from ..._checks import Reduction
from .._base import checks
from .._base.autograd import is_concrete
from .._base.labels import labels_of
from .._base.tensors import loss_dtype
from .._operators import calls
from .passes import FirstPasses
from .softmax_loss import SoftmaxLoss
from .state import State, Stateful

__all__ = ["SeesawLoss"]


class SeesawLoss(Stateful):
    r"""Seesaw: spare the rare classes the push of frequent targets, unless they are mistaken for the target.

    .. math::

        u_k &= z_k + \log M_{yk} + \log C_k \qquad (k \ne y) \\
        M_{yk} &= \min(1, n_k / n_y)^p, \qquad \sigma = \operatorname{softmax}(z) \\
        C_k &= \max(1, \sigma_k / \max(\sigma_y, s_{\min}))^q

    Mitigation M is that of :func:`softmax_lab.losses.seesaw`, here with the counts n of the training samples
    seen so far; compensation C gives the push back where the scores show a mistake; s_min is ``min_score``.
    Both are constants in the derivative, q - e_y.

    Where ``torch.distributed`` is initialised, the counts are those of all processes, and the same in each.
    So it does not matter that ``DistributedDataParallel`` copies the buffers of its first process to the
    others. Every process of ``group`` must call the loss equally often.

    Under activation checkpointing a batch is counted once, and computed again with the counts that its first
    pass saw; where those cannot be told, that is a ``RuntimeError``.

    Parameters
    ----------
    num_classes : int
    p, q : float
        Exponents >= 0; 0 switches the factor off.
    min_score : float
        Floor of the target's score in C, in (0, 1]; the paper has none, the authors' code 0.01.
    reduction, ignore_index
        As in :func:`softmax_lab.torch.cross_entropy`; the classes are the last dimension.
    group : torch.distributed.ProcessGroup, optional
        Whose processes share a batch; the default group. Not used before ``torch.distributed`` is
        initialised.

    Attributes
    ----------
    counts : Tensor, shape ``(K,)``
        Samples seen in training mode, a buffer. Part of ``state_dict``, as are p, q and ``min_score``.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> loss = slt.SeesawLoss(2, q=0.0)
    >>> loss.counts += torch.tensor([9, 1])
    >>> loss.eval()(torch.zeros(1, 2), torch.tensor([0])) < loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor(True)

    References
    ----------
    J. Wang, W. Zhang, Y. Zang, Y. Cao, J. Pang, T. Gong, K. Chen, Z. Liu, C. C. Loy and D. Lin, "Seesaw loss
    for long-tailed instance segmentation", CVPR 2021, eqs. 3-7.
    """

    counts: Tensor
    _writer = "SeesawLoss"
    _writes_since = 2

    def __init__(
        self,
        num_classes: int,
        *,
        p: float = 0.8,
        q: float = 2.0,
        min_score: float = 0.01,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        group: Any = None,
    ) -> None:
        super().__init__()
        self._passes = FirstPasses(group)
        classes = numpy_checks.whole("num_classes", num_classes, low=1)
        self._set(p, q, min_score)
        self.loss = SoftmaxLoss(reduction=reduction, ignore_index=ignore_index)
        # half() leaves integers alone
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def _set(self, p: float, q: float, min_score: float) -> None:
        exponents = [numpy_checks.number(name, value, low=0.0) for name, value in (("p", p), ("q", q))]
        self.min_score = numpy_checks.number("min_score", min_score, low=0.0, high=1.0, open_low=True)
        self.p, self.q = exponents

    def _written(self) -> State:
        return State(self._writer, len(self.counts), (self.p, self.q, self.min_score))

    def _read(self, state: State) -> None:
        self._set(*state.numbers)

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``(..., K)`` and class indices ``(...)``.

        In training mode count the targets first.
        """
        self._check(logits, target, sample_weight)
        labels = labels_of(target, self.loss.options.ignore_index)
        counts, _ = self._passes.count(self.counts, 0.0, labels, logits, training=self.training)
        wide = logits.to(loss_dtype(logits.dtype))
        value: Tensor = self.loss(
            wide + self.shift(wide.detach(), labels.label, counts), target, sample_weight
        )
        return value

    def _check(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None) -> None:
        options = checks.loss(logits, target, self.loss.spec, sample_weight, self.loss.options)
        if target.is_floating_point():
            raise ValueError("SeesawLoss needs class-index targets; got a distribution per row")
        if logits.shape[-1] != len(self.counts):
            raise ValueError(
                f"logits must have {len(self.counts)} classes along the last dimension; got shape "
                f"{tuple(logits.shape)}"
            )
        if is_concrete(target):  # before a wrong label is counted
            checks.labels(target, logits.shape[-1], options.ignore_index)

    @torch.no_grad()
    def shift(self, logits: Tensor, label: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return log M + log C, of the logits' shape.

        0 at the target. The counts are those of now, unless others are given.
        """
        log_n = (self.counts if counts is None else counts).clamp(min=1).to(logits.dtype).log()
        mitigation = self.p * (log_n - log_n[label][..., None]).clamp(max=0.0)
        scores = calls.log_softmax(logits, 1.0, logits.ndim - 1)
        own = scores.gather(-1, label[..., None]).clamp(min=float(np.log(self.min_score)))
        return mitigation + self.q * (scores - own).clamp(min=0.0)

    def extra_repr(self) -> str:
        return f"{len(self.counts)}, p={self.p:g}, q={self.q:g}, min_score={self.min_score:g}"
