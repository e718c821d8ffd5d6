r"""Softmax, log-softmax and the plain loss with its gradient, of rows that are read once.

The floor of each is a copy: every logit read once, every result written once. A short row waits in the
registers of one program for its sum. A longer row is shared: each of a few neighbouring programs holds a
segment, tells the others its peak and its sum, and waits for theirs. While it waits its next segment is on
the way. All programs of a shared row run at once, since the launch is a cooperative one.

Only rows beyond what all programs together can hold are read twice, by the kernels of :mod:`.maps` and
:mod:`.cross_entropy`. So are the other members of the loss family, and distributions as targets.

The loss of a row needs two sums only: that over the other classes, which is 1 - q_y without a difference, and
the target's own exponential.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .arguments import Field, Matrix
from .elementary import log1p
from .launch import as_rows, from_rows, is_interpreted, one_a_row, programs_at_once, run
from .plan import ALONE, held
from .tiles import Rows, exponentials, exponentials_from, load, pair_sums, rows_of, store, tile_at

__all__ = ["LOG_SOFTMAX", "LOSS", "SOFTMAX", "loss", "loss_gradient", "map_rows", "takes", "values_in_place"]

SOFTMAX, LOG_SOFTMAX, LOSS = 0, 1, 2
_LOG = tl.constexpr(LOG_SOFTMAX)
_LOSS = tl.constexpr(LOSS)
#: rows of which each program counts the labels itself
COUNTED = 512
#: rows whose values one program adds up
SUMMED = 8192
_AT_A_TIME = 1024


# ---- on the device ----


@triton.jit
def labelled(labels, rows, ignore_index):
    """Return the rows with their labels; the kernel of the values reports one that is out of range."""
    given = tl.load(labels + rows.index, mask=rows.inside, other=0)
    live = rows.inside & (given != ignore_index)
    label = tl.where((given >= 0) & (given < rows.k), given, 0).to(tl.int32)
    return Rows(rows.index, rows.inside, label, live, rows.margin, rows.k)


@triton.jit
def count_of(labels, divisor, n, ignore_index, COUNT: tl.constexpr):
    """The divisor of a mean: how many rows count."""
    if COUNT:
        at = tl.arange(0, COUNT)
        return tl.sum(
            tl.where(tl.load(labels + at, mask=at < n, other=ignore_index) != ignore_index, 1.0, 0.0)
        )
    return 1.0 if divisor is None else tl.load(divisor).to(tl.float32)


@triton.jit
def factor_of(live, above, labels, divisor, n, ignore_index, COUNT: tl.constexpr):
    """What multiplies the gradient of a row: what comes from above, over the divisor of a mean."""
    count = count_of(labels, divisor, n, ignore_index, COUNT)
    # without a row that counts every factor is 0 already
    return tl.div_rn(tl.where(live, above, 0.0), tl.where(count == 0.0, 1.0, count))


@triton.jit
def rest_at(others, e_y, d_y):
    """S - 1: the value of the row is log1p of it, less d_y."""
    return tl.where(d_y == 0.0, others, others + (e_y - 1.0))


@triton.jit
def ends_of(others, e_y, factor):
    """What multiplies the exponentials of a row, and the component of its target."""
    alpha = tl.div_rn(factor, others + e_y)
    return alpha, -alpha * others


@triton.jit
def inverse_of(rest):
    """1 / S from S - 1."""
    return tl.div_rn(1.0, 1.0 + rest)


@triton.jit
def apart(peaks, peak, temperature, WIDE: tl.constexpr):
    """exp of what a segment's peak is below the row's; 0 of a segment with nothing above -inf.

    In float64 where WIDE: what is lost here, a whole segment loses.
    """
    d = peaks - peak
    if WIDE:
        d = peaks.to(tl.float64) - peak.to(tl.float64)
    if temperature.MODE:
        d = d / temperature.number
    return tl.exp(d)


@triton.jit
def whole_kernel(
    out,
    out_stride,
    shares,
    entries,
    stride,
    labels,
    divisor,
    upstream,
    per_row,
    divide_by,
    ignore_index,
    n,
    k,
    KIND: tl.constexpr,
    SCALED: tl.constexpr,
    COUNT: tl.constexpr,
    AGAIN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One of the maps, or the plain loss with its gradient, of rows that one program holds.

    Where AGAIN, the gradient is there already for the upstream gradient 1: nothing is done where that holds.
    """
    CARRY: tl.constexpr = entries.dtype.element_ty == tl.float32
    logits, into = Matrix(entries, stride), Matrix(out, out_stride)
    temperature = Field(divide_by, None, SCALED)
    rows = rows_of(n, k, ROWS)
    tile = tile_at(0, rows, BLOCK)
    if KIND == _LOSS:
        wanted = True
        if AGAIN:
            given = tl.load(upstream + rows.index * per_row, mask=rows.inside, other=1.0).to(tl.float32)
            wanted = tl.max(tl.where(given == 1.0, 0, 1), 0) > 0
        if wanted:
            rows = labelled(labels, rows, ignore_index)
            u = load(logits, rows, tile, -float("inf"))
            # read again: it is in the cache
            at_label = entries + rows.index * stride + rows.label
            u_y = tl.load(at_label, mask=rows.inside, other=0.0).to(tl.float32)
            peak = tl.max(u, 1)
            _d, e = exponentials(u, peak, temperature, CARRY)
            own = tile.cols[None, :] == rows.label[:, None]
            others, e_y = pair_sums(tl.where(own, 0.0, e), tl.where(own, e, 0.0), 1)
            others = others + (peak - peak)  # a row without a finite peak is NaN
            if shares is not None:
                d_y = u_y - peak
                tl.store(shares + 2 * rows.index, rest_at(others, e_y, d_y), mask=rows.inside)
                tl.store(shares + 2 * rows.index + 1, d_y, mask=rows.inside)
            if out is not None:
                above = tl.full(peak.shape, 1.0, tl.float32)
                if upstream is not None:
                    place = upstream + rows.index * per_row
                    above = tl.load(place, mask=rows.inside, other=0.0).to(tl.float32)
                factor = factor_of(rows.live, above, labels, divisor, n, ignore_index, COUNT)
                alpha, at_target = ends_of(others, e_y, factor)
                g = tl.where(own, at_target[:, None], e * alpha[:, None])
                store(into, rows, tile, tl.where(rows.live[:, None], g, 0.0))
    else:
        u = load(logits, rows, tile, -float("inf"))
        peak = tl.max(u, 1)
        d, e = exponentials(u, peak, temperature, CARRY)
        top = d == 0.0
        below, ties = pair_sums(tl.where(top, 0.0, e), tl.where(top, 1.0, 0.0), 1)
        rest = below + ((ties - 1.0) + (peak - peak))
        store(into, rows, tile, d - log1p(rest)[:, None] if KIND == _LOG else e * inverse_of(rest)[:, None])


