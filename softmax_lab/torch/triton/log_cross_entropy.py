r"""The log of the mean loss and its gradient.

Four steps. Each row finds log l and what its gradient is made of: factors of order one. Some programs sum the
rows' exponentials, each over the same rows in the same order. From their sums every row has its share rho.
The gradient is made in the backward pass, from the logits and what was kept, times rho and the upstream
gradient: by the kernel of :mod:`.cross_entropy`, which rounds each entry once.

Whatever crosses rows is float64. Nothing is read back from the device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._rows import KEPT
from .._base.options import Options
from .._base.tensors import loss_dtype
from .._formula.fields import SpecTensors
from .arguments import Prepared, Targets, Weights, matrix, prepare, spec_argument
from .cross_entropy import gradient_kernel
from .launch import from_rows, launch, one_a_row, run
from .log_terms import Sum, Temperature, exponents, joined, log_terms, two_sum, within
from .tiles import (
    at_label,
    exponentials,
    finite_or_zero,
    nothing_yet,
    online,
    part_at,
    rows_with,
    tile_at,
    totals,
)

__all__ = ["log_gradient", "log_loss", "log_rows_in_place"]

_KEPT = tl.constexpr(KEPT)
#: numbers of a row: log(omega l) as a two-float, and log omega
LOGS = 3
_LOGS = tl.constexpr(LOGS)
#: and of a program's part of the two sums: three of each
PARTS = 6
_PARTS = tl.constexpr(PARTS)
#: rows that one program sums
SUMMED = 8192
AT_A_TIME = 1024


# ---- on the device ----


@triton.jit
def log_kernel(
    logs,
    kept,
    logits,
    targets,
    weights,
    temperature,
    spec,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """logs (n, LOGS) float64, and kept (n, KEPT) of the gradient of each row's own logarithm."""
    CARRY: tl.constexpr = logits.entries.dtype.element_ty == tl.float32
    rows = rows_with(targets, spec, n, k, ROWS)
    low = -float("inf")
    if WHOLE:
        tile = tile_at(0, rows, BLOCK)
        u = part_at(logits, targets, rows, tile, spec).u
        own = tile.cols[None, :] == rows.label[:, None]
        u_y = tl.sum(tl.where(own, u, 0.0), 1)
        u = tl.where(own, low, u)
        peak = tl.max(u, 1)
        _d, e = exponentials(u, finite_or_zero(peak), spec.temperature, CARRY)
        others = tl.sum(e, 1)
    else:
        so_far, at_own = nothing_yet(ROWS, BLOCK), tl.zeros((ROWS, BLOCK), tl.float32)
        for start in range(0, k, BLOCK):
            tile = tile_at(start, rows, BLOCK)
            u = part_at(logits, targets, rows, tile, spec).u
            own = tile.cols[None, :] == rows.label[:, None]
            at_own = tl.where(own, u, at_own)
            so_far = online(tl.where(own, low, u), so_far, spec.temperature, CARRY)
        ties, below = totals(so_far)
        peak, others, u_y = so_far.peak, ties + below, tl.sum(at_own, 1)

    high, error, slope = log_terms(peak, others, u_y, temperature)
    omega = at_label(spec.class_weight, rows.label).to(tl.float64)
    if weights.sample_weight is not None:
        omega *= tl.load(weights.sample_weight + rows.index, mask=rows.inside, other=0.0).to(tl.float64)
    counts = rows.live & (omega != 0.0)
    log_omega = tl.where(counts, tl.log(tl.where(counts, omega, 1.0)), low)
    total, rounded = two_sum(high, log_omega)
    place = logs + rows.index * _LOGS
    tl.store(place, tl.where(counts, total, low), mask=rows.inside)
    tl.store(place + 1, tl.where(counts, within(error + rounded), 0.0), mask=rows.inside)
    tl.store(place + 2, log_omega, mask=rows.inside)
    alone = others == 0.0
    alpha = tl.where(alone, 0.0, slope / tl.where(alone, 1.0, others).to(tl.float64))
    place = kept + rows.index * _KEPT
    tl.store(place, finite_or_zero(peak), mask=rows.inside)
    tl.store(place + 1, alpha.to(tl.float32), mask=rows.inside)
    tl.store(place + 2, tl.zeros_like(peak), mask=rows.inside)
    tl.store(place + 3, -slope.to(tl.float32), mask=rows.inside)


