r"""What the family does to the logits: u T = a c tanh(z / c) + b - m e_y, masked classes at -inf.

Every loop gets its logits from ``prepared`` and its exponentials from ``relative``; with ``affine = None``
both shrink, as the loop is compiled, to what plain softmax needs, and with a `Shift` (the log-prior of
Balanced Softmax and its relatives) to little more. A new field that acts on the logits changes this file and
no other kernel: ``affine_of`` reads it from the spec, ``_transformed`` applies it, ``slopes`` is its
derivative.

The temperature divides after the shift by the maximum, where z / T could overflow. Of float64 logits each
step's rounding error is carried along (``low``); narrower ones are exact in float64, with digits to spare.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .._rows import read_only
from .._twofloat import LARGEST_LOW
from ..spec import LossSpec
from .compiler import allocating_overload, called_overload, inlined, inlined_overload
from .exponential import double, single, tanh, tanh_single, two_product, two_sum
from .loss import exp_difference, two_difference
from .simd import (
    WIDTH,
    absolute,
    entry,
    flags,
    fma,
    iota,
    load,
    load_first,
    max_lanes,
    maximum,
    splat,
    store,
    store_first,
    where_equal,
    where_less,
    where_ordered,
)

Array = NDArray[np.float64]


class Affine(NamedTuple):
    """The fields that act on the logits, as a loop reads them: of an array of one entry every class gets that
    entry.
    """

    inverse: float  # 1 / T, rounded
    inverse_low: float  # and the rest of it
    cap: float  # 0: none
    scale: Array  # (1,) or (K,)
    bias: Array  # (1,) or (K,), or (K * K,) with a row per target
    bias_stride: int  # entries from one target's row to the next, else 0
    margin: Array  # (1,) or (K,)
    mask: NDArray[np.bool_]  # (0,), (K,) for all rows, or (N * K,)
    mask_stride: int  # entries from one row's mask to the next, else 0


class Shift(NamedTuple):
    """A bias per class and no other field, on logits narrower than float64: added wherever a logit is read,
    and kept nowhere.
    """

    bias: Array  # (K,)


_NO_MASK = np.zeros(0, bool)
HELD = 1 << 17  # classes: a row of float64 that fits a second-level cache of 1 MiB, and is kept as a whole


def affine_of(
    spec: LossSpec, mask: NDArray[np.bool_] | None, *, narrow: bool = False
) -> Affine | Shift | None:
    """Return what a loop needs to know of a spec and a mask (N, K), or None where the logits stay as they
    are.

    ``narrow`` says that the logits are narrower than float64.
    """
    if mask is None and not spec.acts_on_logits:
        return None
    if mask is None and narrow and spec.only_shifts and len(spec.bias) <= HELD:
        return Shift(read_only(spec.bias))
    scale, bias, margin = (
        read_only(np.ascontiguousarray(np.atleast_1d(np.asarray(field))))
        for field in (spec.scale, spec.bias, spec.margin)
    )
    stride = bias.shape[1] if bias.ndim == 2 else 0
    flat, mask_stride = (_NO_MASK, 0) if mask is None else _flat_mask(mask)
    inverse = min(1.0 / spec.temperature, np.finfo(np.float64).max)
    rest = float(Fraction(1) / Fraction(spec.temperature) - Fraction(inverse))
    return Affine(
        inverse,
        rest,
        spec.softcap or 0.0,
        scale,
        bias.reshape(-1),
        stride,
        margin,
        read_only(flat),
        mask_stride,
    )


def temperature_and_mask(temperature: float, mask: NDArray[np.bool_] | None) -> Affine | None:
    """The same for softmax and its logarithm, which have no other field."""
    if mask is None and temperature == 1.0:
        return None
    return affine_of(LossSpec(temperature=temperature), mask)


def _flat_mask(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Flat bytes and the stride from row to row: a mask that all rows share is not copied out."""
    if len(mask) > 1 and mask.strides[0] == 0:
        return np.ascontiguousarray(mask[0]), 0
    return np.ascontiguousarray(mask).reshape(-1), mask.shape[1]


