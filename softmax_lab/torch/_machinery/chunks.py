"""Chunks of rows: how large they are, one after the other, and the sums over them.

The formulas stand in :mod:`.layer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from .._base.tensors import loss_dtype
from .arguments import Rows
from .log_rows import Reference, Shares, WeightedLogs, shares_of, weighted_logs

__all__ = [
    "CHUNK_BYTES",
    "Chunk",
    "Gradients",
    "Task",
    "Wanted",
    "blocks",
    "chunk_budget",
    "chunk_rows",
    "filled",
    "parts",
    "run",
    "run_log",
]

# on a CPU, 192 rows of 65536 float32 classes: beyond that the products hardly run faster
CHUNK_BYTES = 48 << 20
# On other devices a chunk must be worth reading and writing the weight's gradient once more: at 256,000
# classes an H100 took 368 ms with 48 MiB, 76 with 512, 65 with 1024, and the same memory in all three.
LARGE_CHUNK_BYTES = 1 << 30
_WIDE = (torch.float32, torch.float64)
# entries a block of what plain torch does on the CPU: its temporaries stay in a core's cache
_CACHED = 1 << 17
_ELSEWHERE = 1 << 24  # and on other devices: enough work a launch
# classes a slice of the weight's gradient, where a product in half precision is summed outside
_CLASSES = 1 << 15

Wanted = tuple[bool, bool, bool]
#: ``kernel(logits, target, gradient)`` returns values (n,) and weights (n,) of rows (n, V), both float64, and
#: where ``gradient`` is set leaves the gradient of each row's own value in ``logits``; for the log of the
#: mean it returns log l (n,) as two numbers to be added
RowKernel = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]


def chunk_budget(chunk_bytes: int | None, device: torch.device) -> int:
    """Return the bytes that a chunk of logits may take: those asked for, or what suits the device."""
    if chunk_bytes is not None:
        return chunk_bytes
    return CHUNK_BYTES if device.type == "cpu" else LARGE_CHUNK_BYTES


def chunk_rows(num_classes: int, dtype: torch.dtype, chunk_bytes: int, *, narrow: bool = False) -> int:
    """Return how many rows of logits fit ``chunk_bytes``.

    Half precision holds a float32 copy of them beside, unless ``narrow``.
    """
    budget = _checks.number("chunk_bytes", chunk_bytes, low=1)
    row = num_classes * (dtype.itemsize + (4 if dtype not in _WIDE and not narrow else 0))
    return max(1, int(budget) // max(1, row))


def blocks(z: Tensor) -> Iterator[slice]:
    """Yield slices over the rows of ``z``, whose temporaries are small beside the chunk."""
    step = max(1, (_CACHED if z.device.type == "cpu" else _ELSEWHERE) // max(1, z.shape[1]))
    for start in range(0, len(z), step):
        yield slice(start, start + step)


# ---- one chunk after the other ----


class Task(NamedTuple):
    """What is done to the rows, beside the three tensors that gradients flow to."""

    rows: Rows
    kernel: RowKernel
    step: int  # rows a chunk, at most
    share: Callable[[Tensor], Tensor] | None = None  # sums a gradient over processes, in place
    wanted: Wanted = (False, False, False)
    narrow: bool = False  # the kernel takes logits in half precision as they are
    log_omega: Tensor | None = None  # (N,) float64, for the log of the mean: logarithms of the rows' weights


class Gradients(NamedTuple):
    """Sums over the chunks so far; None where no gradient is wanted."""

    # (N, D), float32 at least: a row is complete at once, but its last factor is not known
    hidden: Tensor | None
    weight: Tensor | None  # (V, D), float32 at least
    bias: Tensor | None  # (V,), float32 at least

    @classmethod
    def zeros(cls, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Wanted) -> Gradients:
        made = (
            torch.zeros(t.shape, dtype=loss_dtype(t.dtype), device=t.device) if w and t is not None else None
            for t, w in zip((hidden, weight, bias), wanted, strict=True)
        )
        return cls(*made)

    def add(
        self,
        part: slice | Tensor,
        h: Tensor,
        g: Chunk,
        weight: Tensor,
        factor: Tensor,
        *,
        hidden_factor: Tensor | None,
    ) -> None:
        """Add one chunk: ``g`` holds the gradient of each row's own value, ``factor`` (n,) multiplies it.

        ``hidden_factor`` does so in the hidden gradient: None where it is not known yet.
        """
        if self.hidden is not None:
            product = _wide_product(g.rounded(), weight)
            self.hidden[part] = product if hidden_factor is None else product * hidden_factor[:, None]
        if self.weight is not None:
            g.add_product(self.weight, h * factor[:, None])
        if self.bias is not None:
            self.bias.addmv_(g.wide.t().to(self.bias.dtype), factor)

    def shrink(self, factor: float) -> None:
        """Multiply what was summed over the chunks so far."""
        for total in (self.weight, self.bias):
            if total is not None:
                total.mul_(factor)


class Chunk(NamedTuple):
    """A chunk's logits, then their gradient.

    The two tensors are the same memory, or one is a copy of the other: in the type of the products, and as
    the kernel takes them.
    """

    product: Tensor  # (n, V)
    wide: Tensor  # (n, V)

    @classmethod
    def empty(cls, step: int, weight: Tensor, *, narrow: bool) -> Chunk:
        product = weight.new_empty(step, len(weight))
        one = narrow or product.dtype in _WIDE
        return cls(product, product if one else product.new_empty(product.shape, dtype=torch.float32))

    def logits(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Chunk:
        """Return the chunk of the rows ``h`` (n, D), in the memory of this one."""
        chunk = Chunk(self.product[: len(h)], self.wide[: len(h)])
        if bias is None:
            torch.mm(h, weight.t(), out=chunk.product)
        else:
            torch.addmm(bias, h, weight.t(), out=chunk.product)
        if self.wide is not self.product:
            chunk.wide.copy_(chunk.product)
        return chunk

    def rounded(self) -> Tensor:
        """Return what ``wide`` holds in the type of the products."""
        return self.product if self.product.dtype == self.wide.dtype else self.product.copy_(self.wide)

    def add_product(self, total: Tensor, h: Tensor) -> None:
        """Add the gradient's product with ``h``, (V, D), to ``total``.

        The sum is never rounded to half precision.
        """
        if self.wide.dtype == total.dtype and not (self.product.is_cuda and self.product.dtype not in _WIDE):
            total.addmm_(self.wide.t(), h.to(total.dtype))
            return
        # tensor cores sum halves in float32 and can hand that out; in slices, as the sum is a new tensor
        g, h = self.rounded(), h.to(self.product.dtype)
        for start in range(0, g.shape[1], _CLASSES):
            stop = start + _CLASSES
            total[start:stop] += _wide_product(g[:, start:stop].t(), h)


def _wide_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a product in float32 at least.

    Halves are not rounded in between where torch offers that (on a GPU, from 2.8 on).
    """
    if a.is_cuda and a.dtype not in _WIDE and "dtype" in torch.ops.aten.mm.overloads():
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a, b).to(loss_dtype(a.dtype))


