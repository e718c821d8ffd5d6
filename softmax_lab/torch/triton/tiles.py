r"""What the kernels do with a tile of the logits.

That is u = a cap(z) + b - m e_y with its derivative, the target s, and the online normaliser.

A tile is (ROWS, BLOCK) of float32. A number for each row is (ROWS,). A spec is that of
:func:`.arguments.spec_argument`. The temperature divides differences of u alone: u / T may overflow where
(u - max) / T only tends to -inf.

The normaliser is kept as (peak, ties, rest): how many entries equal the largest so far, and the sum of
exp((u - peak) / T) over those below it. A confident row's 1e-18 is never added to the 1 of its largest entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import exp, sech2_and_tanh

__all__ = [
    "Online",
    "Part",
    "Rows",
    "Tile",
    "at_label",
    "exponentials",
    "exponentials_from",
    "finite_or_zero",
    "gradient_by_u",
    "less_target",
    "load",
    "logit_of",
    "nothing_yet",
    "online",
    "pair_sums",
    "part_at",
    "relative",
    "rows_of",
    "rows_with",
    "share_sums",
    "slopes",
    "spread_of",
    "store",
    "tile_at",
    "totals",
    "transformed",
]


_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


class Rows(NamedTuple):
    """The rows of a program: their numbers are (ROWS,)."""

    index: Any  # int64, from the first row of the matrix
    inside: Any  # whether there is such a row
    label: Any  # int32; 0 for a distribution, and where the row does not count
    live: Any  # whether the row counts
    margin: Any  # m of its label
    k: Any  # a number: the classes of a row


class Tile(NamedTuple):
    """A place in the rows of a program."""

    cols: Any  # (BLOCK,)
    real: Any  # (BLOCK,), whether there is such a class
    mask: Any  # (ROWS, BLOCK), whether there is such an entry


class Part(NamedTuple):
    """What is at a tile."""

    z: Any  # the logits
    u: Any  # transformed
    t: Any  # the given distribution; nothing for a class index
    s: Any  # the smoothed one


class Online(NamedTuple):
    """The normaliser of what was read so far."""

    peak: Any  # (ROWS,) the largest
    ties: Any  # (ROWS, BLOCK) how many entries equal it
    rest: Any  # (ROWS, BLOCK) the sum over the others
    lost: Any  # (ROWS, BLOCK) what that sum has lost


# ---- places ----


@triton.jit
def rows_of(n, k, ROWS: tl.constexpr):
    """Return the rows of this program, without targets."""
    index = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    label, inside = tl.zeros_like(index).to(tl.int32), index < n
    return Rows(index, inside, label, inside, tl.zeros_like(index).to(tl.float32), k)


@triton.jit
def rows_with(targets, spec, n, k, ROWS: tl.constexpr):
    """Return the rows of this program with their targets."""
    rows = rows_of(n, k, ROWS)
    label, live = rows.label, rows.inside
    if not targets.SOFT:
        given = tl.load(targets.entries + rows.index, mask=rows.inside, other=0).to(tl.int64)
        ignored = given == targets.ignore_index
        tl.device_assert(ignored | ((given >= 0) & (given < k)), "a label is out of range")
        live = rows.inside & (given != targets.ignore_index)
        label = tl.where(live, given, 0).to(tl.int32)
    return Rows(rows.index, rows.inside, label, live, at_label(spec.margin, label), k)


@triton.jit
def tile_at(start, rows, BLOCK: tl.constexpr):
    """Return the tile whose first class is ``start``."""
    cols = start + tl.arange(0, BLOCK)
    real = cols < rows.k
    return Tile(cols, real, rows.inside[:, None] & real[None, :])


@triton.jit
def load(matrix, rows, tile, other):
    """Entries of a tile as float32."""
    place = matrix.entries + (rows.index * matrix.stride)[:, None] + tile.cols[None, :]
    return tl.load(place, mask=tile.mask, other=other).to(tl.float32)


@triton.jit
def store(matrix, rows, tile, entries):
    """Write a tile, each entry rounded once."""
    place = matrix.entries + (rows.index * matrix.stride)[:, None] + tile.cols[None, :]
    tl.store(place, entries.to(matrix.entries.dtype.element_ty), mask=tile.mask)


# ---- fields of the spec ----


@triton.jit
def at_label(field, label):
    """A field's value for each row's label, float32."""
    return (
        tl.zeros_like(label).to(tl.float32) + field.number
        if field.array is None
        else tl.load(field.array + label).to(tl.float32)
    )


@triton.jit
def by_column(field, tile, other):
    """A field's value for each class of a tile, (1, BLOCK) float32; ``other`` beyond the last."""
    return tl.load(field.array + tile.cols, mask=tile.real, other=other).to(tl.float32)[None, :]