@triton.jit
def shared_kernel(
    out,
    out_stride,
    shares,
    entries,
    stride,
    labels,
    divisor,
    upstream,
    per_row,
    divide_by,
    ignore_index,
    n,
    k,
    parts,
    arrived,
    KIND: tl.constexpr,
    SCALED: tl.constexpr,
    COUNT: tl.constexpr,
    AGAIN: tl.constexpr,
    SEGMENTS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    PHASE: tl.constexpr,
):
    """The same of rows that ``SEGMENTS`` programs hold together.

    ``parts`` (n, SEGMENTS, 2) takes each segment's peak and sum, ``arrived`` (n,), zeros, how many are there.
    PHASE 0 is all of it. An interpreter, which runs one program after the other, cannot wait: PHASE 1 ends
    before it, PHASE 2 begins behind it.
    """
    CARRY: tl.constexpr = entries.dtype.element_ty == tl.float32
    temperature = Field(divide_by, None, SCALED)
    me, group = tl.program_id(0) % SEGMENTS, tl.program_id(0) // SEGMENTS
    groups = tl.num_programs(0) // SEGMENTS
    who, cols = tl.arange(0, WIDE), me * BLOCK + tl.arange(0, BLOCK)
    known, real = who < SEGMENTS, cols < k
    low = -float("inf")
    here, end = entries + cols, n
    if AGAIN:  # where nothing is to be done, nothing is read
        end = tl.where((per_row == 0) & (tl.load(upstream).to(tl.float32) == 1.0), 0, n)
    ahead = tl.load(
        here + tl.cast(group, tl.int64) * stride, mask=cols < tl.where(group < end, k, 0), other=low
    )
    for index in range(group, end, groups):
        row = tl.cast(index, tl.int64)
        u = ahead.to(tl.float32)
        after = index + groups
        ahead = tl.load(
            here + tl.cast(after, tl.int64) * stride, mask=cols < tl.where(after < end, k, 0), other=low
        )
        wanted = True
        if AGAIN:
            wanted = tl.load(upstream + row * per_row).to(tl.float32) != 1.0
        if wanted:
            own_peak = tl.max(u, 0)
            base = tl.where(own_peak == low, 0.0, own_peak)
            d, e = exponentials_from(u, base, temperature, CARRY)
            if KIND == _LOSS:
                given = tl.load(labels + row)
                live, label = given != ignore_index, tl.where((given >= 0) & (given < k), given, 0)
                u_y = tl.load(entries + row * stride + label).to(tl.float32)
                own = cols == label
                mine = tl.sum(tl.where(own, 0.0, e), 0)
            else:
                top = d == 0.0
                below, ties = pair_sums(tl.where(top, 0.0, e), tl.where(top, 1.0, 0.0), 0)
                mine = below + (ties - 1.0)
            place = parts + row * SEGMENTS * 2
            if PHASE != 2:
                tl.store(place + 2 * me, own_peak)
                tl.store(place + 2 * me + 1, mine)
            if PHASE == 0:
                tl.debug_barrier()
                there = tl.atomic_add(arrived + row, 1, sem="acq_rel") + 1
                while there < SEGMENTS:
                    there = tl.atomic_add(arrived + row, 0, sem="acquire")
                tl.debug_barrier()
            if PHASE != 1:
                peaks = tl.load(place + 2 * who, mask=known, other=low, cache_modifier=".cg")
                sums = tl.load(place + 2 * who + 1, mask=known, other=0.0, cache_modifier=".cg")
                peak = tl.max(peaks, 0)
                weights, scale = (
                    apart(peaks, peak, temperature, CARRY),
                    apart(own_peak, peak, temperature, CARRY),
                )
                if KIND == _LOSS:
                    others = tl.sum(sums * weights, 0).to(tl.float32) + (peak - peak)
                    d_y, e_y = exponentials_from(u_y, peak, temperature, CARRY)
                    if shares is not None:
                        tl.store(shares + 2 * row, rest_at(others, e_y, d_y))  # all programs the same
                        tl.store(shares + 2 * row + 1, d_y)
                    if out is not None:
                        above = 1.0
                        if upstream is not None:
                            above = tl.load(upstream + row * per_row).to(tl.float32)
                        factor = factor_of(live, above, labels, divisor, n, ignore_index, COUNT)
                        alpha, at_target = ends_of(others, e_y, factor)
                        g = tl.where(own, at_target, e * (alpha * scale).to(tl.float32))
                        g = tl.where(live, g, 0.0).to(entries.dtype.element_ty)
                        tl.store(out + row * out_stride + cols, g, mask=real)
                else:
                    first = peaks == peak
                    tops = tl.sum(tl.where(first, 1.0, 0.0), 0)
                    joined = tl.where(first, sums, (sums + 1.0) * weights)
                    rest = tl.sum(joined, 0) + ((tops - 1.0) + (peak - peak))
                    if KIND == _LOG:
                        d, _e = exponentials_from(u, peak, temperature, False)
                        p = d - log1p(rest.to(tl.float32))
                    else:
                        p = e * (scale / (1.0 + rest)).to(tl.float32)
                    tl.store(out + row * out_stride + cols, p.to(entries.dtype.element_ty), mask=real)