def run(
    task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Wanted, factor: Tensor | None
) -> tuple[Tensor, Tensor, Gradients]:
    """Return values and weights of all rows (N,), and the wanted gradients.

    Values and weights are float64, and 0 where a row does not count.
    """
    values, weights = hidden.new_zeros((2, len(hidden)), dtype=torch.float64)
    gradients = Gradients.zeros(hidden, weight, bias, wanted)
    factors = (
        hidden.new_ones(len(hidden), dtype=loss_dtype(hidden.dtype))
        if factor is None
        else factor.to(loss_dtype(hidden.dtype))
    )
    for part, h, chunk in filled(task, hidden, weight, bias):
        values[part], weights[part] = task.kernel(chunk.wide, task.rows.target[part], any(wanted))
        if any(wanted):
            factor = factors[part]
            gradients.add(part, h, chunk, weight, factor, hidden_factor=factor)
    if task.share is not None and gradients.hidden is not None:
        task.share(gradients.hidden)
    return values, weights, gradients


def run_log(
    task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Shares, Gradients, Tensor]:
    """Return the log of the mean loss, the wanted gradients, and a float64 scalar.

    The scalar is what still multiplies all of them but the hidden one.
    """
    wanted, log_omega = task.wanted, task.log_omega
    assert log_omega is not None
    logs = WeightedLogs(torch.full_like(log_omega, -torch.inf), torch.zeros_like(log_omega))
    gradients, reference = Gradients.zeros(hidden, weight, bias, wanted), Reference()
    for part, h, chunk in filled(task, hidden, weight, bias):
        high, low = task.kernel(chunk.wide, task.rows.target[part], any(wanted))
        own = weighted_logs(high, low, log_omega[part])
        logs.high[part], logs.low[part] = own
        if any(wanted):
            reference, shrink = reference.raised(own)
            if shrink != 1.0:
                gradients.shrink(shrink)
            factor = reference.factors(own).to(loss_dtype(hidden.dtype))
            gradients.add(part, h, chunk, weight, factor, hidden_factor=None)
    if task.share is not None and gradients.hidden is not None:
        task.share(gradients.hidden)
    shares, total = shares_of(logs, log_omega, task.rows.options.empty), reference.factors(logs).sum()
    if gradients.hidden is not None:
        # a row that does not count may hold anything
        gradients.hidden.mul_(shares.rho[:, None]).masked_fill_((shares.rho == 0)[:, None], 0.0)
    return shares, gradients, torch.where(total == 0, 0.0, 1.0 / total)


def filled(
    task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> Iterator[tuple[slice | Tensor, Tensor, Chunk]]:
    """Yield the rows that count, some at a time: their places, their hidden rows and their logits.

    All the chunks have the same memory.
    """
    buffer = None
    for part in parts(task.rows.live, len(hidden), task.step):
        h = hidden[part]
        buffer = Chunk.empty(len(h), weight, narrow=task.narrow) if buffer is None else buffer
        yield part, h, buffer.logits(h, weight, bias)


def parts(live: Tensor | None, rows: int, step: int) -> Iterator[slice | Tensor]:
    """Yield the rows that count, as near to equal chunks as may be, the largest first."""
    count = rows if live is None else len(live)
    chunks = -(-count // step)
    for i in range(chunks):
        start, stop = -(-count * i // chunks), -(-count * (i + 1) // chunks)
        yield slice(start, stop) if live is None else live[start:stop]
