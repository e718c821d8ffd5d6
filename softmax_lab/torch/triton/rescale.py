"""The gradient times the upstream gradient, in its own memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .arguments import matrix
from .launch import launch, one_a_row
from .tiles import load, rows_of, store, tile_at

__all__ = ["rescale_"]


@triton.jit
def rescale_kernel(
    gradient, factors, per_row, n, k, ROWS: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr
):
    """Multiply rows by their factors.

    Where all of a program's are 1, as after ``loss.backward()``, it reads and writes nothing.
    """
    rows = rows_of(n, k, ROWS)
    factor = tl.load(factors + rows.index * per_row, mask=rows.inside, other=1.0).to(tl.float32)
    if tl.max(tl.where(factor == 1.0, 0, 1), 0) > 0:
        for start in range(0, k, BLOCK):
            tile = tile_at(start, rows, BLOCK)
            store(gradient, rows, tile, load(gradient, rows, tile, 0.0) * factor[:, None])


def rescale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Multiply a contiguous gradient, classes last, by one number or one a row.

    Nothing is read back from the device.
    """
    rows = gradient.view(-1, gradient.shape[-1])
    factors = one_a_row(upstream)
    launch(rescale_kernel, rows, matrix(rows), factors, int(upstream.ndim > 0))
    return gradient