@triton.jit
def prior_of(spec, rows, tile):
    """r over the classes of a tile, 0 beyond the last; uniform where there is no array."""
    return (
        tl.where(tile.real, 1.0 / rows.k, 0.0)[None, :]
        if spec.prior.array is None
        else by_column(spec.prior, tile, 0.0)
    )


@triton.jit
def transformed(z, rows, tile, spec):
    """u of a tile, not yet divided by the temperature; -inf stays -inf, beyond the last class too."""
    v = z
    if spec.softcap.MODE:
        _, tanh = sech2_and_tanh(z / spec.softcap.number)
        v = tl.where(z == -float("inf"), z, spec.softcap.number * tanh)
    if spec.scale.MODE == 1:
        v = v * spec.scale.number
    if spec.scale.MODE == 2:
        v = v * by_column(spec.scale, tile, 1.0)
    if spec.bias.MODE == 1:
        v = v + spec.bias.number
    if spec.bias.MODE == 2:
        v = v + by_column(spec.bias, tile, 0.0)
    if spec.bias.MODE == 3:
        place = rows.label.to(tl.int64)[:, None] * rows.k + tile.cols[None, :]
        v = v + tl.load(spec.bias.array + place, mask=tile.real[None, :], other=0.0).to(tl.float32)
    if spec.margin.MODE:
        v = tl.where(tile.cols[None, :] == rows.label[:, None], v - rows.margin[:, None], v)
    return v


@triton.jit
def slopes(z, tile, spec):
    """du/dz of a tile, the temperature included, and d2u/dz2 over it."""
    slope = tl.full(z.shape, 1.0, tl.float32) / spec.temperature.number
    bend = tl.zeros_like(slope)
    if spec.scale.MODE == 1:
        slope = slope * spec.scale.number
    if spec.scale.MODE == 2:
        slope = slope * by_column(spec.scale, tile, 1.0)
    if spec.softcap.MODE:
        sech2, tanh = sech2_and_tanh(z / spec.softcap.number)
        slope = slope * sech2
        bend = tanh * (-2.0 / spec.softcap.number)
    return slope, bend


# ---- the target ----


@triton.jit
def part_at(logits, targets, rows, tile, spec):
    """Read a tile, and a distribution with s = (1 - eps) t + eps r."""
    z = load(logits, rows, tile, -float("inf"))
    t, s = z, z
    if targets.SOFT:
        t = load(targets, rows, tile, 0.0)
        s = t
        if spec.smoothing.MODE:
            s = (1.0 - spec.smoothing.number) * t + spec.smoothing.number * prior_of(spec, rows, tile)
    return Part(z, transformed(z, rows, tile, spec), t, s)


@triton.jit
def spread_of(part, rows, tile, targets, spec):
    """What beta multiplies: the smoothed distribution, or the prior r for a class index.

    The prior is read anew wherever it is needed: kept from the sums to the gradient, it would take as many
    registers as the logits.
    """
    return part.s if targets.SOFT else prior_of(spec, rows, tile)


@triton.jit
def less_target(x, part, terms, rows, tile, targets, spec, SPREAD):
    """x - beta s where ``SPREAD``, and at a class index the component of the target."""
    if SPREAD:
        x = x - terms.beta[:, None] * spread_of(part, rows, tile, targets, spec)
    if not targets.SOFT:
        x = tl.where(tile.cols[None, :] == rows.label[:, None], terms.at_target[:, None], x)
    return x


@triton.jit
def gradient_by_u(part, e, terms, rows, tile, targets, spec):
    """dL/du of a tile, times the temperature."""
    g = terms.alpha[:, None] * e
    return less_target(g, part, terms, rows, tile, targets, spec, targets.SOFT or spec.smoothing.MODE)