@triton.jit
def part_of(logs, begin, n, STEPS: tl.constexpr, BLOCK: tl.constexpr, OMEGA: tl.constexpr):
    """Return the sum of a program's rows, or of their weights."""
    low = -float("inf")
    peaks, beyonds = tl.full((BLOCK,), low, tl.float64), tl.full((BLOCK,), low, tl.float64)
    so_far = tl.zeros((BLOCK,), tl.float64)
    for step in range(STEPS):
        high, _error = logs_at(logs, begin + step * BLOCK, n, BLOCK, OMEGA)
        peaks = tl.maximum(peaks, high)
    peak = tl.max(peaks, 0)
    for step in range(STEPS):
        high, error = logs_at(logs, begin + step * BLOCK, n, BLOCK, OMEGA)
        beyonds = tl.maximum(beyonds, exponents(high, error, peak))
    beyond = tl.max(beyonds, 0)
    for step in range(STEPS):
        high, error = logs_at(logs, begin + step * BLOCK, n, BLOCK, OMEGA)
        so_far += powers_of(high, error, peak, beyond)
    return Sum(peak, beyond, tl.sum(so_far, 0))


@triton.jit
def powers_of(high, error, peak, beyond):
    """exp of rows relative to a peak and what is beyond it."""
    return tl.exp(exponents(high, error, peak) - within(beyond))


@triton.jit
def logs_at(logs, begin, n, BLOCK: tl.constexpr, OMEGA: tl.constexpr):
    """Some rows' logarithms as two-floats, or those of their weights; -inf beyond the last row."""
    index = begin + tl.arange(0, BLOCK)
    inside, place = index < n, logs + index * _LOGS
    if OMEGA:
        high = tl.load(place + 2, mask=inside, other=-float("inf"))
        return high, tl.zeros_like(high)
    high = tl.load(place, mask=inside, other=-float("inf"))
    return high, tl.load(place + 1, mask=inside, other=0.0)


