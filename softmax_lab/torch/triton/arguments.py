"""What a kernel is given: a spec, matrices and rows' weights, each as one value.

Every value is a ``NamedTuple``, which Triton takes apart at the launch. A number is an argument of the
compiled kernel, a ``constexpr`` and None are compiled in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor

from ...spec import FIELDS
from .._base.options import Options
from .._formula.fields import SpecTensors
from .launch import as_rows, one_a_row

__all__ = [
    "Field",
    "Matrix",
    "Prepared",
    "Targets",
    "Weights",
    "field",
    "is_neutral",
    "matrix",
    "prepare",
    "spec_argument",
]


class Field(NamedTuple):
    """A field of the spec: a number or an array, and which of them is compiled in."""

    number: float | None  # None where there is an array, or where nothing is neutral
    array: Tensor | None  # (K,) or (K, K)
    MODE: Any  # tl.constexpr: 0 neutral, 1 a number, 2 an array (K,), 3 an array (K, K)


class Matrix(NamedTuple):
    """Rows (n, K) with neighbouring classes."""

    entries: Tensor
    stride: int  # from a row to the next, in entries


class Targets(NamedTuple):
    """Class indices (n,), or distributions (n, K) where ``SOFT``."""

    entries: Tensor
    stride: int
    ignore_index: int
    SOFT: Any  # tl.constexpr


class Weights(NamedTuple):
    """What multiplies a row beside the spec's own weight."""

    sample_weight: Tensor | None  # (n,)
    total: Tensor | None  # a float64 scalar, the divisor of a mean


class Prepared(NamedTuple):
    """Checked arguments as rows."""

    z: Tensor  # (n, K)
    target: Tensor  # (n,) or (n, K)
    sample_weight: Tensor | None  # (n,)
    spec: SpecTensors
    soft: bool

    def targets(self, ignore_index: int) -> Targets:
        return Targets(self.target, self.target.stride(0), ignore_index, tl.constexpr(self.soft))


def matrix(rows: Tensor) -> Matrix:
    """Return rows (n, K) as a kernel takes them."""
    return Matrix(rows, rows.stride(0))


def field(value: float | Tensor | None, neutral: float | None) -> Field:
    """Return a field's value as a kernel takes it."""
    if isinstance(value, Tensor):
        return Field(None, value.contiguous(), tl.constexpr(1 + value.ndim))
    return Field(None if value is None else float(value), None, tl.constexpr(int(value != neutral)))


def is_neutral(spec: SpecTensors) -> bool:
    """Whether a spec is that of the plain loss."""
    return all(
        not isinstance(value, Tensor) and value == FIELDS[name].neutral
        for name, value in zip(spec._fields, spec, strict=True)
    )


def spec_argument(spec: SpecTensors) -> Any:
    """Return the spec as a kernel takes it: the same names, a :class:`Field` each."""
    fields = (field(getattr(spec, name), FIELDS[name].neutral) for name in spec._fields)
    return type(spec)(*fields)


def prepare(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> Prepared:
    """Bring checked arguments into rows; copy only what has no neighbouring classes, and rows' numbers."""
    soft = target.is_floating_point()
    rows = as_rows(target, options.dim) if soft else one_a_row(target)
    weights = None if sample_weight is None else one_a_row(sample_weight)
    if spec.prior is not None:  # given by hand it may not sum to one
        spec = spec._replace(prior=spec.prior / spec.prior.sum())
    return Prepared(as_rows(logits, options.dim), rows, weights, spec, soft)