@triton.jit
def share_sums(part, base, rows, tile, targets, spec):
    """Return sum s_k, sum s_k d_k with d relative to ``base``, sum t_k and sum t_k W_k of a tile.

    0 * -inf is 0, and so is inf * 0: a share may be infinite at the maximum. What no formula reads is 0.
    """
    zero = tl.zeros_like(base)
    s_sum, s_d, t_sum, t_weight = zero, zero, zero, zero
    if targets.SOFT or spec.smoothing.MODE:
        s, d = spread_of(part, rows, tile, targets, spec), relative(part.u, base, spec.temperature)
        none = (s == 0.0) | (d == 0.0)
        product = tl.where(none, 0.0, s * tl.where(none, 0.0, d))
        s_sum, s_d = tl.sum(s + tl.zeros_like(d), 1), tl.sum(product, 1)
    if targets.SOFT:
        t_sum = tl.sum(part.t, 1)
        if spec.class_weight.array is not None:
            t_weight = tl.sum(part.t * by_column(spec.class_weight, tile, 0.0), 1)
    return s_sum, s_d, t_sum, t_weight


@triton.jit
def logit_of(u, rows, tile):
    """The logit of a class index in a tile; -inf where it is in another."""
    return tl.max(tl.where(tile.cols[None, :] == rows.label[:, None], u, -float("inf")), 1)


# ---- sums ----


@triton.jit
def add_pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def pair_sums(one, other, axis: tl.constexpr):
    """Return two sums along an axis, for which the threads that share it meet once."""
    # the interpreter would take the pairs one by one
    return (
        (tl.sum(one, axis), tl.sum(other, axis)) if _INTERPRETED else tl.reduce((one, other), axis, add_pairs)
    )


# ---- exponentials ----


@triton.jit
def relative(u, peak, temperature):
    """(u - peak) / T for a peak a row."""
    d = u - peak[:, None]
    if temperature.MODE:
        d = d / temperature.number
    return d


@triton.jit
def exponentials(u, peak, temperature, CARRY):
    """Return d = (u - peak) / T and exp(d).

    Where ``CARRY``, exp(d) has the rounding error of the difference too: at -80 that is forty ulp of it.
    """
    return exponentials_from(u, peak[:, None], temperature, CARRY)


@triton.jit
def exponentials_from(u, base, temperature, CARRY):
    """The same relative to a base of any shape that u has, or broadcasts to."""
    d = u - base
    low = tl.zeros_like(d)
    if CARRY:
        t = d - u
        low = (u - (d - t)) - (base + t)
    if temperature.MODE:
        d, low = d / temperature.number, low / temperature.number
    e = exp(d)
    if CARRY:
        e = e + e * tl.where(e > 0.0, low, 0.0)  # -inf less anything has no error; NaN stays
    return d, e


@triton.jit
def finite_or_zero(peak):
    """What differences are taken from: 0 before anything above -inf was seen."""
    return tl.where(peak == -float("inf"), 0.0, peak)


@triton.jit
def nothing_yet(ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the normaliser before anything was read."""
    zero = tl.zeros((ROWS, BLOCK), tl.float32)
    return Online(tl.full((ROWS,), -float("inf"), tl.float32), zero, zero, zero)


@triton.jit
def online(u, so_far, temperature, CARRY):
    """Take a tile into the normaliser."""
    peak = tl.maximum(so_far.peak, tl.max(u, 1))
    base = finite_or_zero(peak)
    _moved, shrink = exponentials(so_far.peak[:, None], base, temperature, CARRY)
    rise = (so_far.peak < peak)[:, None]
    rest = (so_far.rest + tl.where(rise, so_far.ties, 0.0)) * shrink
    lost = so_far.lost * shrink
    ties = tl.where(rise, 0.0, so_far.ties)
    d, e = exponentials(u, base, temperature, CARRY)
    top = d == 0.0
    term = tl.where(top, 0.0, e) - lost  # Kahan's sum, in each lane
    total = rest + term
    return Online(peak, ties + tl.where(top, 1.0, 0.0), total, (total - rest) - term)


@triton.jit
def totals(so_far):
    """Return how many entries of a row are largest, and the sum over the others."""
    below = tl.sum(so_far.rest.to(tl.float64) - so_far.lost.to(tl.float64), 1).to(tl.float32)
    return tl.sum(so_far.ties, 1), below