@triton.jit
def values_kernel(
    result,
    shares,
    labels,
    divisor,
    ignore_index,
    n,
    k,
    MEAN: tl.constexpr,
    ZERO: tl.constexpr,
    EACH: tl.constexpr,
    COUNT: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Values (n,) where EACH, else their sum or mean; of several programs, each its own sum, float64."""
    begin = tl.program_id(0) * STEPS * BLOCK
    so_far = tl.zeros((BLOCK,), tl.float64)
    for step in range(STEPS):
        index = begin + step * BLOCK + tl.arange(0, BLOCK)
        inside = index < n
        label = tl.load(labels + index, mask=inside, other=ignore_index)
        live = label != ignore_index
        tl.device_assert((label >= 0) & (label < k) | (label == ignore_index), "a label is out of range")
        rest = tl.load(shares + 2 * index, mask=inside, other=0.0)
        d_y = tl.load(shares + 2 * index + 1, mask=inside, other=0.0)
        value = tl.where(live, log1p(rest) - d_y, 0.0)
        if EACH:
            tl.store(result + index, value, mask=inside)
        so_far += value.to(tl.float64)
    if not EACH:
        total = tl.sum(so_far, 0)
        if MEAN:
            count = count_of(labels, divisor, n, ignore_index, COUNT).to(tl.float64)
            total = total / count  # of no rows it is NaN
            if ZERO:
                total = tl.where(count == 0.0, 0.0, total)
        tl.store(result + tl.program_id(0), total.to(result.dtype.element_ty))


# ---- from the host ----


def takes(num_classes: int, device: torch.device) -> bool:
    """Whether rows of so many classes are read once on a device."""
    how = held(num_classes)
    return how is not None and (how.segments == 1 or programs_at_once(device, how) >= how.segments)


def _launch(
    kind: int,
    z: Tensor,
    out: Tensor | None,
    *,
    shares: Tensor | None = None,
    labels: Tensor | None = None,
    divisor: Tensor | None = None,
    upstream: Tensor | None = None,
    ignore_index: int = 0,
    temperature: float = 1.0,
    count: int = 0,
    again: bool = False,
) -> None:
    """Run the kernel that holds rows z (n, K); ``out`` may be z itself."""
    n, k = z.shape
    if n == 0:
        return
    how = held(k)
    assert how is not None
    per_row = int(upstream is not None and upstream.ndim > 0)
    if out is not None and how.segments > 1 and is_interpreted() and out.data_ptr() == z.data_ptr():
        z = z.clone()  # a later phase would read what an earlier program has written
    stride, out_stride = z.stride(0), 0 if out is None else out.stride(0)
    tensors = (out, out_stride, shares, z, stride, labels, divisor, upstream, per_row)
    given: tuple[Any, ...] = (*tensors, temperature, ignore_index, n, k)
    mode = (kind, int(temperature != 1.0), count, again)
    if how.segments == 1:
        run(whole_kernel, z, -(-n // how.rows), given, (*mode, how.rows, how.block), num_warps=how.warps)
        return
    parts = torch.empty((n, how.segments, 2), dtype=torch.float32, device=z.device)
    arrived = torch.zeros(n, dtype=torch.int32, device=z.device)
    cut = (how.segments, triton.next_power_of_2(how.segments), how.block)
    programs = min(n, max(1, programs_at_once(z.device, how) // how.segments)) * how.segments
    given = (*given, parts, arrived)
    if is_interpreted():
        for phase in (1, 2):
            run(shared_kernel, z, programs, given, (*mode, *cut, phase), num_warps=how.warps)
        return
    run(
        *(shared_kernel, z, programs, given, (*mode, *cut, 0)),
        num_warps=how.warps,
        maxnreg=how.registers,
        launch_cooperative_grid=True,
    )


def map_rows(z: Tensor, dim: int, temperature: float, *, log: bool) -> Tensor:
    """Return the softmax or its logarithm of any tensor whose rows :func:`takes`."""
    rows = as_rows(z, dim)
    out = torch.empty(rows.shape, dtype=z.dtype, device=z.device)
    _launch(LOG_SOFTMAX if log else SOFTMAX, rows, out, temperature=temperature)
    return from_rows(out, z, dim)


def _divisor(
    labels: Tensor, num_classes: int, reduction: str, ignore_index: int
) -> tuple[Tensor | None, int]:
    """Return the divisor of a mean, or the length of a vector in which each program counts for itself."""
    if reduction != "mean":
        return None, 0
    if len(labels) <= COUNTED and num_classes <= ALONE:
        return None, triton.next_power_of_2(max(len(labels), 1))
    return labels.ne(ignore_index).sum(), 0


def _each_value(z: Tensor, shares: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    values = torch.empty(len(z), dtype=torch.float32, device=z.device)
    if len(z):
        given = (values, shares, labels, None, ignore_index, *z.shape)
        constants = (False, False, True, 0, 1, _AT_A_TIME)
        run(values_kernel, z, -(-len(z) // _AT_A_TIME), given, constants, num_warps=4, debug=True)
    return values


def loss(
    z: Tensor, labels: Tensor, reduction: str, empty: str, ignore_index: int, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the plain loss of rows z (n, K) and, where asked for, its gradient."""
    n = len(z)
    shares = torch.empty((n, 2), dtype=torch.float32, device=z.device)
    out = torch.empty_like(z) if gradient else None
    divisor, count = _divisor(labels, z.shape[1], reduction, ignore_index)
    _launch(
        *(LOSS, z, out),
        shares=shares,
        labels=labels,
        divisor=divisor,
        ignore_index=ignore_index,
        count=count,
    )
    if reduction == "none":
        return _each_value(z, shares, labels, ignore_index), out
    programs = max(-(-n // SUMMED), 1)
    alone, mean = programs == 1, reduction == "mean"
    sums = torch.empty(programs, dtype=torch.float32 if alone else torch.float64, device=z.device)
    given = (sums, shares, labels, divisor, ignore_index, *z.shape)
    constants = (mean and alone, empty == "zero", False, count, SUMMED // _AT_A_TIME, _AT_A_TIME)
    run(values_kernel, z, programs, given, constants, num_warps=4, debug=True)
    if alone:
        return sums.view(()), out
    total = sums.sum()
    if mean:
        assert divisor is not None
        total = total / divisor
        if empty == "zero":
            total = torch.where(divisor == 0, 0.0, total)
    return total.float(), out


def loss_gradient(
    z: Tensor,
    labels: Tensor,
    upstream: Tensor,
    reduction: str,
    ignore_index: int,
    *,
    out: Tensor,
    again: bool,
) -> Tensor:
    """Write the gradient times ``upstream``, a number or one a row, each entry rounded once.

    Where ``again``, ``out`` holds the gradient for an upstream gradient of 1, left where that is right.
    """
    divisor, count = _divisor(labels, z.shape[1], reduction, ignore_index)
    _launch(
        *(LOSS, z, out),
        labels=labels,
        divisor=divisor,
        upstream=one_a_row(upstream) if upstream.ndim else upstream,
        ignore_index=ignore_index,
        count=count,
        again=again,
    )
    return out


def values_in_place(z: Tensor, labels: Tensor) -> Tensor:
    """Return values (n,) of rows z (n, K); the gradient of each row's own value takes the place of z."""
    shares = torch.empty((len(z), 2), dtype=torch.float32, device=z.device)
    _launch(LOSS, z, z, shares=shares, labels=labels, ignore_index=-100)
    return _each_value(z, shares, labels, -100)
