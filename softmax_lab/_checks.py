"""Shared validators: each says what was expected and what came, before any work is done.

``TypeError`` is for a wrong dtype or kind of object, ``ValueError`` for a wrong shape or range, and
``IndexError`` for a label outside the classes.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")
# a name costs more than a look-up
_NATIVE = frozenset(np.dtype(kind) for kind in (np.float16, np.float32, np.float64))
REDUCTIONS = ("none", "mean", "sum")
#: and of losses that have no second function for the log of the mean
ANY_REDUCTIONS = (*REDUCTIONS, "log_mean")
EMPTY_RULES = ("nan", "zero")

MOST_SAMPLES = 2.0**53  # a count beyond it is not held exactly
SMALLEST_FACTOR, LARGEST_FACTOR = 2.0**-250, 2.0**250  # of such numbers the square of a quotient is a float64

Reduction = Literal["none", "mean", "sum"]
AnyReduction = Literal["none", "mean", "sum", "log_mean"]
Empty = Literal["nan", "zero"]


def array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return ``value`` as an array: the one place where arrays come in.

    A masked array raises ``TypeError``: what lies under its mask would be read as if it counted.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain array: the mask of a masked array would be lost; "
            "pass its .data, and what takes part as where=~mask where the function has it"
        )
    return np.asarray(value)


def outside_of_graphs() -> None:
    """Say what to do where torch's compiler traces the making of a LossSpec.

    The compiler cannot look into the checks of arrays.
    """
    torch = sys.modules.get("torch")  # who compiles has imported it
    if torch is not None and torch.compiler.is_compiling():
        raise RuntimeError(
            "make the LossSpec outside of the compiled function and pass it in: the compiler cannot trace "
            "its checks"
        )


def floating(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return ``value`` as an array of one of the four supported floating types.

    Integers become float64, as everywhere in NumPy. Anything else (bool, complex, object, long double)
    raises ``TypeError``: long double would silently lose its extra digits.
    """
    given = array(name, ours(name, value))
    if given.dtype in _NATIVE:
        return given
    if given.dtype.kind in "iu":
        return given.astype(np.float64)
    if not given.dtype.isnative:  # another byte order is another way to store the same numbers
        given = given.astype(given.dtype.newbyteorder("="))
    if given.dtype.name not in FLOAT_DTYPES:
        raise TypeError(f"{name} must be {', '.join(FLOAT_DTYPES)} or integer; got dtype {given.dtype.name}")
    return given


#: the top-level module of a foreign array -> the face that takes it
_FACES = {"torch": "softmax_lab.torch", "jax": "softmax_lab.jax", "jaxlib": "softmax_lab.jax"}


def ours(name: str, value: Any) -> Any:
    """Refuse the arrays of others: their derivatives and their device would be lost."""
    if isinstance(value, (np.ndarray, np.generic, list, tuple, float, int)):
        return value
    kind = type(value)
    modules = [base.__module__.partition(".")[0] for base in kind.__mro__]
    face = next((_FACES[module] for module in modules if module in _FACES), None)
    shown = f"{modules[0]}.{kind.__name__}"
    if face is not None:
        raise TypeError(
            f"{name} must be a NumPy array here; got a {shown}, which {face} takes under the same names"
        )
    if hasattr(value, "__array_namespace__") or hasattr(value, "__dlpack__"):
        raise TypeError(f"{name} must be a NumPy array here; got a {shown}: pass numpy.asarray of it")
    return value


