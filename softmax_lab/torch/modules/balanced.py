"""The gradient-balancing loss as a module.

Its counts are given or gathered, and held-out rows may steer its tau.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike
from torch import Tensor

from ... import _checks as numpy_checks
from ... import balance, losses
from ...spec import LossSpec
from .._base import checks
from .._base.autograd import is_concrete
from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import exact_dtype, loss_dtype
from .._formula.fields import SpecTensors, only
from .._formula.terms import class_weights
from .._operators import calls
from .passes import FirstPasses, distributed
from .softmax_loss import SoftmaxLoss
from .state import State

__all__ = ["GradientBalancedLoss"]


class GradientBalancedLoss(SoftmaxLoss):
    r"""The loss of :func:`softmax_lab.losses.gradient_balanced` as a module.

    Counts are given, or gathered from the targets as they come. With ``reduction="mean"`` and
    ``torch.distributed`` initialised, the loss is normalised so that the *average* of the processes'
    gradients, which ``DistributedDataParallel`` takes, is the gradient of one process on the joined batch:
    each process's mean is multiplied by its share of all weights times the number of processes, and gathered
    counts are those of all processes. Every process of ``group`` must then call it equally often.

    **Held-out rows** (optional): call :meth:`observe` with logits of rows that are not trained on, now and
    then. Each call moves tau by a part of the Newton step of :func:`softmax_lab.balance.prior_response`,
    towards the value at which the model favours neither head nor tail on them. There is no schedule to
    choose; what it costs is the rows.

    With gradient accumulation each micro-batch is normalised by its own weights, as every mean is. Under
    activation checkpointing a batch is counted once, and computed again with the counts and the tau that its
    first pass saw; where those cannot be told, that is a ``RuntimeError``.

    Parameters
    ----------
    counts : array_like of shape ``(K,)``, or int
        Training samples per class, or K alone: then they are gathered, in training mode, the batch's own
        before its loss is computed. A class without samples counts as one.
    num_classes : int, optional
        K by its name, in place of ``counts``: ``GradientBalancedLoss(num_classes=10)``.

        .. versionadded:: 0.2
    tau, strength, gate, eps, power : float
        As in :func:`softmax_lab.losses.gradient_balanced`. ``tau`` is where the controller starts.
    rate : float
        Part of the Newton step that :meth:`observe` takes, in (0, 1].
    max_tau : float
        The controller keeps tau in [0, max_tau].
    group : torch.distributed.ProcessGroup, optional
        Whose processes share a batch; the default group. Not used before ``torch.distributed`` is
        initialised.
    reduction, ignore_index, dim, empty
        As in :func:`softmax_lab.torch.cross_entropy`.

    Attributes
    ----------
    counts : Tensor, shape ``(K,)``
        int64, a buffer.
    tau : float
        Part of ``state_dict``, as are the other settings: training resumes exactly.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab as sl
    >>> import softmax_lab.torch as slt
    >>> loss = slt.GradientBalancedLoss([90, 10])
    >>> loss.spec == sl.losses.gradient_balanced([90, 10])
    True
    >>> gathering = slt.GradientBalancedLoss(num_classes=2)
    >>> _ = gathering(torch.zeros(10, 2), torch.tensor([0] * 9 + [1]))
    >>> gathering.counts
    tensor([9, 1])
    >>> gathering.spec == sl.losses.gradient_balanced([9, 1])
    True
    >>> gathering.observe(
    ...     torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    ... )  # still for the head: tau goes up
    >>> round(gathering.tau, 2)
    1.6

    See Also
    --------
    softmax_lab.torch.SoftmaxLoss : any fixed spec; with ``losses.gradient_balanced(counts)`` it is this loss
        on one process.
    """

    counts: Tensor
    _writer = "GradientBalancedLoss"

    def __init__(
        self,
        counts: ArrayLike | int | None = None,
        *,
        num_classes: int | None = None,
        tau: float = 1.1,
        strength: float = 1.0,
        gate: float = 4.0,
        eps: float = 0.0,
        power: float = 0.5,
        rate: float = 0.5,
        max_tau: float = 3.0,
        group: Any = None,
        **options: Any,
    ) -> None:
        if (counts is None) == (num_classes is None):
            given = "both" if num_classes is not None else "neither"
            raise TypeError(f"GradientBalancedLoss takes counts or num_classes; got {given}")
        if counts is None:
            counts = numpy_checks.whole("num_classes", num_classes, low=1)
        gathers = np.ndim(counts) == 0
        known = np.zeros(_num_classes(counts), dtype=np.int64) if gathers else _whole(counts)
        self._set(tau, rate, max_tau, {"strength": strength, "gate": gate, "eps": eps, "power": power})
        self._gathers, self._passes = gathers, FirstPasses(group)
        super().__init__(self._spec_for(known), **options)
        self.register_buffer("counts", torch.from_numpy(known))  # half() leaves integers alone

    def _set(self, tau: float, rate: float, max_tau: float, settings: dict[str, float]) -> None:
        """Check the settings and take them over, all or none."""
        checked = {name: numpy_checks.number(name, value, low=0.0) for name, value in settings.items()}
        max_tau = numpy_checks.number("max_tau", max_tau, low=0.0)
        rate = numpy_checks.number("rate", rate, low=0.0, high=1.0, open_low=True)
        self._tau = numpy_checks.number("tau", tau, low=0.0, high=max_tau)
        self.rate, self.max_tau, self._settings = rate, max_tau, checked

    def _spec_for(self, counts: Any) -> LossSpec:
        counted = counts if counts.any() else np.ones_like(counts)  # nothing seen yet: every class alike
        return losses.gradient_balanced(counted, self._tau, **self._settings)

    @property
    def tau(self) -> float:
        """The multiple of the log-prior that is added to the logits."""
        return self._tau

    @property
    def spec(self) -> LossSpec:
        """The member of the family in use, from the counts of now.

        Of gathered counts it waits for the device.
        """
        return self._spec_for(self.counts.cpu().numpy()) if self._gathers else self._spec

    @spec.setter
    def spec(self, spec: LossSpec) -> None:
        if hasattr(self, "counts"):
            raise AttributeError(
                "the spec of a GradientBalancedLoss follows from its counts and settings; use SoftmaxLoss "
                "for another"
            )
        SoftmaxLoss.spec.fset(self, spec)  # type: ignore[attr-defined]

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Arguments as in :func:`softmax_lab.torch.cross_entropy`, targets as class indices.
        """
        if sample_weight is None and not self._gathers and not distributed():
            value = calls.at_once(logits, target, self._spec, self.options)
            if value is not None:
                return value
        options = self._check(logits, target, sample_weight)
        fields = self._gathered(logits, target) if self._gathers else self._fields
        # a spec that is fixed keeps its tensors from call to call
        spec = fields if self._gathers or torch.compiler.is_compiling() else self._spec
        if options.reduction != "mean" or not distributed():
            return calls.loss(logits, target, spec, sample_weight, options)
        share, empty = self._share(logits.detach(), target, fields, sample_weight, options)
        value = calls.loss(logits, target, spec, sample_weight, options._replace(empty="zero")) * share
        return torch.where(empty, torch.nan, value) if options.empty == "nan" else value

    def _check(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None) -> Options:
        # of the first spec only the number of classes and the kind of its fields matter
        options = checks.loss(logits, target, self._spec, sample_weight, self.options)
        if target.is_floating_point():
            raise ValueError("GradientBalancedLoss needs class-index targets; got a distribution per row")
        if logits.shape[options.dim] != len(self.counts):
            raise ValueError(
                f"logits must have {len(self.counts)} classes along dim {options.dim}; got shape "
                f"{tuple(logits.shape)}"
            )
        if self._gathers and is_concrete(target):  # before a wrong label is counted
            checks.labels(target, len(self.counts), options.ignore_index)
        return options

    # not without gradients as a whole: that looks like the first pass of a checkpoint
    def _gathered(self, logits: Tensor, target: Tensor) -> SpecTensors:
        """Count the targets of all processes, where they are to be counted.

        Return the fields for this pass.
        """
        labels = labels_of(target, self.options.ignore_index)
        fields = self._fields_for(
            *self._passes.count(self.counts, self._tau, labels, logits, training=self.training)
        )
        if not torch.compiler.is_compiling():  # inside a compiled checkpoint nothing may be kept
            self._fields = fields  # for the monitor
        return fields

    @torch.no_grad()
    def _fields_for(self, counts: Tensor, tau: float | Tensor) -> SpecTensors:
        """Return :func:`softmax_lab.losses.gradient_balanced` of counts that stay on their device.

        It is the same formula, term by term.
        """
        n = counts.clamp(min=1).to(exact_dtype(counts.device))
        share, given = n / n.max(), self._settings
        smoothing = given["eps"] * share ** given["power"]
        bias = tau * (n / n.sum()).log() + torch.log1p(-smoothing)
        return SpecTensors(
            bias=bias,
            class_weight=(n.max() / n) ** given["strength"],
            gate=given["gate"],
            smoothing=smoothing if given["eps"] else 0.0,
            prior=bias.softmax(0),
        )

    @torch.no_grad()
    def _share(
        self,
        logits: Tensor,
        target: Tensor,
        fields: SpecTensors,
        sample_weight: Tensor | None,
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        """Return this process's part of all weights, and whether no row has weight.

        The part is multiplied by the number of processes.
        """
        label, live = labels_of(target.reshape(-1), options.ignore_index)
        assert isinstance(fields.class_weight, Tensor)
        biased = only(fields, "logits")
        log_q_y = -calls.loss(logits, target, biased, None, options._replace(reduction="none")).reshape(-1)
        weight = class_weights(fields, label, torch.exp(log_q_y).to(fields.class_weight.dtype))
        weight = weight if sample_weight is None else weight * sample_weight.reshape(-1)
        mass = torch.where(live, weight, 0.0).nansum()
        total = mass.clone()
        dist.all_reduce(total, group=self._passes.group)
        share = mass / torch.where(total == 0, 1.0, total) * dist.get_world_size(self._passes.group)
        return share.to(loss_dtype(logits.dtype)), total == 0

    @torch.no_grad()
    def observe(self, logits: Tensor, target: Tensor) -> None:
        """Move tau by what held-out rows ask for.

        Parameters
        ----------
        logits : Tensor
            Of held-out rows, from the model in evaluation mode; classes along ``dim``. A few hundred rows,
            every few hundred steps, do.
        target : Tensor
            Class indices; rows with ``ignore_index`` do not count. Every class that has rows counts the same.

        Raises
        ------
        TypeError, ValueError, IndexError
            As the loss itself does.
        """
        options = self._check(logits, target, None)
        label, live = labels_of(target.reshape(-1), options.ignore_index)
        rows = logits.movedim(options.dim, -1).reshape(-1, len(self.counts))[live]
        n = np.maximum(self.counts.cpu().numpy(), 1)
        found = balance.prior_response(
            rows.double().cpu().numpy(), label[live].cpu().numpy(), np.log(n / n.sum())
        )
        if distributed():
            sums = torch.tensor(np.stack(found), device=self.counts.device)
            dist.all_reduce(sums, group=self._passes.group)
            found = balance.PriorResponse(*sums.cpu().numpy())
        self._tau = float(np.clip(self._tau - self.rate * found.shift(), 0.0, self.max_tau))
        self._refresh()

    def _refresh(self) -> None:
        """Bring spec and fields up to date after counts or settings have changed.

        Counts without memory are yet to come.
        """
        if self.counts.is_meta:
            return
        self._device = self.counts.device
        SoftmaxLoss.spec.fset(self, self._spec_for(self.counts.cpu().numpy()))  # type: ignore[attr-defined]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GradientBalancedLoss:
        super()._apply(fn, recurse)
        if self._gathers:
            self._fields = self._fields_for(self.counts, self._tau)
        return self

    def _written(self) -> State:
        return State(
            self._writer,
            len(self.counts),
            (self._tau, self._gathers, self.rate, self.max_tau, *self._settings.values()),
        )

    def _read(self, state: State) -> None:
        tau, gathers, rate, max_tau, *rest = state.numbers
        self._set(tau, rate, max_tau, dict(zip(self._settings, rest, strict=True)))
        self._gathers = gathers > 0.5

    def extra_repr(self) -> str:
        how = "gathered" if self._gathers else "given"
        shown = {"tau": self._tau, **self._settings}
        return f"{len(self.counts)} classes, counts {how}, " + ", ".join(
            f"{name}={value:g}" for name, value in shown.items()
        )


def _num_classes(value: Any) -> int:
    try:
        return numpy_checks.whole("the number of classes", value, low=1)
    except TypeError:
        raise TypeError(
            f"counts must be an array (K,), or the number of classes as an int; got {value!r}"
        ) from None


def _whole(counts: ArrayLike) -> Any:
    """Return counts as int64, zeros among them; no frequencies, since they are kept as they are counted."""
    numpy_checks.class_counts(counts)
    return np.asarray(counts).astype(np.int64)
