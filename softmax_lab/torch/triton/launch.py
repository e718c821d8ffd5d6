"""Tensors as rows, and the one place where kernels are launched."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from .plan import Plan, plan

__all__ = ["OPTIONS", "as_rows", "from_rows", "launch", "one_a_row"]

#: assertions are on (a label out of range); integers may overflow, as the bits of an exponent do; products
#: and sums may be fused: the error-free differences have none
OPTIONS = {"debug": True, "sanitize_overflow": False, "enable_fp_fusion": True}


def as_rows(tensor: Tensor, dim: int) -> Tensor:
    """Return the tensor as (n, K) with neighbouring classes: a view where there is one."""
    moved = tensor.movedim(dim, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def one_a_row(tensor: Tensor) -> Tensor:
    """Return what each row has one of, (n,), one beside the other: kernels know no stride of it.

    A reshape alone may leave one: that of a column, or none at all, as of a sum's upstream gradient.
    """
    return tensor.reshape(-1).contiguous()


def from_rows(rows: Tensor, like: Tensor, dim: int) -> Tensor:
    """Return contiguous rows in the shape of ``like``, contiguous."""
    return rows.reshape(like.movedim(dim, -1).shape).movedim(-1, dim).contiguous()


def launch(kernel: Any, rows: Tensor, *arguments: Any, **constants: Any) -> None:
    """Run ``kernel`` on rows (n, K), on their device and its current stream; without rows, nothing."""
    n, k = rows.shape
    if n == 0:
        return
    how: Plan = plan(k)
    constants |= {"ROWS": how.rows, "BLOCK": how.block, "WHOLE": how.whole}
    with torch.cuda.device(rows.device) if rows.is_cuda else contextlib.nullcontext():
        kernel[how.grid(n)](*arguments, n, k, **constants, num_warps=how.warps, **OPTIONS)