def common_type(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that holds both: NumPy's own, where it has one.

    It has none for float16 and bfloat16: float32 holds both.
    """
    if one.itemsize == other.itemsize == 2 and one != other:
        return np.dtype(np.float32)
    return np.result_type(one, other)


def class_axis(name: str, rows: NDArray[Any], axis: int) -> int:
    """Return ``axis`` as a non-negative index, and refuse an array without classes."""
    if rows.ndim == 0:
        raise ValueError(f"{name} must have at least one axis (the classes); got a scalar")
    if type(axis) is not int:
        try:
            axis = operator.index(axis)
        except TypeError:
            raise TypeError(f"axis must be one integer; got {axis!r}") from None
    if not -rows.ndim <= axis < rows.ndim:
        raise ValueError(f"axis must lie in [{-rows.ndim}, {rows.ndim}) for shape {rows.shape}; got {axis}")
    if rows.shape[axis] == 0:
        raise ValueError(f"{name} must have at least one class along axis {axis}; got shape {rows.shape}")
    return axis % rows.ndim


def class_axes(name: str, rows: NDArray[Any], axis: Any) -> tuple[int, ...]:
    """Return several axes as non-negative indices in ascending order; ``None`` means all of them."""
    given = range(rows.ndim) if axis is None else axis
    found = sorted(class_axis(name, rows, each) for each in given)
    if not found:
        class_axis(name, rows, -1)  # a scalar has none
        raise ValueError("axis must name at least one axis; got ()")
    if len(set(found)) < len(found):
        raise ValueError(f"axis must name each axis once; got {axis!r}")
    return tuple(found)


def mask(where: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return ``where`` broadcast to ``shape``; ``None`` stays ``None`` (nothing is masked)."""
    if where is None:
        return None
    given = array("where", where)
    if given.dtype != np.bool_:
        raise TypeError(f"where must be boolean; got dtype {given.dtype.name}")
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(
            f"where must broadcast to the logits' shape {shape}; got shape {given.shape}"
        ) from None


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array to write to: a new one, or ``out`` when it fits."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a numpy.ndarray; got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype.name}; got {out.dtype.name}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable; got a read-only array")
    return out


def number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Return ``value`` as a finite float in [low, high], or (low, high] where ``open_low``."""
    # the usual case; a NaN or an infinity fails the comparison
    if type(value) is float and low < value < high:
        return value
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise TypeError(f"{name} must be a real number; got {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number; got {type(value).__name__}") from None
    fits = math.isfinite(result) and result <= high and (result > low if open_low else result >= low)
    if not fits:
        raise ValueError(f"{name} must be {domain(low, high, open_low)}; got {value!r}")
    return result


def whole(name: str, value: Any, *, low: int) -> int:
    """Return ``value`` as an integer >= ``low``; a fraction is not cut off."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r}") from None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if result < low:
        raise ValueError(f"{name} must be >= {low}; got {value!r}")
    return result


def moderate(value: float) -> bool:
    """Whether float64 has room for the square of a quotient of two such numbers.

    Then no order of the factors overflows.
    """
    return SMALLEST_FACTOR <= value <= LARGEST_FACTOR


def domain(low: float, high: float, open_low: bool) -> str:
    """Say an interval in words, for an error message."""
    if math.isinf(low) and math.isinf(high):
        return "finite"
    if math.isinf(high):
        return f"finite and {'>' if open_low else '>='} {low:g}"
    return f"in {'(' if open_low else '['}{low:g}, {high:g}]"