def shifts_only(affine: types.Type) -> bool:
    """Whether a loop is compiled for u = z, or for z plus a bias: du/dz is 1."""
    return isinstance(affine, types.NoneType) or is_shift(affine)


def is_shift(affine: types.Type) -> bool:
    """Whether a loop is compiled for a `Shift`."""
    return getattr(affine, "instance_class", None) is Shift


# ---- loads: a whole vector, or what is left of a row ----


@inlined
def load_some(array, offset, count, fill):
    """The first ``count`` lanes of array[offset:], ``fill`` in the others."""
    return load(array, offset) if count == WIDTH else load_first(array, offset, count, fill)


@inlined
def store_some(array, offset, count, value):
    """Store the first ``count`` lanes."""
    if count == WIDTH:
        store(array, offset, value)
    else:
        store_first(array, offset, count, value)


@inlined
def load_class(array, first, count):
    """Entries of a per-class array from class ``first`` on, or its one entry for all."""
    return splat(array[0]) if len(array) == 1 else load_some(array, first, count, 0.0)


# ---- scratch: arrays that a plain loop does without are None ----


def scratch(affine, z, size):
    """Return (u, low, slope): where a chunk's transformed logits wait.

    Low for float64, slope with a soft cap.
    """
    raise NotImplementedError("compiled only")


@allocating_overload(scratch)
def _scratch(affine, z, size):
    if shifts_only(affine):
        return lambda affine, z, size: (None, None)
    if z.dtype == types.float64:
        return lambda affine, z, size: (np.empty(size), np.empty(size if affine.cap > 0.0 else 0))
    return lambda affine, z, size: (None, np.empty(size if affine.cap > 0.0 else 0))


# ---- u from z ----


@inlined
def peak_of(z, base, n):
    """Largest entry of z[base : base + n]; NaN is passed over, the sum will show it."""
    a = b = c = d = splat(-np.inf)
    k = 0
    while k + 4 * WIDTH <= n:
        a = maximum(load(z, base + k), a)
        b = maximum(load(z, base + k + WIDTH), b)
        c = maximum(load(z, base + k + 2 * WIDTH), c)
        d = maximum(load(z, base + k + 3 * WIDTH), d)
        k += 4 * WIDTH
    while k < n:
        a = maximum(load_some(z, base + k, min(WIDTH, n - k), -np.inf), a)
        k += WIDTH
    return max_lanes(maximum(maximum(a, b), maximum(c, d)))


@inlined
def peak_of_shifted(bias, z, offset, first, n):
    """Largest entry of z[offset : offset + n] with the bias of the classes from ``first`` on."""
    a = b = splat(-np.inf)
    k = 0
    while k + 2 * WIDTH <= n:
        a = maximum(load(z, offset + k) + load(bias, first + k), a)
        b = maximum(load(z, offset + k + WIDTH) + load(bias, first + k + WIDTH), b)
        k += 2 * WIDTH
    while k < n:
        count = min(WIDTH, n - k)
        a = maximum(load_some(z, offset + k, count, -np.inf) + load_some(bias, first + k, count, 0.0), a)
        k += WIDTH
    return max_lanes(maximum(a, b))


def prepared(affine, z, row, base, first, n, y, held, lows, caps, place):
    """Return the maximum of u T over a chunk, the classes first ... first + n - 1 of a row that starts at
    z[base].

    With fields that act on the logits, u T goes to held[place:], its rounding error to ``lows``, dv/dz to
    ``caps``.
    """
    raise NotImplementedError("compiled only")


