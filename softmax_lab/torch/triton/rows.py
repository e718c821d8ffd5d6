r"""What the kernels do with the entries of a row: u = a cap(z) + b - m e_y, its derivative, the target s, and
the online normaliser.

Every function works on a tile (ROWS, BLOCK) of float32; per-row numbers are (ROWS,). The temperature divides
differences of u alone, since u / T may overflow where (u - max) / T only tends to -inf. The fields' modes are
compiled in: 0 for neutral, 1 for a number, 2 for a number a class, and of the bias 3 for a row of a matrix.

The normaliser is kept as (peak, ties, rest): how many entries equal the largest so far, and the sum of exp((u
- peak) / T) over those below it. A confident row's 1e-18 is never added to the 1 of its largest entry.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .elementary import exp, sech2_and_tanh

__all__ = [
    "at",
    "exponentials",
    "finite_or_zero",
    "label_of",
    "load_tile",
    "online",
    "prior_of",
    "relative",
    "slopes",
    "target_of",
    "transformed",
]


@triton.jit
def load_tile(pointer, starts, cols, mask, other):
    """Entries of rows that begin at ``starts`` (ROWS,), as float32."""
    return tl.load(pointer + starts[:, None] + cols[None, :], mask=mask, other=other).to(tl.float32)


@triton.jit
def label_of(targets, rows, inside, ignore_index, k):
    """Return each row's label, 0 where it does not count, and whether it does."""
    given = tl.load(targets + rows, mask=inside, other=0).to(tl.int64)
    live = inside & (given != ignore_index)
    tl.device_assert((given == ignore_index) | ((given >= 0) & (given < k)), "a label is out of range")
    return tl.where(live, given, 0).to(tl.int32), live


@triton.jit
def at(pointer, number, label):
    """A field's value for each row's label, float32: the number where there is no array."""
    return (
        tl.zeros_like(label).to(tl.float32) + number
        if pointer is None
        else tl.load(pointer + label).to(tl.float32)
    )


@triton.jit
def transformed(z, cols, label, k, scales, biases, scale, bias, margin, softcap, SCALE, BIAS, MARGIN, CAP):
    """u of a tile, not yet divided by the temperature; -inf stays -inf through the cap."""
    v = z
    if CAP:
        _, tanh = sech2_and_tanh(z / softcap)
        v = tl.where(z == -float("inf"), z, softcap * tanh)
    if SCALE == 1:
        v = v * scale
    if SCALE == 2:
        v = v * tl.load(scales + cols, mask=cols < k, other=1.0).to(tl.float32)[None, :]
    if BIAS == 1:
        v = v + bias
    if BIAS == 2:
        v = v + tl.load(biases + cols, mask=cols < k, other=0.0).to(tl.float32)[None, :]
    if BIAS == 3:
        place = label.to(tl.int64)[:, None] * k + cols[None, :]
        v = v + tl.load(biases + place, mask=(cols < k)[None, :], other=0.0).to(tl.float32)
    if MARGIN:
        v = tl.where(cols[None, :] == label[:, None], v - margin[:, None], v)
    return v


@triton.jit
def slopes(z, cols, k, scales, scale, temperature, softcap, SCALE, CAP):
    """du/dz of a tile, the temperature included, and d2u/dz2 over it."""
    slope = tl.full(z.shape, 1.0, tl.float32) / temperature
    bend = tl.zeros_like(slope)
    if SCALE == 1:
        slope = slope * scale
    if SCALE == 2:
        slope = slope * tl.load(scales + cols, mask=cols < k, other=1.0).to(tl.float32)[None, :]
    if CAP:
        sech2, tanh = sech2_and_tanh(z / softcap)
        slope = slope * sech2
        bend = tanh * (-2.0 / softcap)
    return slope, bend


@triton.jit
def prior_of(priors, cols, k):
    """r over the columns, 0 beyond them; uniform where there is no array."""
    inside = cols < k
    r = (
        tl.where(inside, 1.0 / k, 0.0)
        if priors is None
        else tl.load(priors + cols, mask=inside, other=0.0).to(tl.float32)
    )
    return r[None, :]


@triton.jit
def target_of(targets, starts, cols, mask, priors, smoothing, k, SMOOTHING):
    """The given distribution t of a tile, and s = (1 - eps) t + eps r."""
    t = load_tile(targets, starts, cols, mask, 0.0)
    s = t
    if SMOOTHING:
        s = (1.0 - smoothing) * t + smoothing * prior_of(priors, cols, k)
    return t, s


@triton.jit
def relative(u, peak, temperature, SCALED):
    """(u - peak) / T for per-row peaks."""
    d = u - peak[:, None]
    if SCALED:
        d = d / temperature
    return d


@triton.jit
def exponentials(u, peak, temperature, SCALED, CARRY):
    """d = (u - peak) / T and exp(d), where CARRY with the rounding error of the difference: at -80 that is
    forty ulp of the exponential.
    """
    d = u - peak[:, None]
    low = tl.zeros_like(d)
    if CARRY:
        t = d - u
        low = (u - (d - t)) - (peak[:, None] + t)
    if SCALED:
        d, low = d / temperature, low / temperature
    e = exp(d)
    if CARRY:
        e = e + e * tl.where(e > 0.0, low, 0.0)  # -inf less anything has no error; NaN stays
    return d, e


@triton.jit
def finite_or_zero(peak):
    """What differences are taken from: 0 before anything above -inf was seen."""
    return tl.where(peak == -float("inf"), 0.0, peak)


@triton.jit
def online(u, peak, ties, rest, lost, temperature, SCALED, CARRY):
    """Take in a part of a row: (peak, ties, rest, lost) of all so far.

    ``ties``, ``rest`` and what its sum has lost are (ROWS, BLOCK).
    """
    above = tl.maximum(peak, tl.max(u, 1))
    base = finite_or_zero(above)
    _moved, shrink = exponentials(peak[:, None], base, temperature, SCALED, CARRY)
    rise = (peak < above)[:, None]
    rest = (rest + tl.where(rise, ties, 0.0)) * shrink
    lost = lost * shrink
    ties = tl.where(rise, 0.0, ties)
    d, e = exponentials(u, base, temperature, SCALED, CARRY)
    top = d == 0.0
    term = tl.where(top, 0.0, e) - lost  # Kahan's sum, a lane
    total = rest + term
    return above, ties + tl.where(top, 1.0, 0.0), total, (total - rest) - term
