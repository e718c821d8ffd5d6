"""What the ranks of a group have to agree on before any logit is read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ...spec import LossSpec
from .arguments import Rows, check_classes

__all__ = ["Shard", "agree"]


class Shard(NamedTuple):
    """This rank's classes ``first`` to ``last - 1`` among all, and the group that they are spread over."""

    group: dist.ProcessGroup | None
    sizes: tuple[int, ...]  # classes of each rank
    first: int
    last: int

    @property
    def num_classes(self) -> int:
        return sum(self.sizes)

    def max(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def sum(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def _reduce(self, tensor: Tensor, op: Any) -> Tensor:
        """Combine the ranks' tensors in place.

        Where there is nothing to combine, on every rank alike, there is no call.
        """
        if tensor.numel():
            dist.all_reduce(tensor, op=op, group=self.group)
        return tensor


class _Report(NamedTuple):
    """What a rank was given, in integers."""

    columns: int
    rows: int
    low: int  # smallest label that counts
    high: int  # largest
    labels: int  # checksum
    options: int  # checksum


def agree(
    rows: Rows,
    target: Tensor,
    spec: LossSpec,
    columns: int,
    sizes: Sequence[int] | None,
    group: dist.ProcessGroup | None,
    options: tuple[Any, ...],
) -> Shard:
    """Return this rank's place among the classes.

    An error on every rank alike where the ranks were not given the same.
    """
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    if sizes is None:
        own = _report(rows, columns, options)
        table = torch.zeros(world, len(own), dtype=torch.int64, device=rows.target.device)
        table[rank] = torch.tensor(own, device=table.device)
        dist.all_reduce(table, group=group)
        reports = [_Report(*row) for row in table.tolist()]
        _check_reports(reports)
        sizes = [report.columns for report in reports]
    if len(sizes) != world or sizes[rank] != columns:
        raise ValueError(
            f"sizes must hold the classes of each of {world} ranks, {columns} on rank {rank}; got "
            f"{list(sizes)}"
        )
    check_classes(rows, target, spec, sum(sizes))
    first = sum(sizes[:rank])
    return Shard(group, tuple(sizes), first, first + columns)


def _report(rows: Rows, columns: int, options: tuple[Any, ...]) -> _Report:
    low, high, labels = 0, -1, 0
    counting = rows.target if rows.live is None else rows.target[rows.live]
    if not rows.target.is_floating_point():
        # both factors are small: the sum cannot overflow
        place = torch.arange(len(rows.target), device=rows.target.device) % 4093 + 1
        labels = int(((rows.target & 0xFFFFF) * place).sum())
        if len(counting):
            low, high = int(counting.min()), int(counting.max())
    return _Report(columns, len(rows.target), low, high, labels, zlib.crc32(repr(options).encode()))


def _check_reports(reports: Sequence[_Report]) -> None:
    num_classes = sum(report.columns for report in reports)
    for rank, report in enumerate(reports):
        if report.low < 0 or report.high >= num_classes:
            bad = report.low if report.low < 0 else report.high
            raise IndexError(
                f"label {bad} on rank {rank} is outside [0, {num_classes}), the classes of all ranks, and "
                f"is not ignore_index"
            )
    for name in ("rows", "options", "labels"):
        values = [getattr(report, name) for report in reports]
        if len(set(values)) > 1:
            raise ValueError(
                f"{_MEANING[name]} must be the same on every rank of the group; got {values} (by rank)"
            )


_MEANING = {
    "rows": "the number of rows",
    "options": "dtype, reduction, empty, chunk_bytes and whether hidden requires a gradient",
    "labels": "the target (here its checksum)",
}
