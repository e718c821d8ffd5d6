r"""What the family does to the logits: u T = a c tanh(z / c) + b - m e_y, masked classes at -inf.

Every loop gets its logits by ``transformed`` and ``loaded``. Where no
field acts on the logits (``transform`` is None) both shrink, as the loop is compiled, to what plain softmax
needs. With a `Shift`, the log-prior of Balanced Softmax and its relatives, they shrink to little more.

Long and short rows share what is here. Eight logits are either `Classes`, some classes of one row, or a
`Column`, one class of eight rows. A new field that is read by class changes this file and no other kernel:
`Transform` and ``transform_of`` hold it, ``transformed_at`` applies it, ``slopes`` and ``through`` are its
first derivative, ``is_bent``, ``curvature`` and ``curvature_of_rows`` its second. One that is read by label
has room in `Labels` too, which ``short_rows`` makes.

The temperature divides after the shift by the maximum, where z / T could overflow. Of float64 logits each
step's rounding error is carried along (``low``). Narrower ones are exact in float64, with digits to spare.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .._rows import read_only
from ..spec import LossSpec
from .compiler import allocating_overload, called_overload, inlined, inlined_overload
from .exponential import (
    LOG2_E,
    LOG_2,
    LOG_2_HIGH,
    LOG_2_LOW,
    Base,
    parts,
    parts_of_reduced,
    reduced,
    tanh,
    tanh_single,
    two_product,
    two_sum,
)
from .simd import (
    SINGLES,
    WIDTH,
    absolute,
    entry,
    flags,
    fma,
    iota,
    iota_singles,
    least,
    load,
    load_first,
    load_first_singles,
    load_singles,
    max_lanes,
    maximum,
    scratch,
    scratch_singles,
    splat,
    splat_single,
    store,
    store_first,
    where_equal,
    where_ordered,
)

Array = NDArray[np.float64]


class Transform(NamedTuple):
    """The fields that act on the logits, as a loop reads them.

    Of an array of one entry every class gets that entry.
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
    """A bias per class and no other field, on logits narrower than float64.

    It is added wherever a logit is read, and kept nowhere.
    """

    bias: Array  # (K,)


class Factors(NamedTuple):
    """The same for float32 logits in sixteen lanes: exp(z + b) = exp(z) 2^n F.

    Room for a vector follows the last class.
    """

    bias: Array  # (K,)
    nearest: NDArray[np.float32]  # b rounded
    powers: NDArray[np.float32]  # n, the integer nearest to b / log 2
    high: NDArray[np.float32]  # F = e^(b - n log 2), as two floats
    low: NDArray[np.float32]


_LARGEST_BIAS = 2.0**10  # a logit near the maximum is larger by no more than this
_NO_MASK = np.zeros(0, bool)
CHUNK = 2048  # entries: 16 KiB of float64, half of a first-level cache
HELD = 1 << 20  # classes: a longer row is kept a chunk at a time, so that a thread keeps 8 MiB at most
HELD_IN_SINGLES = 1 << 20  # the same in sixteen lanes, which keep two floats a class


def transform_of(
    spec: LossSpec, mask: NDArray[np.bool_] | None, *, narrow: bool = False, singles: bool = False
) -> Transform | Shift | Factors | None:
    """Return what a loop needs to know of a spec and a mask (N, K).

    None says that the logits stay as they are. ``narrow`` says that they are narrower than float64, and
    ``singles`` that they go through sixteen lanes where that can be (`factors_of`).
    """
    if mask is None and not spec.acts_on_logits:
        return None
    if mask is None and singles and (factors := factors_of(spec)) is not None:
        return factors
    if mask is None and narrow and spec.only_shifts and len(spec.bias) <= HELD:
        return Shift(read_only(spec.bias))
    scale, bias, margin = (
        read_only(np.ascontiguousarray(np.atleast_1d(np.asarray(field))))
        for field in (spec.scale, spec.bias, spec.margin)
    )
    flat, mask_stride = (_NO_MASK, 0) if mask is None else _flat_mask(mask)
    inverse = min(1.0 / spec.temperature, np.finfo(np.float64).max)
    return Transform(
        inverse=inverse,
        inverse_low=float(Fraction(1) / Fraction(spec.temperature) - Fraction(inverse)),
        cap=spec.softcap or 0.0,
        scale=scale,
        bias=bias.reshape(-1),
        bias_stride=bias.shape[1] if bias.ndim == 2 else 0,
        margin=margin,
        mask=read_only(flat),
        mask_stride=mask_stride,
    )