@called_overload(prepared)
def _prepared(affine, z, row, base, first, n, y, held, lows, caps, place):
    if is_shift(affine):
        return lambda affine, z, row, base, first, n, y, held, lows, caps, place: peak_of_shifted(
            affine.bias, z, base + first, first, n
        )
    if shifts_only(affine):
        return lambda affine, z, row, base, first, n, y, held, lows, caps, place: peak_of(z, base + first, n)

    def transform(affine, z, row, base, first, n, y, held, lows, caps, place):
        peak = splat(-np.inf)
        bias = y * affine.bias_stride if len(affine.bias) > 1 else 0
        k = 0
        while k < n:
            count = min(WIDTH, n - k)
            x, low = load_some(z, base + first + k, count, -np.inf), splat(0.0)
            if affine.cap > 0.0:
                x, low, slope = capped(z, x, affine.cap)
                store_some(caps, place + k, count, slope)
            x, low = times(z, x, low, load_class(affine.scale, first + k, count))
            shift = (
                splat(affine.bias[0])
                if len(affine.bias) == 1
                else load_some(affine.bias, bias + first + k, count, 0.0)
            )
            x, low = plus(z, x, low, shift)
            if first + k <= y < first + k + count:
                margin = affine.margin[y if len(affine.margin) > 1 else 0]
                m = where_equal(iota(), splat(float(y - first - k)), splat(-margin), splat(0.0))
                x, low = plus(z, x, low, m)
            if len(affine.mask):
                kept = flags(affine.mask, row * affine.mask_stride + first + k, count)
                x = where_equal(kept, splat(0.0), splat(-np.inf), x)
            peak = maximum(x, peak)
            store_some(held, place + k, count, x)
            keep_low(lows, place + k, count, low)
            k += WIDTH
        return max_lanes(peak)

    return transform


def transformed(affine, z, row, base, first, n, y, held, lows, caps, place):
    """Do what ``prepared`` does, where the maximum is known: nothing, where the logits are taken as they are
    or with a bias.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(transformed)
def _transformed(affine, z, row, base, first, n, y, held, lows, caps, place):
    if shifts_only(affine):
        return lambda affine, z, row, base, first, n, y, held, lows, caps, place: None

    def all_fields(affine, z, row, base, first, n, y, held, lows, caps, place):
        prepared(affine, z, row, base, first, n, y, held, lows, caps, place)

    return all_fields


def window(affine, num_classes, chunk):
    """Return how many entries of a row are held where a chunk at a time would do: all of them with a `Shift`,
    see ``loaded``.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(window)
def _window(affine, num_classes, chunk):
    if is_shift(affine):
        return lambda affine, num_classes, chunk: num_classes
    return lambda affine, num_classes, chunk: min(num_classes, chunk)


def keep_low(lows, place, count, low):
    """Store the rounding errors where they are kept."""
    raise NotImplementedError("compiled only")


@inlined_overload(keep_low)
def _keep_low(lows, place, count, low):
    if isinstance(lows, types.NoneType):
        return lambda lows, place, count, low: None
    return lambda lows, place, count, low: store_some(lows, place, count, low)


def plus(z, x, low, b):
    """x + low + b."""
    raise NotImplementedError("compiled only")


@inlined_overload(plus)
def _plus(z, x, low, b):
    if z.dtype != types.float64:
        return lambda z, x, low, b: (x + b, low)

    def with_error(z, x, low, b):
        s, error = two_sum(x, b)
        return s, low + error

    return with_error


def times(z, x, low, a):
    """(x + low) a."""
    raise NotImplementedError("compiled only")


@inlined_overload(times)
def _times(z, x, low, a):
    if z.dtype != types.float64:
        return lambda z, x, low, a: (x * a, low)

    def with_error(z, x, low, a):
        p, error = two_product(x, a)
        return p, fma(low, a, error)

    return with_error


def capped(z, x, cap):
    """Return v = c tanh(x / c), its rounding error and dv/dx; -inf stays -inf.

    Where the cap saturates, the slope magnifies the rounding of x / c by 2 x / c: for float64 it is carried
    to first order.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(capped)
def _capped(z, x, cap):
    if z.dtype != types.float64:

        def narrow(z, x, cap):
            t, slope = tanh_single(x * splat(1.0 / cap))
            return where_equal(x, splat(-np.inf), x, t * splat(cap)), splat(0.0), slope

        return narrow

    def with_error(z, x, cap):
        c = splat(cap)
        quotient = x / c
        rest = fma(splat(0.0) - quotient, c, x) / c
        rest = where_ordered(rest, rest, rest, splat(0.0))
        t, t_low, slope = tanh(quotient)
        v, error = two_product(t, c)
        v = where_equal(x, splat(-np.inf), x, v)
        error = where_equal(absolute(x), splat(np.inf), splat(0.0), fma(c, fma(slope, rest, t_low), error))
        return v, error, slope * fma(splat(-2.0) * t, rest, splat(1.0))

    return with_error


# ---- exponentials relative to a maximum ----


def loaded(affine, z, offset, held, lows, place, count, fill):
    """Return u T and its rounding error for up to eight entries: z[offset:], or what ``prepared`` left at
    held[place:].

    A row with a `Shift` is held as a whole, so that ``place`` is the class.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(loaded)
