"""This rank's columns of rows by the compiled loops: the sums over them, and their gradient.

:mod:`.shards` has both in plain torch, for distributions, a bias matrix, other devices, fields at the ends of
their domains, and where Numba cannot be had. What the ranks send each other is the same either way, so that
one rank may have the loops and another not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _dispatch
from ..._rows import KEPT, PART, read_only
from ...spec import LossSpec, active
from .._base.autograd import is_batched
from .._base.tensors import as_array, at_hand
from .._formula.fields import numpy_spec, shard, spec_tensors
from .._formula.rows import over
from .agreement import Shard

__all__ = ["Factors", "Part", "gradient", "part_of", "relative_to"]

#: labels of rows that do not count, and of those whose target is another rank's
_IGNORED, _ELSEWHERE = -2, -1


class Part(NamedTuple):
    """What is found of this rank's columns, all (n,) float64."""

    peak: Tensor  # the maximum of u T
    others: Tensor  # exponentials relative to it, without the target's
    at_label: Tensor  # u T at the target, where it is here
    expected: Tensor  # sum r_k d_k
    mass: Tensor  # sum r_k


class Factors(NamedTuple):
    """What a gradient is made of, all (n,) float64: alpha e_k - beta r_k, and at_target at the target."""

    peak: Tensor
    alpha: Tensor
    beta: Tensor
    at_target: Tensor


@_dispatch.falls_back
def part_of(own: Shard, spec: LossSpec, z: Tensor, label: Tensor, live: Tensor | None) -> Part | None:
    """Return what is found of this rank's columns, 0 where a row does not count; None where no loop can."""
    if not _is_for_loops(spec, z, label):
        return None
    labels, fields = _labels(own, label, live), _fields(own, spec, z)
    found = np.empty((len(z), PART))

    def arguments(some: slice) -> tuple[Any, ...]:
        return (found[some].reshape(-1), labels[some], _IGNORED, *fields)

    _dispatch.run("shards", "part_sums", as_array(z), 1, None, arguments)
    return Part(*torch.from_numpy(np.ascontiguousarray(found.T)))


def relative_to(own: Shard, spec: LossSpec, part: Part, label: Tensor, peak: Tensor) -> Tensor:
    """Return this rank's part of E, d_y and, with smoothing, R: (2 or 3, n), relative to ``peak``."""
    others = part.others * torch.exp(over(part.peak - peak, spec.temperature))
    sums = [others, torch.where(_is_here(own, label), over(part.at_label - peak, spec.temperature), 0.0)]
    if active(spec.smoothing):
        # a part without anything above -inf is relative to 0
        reference = torch.where(part.peak == -torch.inf, 0.0, part.peak)
        expected = part.expected + part.mass * over(reference - peak, spec.temperature)
        sums.append(expected * _share(own, spec))
    return torch.stack(sums)


@_dispatch.falls_back
def gradient(
    own: Shard,
    spec: LossSpec,
    z: Tensor,
    label: Tensor,
    live: Tensor | None,
    factors: Factors,
    upstream: Tensor | None,
    out: Tensor,
) -> bool:
    """Write this rank's gradient times ``upstream`` to ``out``, which may be ``z``; False where no loop can.

    Each entry is rounded once.
    """
    if not _is_for_loops(spec, z, label) or (upstream is not None and is_batched(upstream)):
        return False
    labels, fields = _labels(own, label, live), _fields(own, spec, z)
    kept = np.zeros((len(z), KEPT))  # the weight, which comes last, is not asked for
    columns = (factors.peak, factors.alpha, factors.beta * _share(own, spec), factors.at_target)
    for i, column in enumerate(columns):
        kept[:, i] = as_array(column)
    scale = np.ones(1) if upstream is None else as_array(upstream.double().contiguous())
    per_row, kept, scale = len(scale) > 1, read_only(kept), read_only(scale)

    def arguments(some: slice) -> tuple[Any, ...]:
        factor = scale[some] if per_row else scale
        return (kept[some].reshape(-1), factor, labels[some], _IGNORED, *fields)

    path = _dispatch.choose(z.shape[1])
    _dispatch.run(path, "cross_entropy_gradient", as_array(z), 1, as_array(out), arguments)
    return True


def _is_for_loops(spec: LossSpec, z: Tensor, label: Tensor) -> bool:
    """Whether the loops know the fields and can read the logits."""
    return (
        z.device.type == "cpu"
        and z.numel() > 0
        and not label.is_floating_point()
        and spec.is_moderate
        and np.ndim(spec.bias) < 2
        and at_hand(z) is not None
        and _dispatch.choose(z.shape[1]) != "reference"
    )


def _is_here(own: Shard, label: Tensor) -> Tensor:
    return (label >= own.first) & (label < own.last)


def _labels(own: Shard, label: Tensor, live: Tensor | None) -> NDArray[np.int64]:
    """Return the labels among this rank's classes, (n,)."""
    labels = torch.where(_is_here(own, label), label - own.first, _ELSEWHERE)
    if live is not None:
        labels = torch.where(live, labels, _IGNORED)
    return read_only(as_array(labels))


def _fields(own: Shard, spec: LossSpec, z: Tensor) -> tuple[Any, Any]:
    """Return what acts on this rank's logits, and the prior of its classes."""
    loops = _dispatch.kernels()
    assert loops is not None
    fields = shard(spec_tensors(spec, "cpu", torch.float64), own.first, own.last)
    if isinstance(fields.margin, Tensor):  # here labels are counted from the first class of the rank
        fields = fields._replace(margin=fields.margin[own.first : own.last])
    cut = numpy_spec(fields)
    return (
        loops.transform.transform_of(cut, None, narrow=z.dtype != torch.float64),
        loops.target.smooth_of(cut, None),
    )


def _share(own: Shard, spec: LossSpec) -> float:
    """Return what the loops' prior has to be multiplied by: where none is given, theirs is 1 for a class."""
    return 1.0 / own.num_classes if spec.prior is None else 1.0
