"""Rows, labels and fields that several test files take, and how close a result must come."""

from __future__ import annotations

import torch
from torch import Tensor

import softmax_lab as sl
from softmax_lab.torch._formula.fields import SpecTensors, spec_tensors

from ...specs import K

LABELS = torch.tensor([0, 2, 5, -100, 3, 1, 5])


def rows(dtype: torch.dtype = torch.float32) -> Tensor:
    """Seven rows: ordinary, confident, one with -inf, one of all the same."""
    z = torch.randn(7, K, generator=torch.Generator().manual_seed(0)) * 3
    z[1] *= 20
    z[4, 1] = -torch.inf
    z[5] = 2.5
    return z.to(dtype)


def fields(spec: sl.LossSpec, dtype: torch.dtype = torch.float32) -> SpecTensors:
    return spec_tensors(spec, torch.device("cpu"), dtype)


def assert_close(result: Tensor, expected: Tensor, steps: float = 24.0) -> None:
    """Assert equality to some rounding errors of the largest entry.

    The errors are those of the result's type, or of float32, whichever is coarser.
    """
    assert result.shape == expected.shape
    unit = max(torch.finfo(result.dtype).eps if result.dtype != torch.float32 else 0.0, steps * 2.0**-24)
    finite = expected[torch.isfinite(expected)]
    scale = float(finite.abs().max()) if len(finite) else 0.0
    torch.testing.assert_close(result.double(), expected.double(), rtol=0, atol=unit * scale, equal_nan=True)


def rounded_once(found: Tensor, wide: Tensor) -> bool:
    """Whether half precision holds the float32 numbers, rounded once.

    Where the interpreter makes a bfloat16 it cuts off, and of a subnormal float32 it makes another subnormal
    number; a GPU rounds. Both roundings are computed from the bits here: some processors' own conversion to
    bfloat16 flushes subnormal numbers.
    """
    if found.dtype != torch.bfloat16:
        return torch.equal(found, wide.to(found.dtype))
    bits = wide.view(torch.int32)
    nearest = bits + 0x7FFF + (bits >> 16 & 1)
    both = (torch.stack([bits, nearest]) >> 16).to(torch.int16).view(torch.bfloat16)
    smallest = torch.finfo(torch.float32).tiny
    either = (found.float() == both.float()).any(0)
    return bool(torch.where(wide.abs() < smallest, found.float().abs() <= smallest, either).all())
