"""Tensors as rows, and the one place where kernels are launched."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from .plan import Held, Plan, plan

__all__ = [
    *("OPTIONS", "as_rows", "from_rows", "one_a_row"),
    *("is_interpreted", "launch", "programs_at_once", "run"),
]

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
    constants |= {"ROWS": how.rows, "BLOCK": how.block, "WHOLE": how.whole, "num_warps": how.warps}
    with _on(rows):
        kernel[how.grid(n)](*arguments, n, k, **constants, **OPTIONS)


def run(
    kernel: Any,
    rows: Tensor,
    programs: int,
    arguments: tuple[Any, ...],
    constants: tuple[Any, ...],
    **options: Any,
) -> None:
    """Run a kernel of flat arguments, on the device of ``rows`` and its current stream.

    What Triton looks at before a launch takes longer than a small kernel does. It depends on types,
    alignments and divisibility alone: a kernel that was compiled for the same is launched again without.
    """
    device = rows.device.index
    key = (kernel, device, constants, tuple([_kind(value) for value in arguments]))
    ready = _READY.get(key)
    if ready is None:
        with _on(rows):
            ready = kernel[(programs,)](*arguments, *constants, **OPTIONS | {"debug": False} | options)
        if type(ready).__name__ == "CompiledKernel":  # the interpreter has none
            _READY[key] = ready
    elif device == torch.cuda.current_device():
        ready[programs, 1, 1](*arguments, *constants)
    else:
        with _on(rows):
            ready[programs, 1, 1](*arguments, *constants)


#: what was compiled, by all that the compiler looks at
_READY: dict[tuple[Any, ...], Any] = {}


def _kind(value: Any) -> Any:
    """Return what the compiler sees of an argument."""
    kind = type(value)
    if kind is int:
        # 1, what a multiple of 16 is, and how wide the integer is
        return value if value in (0, 1) else (value % 16 == 0, -(2**31) <= value < 2**31)
    if value is None or kind is float:
        return kind
    return value.dtype, value.data_ptr() % 16


def _on(rows: Tensor) -> Any:
    index = rows.device.index
    if index is None or index == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device(index)


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels: one program after the other, on the CPU."""
    return bool(triton.knobs.runtime.interpret)


@lru_cache
def programs_at_once(device: torch.device, how: Held) -> int:
    """Return how many programs of a kernel a device surely runs at once."""
    if device.type != "cuda":
        return 2 * how.segments
    if torch.version.hip:
        return 0  # Triton launches no programs together there
    return how.resident * int(torch.cuda.get_device_properties(device).multi_processor_count)