def factors_of(spec: LossSpec) -> Factors | None:
    """Return the factors of a bias per class, made once for a spec.

    None where another field acts on the logits, too, or where a bias is large.
    """
    try:
        found: Factors | None = spec.__dict__["_factors"]
    except KeyError:
        found = spec.__dict__.setdefault("_factors", _factors_of(spec))
    return found


def _factors_of(spec: LossSpec) -> Factors | None:
    bias = np.asarray(spec.bias, np.float64)
    if not spec.only_shifts or len(bias) > HELD or not (np.abs(bias) <= _LARGEST_BIAS).all():
        return None
    powers = np.rint(bias * LOG2_E)
    factor = np.exp((bias - powers * LOG_2_HIGH) - powers * LOG_2_LOW)
    high = factor.astype(np.float32)
    parts = bias.astype(np.float32), powers.astype(np.float32), high, (factor - high).astype(np.float32)
    room = np.zeros(SINGLES, np.float32)
    return Factors(read_only(bias), *(read_only(np.concatenate((part, room))) for part in parts))


def temperature_and_mask(
    temperature: float, mask: NDArray[np.bool_] | None
) -> Transform | Shift | Factors | None:
    """Return the same for softmax and its logarithm, which have no other field."""
    if mask is None and temperature == 1.0:
        return None
    return transform_of(LossSpec(temperature=temperature), mask)


