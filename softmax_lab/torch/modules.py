"""Losses as modules: a fixed spec, one that changes with the epoch, and one that depends on the scores of the
moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .. import _checks as _numpy_checks
from .._checks import Empty, Reduction
from ..spec import LossSpec
from . import _checks, ops
from ._composite import Options
from ._family import SpecTensors
from ._labels import labels_of
from ._passes import FirstPasses
from ._shared import loss_dtype, on_device
from ._state import State, Stateful

__all__ = ["DeferredReweighting", "SeesawLoss", "SoftmaxLoss"]


class SoftmaxLoss(Stateful):
    """:func:`softmax_lab.torch.cross_entropy` with a spec, as a module.

    Assign to ``spec`` to change the loss, at every step if need be: nothing is compiled anew, and its arrays
    are brought once to the device that the module was moved to. The spec is part of ``state_dict``, as one
    float64 vector, in full precision whatever ``half()`` does to the model around it. It has no parameters: a
    temperature, scale or bias that is learned belongs before it.

    Parameters
    ----------
    spec : LossSpec
    reduction, ignore_index, dim, empty
        As in :func:`softmax_lab.torch.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab as sl
    >>> import softmax_lab.torch as slt
    >>> loss = slt.SoftmaxLoss(sl.losses.balanced_softmax([90, 10]))
    >>> loss
    SoftmaxLoss(LossSpec(bias=<2 in [-2.303, -0.1054]>))
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor(2.3026)
    >>> other = slt.SoftmaxLoss()
    >>> _ = other.load_state_dict(loss.state_dict())
    >>> other.spec == loss.spec
    True
    """

    _writer = "SoftmaxLoss"

    def __init__(
        self,
        spec: LossSpec = LossSpec(),
        *,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        dim: int = -1,
        empty: Empty = "nan",
    ) -> None:
        super().__init__()
        _numpy_checks.choice("reduction", reduction, _numpy_checks.REDUCTIONS)
        _numpy_checks.choice("empty", empty, _numpy_checks.EMPTY_RULES)
        self.options = Options(reduction, empty, _numpy_checks.ignored_label(ignore_index), dim)
        self._device = torch.device("cpu")
        self.spec = spec

    @property
    def spec(self) -> LossSpec:
        """The member of the family in use."""
        return self._spec

    @spec.setter
    def spec(self, spec: LossSpec) -> None:
        if not isinstance(spec, LossSpec):
            raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
        self._spec = spec
        # for the compiler, which cannot look into the cache of eager mode
        self._fields = on_device(spec, self._device)

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss; arguments as in :func:`softmax_lab.torch.cross_entropy`."""
        options = _checks.loss(logits, target, self._spec, sample_weight, self.options)
        spec = _on(logits.device, self._fields) if torch.compiler.is_compiling() else self._spec
        return ops.loss(logits, target, spec, sample_weight, options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SoftmaxLoss:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # of fn only the place matters: numbers keep their precision. From meta, where they have no memory,
        # they can come all the same
        self._device = fn(
            torch.empty(0, device="cpu" if self._device.type == "meta" else self._device)
        ).device
        self._fields = on_device(self._spec, self._device)
        return self

    def _written(self) -> State:
        return State(self._writer, self._spec.num_classes or 0, (), (self._spec,))

    def _read(self, state: State) -> None:
        (self.spec,) = state.specs

    def _refresh(self) -> None:
        if self._device.type == "meta":  # loaded in place of tensors without memory: there is no move to come
            self._device = torch.device("cpu")
            self._fields = on_device(self._spec, self._device)

    def extra_repr(self) -> str:
        given = {
            name: value
            for name, value in self.options._asdict().items()
            if value != Options._field_defaults[name]
        }
        return ", ".join([repr(self._spec), *(f"{name}={value!r}" for name, value in given.items())])


def _on(device: torch.device, spec: SpecTensors) -> SpecTensors:
    """Return the fields on the device: where a state was put in place of tensors without memory, the module
    was never moved there.
    """
    values: dict[str, Any] = {
        name: value.to(device) for name, value in spec._asdict().items() if isinstance(value, Tensor)
    }
    return spec._replace(**values)


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
        self.start = _numpy_checks.whole("start", start, low=0)
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
        # an average of epochs is none; the nearest is
        self.start, self.epoch = (
            round(_numpy_checks.number("an epoch", value, low=0.0)) for value in state.numbers
        )
        self._phases = (state.specs[0], state.specs[1])
        self._choose()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, start={self.start}, epoch={self.epoch}"


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
        classes = _numpy_checks.whole("num_classes", num_classes, low=1)
        self._set(p, q, min_score)
        self.loss = SoftmaxLoss(reduction=reduction, ignore_index=ignore_index)
        # integers: half() leaves them alone
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def _set(self, p: float, q: float, min_score: float) -> None:
        exponents = [_numpy_checks.number(name, value, low=0.0) for name, value in (("p", p), ("q", q))]
        self.min_score = _numpy_checks.number("min_score", min_score, low=0.0, high=1.0, open_low=True)
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
        options = _checks.loss(logits, target, self.loss.spec, sample_weight, self.loss.options)
        if target.is_floating_point():
            raise ValueError("SeesawLoss needs class-index targets; got a distribution per row")
        if logits.shape[-1] != len(self.counts):
            raise ValueError(
                f"logits must have {len(self.counts)} classes along the last dimension; got shape "
                f"{tuple(logits.shape)}"
            )
        if ops.is_concrete(target):  # before a wrong label is counted
            _checks.labels(target, logits.shape[-1], options.ignore_index)

    @torch.no_grad()
    def shift(self, logits: Tensor, label: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return log M + log C, of the logits' shape.

        0 at the target. The counts are those of now, unless others are given.
        """
        log_n = (self.counts if counts is None else counts).clamp(min=1).to(logits.dtype).log()
        mitigation = self.p * (log_n - log_n[label][..., None]).clamp(max=0.0)
        scores = ops.log_softmax(logits, 1.0, logits.ndim - 1)
        own = scores.gather(-1, label[..., None]).clamp(min=float(np.log(self.min_score)))
        return mitigation + self.q * (scores - own).clamp(min=0.0)

    def extra_repr(self) -> str:
        return f"{len(self.counts)}, p={self.p:g}, q={self.q:g}, min_score={self.min_score:g}"
