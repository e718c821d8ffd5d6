"""Whole losses in plain torch, around the rows of :mod:`.family`: any device, any order of derivative.

Forward mode, functorch, targets that require a gradient and third derivatives go through the differentiable
form. Tensors that are not on the CPU go through the closed forms: no graph, and the gradient with the value.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._checks import moderate
from .._base.labels import labels_of
from .._base.options import Options
from .._base.tensors import loss_dtype
from . import family
from .fields import SpecTensors, extreme

__all__ = ["gradient", "hvp", "loss", "loss_and_gradient"]


class _Rows(NamedTuple):
    """The arguments as rows (n, K), in the type that is computed in."""

    z: Tensor
    label: Tensor | None  # (n,), 0 where the row does not count
    soft: Tensor | None  # (n, K)
    live: Tensor  # (n,) rows that count
    sample_weight: Tensor | float  # (n,)
    spec: SpecTensors
    shape: torch.Size  # of the rows: the logits' without the class dimension


def _rows(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> _Rows:
    # float64 for what float32 could not hold; the CPU's loops take float64 for all
    dtype = torch.float64 if extreme(spec) else loss_dtype(logits.dtype)
    moved = logits.movedim(options.dim, -1)
    z = moved.reshape(-1, moved.shape[-1]).to(dtype)
    weights = 1.0 if sample_weight is None else sample_weight.reshape(-1).to(dtype)
    fields = _typed(_balanced(spec) if options.reduction == "mean" else spec, dtype)
    if target.is_floating_point():
        soft = target.movedim(options.dim, -1).reshape(z.shape).to(dtype)
        live = torch.ones_like(z[:, 0], dtype=torch.bool)
        return _Rows(z, None, soft, live, weights, fields, moved.shape[:-1])
    label, live = labels_of(target.reshape(-1), options.ignore_index)
    # a row that does not count may hold anything: zeros keep NaN times 0 out of its derivative
    z = torch.where(live[:, None], z, 0.0)
    return _Rows(z, label, None, live, weights, fields, moved.shape[:-1])


def _balanced(spec: SpecTensors) -> SpecTensors:
    """Return fields with a class weight whose sum is held.

    A mean does not know a factor that all weights share.
    """
    weight = spec.class_weight
    if isinstance(weight, Tensor) or weight == 0 or spec.gate or moderate(weight):
        return spec
    return spec._replace(class_weight=1.0, z_loss=spec.z_loss / weight)


def _typed(spec: SpecTensors, dtype: torch.dtype) -> SpecTensors:
    """Return the fields in the type that is computed in, the prior summing to one."""
    fields: dict[str, Any] = {
        name: value.to(dtype) if isinstance(value, Tensor) else value
        for name, value in spec._asdict().items()
    }
    if spec.prior is not None:
        fields["prior"] = (spec.prior.double() / spec.prior.double().sum()).to(dtype)
    return SpecTensors(**fields)


def loss(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> Tensor:
    """Return the loss, differentiable to any order.

    It is differentiable in the logits, a target distribution and the sample weights.
    """
    # the largest logit's two derivatives would be infinite before they cancel
    if 1.0 / spec.temperature == math.inf:
        raise ValueError(
            f"temperature must be at least 5.6e-309 for derivatives in plain torch; got {spec.temperature!r}"
        )
    rows = _rows(logits, target, spec, sample_weight, options)
    if rows.soft is not None:
        values, weight = family.soft_value(rows.z, rows.soft, rows.spec)
    else:
        assert rows.label is not None
        values, weight = family.value(rows.z, rows.label, rows.spec)
    return _reduced(values, *_scale(rows, weight, options), rows, options).to(loss_dtype(logits.dtype))


def loss_and_gradient(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient by the closed form.

    With "none", the gradient of each row's own value.
    """
    rows = _rows(logits, target, spec, sample_weight, options)
    if rows.soft is not None:
        values, gradient, weight = family.soft_value_and_gradient(rows.z, rows.soft, rows.spec)
    else:
        assert rows.label is not None
        values, gradient, weight = family.value_and_gradient(rows.z, rows.label, rows.spec)
    scale, total = _scale(rows, weight, options)
    value = _reduced(values, scale, total, rows, options).to(loss_dtype(logits.dtype))
    return value, _unrowed(_scaled(gradient, scale, rows), logits, options)


def gradient(
    logits: Tensor,
    upstream: Tensor,
    target: Tensor,
    spec: SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the gradient times ``upstream`` by the closed form, rounded once.

    ``upstream`` is one number, or with "none" one a row.
    """
    wide = logits.to(loss_dtype(logits.dtype))
    _, found = loss_and_gradient(wide, target, spec, sample_weight, options)
    return (found * (upstream.unsqueeze(options.dim) if upstream.ndim else upstream)).to(logits.dtype)


def hvp(
    logits: Tensor,
    target: Tensor,
    tangent: Tensor,
    spec: SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
) -> Tensor:
    """Return the Hessian of the loss times ``tangent`` by the closed form."""
    rows = _rows(logits, target, spec, sample_weight, options)
    moved = tangent.movedim(options.dim, -1).reshape(rows.z.shape).to(rows.z.dtype)
    product, weight = family.hvp(rows.z, moved, rows.spec, label=rows.label, soft=rows.soft)
    return _unrowed(_scaled(product, _scale(rows, weight, options)[0], rows), logits, options)


def _scale(rows: _Rows, weight: Tensor, options: Options) -> tuple[Tensor, Tensor | None]:
    """Return each row's factor, sample weight over the reduction's divisor, and the divisor of a mean."""
    factor = torch.zeros_like(weight) + rows.sample_weight
    if options.reduction != "mean":
        return factor, None
    # a NaN row's weight does not count
    total = torch.where(rows.live, weight * rows.sample_weight, 0.0).nansum()
    return torch.where(total == 0, 0.0, factor / torch.where(total == 0, 1.0, total)), total


def _reduced(values: Tensor, scale: Tensor, total: Tensor | None, rows: _Rows, options: Options) -> Tensor:
    values = torch.where(rows.live, values * scale, 0.0)
    if options.reduction == "none":
        return values.reshape(rows.shape)
    if total is None or options.empty == "zero":
        return values.sum()
    return torch.where(total == 0, torch.nan, values.sum())


def _scaled(derivative: Tensor, scale: Tensor, rows: _Rows) -> Tensor:
    return torch.where(rows.live[:, None], derivative * scale[:, None], 0.0)


def _unrowed(rows: Tensor, logits: Tensor, options: Options) -> Tensor:
    """Return rows (n, K) in the logits' type, shape and (contiguous) layout."""
    moved = logits.movedim(options.dim, -1)
    return rows.to(logits.dtype).reshape(moved.shape).movedim(-1, options.dim).contiguous()
