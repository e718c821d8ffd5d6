"""Sums over rows, and the per-class statistics that follow from them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MAX_VECTORS", "STATISTICS", "Sums"]

MAX_VECTORS = 4096  #: classes up to which the (K, K) sums of gradients are kept: 64 MiB in float32

#: what is known of each class at each step, the columns of the table
STATISTICS = (
    "count",
    "sum_norm",
    "mean_norm",
    "sample_norm",
    "positive_mass",
    "negative_mass",
    "weight_norm",
    "saturation",
    "probability",
    "lost",
)

#: new ones come last: a state that was saved without them has fewer
_PER_CLASS = ("count", "sample_norm", "positive_mass", "negative_mass", "saturation", "probability", "lost")
_MEANS = ("sample_norm", "saturation", "probability", "lost")  # what is divided by the count
_SINCE_0_2 = 1  # how many of them version 0.1.0 had not


class Sums:
    """Sums over rows, in one flat tensor (one collective, one moving average) with a view for each."""

    def __init__(self, flat: Tensor, classes: int, width: int) -> None:
        self.flat, self.classes, self.width = flat, classes, width
        sizes = [classes] * len(_PER_CLASS) + [self.vector_rows(classes) * classes, classes * width]
        *parts, vectors, weights = flat.split(sizes)
        self.by_name = dict(zip(_PER_CLASS, parts, strict=True))
        self.vectors = vectors.view(-1, classes)  # row c: sum of the gradients of class c's rows
        self.weights = weights.view(classes, width)  # row k: gradient of the classifier's row k

    @staticmethod
    def vector_rows(classes: int) -> int:
        return classes if classes <= MAX_VECTORS else 0

    @classmethod
    def zeros(cls, classes: int, width: int, like: Tensor) -> Sums:
        size = classes * (len(_PER_CLASS) + cls.vector_rows(classes) + width)
        return cls(like.new_zeros(size), classes, width)

    @classmethod
    def of_0_1(cls, flat: Tensor, classes: int, width: int) -> Tensor:
        """Return the flat tensor of version 0.1.0 with zeros where newer sums belong; others as they are."""
        own = classes * (len(_PER_CLASS) + cls.vector_rows(classes) + width)
        added = classes * _SINCE_0_2
        if len(flat) != own - added:
            return flat
        end = classes * (len(_PER_CLASS) - _SINCE_0_2)
        return torch.cat([flat[:end], flat.new_zeros(added), flat[end:]])

    def over(self, flat: Tensor) -> Sums:
        """Return the same views of another tensor."""
        return Sums(flat, self.classes, self.width)

    def statistics(self) -> Tensor:
        """Return the rows of `STATISTICS`, (10, K); NaN where there is nothing to say."""
        one = self.by_name
        unknown = torch.full_like(one["count"], torch.nan)
        total = torch.linalg.vector_norm(self.vectors, dim=1) if len(self.vectors) else unknown
        known = {
            **one,
            "sum_norm": torch.where(one["count"] > 0, total, unknown),
            "mean_norm": total / one["count"],
            **{name: one[name] / one["count"] for name in _MEANS},
            "weight_norm": torch.linalg.vector_norm(self.weights, dim=1) if self.width else unknown,
        }
        return torch.stack([known[name] for name in STATISTICS])