def _loaded(affine, z, offset, held, lows, place, count, fill):
    if is_shift(affine):

        def with_bias(affine, z, offset, held, lows, place, count, fill):
            return load_some(z, offset, count, fill) + load_some(affine.bias, place, count, 0.0), splat(0.0)

        return with_bias
    if shifts_only(affine):
        return lambda affine, z, offset, held, lows, place, count, fill: (
            load_some(z, offset, count, fill),
            splat(0.0),
        )
    if z.dtype != types.float64:
        return lambda affine, z, offset, held, lows, place, count, fill: (
            load_some(held, place, count, fill),
            splat(0.0),
        )

    def with_error(affine, z, offset, held, lows, place, count, fill):
        return load_some(held, place, count, fill), load_some(lows, place, count, 0.0)

    return with_error


def difference(affine, z, x, low, peak):
    """Return (x + low - peak) / T and, for float64 logits, its rounding error."""
    raise NotImplementedError("compiled only")


@inlined_overload(difference)
def _difference(affine, z, x, low, peak):
    plain = shifts_only(affine)
    if z.dtype != types.float64:
        if plain:
            return lambda affine, z, x, low, peak: (x - peak, low)
        return lambda affine, z, x, low, peak: ((x - peak) * splat(affine.inverse), low)
    if plain:
        return lambda affine, z, x, low, peak: two_sum(x, splat(0.0) - peak)

    def with_temperature(affine, z, x, low, peak):
        d, error = two_sum(x, splat(0.0) - peak)
        low = low + error
        inverse = splat(affine.inverse)
        q, rounding = two_product(d, inverse)
        low = fma(low, inverse, fma(d, splat(affine.inverse_low), rounding))
        return q, where_less(absolute(low), splat(LARGEST_LOW), low, splat(0.0))

    return with_temperature


def exponential(z, d, low):
    """exp(d + low), in the precision that logits of z's type need."""
    raise NotImplementedError("compiled only")


@inlined_overload(exponential)
def _exponential(z, d, low):
    if z.dtype == types.float64:
        return lambda z, d, low: double(d, low)
    return lambda z, d, low: single(d)


@inlined
def relative(affine, z, offset, held, lows, place, count, peak):
    """Return (u T, exp((u T - peak) / T)) for up to eight entries."""
    x, low = loaded(affine, z, offset, held, lows, place, count, -np.inf)
    d, low = difference(affine, z, x, low, peak)
    return x, exponential(z, d, low)


@inlined
def log_relative(affine, z, offset, held, lows, place, count, peak, log_total):
    """(u T - peak) / T - log_total for up to eight entries."""
    x, low = loaded(affine, z, offset, held, lows, place, count, 0.0)
    d, low = difference(affine, z, x, low, peak)
    return less_log(z, d, low, log_total)


