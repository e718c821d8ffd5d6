"""The loss of a spec as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import _checks as numpy_checks
from ..._checks import Empty, Reduction
from ...spec import LossSpec
from .._base import checks
from .._base.options import Options
from .._formula.fields import SpecTensors, on_device
from .._operators import calls
from .state import State, Stateful

__all__ = ["SoftmaxLoss"]


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
        numpy_checks.choice("reduction", reduction, numpy_checks.REDUCTIONS)
        numpy_checks.choice("empty", empty, numpy_checks.EMPTY_RULES)
        self.options = Options(reduction, empty, numpy_checks.ignored_label(ignore_index), dim)
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
        if sample_weight is None:
            value = calls.at_once(logits, target, self._spec, self.options)
            if value is not None:
                return value
        options = checks.loss(logits, target, self._spec, sample_weight, self.options)
        spec = self._fields_on(logits.device) if torch.compiler.is_compiling() else self._spec
        return calls.loss(logits, target, spec, sample_weight, options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SoftmaxLoss:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # only the place that fn moves to matters: numbers keep their precision. They can come from meta too,
        # where they have no memory
        self._device = fn(
            torch.empty(0, device="cpu" if self._device.type == "meta" else self._device)
        ).device
        self._fields = on_device(self._spec, self._device)
        return self

    def _fields_on(self, device: torch.device) -> SpecTensors:
        """Return the fields on the device.

        Where a state was put in place of tensors without memory, the module was never moved there.
        """
        values: dict[str, Any] = {
            name: value.to(device)
            for name, value in self._fields._asdict().items()
            if isinstance(value, Tensor)
        }
        return self._fields._replace(**values)

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
