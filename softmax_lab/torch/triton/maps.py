"""Softmax, log-softmax, and what is pulled back through them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .arguments import field, matrix
from .elementary import exp_and_expm1, log1p
from .launch import as_rows, from_rows, launch
from .plain import inverse_of, map_rows, takes
from .tiles import exponentials, load, nothing_yet, online, rows_of, store, tile_at, totals

__all__ = ["log_softmax", "log_softmax_vjp", "softmax", "softmax_vjp"]


# ---- on the device ----


@triton.jit
def map_kernel(
    out,
    logits,
    temperature,
    n,
    k,
    LOG: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """softmax or, where LOG, log-softmax of rows (n, K) that are too long to be read once."""
    CARRY: tl.constexpr = logits.entries.dtype.element_ty == tl.float32
    rows = rows_of(n, k, ROWS)
    so_far = nothing_yet(ROWS, BLOCK)
    for start in range(0, k, BLOCK):
        u = load(logits, rows, tile_at(start, rows, BLOCK), -float("inf"))
        so_far = online(u, so_far, temperature, CARRY)
    ties, below = totals(so_far)
    rest = below + (ties - 1.0)
    last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
    for start in range(0, k, BLOCK):
        tile = tile_at(last - start, rows, BLOCK)  # what was read last is still in the cache
        u = load(logits, rows, tile, -float("inf"))
        d, e = exponentials(u, so_far.peak, temperature, CARRY)
        store(out, rows, tile, d - log1p(rest)[:, None] if LOG else e * inverse_of(rest)[:, None])


@triton.jit
def likeliest(p, g, tile):
    """Return the largest probability of a tile, and the largest g where it is."""
    seen = tl.where(tile.mask, p, -1.0)
    largest = tl.max(seen, 1)
    return largest, tl.max(tl.where(seen == largest[:, None], g, -float("inf")), 1)


@triton.jit
def softmax_vjp_kernel(
    out,
    probs,
    upstream,
    temperature,
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """p (g - p.g) / T.

    g is counted from its value at the likeliest class: a confident row keeps its 1 - p.
    """
    rows = rows_of(n, k, ROWS)
    if WHOLE:
        tile = tile_at(0, rows, BLOCK)
        p, g = load(probs, rows, tile, 0.0), load(upstream, rows, tile, 0.0)
        _largest, origin = likeliest(p, g, tile)
        moved = g - origin[:, None]
        mean = tl.sum(p * tl.where(tile.mask, moved, 0.0), 1)
        store(out, rows, tile, p * (moved - mean[:, None]) / temperature)
    else:
        largest = tl.full((ROWS,), -1.0, tl.float32)
        origin = tl.zeros((ROWS,), tl.float32)
        mass, mean = tl.zeros((ROWS,), tl.float64), tl.zeros((ROWS,), tl.float64)
        for start in range(0, k, BLOCK):
            tile = tile_at(start, rows, BLOCK)
            p, g = load(probs, rows, tile, 0.0), load(upstream, rows, tile, 0.0)
            here, there = likeliest(p, g, tile)
            better = here > largest
            new = tl.where(better, there, origin)
            # counted from another class, what was summed so far moves by its mass
            mean += mass * (origin.to(tl.float64) - new.to(tl.float64))
            origin, largest = new, tl.where(better, here, largest)
            mean += tl.sum(tl.where(tile.mask, p * (g - origin[:, None]), 0.0), 1).to(tl.float64)
            mass += tl.sum(p, 1).to(tl.float64)
        last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
        for start in range(0, k, BLOCK):
            tile = tile_at(last - start, rows, BLOCK)
            p, g = load(probs, rows, tile, 0.0), load(upstream, rows, tile, 0.0)
            store(out, rows, tile, p * ((g - origin[:, None]) - mean.to(tl.float32)[:, None]) / temperature)


@triton.jit
def less_share(g, log_p, total):
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
    n,
    k,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """(g - p sum(g)) / T."""
    rows = rows_of(n, k, ROWS)
    if WHOLE:
        tile = tile_at(0, rows, BLOCK)
        log_p, g = load(log_probs, rows, tile, -float("inf")), load(upstream, rows, tile, 0.0)
        store(out, rows, tile, less_share(g, log_p, tl.sum(g, 1)) / temperature)
    else:
        total = tl.zeros((ROWS,), tl.float64)
        for start in range(0, k, BLOCK):
            total += tl.sum(load(upstream, rows, tile_at(start, rows, BLOCK), 0.0), 1).to(tl.float64)
        last = (tl.cdiv(k, BLOCK) - 1) * BLOCK
        for start in range(0, k, BLOCK):
            tile = tile_at(last - start, rows, BLOCK)
            log_p, g = load(log_probs, rows, tile, -float("inf")), load(upstream, rows, tile, 0.0)
            store(out, rows, tile, less_share(g, log_p, total.to(tl.float32)) / temperature)


# ---- from the host ----


def _map(z: Tensor, dim: int, temperature: float, *, log: bool) -> Tensor:
    if takes(z.shape[dim], z.device):
        return map_rows(z, dim, temperature, log=log)
    rows = as_rows(z, dim)
    out = torch.empty(rows.shape, dtype=z.dtype, device=z.device)
    launch(map_kernel, rows, matrix(out), matrix(rows), field(temperature, 1.0), LOG=log)
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
    launch(kernel, rows, matrix(out), matrix(rows), matrix(pulled), float(temperature))
    return from_rows(out, result, dim)


def softmax_vjp(probs: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    """Return p (g - p.g) / T."""
    return _pull_back(softmax_vjp_kernel, probs, upstream, dim, temperature)


def log_softmax_vjp(log_probs: Tensor, upstream: Tensor, dim: int, temperature: float) -> Tensor:
    """Return (g - p sum(g)) / T."""
    return _pull_back(log_softmax_vjp_kernel, log_probs, upstream, dim, temperature)
