"""Random problems for ``test_fuzz``: arrays, members of the loss family, targets and masks.

Arrays are of any shape, memory layout and type.

Hypothesis draws the choices, so that a failure shrinks to a small one; numbers come from NumPy's generator by
a drawn seed, and special values are then put in at drawn places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from softmax_lab import LossSpec
from softmax_lab._ulp import float_format
from softmax_lab.spec import FIELDS

from .ulps import dtype_of

Draw = Callable[[st.SearchStrategy[Any]], Any]
Array = NDArray[Any]

#: around a register, a tile, the last short row, a chunk, and the last row that is held
SHORT_ROWS = st.one_of(st.integers(1, 12), st.sampled_from([15, 16, 17, 24, 31, 40, 47, 48]))
LONG_ROWS = st.one_of(
    st.integers(49, 80), st.integers(49, 300), st.sampled_from([2047, 2048, 2049, 4096, 5003])
)
HUGE_ROWS = st.sampled_from([131_073, 150_001, 1 << 20, (1 << 20) + 1])

#: where the numbers of a field are taken from: a part of its domain in which nothing overflows
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.05, 20.0),
    "scale": (0.05, 5.0),
    "bias": (-10.0, 10.0),
    "margin": (0.0, 3.0),
    "smoothing": (0.0, 1.0),
    "prior": (0.0, 1.0),
    "class_weight": (0.0, 50.0),
    "gate": (0.0, 5.0),
    "gamma": (0.0, 5.0),
    "z_loss": (0.0, 1.0),
    "softcap": (0.5, 50.0),
    "poly": (-1.0, 5.0),
}


class Kind(NamedTuple):
    """What decides which variant of a loop is compiled.

    The short form of the tests draws a few variants, the long one all.
    """

    dtype: str
    rows: str  # short, long, huge
    transformed: bool | None  # whether something acts on the logits; None: drawn
    smooth: bool | None  # whether the target is smoothed or given; None: drawn


SHORT_FORM = (
    Kind("float32", "short", None, None),
    Kind("float64", "short", None, None),
    Kind("bfloat16", "short", True, True),
    Kind("float16", "long", True, True),
    Kind("float64", "long", True, True),
)
LONG_FORM = tuple(
    Kind(dtype, rows, None, None)
    for rows in ("short", "short", "short", "long", "long", "huge")  # as often as it stands here
    for dtype in ("float32", "float64", "float16", "bfloat16")
)


def kinds() -> st.SearchStrategy[Kind]:
    return st.sampled_from(
        LONG_FORM if settings.default is not None and settings.default.max_examples >= 1000 else SHORT_FORM
    )


# ---- shapes and memory layouts ----


@st.composite
def shapes(draw: Draw, rows: str) -> tuple[tuple[int, ...], int]:
    """A shape with 0 to 3 axes beside the classes, some of length 0, and which axis the classes are."""
    if rows == "huge":
        lead, k = draw(st.sampled_from([(), (1,), (2,)])), draw(HUGE_ROWS)
    elif rows == "long":
        lead, k = tuple(draw(st.lists(st.integers(0, 4), max_size=2))), draw(LONG_ROWS)
    else:
        lead, k = tuple(draw(st.lists(st.integers(0, 9), max_size=3))), draw(SHORT_ROWS)
    axis = draw(st.integers(0, len(lead)))
    return (*lead[:axis], k, *lead[axis:]), axis


LAYOUTS = ("C", "Fortran", "permuted", "stepped", "reversed", "offset", "read-only", "swapped", "unaligned")


@st.composite
def laid_out(draw: Draw, values: Array) -> Array:
    """The same numbers elsewhere in memory.

    Axes come in another order, steps have any sign, and a larger array may lie around them.
    """
    kind = draw(st.sampled_from(LAYOUTS))
    if kind == "Fortran":
        return np.asfortranarray(values)
    if kind == "permuted":
        order = draw(st.permutations(range(values.ndim)))
        return np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    if kind == "swapped" and values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder("S"))
    if kind == "unaligned":
        room = np.zeros(values.nbytes + 1, np.uint8)
        view = np.asarray(room[1:].view(values.dtype).reshape(values.shape))
        view[...] = values
        return view
    if kind == "read-only":
        copy = values.copy()
        copy.flags.writeable = False
        return copy
    if kind in ("stepped", "reversed", "offset"):
        return _within(values, kind, draw(st.integers(0, values.ndim - 1)))
    return np.ascontiguousarray(values)


def _within(values: Array, kind: str, axis: int) -> Array:
    """A view of a larger array along one axis."""
    size = values.shape[axis]
    index: list[slice] = [slice(None)] * values.ndim
    index[axis] = {
        "stepped": slice(1, 2 * size + 1, 2),
        "reversed": slice(size, 0, -1),
        "offset": slice(1, size + 1),
    }[kind]
    room = np.full((*values.shape[:axis], 2 * size + 2, *values.shape[axis + 1 :]), 7.0, values.dtype)
    view = room[tuple(index)]
    view[...] = values
    return view


# ---- numbers ----


def _specials(dtype: np.dtype[Any]) -> list[float]:
    form = float_format(dtype)
    return [
        np.nan,
        np.inf,
        -np.inf,
        -np.inf,
        0.0,
        -0.0,
        form.largest,
        -form.largest,
        form.smallest,
        form.smallest * form.eps,
        1.0,
        88.0,
    ]


@st.composite
def numbers(draw: Draw, shape: tuple[int, ...], dtype: np.dtype[Any], *, special: bool = True) -> Array:
    """Normal numbers of some size, with ties or not, and a few special values among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = draw(st.sampled_from([1.0, 4.0, 30.0, 300.0, 1e-3, 1e4])) * rng.normal(size=shape)
    if draw(st.booleans()):
        values = np.round(values)
    values = values.astype(dtype)
    if special and values.size:
        known = _specials(dtype)
        for _ in range(draw(st.sampled_from([0, 0, 1, 2, 5]))):
            values.flat[draw(st.integers(0, values.size - 1))] = dtype.type(draw(st.sampled_from(known)))
    return values