def real_array(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf
) -> NDArray[np.float64]:
    """Return ``value`` as a new float64 array whose entries all lie in [low, high]."""
    outside_of_graphs()
    raw = array(name, value)
    if raw.dtype.kind not in "iuf" and raw.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold real numbers; got dtype {raw.dtype.name}")
    numbers = np.array(raw, dtype=np.float64, order="C")
    bad = ~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be {domain(low, high, False)}; got {float(numbers[where])!r} at index {where}"
        )
    return numbers


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse a keyword that is not one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def class_sizes(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the sizes of the classes as float64 ``(K,)``: samples or frequencies, up to a factor.

    Whole numbers are training samples per class, whatever their type; a class without samples counts as one.
    That one rule holds in every loss of the package: log-priors stay finite, weights stay finite, and a class
    that was never seen is treated like the rarest class that can be. Positive fractions that sum to one
    within 1e-6 are frequencies, and stay as they are. All else is refused.
    """
    sizes = real_array("counts", counts, low=0.0, high=MOST_SAMPLES)
    if sizes.ndim != 1 or sizes.size == 0:
        raise ValueError(f"counts must have shape (K,) with K >= 1; got shape {sizes.shape}")
    if not sizes.any():
        raise ValueError("counts must hold at least one class with samples; got only zeros")
    if (sizes == np.floor(sizes)).all():
        return np.maximum(sizes, 1.0)
    total = float(sizes.sum())
    if abs(total - 1.0) > 1e-6 or not sizes.all():
        found = f"values from {float(sizes.min())!r} to {float(sizes.max())!r} that sum to {total!r}"
        raise ValueError(
            f"counts must be whole numbers of samples, or frequencies > 0 that sum to one (within 1e-6); "
            f"got {found}"
        )
    return sizes


def class_counts(counts: ArrayLike) -> NDArray[np.float64]:
    """Return training samples per class as :func:`class_sizes` does, where frequencies would not do."""
    sizes = class_sizes(counts)
    if (sizes < 1.0).any():
        raise ValueError(
            "counts must be whole numbers of samples here: the loss depends on how many there are; got "
            "frequencies"
        )
    return sizes


def labels(
    target: NDArray[Any], num_classes: int, ignore_index: int, row_shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return class indices as int64 of ``row_shape``.

    ``IndexError`` names the first row that is out of range.
    """
    if target.shape != row_shape:
        raise ValueError(
            f"class-index target must have shape {row_shape} (the logits' without the class axis); got "
            f"{target.shape}"
        )
    if target.size and target.min() >= 0 and target.max() < num_classes:
        return target.astype(np.int64, copy=False)
    wrong = (target != ignore_index) & ((target < 0) | (target >= num_classes))
    if wrong.any():
        row = tuple(int(i) for i in np.argwhere(wrong)[0])
        shown = row[0] if len(row) == 1 else row
        raise IndexError(
            f"label {int(target[row])} at row {shown} is outside [0, {num_classes}) and is not "
            f"ignore_index={ignore_index}"
        )
    return target.astype(np.int64)


class AnySign(np.ndarray[Any, Any]):
    """A target distribution that nobody looks at.

    Its entries may be negative, infinite or NaN; the formula holds for them.
    """


def soft_target(target: NDArray[Any], shape: tuple[int, ...], *, signed: bool = False) -> NDArray[Any]:
    """Return a target distribution of the logits' shape, float32 as it is and else as float64.

    It need not sum to one.

    Entries must be finite and >= 0, unless they are ``signed``.
    """
    if target.shape != shape:
        raise ValueError(
            f"a floating-point target is a distribution per row and must have the logits' shape {shape}; "
            f"got {target.shape}"
        )
    rows = target if target.dtype == np.float32 else target.astype(np.float64, copy=False)
    if rows.size and not signed and not (rows.min() >= 0 and rows.max() < math.inf):  # a NaN fails both
        real_array("target", target, low=0.0)  # says which entry
    return rows


def ignored_label(ignore_index: Any) -> int:
    """Return ``ignore_index`` as an int of 64 bits."""
    try:
        label = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index must be an integer; got {ignore_index!r}") from None
    if not -(2**63) <= label < 2**63:
        raise ValueError(f"ignore_index must be an integer of 64 bits; got {label}")
    return label


def sample_weights(value: ArrayLike, row_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return one non-negative finite weight a row."""
    weights = real_array("sample_weight", value, low=0.0)
    if weights.shape != row_shape:
        raise ValueError(f"sample_weight must have shape {row_shape} (one weight a row); got {weights.shape}")
    return weights


def probabilities(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return rows of probabilities; NaN rows pass through, and an all-zero row (fully masked) is allowed.

    The sum may miss one by sqrt(eps) of the dtype: enough for any softmax, not for unnormalised scores.
    """
    probs = floating(name, value)
    class_axis(name, probs, -1)
    wide = probs.astype(np.float64)
    if (wide < 0).any():
        row = tuple(int(i) for i in np.argwhere(wide < 0)[0])
        raise ValueError(f"{name} must be >= 0; got {float(wide[row])!r} at index {row}")
    total = wide.sum(axis=-1)
    off = ~sums_to_one(total, probs.dtype)
    if off.any():
        row = tuple(int(i) for i in np.argwhere(off)[0])
        raise ValueError(
            f"{name} must sum to one along the last axis; got {float(total[row])!r} at row {row}"
        )
    return probs


def sums_to_one(total: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Whether a row's probabilities add up to one, to 0 (fully masked) or to NaN.

    One is met within sqrt(eps) of their type.
    """
    eps = 2.0**-8 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
    return np.asarray(~(np.abs(total - 1) > math.sqrt(eps)) | (total == 0))
