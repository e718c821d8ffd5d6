"""The gradient times the upstream gradient, in its own memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

__all__ = ["rescale_"]


@triton.jit
def rescale_kernel(
    gradient, factors, per_row, n, k, ROWS: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr
):
    """Multiply rows by their factors; where all of a program's are 1, as after ``loss.backward()``, it reads
    and writes nothing.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    factor = tl.load(factors + rows * per_row, mask=inside, other=1.0).to(tl.float32)
    if tl.max(tl.where(factor == 1.0, 0, 1), 0) > 0:
        for start in range(0, k, BLOCK):
            cols = start + tl.arange(0, BLOCK)
            place = (rows * k)[:, None] + cols[None, :]
            mask = inside[:, None] & (cols < k)[None, :]
            g = tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32) * factor[:, None]
            tl.store(gradient + place, g.to(gradient.dtype.element_ty), mask=mask)


def rescale_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Multiply a contiguous gradient, classes last, by one number or one a row.

    Nothing is read back from the device.
    """
    rows = gradient.view(-1, gradient.shape[-1])
    factors = upstream.reshape(-1)
    launch(rescale_kernel, rows, rows, factors, int(upstream.ndim > 0))
    return gradient