# ---- members of the family ----


@st.composite
def fields(draw: Draw, name: str, num_classes: int, seed: int) -> Any:
    """A value of one field of LossSpec: a number, or an array of a rank that the field may have.

    The ends of the domain are among the numbers.
    """
    field = FIELDS[name]
    low, high, open_low, ranks = field.low, field.high, field.open_low, field.ranks
    start, stop = RANGES[name]
    rng = np.random.default_rng(seed)
    rank = (
        draw(st.sampled_from([0, *(r for r in ranks if r == 1 or num_classes <= 300)]))
        if name != "prior"
        else 1
    )
    if rank == 0:
        edges = [edge for edge in (low, high) if np.isfinite(edge) and not (open_low and edge == low)]
        whole = [float(n) for n in range(1, 4) if start <= n <= stop]
        return draw(st.one_of(st.floats(start, stop), st.sampled_from(edges + whole)))
    array = rng.uniform(start, stop, (num_classes,) * rank)
    if not open_low and draw(st.booleans()):
        array[rng.random(array.shape) < 0.3] = max(low, 0.0)
    if name == "prior":
        array[rng.integers(num_classes)] += 1.0
        array /= array.sum()
    return array


@st.composite
def specs(draw: Draw, num_classes: int, kind: Kind, soft: bool) -> LossSpec:
    """A member of the family: any set of fields, each with any value of its domain."""
    assert set(RANGES) == set(FIELDS), "a new field needs a range here"
    chosen = draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=5))
    if kind.transformed:
        chosen.add("temperature")
    if kind.smooth:
        chosen.add("smoothing")
    values = {name: draw(fields(name, num_classes, draw(st.integers(0, 2**16)))) for name in sorted(chosen)}
    if kind.transformed and values["temperature"] == 1.0:
        values["temperature"] = 0.5
    if kind.smooth and not np.any(values["smoothing"]):
        values["smoothing"] = 0.125
    spec = LossSpec(**values)
    if not (soft and spec.needs_class_index):
        return spec
    for name, field in FIELDS.items():
        if field.needs_label == "active":
            values.pop(name, None)
    for name, rank in (("smoothing", 0), ("bias", 1)):
        if np.ndim(values.get(name, 0.0)) > rank:
            values[name] = 0.25
    return LossSpec(**values)


# ---- problems ----