def less_log(z, d, low, log_total):
    """d + low - log_total for d <= 0.

    d itself may lie in the middle between two numbers of half precision, and log_total be too small for
    float64 to show that the difference does not: enough is taken off for the rounding to go the right way.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(less_log)
def _less_log(z, d, low, log_total):
    if z.dtype in (types.int16, types.uint16):
        return lambda z, d, low, log_total: d - maximum(d * splat(-(2.0**-50)), log_total)
    return lambda z, d, low, log_total: d + (low - log_total)


# ---- one entry, as the row's formula needs it ----


def target_of(affine, z, offset, held, lows, place):
    """u T at the target and its rounding error, after ``prepared``."""
    raise NotImplementedError("compiled only")


@inlined_overload(target_of)
def _target_of(affine, z, offset, held, lows, place):
    if is_shift(affine):
        return lambda affine, z, offset, held, lows, place: (entry(z, offset) + affine.bias[place], 0.0)
    if shifts_only(affine):
        return lambda affine, z, offset, held, lows, place: (entry(z, offset), 0.0)
    if z.dtype == types.float64:
        return lambda affine, z, offset, held, lows, place: (held[place], lows[place])
    return lambda affine, z, offset, held, lows, place: (held[place], 0.0)


def below(affine, x, low, peak):
    """(x + low - peak) / T of one entry, and its rounding error."""
    raise NotImplementedError("compiled only")


@inlined_overload(below)
def _below(affine, x, low, peak):
    if shifts_only(affine):
        return lambda affine, x, low, peak: two_difference(x, peak)

    def with_temperature(affine, x, low, peak):
        d, error = two_difference(x, peak)
        q = d * affine.inverse
        # the product's own rounding error, by a vector's fused multiply-add
        rounding = max_lanes(fma(splat(d), splat(affine.inverse), splat(-q)))
        low = rounding + (low + error) * affine.inverse + d * affine.inverse_low
        return q, low if abs(low) < LARGEST_LOW else 0.0

    return with_temperature


def exp_below(affine, a, b):
    """exp((a - b) / T) of two maxima."""
    raise NotImplementedError("compiled only")


@inlined_overload(exp_below)
def _exp_below(affine, a, b):
    if shifts_only(affine):
        return lambda affine, a, b: exp_difference(a, b)

    def with_temperature(affine, a, b):
        d, low = below(affine, a, 0.0, b)
        e = np.exp(d)
        return e + e * low

    return with_temperature


def inverse_temperature(affine):
    """1 / T."""
    raise NotImplementedError("compiled only")


@inlined_overload(inverse_temperature)
def _inverse_temperature(affine):
    if shifts_only(affine):
        return lambda affine: 1.0
    return lambda affine: affine.inverse


# ---- du/dz, and masked entries, on the way out ----


def slopes(affine, first, caps, place, count):
    """du/dz for up to eight classes."""
    raise NotImplementedError("compiled only")


@inlined_overload(slopes)
def _slopes(affine, first, caps, place, count):
    if shifts_only(affine):
        return lambda affine, first, caps, place, count: splat(1.0)

    def chain(affine, first, caps, place, count):
        slope = load_class(affine.scale, first, count) * splat(affine.inverse)
        if affine.cap > 0.0:
            slope = slope * load_some(caps, place, count, 0.0)
        return slope

    return chain


def through(affine, row, first, caps, place, count, g):
    """Bring a gradient in u to one in z; masked entries get 0."""
    raise NotImplementedError("compiled only")


@inlined_overload(through)
def _through(affine, row, first, caps, place, count, g):
    if shifts_only(affine):
        return lambda affine, row, first, caps, place, count, g: g

    def chain(affine, row, first, caps, place, count, g):
        return masked(affine, row, first, count, g * slopes(affine, first, caps, place, count), 0.0)

    return chain


def masked(affine, row, first, count, x, fill):
    """x, and ``fill`` where the mask is False."""
    raise NotImplementedError("compiled only")


@inlined_overload(masked)
def _masked(affine, row, first, count, x, fill):
    if shifts_only(affine):
        return lambda affine, row, first, count, x, fill: x

    def where_kept(affine, row, first, count, x, fill):
        if len(affine.mask):
            kept = flags(affine.mask, row * affine.mask_stride + first, count)
            return where_equal(kept, splat(0.0), splat(fill), x)
        return x

    return where_kept


def bends(affine, z, offset, count):
    """d^2 u / dz^2 over du/dz for up to eight logits: -2 tanh(z / c) / c with a soft cap."""
    raise NotImplementedError("compiled only")


@inlined_overload(bends)
def _bends(affine, z, offset, count):
    if shifts_only(affine):
        return lambda affine, z, offset, count: splat(0.0)

    def of_the_cap(affine, z, offset, count):
        c = splat(affine.cap)
        t, _, _ = tanh(load_some(z, offset, count, 0.0) / c)
        return splat(-2.0) * t / c

    return of_the_cap
