"""Softmax, log-softmax, and what is pulled back through them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .elementary import exp_and_expm1, log1p
from .launch import as_rows, from_rows, launch
from .rows import exponentials, load_tile, online

__all__ = ["log_softmax", "log_softmax_vjp", "softmax", "softmax_vjp"]


# ---- on the device ----


@triton.jit
def _probability(u, peak, temperature, log_total, inverse, SCALED, CARRY, LOG):
    d, e = exponentials(u, peak, temperature, SCALED, CARRY)
    return d - log_total[:, None] if LOG else e * inverse[:, None]


@triton.jit
def map_kernel(
    out,
    logits,
    temperature,
    stride,
    n,
    k,
    LOG: tl.constexpr,
    SCALED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """softmax or, where LOG, log-softmax of rows (n, K)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside, lanes = rows < n, tl.arange(0, BLOCK)
    CARRY: tl.constexpr = logits.dtype.element_ty == tl.float32
    if WHOLE:
        mask = inside[:, None] & (lanes < k)[None, :]
        u = load_tile(logits, rows * stride, lanes, mask, -float("inf"))
        peak = tl.max(u, 1)
        d, e = exponentials(u, peak, temperature, SCALED, CARRY)
        top = d == 0.0
        rest = tl.sum(tl.where(top, 0.0, e), 1) + (tl.sum(tl.where(top, 1.0, 0.0), 1) - 1.0)
        log_total, inverse = log1p(rest), tl.div_rn(tl.full((ROWS,), 1.0, tl.float32), 1.0 + rest)
        result = d - log_total[:, None] if LOG else e * inverse[:, None]
        tl.store(out + (rows * k)[:, None] + lanes[None, :], result.to(out.dtype.element_ty), mask=mask)
    else:
        peak = tl.full((ROWS,), -float("inf"), tl.float32)
        ties, rest, lost = (
            tl.zeros((ROWS, BLOCK), tl.float32),
            tl.zeros((ROWS, BLOCK), tl.float32),
            tl.zeros((ROWS, BLOCK), tl.float32),
        )
        for start in range(0, k, BLOCK):
            cols = start + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            u = load_tile(logits, rows * stride, cols, mask, -float("inf"))
            peak, ties, rest, lost = online(u, peak, ties, rest, lost, temperature, SCALED, CARRY)
        total = tl.sum(rest.to(tl.float64) - lost.to(tl.float64), 1).to(tl.float32) + (tl.sum(ties, 1) - 1.0)
        log_total, inverse = log1p(total), tl.div_rn(tl.full((ROWS,), 1.0, tl.float32), 1.0 + total)
        last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
        for start in range(0, k, BLOCK):
            cols = (last - start) + lanes  # what was read last is still in the cache
            mask = inside[:, None] & (cols < k)[None, :]
            u = load_tile(logits, rows * stride, cols, mask, -float("inf"))
            result = _probability(u, peak, temperature, log_total, inverse, SCALED, CARRY, LOG)
            tl.store(out + (rows * k)[:, None] + cols[None, :], result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def softmax_vjp_kernel(
    out,
    probs,
    upstream,
    temperature,
    probs_stride,
    upstream_stride,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """p (g - p.g) / T with g counted from its value at the likeliest class: a confident row keeps its
    1 - p.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside, lanes = rows < n, tl.arange(0, BLOCK)
    if WHOLE:
        mask = inside[:, None] & (lanes < k)[None, :]
        p = load_tile(probs, rows * probs_stride, lanes, mask, 0.0)
        g = load_tile(upstream, rows * upstream_stride, lanes, mask, 0.0)
        likeliest = tl.where(mask, p, -1.0) == tl.max(tl.where(mask, p, -1.0), 1)[:, None]
        origin = tl.max(tl.where(likeliest, g, -float("inf")), 1)
        moved = g - origin[:, None]
        mean = tl.sum(p * tl.where(mask, moved, 0.0), 1)
        result = p * (moved - mean[:, None]) / temperature
        tl.store(out + (rows * k)[:, None] + lanes[None, :], result.to(out.dtype.element_ty), mask=mask)
    else:
        largest = tl.full((ROWS,), -1.0, tl.float32)
        origin = tl.zeros((ROWS,), tl.float32)
        mass, mean = tl.zeros((ROWS,), tl.float64), tl.zeros((ROWS,), tl.float64)
        for start in range(0, k, BLOCK):
            cols = start + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            p = load_tile(probs, rows * probs_stride, cols, mask, 0.0)
            g = load_tile(upstream, rows * upstream_stride, cols, mask, 0.0)
            seen = tl.where(mask, p, -1.0)
            here = tl.max(seen, 1)
            there = tl.max(tl.where(seen == here[:, None], g, -float("inf")), 1)
            better = here > largest
            new = tl.where(better, there, origin)
            # counted from another class, what was summed so far moves by its mass
            mean += mass * (origin.to(tl.float64) - new.to(tl.float64))
            origin, largest = new, tl.where(better, here, largest)
            mean += tl.sum(tl.where(mask, p * (g - origin[:, None]), 0.0), 1).to(tl.float64)
            mass += tl.sum(p, 1).to(tl.float64)
        last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
        for start in range(0, k, BLOCK):
            cols = (last - start) + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            p = load_tile(probs, rows * probs_stride, cols, mask, 0.0)
            g = load_tile(upstream, rows * upstream_stride, cols, mask, 0.0)
            result = p * ((g - origin[:, None]) - mean.to(tl.float32)[:, None]) / temperature
            tl.store(out + (rows * k)[:, None] + cols[None, :], result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _less_share(g, log_p, total):
    """g - p G; of a likely class as g (1 - p) - p (G - g), where 1 - p is exact from log p."""
    p, less_one = exp_and_expm1(log_p)
    total = total[:, None]
    likely = -g * less_one - p * (total - g)
    return tl.where(log_p > -0.34, likely, g - p * total)


@triton.jit
def log_softmax_vjp_kernel(
    out,
    log_probs,
    upstream,
    temperature,
    log_probs_stride,
    upstream_stride,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """(g - p sum(g)) / T."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside, lanes = rows < n, tl.arange(0, BLOCK)
    if WHOLE:
        mask = inside[:, None] & (lanes < k)[None, :]
        log_p = load_tile(log_probs, rows * log_probs_stride, lanes, mask, -float("inf"))
        g = load_tile(upstream, rows * upstream_stride, lanes, mask, 0.0)
        result = _less_share(g, log_p, tl.sum(g, 1)) / temperature
        tl.store(out + (rows * k)[:, None] + lanes[None, :], result.to(out.dtype.element_ty), mask=mask)
    else:
        total = tl.zeros((ROWS,), tl.float64)
        for start in range(0, k, BLOCK):
            cols = start + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            total += tl.sum(load_tile(upstream, rows * upstream_stride, cols, mask, 0.0), 1).to(tl.float64)
        last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
        for start in range(0, k, BLOCK):
            cols = (last - start) + lanes
            mask = inside[:, None] & (cols < k)[None, :]
            log_p = load_tile(log_probs, rows * log_probs_stride, cols, mask, -float("inf"))
            g = load_tile(upstream, rows * upstream_stride, cols, mask, 0.0)
            result = _less_share(g, log_p, total.to(tl.float32)) / temperature
            tl.store(out + (rows * k)[:, None] + cols[None, :], result.to(out.dtype.element_ty), mask=mask)


# ---- from the host ----


def _map(z: Tensor, dim: int, temperature: float, *, log: bool) -> Tensor:
    rows = as_rows(z, dim)
    out = torch.empty(rows.shape, dtype=z.dtype, device=z.device)
    launch(
        map_kernel, rows, out, rows, float(temperature), rows.stride(0), LOG=log, SCALED=temperature != 1.0
    )
    return from_rows(out, z, dim)


def softmax(z: Tensor, dim: int, temperature: float) -> Tensor:
    """Return exp(z / T) over its sum."""
    return _map(z, dim, temperature, log=False)


def log_softmax(z: Tensor, dim: int, temperature: float) -> Tensor:
    """Return the logarithm of the softmax."""
    return _map(z, dim, temperature, log=True)


def _pull_back(kernel, result: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    rows, pulled = as_rows(result, dim), as_rows(upstream, dim)
    out = torch.empty(rows.shape, dtype=result.dtype, device=result.device)
    launch(kernel, rows, out, rows, pulled, float(temperature), rows.stride(0), pulled.stride(0))
    return from_rows(out, result, dim)


def softmax_vjp(probs: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    """Return p (g - p.g) / T."""
    return _pull_back(softmax_vjp_kernel, probs, upstream, dim, temperature)


def log_softmax_vjp(log_probs: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    """Return (g - p sum(g)) / T."""
    return _pull_back(log_softmax_vjp_kernel, log_probs, upstream, dim, temperature)