@triton.jit
def sums_kernel(parts, logs, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """parts (programs, PARTS): each program's sum over its rows, and over their weights."""
    begin = tl.program_id(0).to(tl.int64) * STEPS * BLOCK
    place = parts + tl.program_id(0) * _PARTS
    found = part_of(logs, begin, n, STEPS, BLOCK, False)
    tl.store(place, found.peak)
    tl.store(place + 1, found.beyond)
    tl.store(place + 2, found.total)
    found = part_of(logs, begin, n, STEPS, BLOCK, True)
    tl.store(place + 3, found.peak)
    tl.store(place + 4, found.beyond)
    tl.store(place + 5, found.total)


@triton.jit
def sum_at(parts, programs, FIRST: tl.constexpr, WIDE: tl.constexpr):
    """Return the sum of all programs' parts."""
    who = tl.arange(0, WIDE)
    place, there, low = parts + who * _PARTS + FIRST, who < programs, -float("inf")
    peak, beyond = tl.load(place, mask=there, other=low), tl.load(place + 1, mask=there, other=low)
    return joined(Sum(peak, beyond, tl.load(place + 2, mask=there, other=0.0)))


@triton.jit
def shares_kernel(
    value,
    rho,
    logs,
    parts,
    programs,
    n,
    MEAN: tl.constexpr,
    ZERO: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """value, a scalar, and rho (n,) float32: 0 where a row does not count."""
    found = sum_at(parts, programs, 0, WIDE)
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    high, error = logs_at(logs, begin, n, BLOCK, False)
    share = powers_of(high, error, found.peak, found.beyond) / found.total
    share = tl.where(high == -float("inf"), 0.0, share)
    index = begin + tl.arange(0, BLOCK)
    tl.store(rho + index, share.to(tl.float32), mask=index < n)
    if tl.program_id(0) == 0:
        total = found.beyond + tl.log(found.total)
        omega = sum_at(parts, programs, 3, WIDE)
        if MEAN:
            total -= omega.peak + (omega.beyond + tl.log(omega.total))
        result = tl.where(tl.abs(found.peak) < float("inf"), found.peak + total, found.peak)
        if MEAN:
            result = tl.where(omega.total == 0.0, 0.0 if ZERO else float("nan"), result)
        # a maximum may lose a NaN, a sum does not
        result = tl.where(found.total == found.total, result, found.total)
        tl.store(value, result.to(tl.float32))


# ---- from the host ----


def _temperature(spec: SpecTensors) -> Temperature:
    high = float(np.float32(spec.temperature))
    return Temperature(high, spec.temperature - high, tl.constexpr(int(spec.temperature != 1.0)))


def _rows(p: Prepared, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return logs (n, LOGS) float64 and kept (n, KEPT) float32."""
    logs = torch.empty((len(p.z), LOGS), dtype=torch.float64, device=p.z.device)
    kept = torch.empty((len(p.z), KEPT), dtype=torch.float32, device=p.z.device)
    targets, weights = p.targets(ignore_index), Weights(p.sample_weight, None)
    given = (matrix(p.z), targets, weights, _temperature(p.spec), spec_argument(p.spec))
    launch(log_kernel, p.z, logs, kept, *given)
    return logs, kept


def _shares(logs: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Return J, a float32 scalar, and rho (n,) float32."""
    n = len(logs)
    rho = torch.empty(n, dtype=torch.float32, device=logs.device)
    if n == 0:
        empty = math.nan if options.empty == "nan" else 0.0
        return rho.new_full((), empty if options.reduction == "mean" else -math.inf), rho
    programs = -(-n // SUMMED)
    parts = torch.empty((programs, PARTS), dtype=torch.float64, device=logs.device)
    run(sums_kernel, logs, programs, (parts, logs, n), (SUMMED // AT_A_TIME, AT_A_TIME), num_warps=4)
    value = rho.new_empty(())
    mode = (options.reduction == "mean", options.empty == "zero", triton.next_power_of_2(programs))
    given = (value, rho, logs, parts, programs, n)
    run(shares_kernel, logs, -(-n // AT_A_TIME), given, (*mode, AT_A_TIME), num_warps=4)
    return value, rho


def log_loss(
    logits: Tensor, target: Tensor, spec: SpecTensors, sample_weight: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log of the mean loss, and what :func:`log_gradient` needs: kept (n, KEPT) and rho (n,)."""
    weights = None if sample_weight is None else sample_weight.to(torch.float64)
    p = prepare(logits, target, spec, weights, options)
    logs, kept = _rows(p, options.ignore_index)
    if options.reduction == "none":
        values = (logs[:, 0] + logs[:, 1]).to(loss_dtype(logits.dtype))
        shape = logits.movedim(options.dim, -1).shape[:-1]
        return values.reshape(shape), kept, logs[:, 0].ne(-torch.inf).float()
    value, rho = _shares(logs, options)
    return value, kept, rho


def log_gradient(
    logits: Tensor,
    kept: Tensor,
    rho: Tensor,
    upstream: Tensor,
    target: Tensor,
    spec: SpecTensors,
    options: Options,
) -> Tensor:
    """Return the gradient times ``upstream``, one number or one a row."""
    p = prepare(logits, target, spec, None, options)
    result = torch.empty(p.z.shape, dtype=logits.dtype, device=logits.device)
    _write(p, kept, rho, rho * one_a_row(upstream), options.ignore_index, result)
    return from_rows(result, logits, options.dim)


def _write(p: Prepared, kept: Tensor, rho: Tensor, factors: Tensor, ignore_index: int, out: Tensor) -> None:
    # a row without a share may hold anything
    labels = torch.where(rho == 0, ignore_index, p.target.long())
    targets = Targets(labels, 1, ignore_index, tl.constexpr(False))
    given = (matrix(out), matrix(p.z), kept, factors, 1, targets, spec_argument(p.spec))
    launch(gradient_kernel, p.z, *given)


def log_rows_in_place(z: Tensor, target: Tensor, spec: SpecTensors, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return log l of rows z (n, K), as two float64 whose sum is the number.

    Where ``gradient`` is set, the gradient of each row's own logarithm takes the place of z.
    """
    p = prepare(z, target, spec._replace(class_weight=1.0), None, Options(reduction="none"))
    logs, kept = _rows(p, -100)
    if gradient:
        some = logs[:, 0].ne(-torch.inf).float()
        _write(p, kept, some, some, -100, z)
    return logs[:, 0], logs[:, 1]