def _flat_mask(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Return flat bytes, and the stride from row to row: a mask that all rows share is not copied out."""
    if len(mask) > 1 and mask.strides[0] == 0:
        return np.ascontiguousarray(mask[0]), 0
    return np.ascontiguousarray(mask).reshape(-1), mask.shape[1]


# ---- a source of logits, and places in it ----


class Source(NamedTuple):
    """Where a loop's logits come from, and where it holds what it makes of them.

    Scratch that a loop does without is None.
    """

    transform: Any  # a Transform, a Shift, Factors, or None
    z: Any  # the logits of all rows, flat
    held: Any  # float64: u T, then exponentials; of long rows a row or a chunk, of short ones eight rows
    lows: Any  # the rounding errors of u T, or None; in sixteen lanes those of the exponentials
    caps: Any  # dv/dz of a soft cap, or None
    lane: Any  # (8,), where lanes are looked up one by one, or None with long rows


class Classes(NamedTuple):
    """Some classes of one row: a chunk of it, or up to eight."""

    row: int
    base: int  # where in z the row starts
    first: int  # the first class
    count: int  # of them
    at: int  # where in the scratch arrays the first one is


class Column(NamedTuple):
    """One class of eight rows."""

    row: int  # the first of the rows
    count: int  # of them; the lanes beyond repeat the last
    k: int  # the class


class Labels(NamedTuple):
    """The targets of eight rows, for the places of a `Column`; those of `Classes` take a number."""

    index: Array  # (8,) as floats, -1 for none
    margin: Array  # (8,) with its sign reversed


@inlined
def inside(chunk, k, count):
    """Up to eight classes of a chunk, from its k-th on."""
    return Classes(chunk.row, chunk.base, chunk.first + k, count, chunk.at + k)


@inlined
def offset_of(classes):
    """Where in z the first class is."""
    return classes.base + classes.first


# What follows is asked of Numba's types, once, as a loop is compiled.


def member(instance: types.Type, name: str) -> types.Type:
    """Return the type of a NamedTuple's member."""
    return instance.types[instance.fields.index(name)]


def is_column(place: types.Type) -> bool:
    """Whether eight logits are one class of eight rows."""
    return place.instance_class is Column


def slope_is_one(source: types.Type) -> bool:
    """Whether u is z, or z plus a bias: du/dz is 1."""
    return isinstance(member(source, "transform"), types.NoneType) or is_shift(source)


def is_shift(source: types.Type) -> bool:
    """Whether a bias is added wherever a logit is read."""
    return _adds_bias(member(source, "transform"))


def _adds_bias(transform: types.Type) -> bool:
    return getattr(transform, "instance_class", None) in (Shift, Factors)


def has_factors(transform: types.Type) -> bool:
    """Whether a bias per class multiplies exponentials in sixteen lanes."""
    return getattr(transform, "instance_class", None) is Factors


def carries_low(source: types.Type) -> bool:
    """Whether the rounding errors of u T are kept: of transformed float64 logits."""
    return not slope_is_one(source) and member(source, "z").dtype == types.float64


def in_singles(source: types.Type) -> bool:
    """Whether exponentials are taken in sixteen lanes of float32, and held as sums of two floats."""
    held = member(source, "held")
    return isinstance(held, types.Array) and held.dtype == types.float32


def takes_singles(z: types.Type, transform: types.Type) -> bool:
    """Whether logits go through sixteen lanes: those of float32 that stay as they are, or have `Factors`."""
    as_they_are = isinstance(transform, types.NoneType) or has_factors(transform)
    return as_they_are and z.dtype == types.float32


def long_source_of(transform, z, size):
    """Return a `Source` for long rows of softmax and the loss, with room for ``size`` logits or a chunk."""
    raise NotImplementedError("compiled only")


@allocating_overload(long_source_of)
def _long_source_of(transform, z, size):
    if takes_singles(z, transform):

        def in_sixteen_lanes(transform, z, size):
            room = size if size <= HELD_IN_SINGLES else CHUNK
            return Source(transform, z, scratch_singles(room), scratch_singles(room), None, None)

        return in_sixteen_lanes
    return lambda transform, z, size: source_of(transform, z, size, None)


def source_of(transform, z, size, lane):
    """Return a `Source` with scratch for ``size`` logits."""
    raise NotImplementedError("compiled only")


@allocating_overload(source_of)
def _source_of(transform, z, size, lane):
    if isinstance(transform, types.NoneType) or _adds_bias(transform):
        return lambda transform, z, size, lane: Source(transform, z, scratch(size), None, None, lane)
    if z.dtype == types.float64:
        return lambda transform, z, size, lane: Source(
            transform, z, scratch(size), scratch(size), scratch(size if transform.cap > 0.0 else 0), lane
        )
    return lambda transform, z, size, lane: Source(
        transform, z, scratch(size), None, scratch(size if transform.cap > 0.0 else 0), lane
    )


def window(transform, num_classes, chunk):
    """Return how many entries of a row are held where a chunk at a time would do.

    With a `Shift` all of them are.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(window)
def _window(transform, num_classes, chunk):
    if _adds_bias(transform):
        return lambda transform, num_classes, chunk: num_classes
    return lambda transform, num_classes, chunk: least(num_classes, chunk)


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


def per_class(array, place):
    """Entries of a per-class array, or its one entry for all."""
    raise NotImplementedError("compiled only")


@inlined_overload(per_class)
def _per_class(array, place):
    if is_column(place):
        return lambda array, place: splat(array[place.k if len(array) > 1 else 0])
    return lambda array, place: (
        splat(array[0]) if len(array) == 1 else load_some(array, place.first, place.count, 0.0)
    )


def held_at(array, place, fill):
    """Entries of a scratch array; zeros of one that is not there."""
    raise NotImplementedError("compiled only")


@inlined_overload(held_at)
def _held_at(array, place, fill):
    if isinstance(array, types.NoneType):
        return lambda array, place, fill: splat(0.0)
    if is_column(place):
        return lambda array, place, fill: load(array, place.k * WIDTH)
    return lambda array, place, fill: load_some(array, place.at, place.count, fill)


def hold(array, place, x):
    """Store entries of a scratch array, where it is there."""
    raise NotImplementedError("compiled only")


@inlined_overload(hold)
def _hold(array, place, x):
    if isinstance(array, types.NoneType):
        return lambda array, place, x: None
    if is_column(place):
        return lambda array, place, x: store(array, place.k * WIDTH, x)
    return lambda array, place, x: store_some(array, place.at, place.count, x)


# ---- exponentials in sixteen lanes ----


def parts_of(transform, z, base, k):
    """``exponential.parts`` of sixteen u from class k on of a row, whose logits are z."""
    raise NotImplementedError("compiled only")


@inlined_overload(parts_of)
def _choose_parts_of(transform, z, base, k):
    def in_two_steps(transform, z, base, k):
        half = reduced_of(transform, z, base, k)
        high, low = parts_of_half(transform, half, k)
        return high, low, half.power

    return in_two_steps


def reduced_of(transform, z, base, k):
    """``exponential.reduced`` of sixteen u from class k on of a row, whose logits are z."""
    raise NotImplementedError("compiled only")


@inlined_overload(reduced_of)
def _choose_reduced_of(transform, z, base, k):
    if has_factors(transform):
        return lambda transform, z, base, k: reduced(z, _own_base(base, load_singles(transform.powers, k)))
    return lambda transform, z, base, k: reduced(z, base)


def parts_of_half(transform, half, k):
    """Return high and low of ``parts_of`` from what ``reduced_of`` returns."""
    raise NotImplementedError("compiled only")


@inlined_overload(parts_of_half)
def _choose_parts_of_half(transform, half, k):
    if has_factors(transform):
        return lambda transform, half, k: _times_factor(
            half, load_singles(transform.high, k), load_singles(transform.low, k)
        )
    return lambda transform, half, k: parts_of_reduced(half.r, half.n)


def parts_of_class(transform, z, base, k):
    """The same of one class of sixteen rows."""
    raise NotImplementedError("compiled only")


@inlined_overload(parts_of_class)
def _choose_parts_of_class(transform, z, base, k):
    if has_factors(transform):
        return lambda transform, z, base, k: _parts_with_factor(
            z,
            base,
            splat_single(np.float64(transform.powers[k])),
            splat_single(np.float64(transform.high[k])),
            splat_single(np.float64(transform.low[k])),
        )
    return lambda transform, z, base, k: parts(z, base)


@inlined
def _parts_with_factor(z, base, n, f, f_low):
    """Sixteen exponentials times 2^n (f + f_low)."""
    half = reduced(z, _own_base(base, n))
    high, low = _times_factor(half, f, f_low)
    return high, low, half.power


@inlined
def _own_base(base, n):
    """The base of exponentials times 2^n: n goes to the exponent before anything can flush."""
    return Base(fma(n, splat_single(-LOG_2), base.floor), base.magic + n)


@inlined
def _times_factor(half, f, f_low):
    high, low = parts_of_reduced(half.r, half.n)
    product = high * f
    rest = fma(high, f, splat_single(0.0) - product)
    return product, fma(high, f_low, fma(low, f, rest))


# ---- u from z ----


def transformed(source, chunk, y):
    """Return the maximum of u T over a chunk of a row whose target is class y.

    With fields that act on the logits, u T, its rounding error and dv/dz are held.
    """
    raise NotImplementedError("compiled only")


@called_overload(transformed)
def _transformed(source, chunk, y):
    if in_singles(source):
        return lambda source, chunk, y: _largest_in_singles(source, chunk.base, chunk.first, chunk.count)
    if is_shift(source):
        return lambda source, chunk, y: _peak_of_shifted(source, chunk)
    if slope_is_one(source):
        return lambda source, chunk, y: _peak_of(source.z, offset_of(chunk), chunk.count)

    def transform(source, chunk, y):
        peak = splat(-np.inf)
        k = 0
        while k < chunk.count:
            x = transformed_at(source, inside(chunk, k, least(WIDTH, chunk.count - k)), y)
            peak = maximum(x, peak)
            k += WIDTH
        return max_lanes(peak)

    return transform


def _peak_of(z, base, n):
    """Largest entry of z[base : base + n]; NaN is passed over, the sum will show it."""
    raise NotImplementedError("compiled only")


@inlined_overload(_peak_of)
def _choose_peak_of(z, base, n):
    if z.dtype == types.float32:
        return lambda z, base, n: peak_in_singles(z, base, n)
    return lambda z, base, n: _peak_in_lanes(z, base, n)


@inlined
def peak_in_singles(z, base, n):
    """Largest of float32 entries z[base : base + n]."""
    a = b = c = d = splat_single(-np.inf)
    k = 0
    while k + 4 * SINGLES <= n:
        a = maximum(load_singles(z, base + k), a)
        b = maximum(load_singles(z, base + k + SINGLES), b)
        c = maximum(load_singles(z, base + k + 2 * SINGLES), c)
        d = maximum(load_singles(z, base + k + 3 * SINGLES), d)
        k += 4 * SINGLES
    while k + SINGLES <= n:
        a = maximum(load_singles(z, base + k), a)
        k += SINGLES
    if k < n:
        a = maximum(load_first_singles(z, base + k, n - k, -np.inf), a)
    return np.float64(max_lanes(maximum(maximum(a, b), maximum(c, d))))


def _largest_in_singles(source, base, first, n):
    """Largest u of n classes of a row, rounded."""
    raise NotImplementedError("compiled only")


@inlined_overload(_largest_in_singles)
def _choose_largest_in_singles(source, base, first, n):
    if has_factors(member(source, "transform")):
        return lambda source, base, first, n: _largest_with_bias(source, base, first, n)
    return lambda source, base, first, n: peak_in_singles(source.z, base + first, n)


@inlined
def _largest_with_bias(source, base, first, n):
    z, bias, k = source.z, source.transform.nearest, first
    a = b = splat_single(-np.inf)
    end = first + n
    while k + 2 * SINGLES <= end:
        a = maximum(load_singles(z, base + k) + load_singles(bias, k), a)
        b = maximum(load_singles(z, base + k + SINGLES) + load_singles(bias, k + SINGLES), b)
        k += 2 * SINGLES
    while k < end:
        x = load_first_singles(z, base + k, least(SINGLES, end - k), -np.inf)
        a = maximum(x + load_singles(bias, k), a)
        k += SINGLES
    return np.float64(max_lanes(maximum(a, b)))


def with_nearest(transform, x, k):
    """Sixteen logits of one row from class k on, with their biases: rounded, for a maximum."""
    raise NotImplementedError("compiled only")


@inlined_overload(with_nearest)
def _choose_with_nearest(transform, x, k):
    if has_factors(transform):
        return lambda transform, x, k: x + load_singles(transform.nearest, k)
    return lambda transform, x, k: x


def peak_without(source, chunk, y, skipped):
    """Return the maximum of u T over a chunk as ``transformed``, in sixteen lanes without a skipped class.

    The other classes' sum is then relative to their own maximum, and keeps its digits however confident the
    row is.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(peak_without)
def _peak_without(source, chunk, y, skipped):
    if not in_singles(source):
        return lambda source, chunk, y, skipped: transformed(source, chunk, y)

    def of_the_others(source, chunk, y, skipped):
        base, n, k = chunk.base, chunk.count, skipped - chunk.first
        if not 0 <= k < n:
            return _largest_in_singles(source, base, chunk.first, n)
        first = k - k % SINGLES
        count = least(SINGLES, n - first)
        x = load_first_singles(source.z, offset_of(chunk) + first, count, -np.inf)
        x = with_nearest(source.transform, x, chunk.first + first)
        x = where_equal(iota_singles(), splat_single(float(k - first)), splat_single(-np.inf), x)
        around = np.float64(max_lanes(maximum(x, splat_single(-np.inf))))
        before = _largest_in_singles(source, base, chunk.first, first)
        after = chunk.first + first + count
        return max(around, max(before, _largest_in_singles(source, base, after, n - first - count)))

    return of_the_others


@inlined
def _peak_in_lanes(z, base, n):
    a = b = c = d = splat(-np.inf)
    k = 0
    while k + 4 * WIDTH <= n:
        a = maximum(load(z, base + k), a)
        b = maximum(load(z, base + k + WIDTH), b)
        c = maximum(load(z, base + k + 2 * WIDTH), c)
        d = maximum(load(z, base + k + 3 * WIDTH), d)
        k += 4 * WIDTH
    while k < n:
        a = maximum(load_some(z, base + k, least(WIDTH, n - k), -np.inf), a)
        k += WIDTH
    return max_lanes(maximum(maximum(a, b), maximum(c, d)))


@inlined
def _peak_of_shifted(source, chunk):
    """Largest logit of a chunk with its bias."""
    a = b = splat(-np.inf)
    k, n = 0, chunk.count
    while k + 2 * WIDTH <= n:
        a = maximum(loaded(source, inside(chunk, k, WIDTH), -np.inf)[0], a)
        b = maximum(loaded(source, inside(chunk, k + WIDTH, WIDTH), -np.inf)[0], b)
        k += 2 * WIDTH
    while k < n:
        a = maximum(loaded(source, inside(chunk, k, least(WIDTH, n - k)), -np.inf)[0], a)
        k += WIDTH
    return max_lanes(maximum(a, b))


def transformed_again(source, chunk, y):
    """Hold what ``transformed`` holds, where the maximum is known.

    Logits that are taken as they are, or with a bias, need nothing.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(transformed_again)
def _transformed_again(source, chunk, y):
    if slope_is_one(source):
        return lambda source, chunk, y: None

    def transform(source, chunk, y):
        transformed(source, chunk, y)

    return transform


@inlined
def look_up_margins(source, labels):
    """Look up the margins of eight rows' targets."""
    margin = source.transform.margin
    for i in range(WIDTH):
        labels.margin[i] = -margin[int(labels.index[i]) if len(margin) > 1 else 0]


@inlined
def transformed_at(source, place, y):
    """Hold u T of up to eight logits, its rounding error and dv/dz; return u T.

    ``y`` is the row's target, or with a `Column` the rows' `Labels`.
    """
    transform, low = source.transform, splat(0.0)
    x = _logits_at(source, place)
    if transform.cap > 0.0:
        x, low, slope = capped(source.z, x, transform.cap)
        hold(source.caps, place, slope)
    x, low = times(source.z, x, low, per_class(transform.scale, place))
    x, low = plus(source.z, x, low, _bias_at(source, place, y))
    x, low = _less_margin(source, place, y, x, low)
    if len(transform.mask):
        x = where_equal(_kept_at(source, place), splat(0.0), splat(-np.inf), x)
    hold(source.held, place, x)
    hold(source.lows, place, low)
    return x


def _logits_at(source, place):
    raise NotImplementedError("compiled only")


@inlined_overload(_logits_at)
def _choose_logits_at(source, place):
    if is_column(place):  # eight rows are turned over into the scratch array first
        return lambda source, place: held_at(source.held, place, -np.inf)
    return lambda source, place: load_some(source.z, offset_of(place), place.count, -np.inf)


def _bias_at(source, place, y):
    raise NotImplementedError("compiled only")


@inlined_overload(_bias_at)
def _choose_bias_at(source, place, y):
    if is_column(place):

        def of_rows(source, place, y):
            bias, stride, lane = source.transform.bias, source.transform.bias_stride, source.lane
            if stride:
                for i in range(WIDTH):
                    lane[i] = bias[int(y.index[i]) * stride + place.k]
                return load(lane, 0)
            return per_class(bias, place)

        return of_rows

    def of_classes(source, place, y):
        bias, stride = source.transform.bias, source.transform.bias_stride
        if len(bias) == 1:
            return splat(bias[0])
        return load_some(bias, y * stride + place.first, place.count, 0.0)

    return of_classes


def _less_margin(source, place, y, x, low):
    """x + low, less the margin where the target is."""
    raise NotImplementedError("compiled only")


@inlined_overload(_less_margin)
def _choose_less_margin(source, place, y, x, low):
    if is_column(place):

        def of_rows(source, place, y, x, low):
            m = where_equal(splat(float(place.k)), load(y.index, 0), load(y.margin, 0), splat(0.0))
            return plus(source.z, x, low, m)

        return of_rows

    def of_classes(source, place, y, x, low):
        if place.first <= y < place.first + place.count:
            margin = source.transform.margin[y if len(source.transform.margin) > 1 else 0]
            m = where_equal(iota(), splat(float(y - place.first)), splat(-margin), splat(0.0))
            x, low = plus(source.z, x, low, m)
        return x, low

    return of_classes


def _kept_at(source, place):
    """0 where the mask is False, else 1."""
    raise NotImplementedError("compiled only")


@inlined_overload(_kept_at)
def _choose_kept_at(source, place):
    if is_column(place):

        def of_rows(source, place):
            mask, stride, lane = source.transform.mask, source.transform.mask_stride, source.lane
            for i in range(WIDTH):
                lane[i] = 1.0 if mask[(place.row + least(i, place.count - 1)) * stride + place.k] else 0.0
            return load(lane, 0)

        return of_rows

    def of_classes(source, place):
        stride = source.transform.mask_stride
        return flags(source.transform.mask, place.row * stride + place.first, place.count)

    return of_classes


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


# ---- u, as it is read ----


def loaded(source, place, fill):
    """Return u T and its rounding error of up to eight logits: of z, or what ``transformed_at`` holds."""
    raise NotImplementedError("compiled only")


@inlined_overload(loaded)
def _loaded(source, place, fill):
    if is_column(place) or not slope_is_one(source):
        return lambda source, place, fill: (
            held_at(source.held, place, fill),
            held_at(source.lows, place, 0.0),
        )
    if is_shift(source):

        def with_bias(source, place, fill):
            bias = load_some(source.transform.bias, place.first, place.count, 0.0)
            return load_some(source.z, offset_of(place), place.count, fill) + bias, splat(0.0)

        return with_bias
    return lambda source, place, fill: (
        load_some(source.z, offset_of(place), place.count, fill),
        splat(0.0),
    )


def target_of(source, place):
    """Return u T of the first of some classes and its rounding error, once their chunk is transformed."""
    raise NotImplementedError("compiled only")


@inlined_overload(target_of)
def _target_of(source, place):
    if is_shift(source):
        return lambda source, place: (
            entry(source.z, offset_of(place)) + source.transform.bias[place.first],
            0.0,
        )
    if slope_is_one(source):
        return lambda source, place: (entry(source.z, offset_of(place)), 0.0)
    if carries_low(source):
        return lambda source, place: (source.held[place.at], source.lows[place.at])
    return lambda source, place: (source.held[place.at], 0.0)


# ---- du/dz, and masked entries, on the way out ----


@inlined
def slope_but_cap(source, place):
    """du/dz of up to eight logits, but for the soft cap's part."""
    return per_class(source.transform.scale, place) * splat(source.transform.inverse)


def slopes(source, place):
    """du/dz of up to eight classes."""
    raise NotImplementedError("compiled only")


@inlined_overload(slopes)
def _slopes(source, place):
    if slope_is_one(source):
        return lambda source, place: splat(1.0)

    def chain(source, place):
        slope = slope_but_cap(source, place)
        return slope * held_at(source.caps, place, 0.0) if source.transform.cap > 0.0 else slope

    return chain


def through(source, place, g):
    """Bring a gradient in u to one in z; masked entries get 0."""
    raise NotImplementedError("compiled only")


@inlined_overload(through)
def _through(source, place, g):
    if slope_is_one(source):
        return lambda source, place, g: g
    if is_column(place):

        def of_rows(source, place, g):
            # the factors one by one: in another order the last digit is another
            g = g * slope_but_cap(source, place)
            if source.transform.cap > 0.0:
                g = g * held_at(source.caps, place, 0.0)
            return masked(source, place, g, 0.0)

        return of_rows
    return lambda source, place, g: masked(source, place, g * slopes(source, place), 0.0)


def masked(source, place, x, fill):
    """x, and ``fill`` where the mask is False."""
    raise NotImplementedError("compiled only")


@inlined_overload(masked)
def _masked(source, place, x, fill):
    if slope_is_one(source):
        return lambda source, place, x, fill: x

    def where_kept(source, place, x, fill):
        if len(source.transform.mask):
            return where_equal(_kept_at(source, place), splat(0.0), splat(fill), x)
        return x

    return where_kept


def is_bent(source):
    """Whether u has a second derivative."""
    raise NotImplementedError("compiled only")


@inlined_overload(is_bent)
def _is_bent(source):
    if slope_is_one(source):
        return lambda source: False
    return lambda source: source.transform.cap > 0.0


def curvature(source, classes, t, g):
    """What the curvature of u adds to a product, before the slope: dL/du d^2u/dz^2 t over du/dz."""
    raise NotImplementedError("compiled only")


@inlined_overload(curvature)
def _curvature(source, classes, t, g):
    if slope_is_one(source):
        return lambda source, classes, t, g: splat(0.0)

    def of_the_cap(source, classes, t, g):
        if source.transform.cap > 0.0:
            z = load_some(source.z, offset_of(classes), classes.count, 0.0)
            return g * t * _bend_of_cap(z, source.transform.cap)
        return splat(0.0)

    return of_the_cap


def curvature_of_rows(source, column, logits, t, g):
    """What the curvature of u adds to the products of eight rows, behind the slope; ``t`` are tangents in u.

    ``logits`` holds those that are given, eight entries a class, where u ``is_bent``.
    """
    raise NotImplementedError("compiled only")


@inlined_overload(curvature_of_rows)
def _curvature_of_rows(source, column, logits, t, g):
    if slope_is_one(source):
        return lambda source, column, logits, t, g: splat(0.0)

    def of_the_cap(source, column, logits, t, g):
        if source.transform.cap > 0.0:
            bend = _bend_of_cap(held_at(logits, column, 0.0), source.transform.cap)
            return masked(source, column, g * t * bend, 0.0)
        return splat(0.0)

    return of_the_cap


@inlined
def _bend_of_cap(z, cap):
    """d^2 u / dz^2 over du/dz of a soft cap: -2 tanh(z / c) / c."""
    c = splat(cap)
    t, _, _ = tanh(z / c)
    return splat(-2.0) * t / c