@dataclass(frozen=True)
class Loss:
    """The arguments of a call of the loss."""

    logits: Array
    target: Array
    spec: LossSpec
    options: dict[str, Any]

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.options.items() if value is not None}
        return (
            f"Loss(logits={self.logits!r}, strides={self.logits.strides}, target={self.target!r}, "
            f"spec={self.spec}, options={shown})"
        )


@st.composite
def masks(draw: Draw, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """A mask that broadcasts to ``shape``, or None."""
    if draw(st.booleans()):
        return None
    own = [n if draw(st.booleans()) else 1 for n in shape]
    skipped = draw(st.integers(0, len(shape)))  # leading axes may be left out
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return np.asarray(rng.random(own[skipped:]) < draw(st.sampled_from([0.9, 0.5, 0.1])))


@st.composite
def losses(draw: Draw) -> Loss:
    """A problem of the loss family."""
    kind = draw(kinds())
    shape, axis = draw(shapes(kind.rows))
    num_classes, row_shape = shape[axis], shape[:axis] + shape[axis + 1 :]
    logits = draw(numbers(shape, dtype_of(kind.dtype)))
    soft = draw(st.sampled_from([False, False, True]))
    spec = draw(specs(num_classes, kind, soft))
    # where weights, or the square of lse, overflow, it depends on the order of the factors
    if kind.dtype == "float64":
        most = 1e100 if spec.z_loss else 1e300
        logits = np.where(np.isfinite(logits), np.clip(logits, -most, most), logits)
    logits = draw(laid_out(logits))
    where = draw(masks(shape)) if kind.transformed is not False else None
    ignore = draw(st.sampled_from([-100, 0, 255]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if soft:
        target = _distributions(draw, shape, axis, where, rng, long_form=kind.smooth is None)
    else:
        target = _labels(draw, row_shape, num_classes, ignore, rng)
        if where is not None:
            target = _unmasked(target, where, shape, axis, ignore)
    weights = rng.uniform(0, 2, row_shape) * (rng.random(row_shape) < 0.8) if draw(st.booleans()) else None
    options = {
        "reduction": draw(st.sampled_from(["none", "none", "mean", "sum"])),
        "sample_weight": weights,
        "ignore_index": ignore,
        "where": where,
        "axis": draw(st.sampled_from([axis, axis - len(shape)])),
        "empty": draw(st.sampled_from(["nan", "zero"])),
    }
    return Loss(logits, target, spec, options)


def _labels(
    draw: Draw, row_shape: tuple[int, ...], num_classes: int, ignore: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    labels = rng.integers(0, num_classes, row_shape)
    if draw(st.booleans()):
        labels = np.where(rng.random(row_shape) < 0.3, ignore, labels)
    return np.asarray(draw(laid_out(labels)) if labels.ndim else labels)


def _distributions(
    draw: Draw,
    shape: tuple[int, ...],
    axis: int,
    where: NDArray[np.bool_] | None,
    rng: np.random.Generator,
    *,
    long_form: bool,
) -> Array:
    """Targets that need not sum to one, with zeros, and 0 where masked."""
    target = rng.exponential(size=shape) * (rng.random(shape) < draw(st.sampled_from([1.0, 0.5, 0.05])))
    target /= np.maximum(target.sum(axis=axis, keepdims=True), 1e-3) if draw(st.booleans()) else 1.0
    if where is not None:
        target = np.where(where, target, 0.0)
    dtype = draw(st.sampled_from(["float64", "float32", "float16"] if long_form else ["float64", "float16"]))
    return np.asarray(draw(laid_out(target.astype(dtype))))


def _unmasked(
    labels: Array, where: NDArray[np.bool_], shape: tuple[int, ...], axis: int, ignore: int
) -> Array:
    """The labels, without masked ones.

    A masked label becomes the first class that takes part, or is ignored where there is none.
    """
    kept = np.moveaxis(np.broadcast_to(where, shape), axis, -1)
    at_label = np.take_along_axis(kept, np.where(labels == ignore, 0, labels)[..., None], axis=-1)[..., 0]
    first = np.where(kept.any(axis=-1), kept.argmax(axis=-1), ignore)
    return np.asarray(np.where(at_label, labels, first))
