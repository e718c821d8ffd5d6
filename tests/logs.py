"""Batches for the log of the mean loss, and the distance from the oracle in the ulps that are meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.typing import NDArray

from softmax_lab import LossSpec, exact
from softmax_lab._ulp import float_format
from softmax_lab.spec import refused_by_log

from .specs import INDEX_SPECS
from .ulps import dtype_of

Array = NDArray[Any]

#: the members of the family that the loss takes
LOG_SPECS = {name: spec for name, spec in INDEX_SPECS.items() if not refused_by_log(spec)}
LOG_SPECS["all that it takes"] = LossSpec(
    **{name: getattr(INDEX_SPECS["everything"], name) for name in ("temperature", "scale", "bias", "margin")},
    class_weight=INDEX_SPECS["everything"].class_weight,
    softcap=20.0,
)
#: bars of the value, in ulps of the largest of |lse of the others|, |u_y|, |log l|, |log sum omega|
VALUE_BARS = {"float16": 0.51, "bfloat16": 0.51, "float32": 2.0, "float64": 4.0}


class Batch(NamedTuple):
    """Rows and their labels."""

    rows: Array
    labels: Array


def _ordinary(num_classes: int) -> Batch:
    rng, rows = np.random.default_rng(num_classes), 9 if num_classes < 100 else 3
    return Batch(rng.normal(0, 3, (rows, num_classes)), rng.integers(0, num_classes, rows))


def _gaps(*gaps: float) -> Batch:
    """Rows of three classes with others that are not level, and a gap each; the labels take turns."""
    labels = np.arange(len(gaps)) % 3
    rows = np.random.default_rng(1).normal(0, 1, (len(gaps), 3))
    rows[np.arange(len(gaps)), labels] = gaps
    return Batch(rows, labels)


#: name -> batch; all are exact in float32
HARD: dict[str, Batch] = {
    "ordinary, K = 6": _ordinary(6),
    "ordinary, K = 50": _ordinary(50),
    "ordinary, K = 300": _ordinary(300),
    "two classes": _gaps(0.0, 1.0, -1.0)._replace(
        rows=np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), labels=np.array([0, 0, 1])
    ),
    "l near one": Batch(np.array([[0.0, 0.541324854612918], [0.0, 0.54132485]]), np.array([0, 0])),
    "confident": _gaps(17.0, 20.0, 36.0, 37.0, 38.0, 40.0),
    "beyond float32's exponential": _gaps(87.0, 104.0, 150.0, 103.5),
    "beyond float64's exponential": _gaps(708.0, 746.0, 746.5, 800.0),
    "gaps near 10^4": _gaps(1e4, 10001.0, 10000.5),
    "wrong by 10^4": _gaps(-1e4, -9999.0, 3.0),
    "gaps of 10^38": _gaps(1e38, 1e38, 1e38),
    "gaps of 10^38 and their last digits": Batch(
        np.array([[1e38, 0.0, -1e21], [1e38, 3e21, 0.0], [1e38, 1e20, 1e20]]), np.array([0, 0, 0])
    ),
    "far apart": _gaps(5.0, 1e4, 1e38, -1e4),
    "others far apart": Batch(np.array([[1e4, 0.0, -800.0, -1e30], [0.0, 2.0, 1e4, -3e4]]), np.array([0, 2])),
    "others at -inf": Batch(np.array([[30.0, 0.0, -np.inf], [2.0, -np.inf, 1.0]]), np.array([0, 2])),
}


def in_type(batch: Batch, dtype: Any) -> Batch:
    """Return the batch rounded to a type, with what overflows at its largest number."""
    largest = 3.0e4 if np.dtype(dtype) == np.float16 else 1e38
    return Batch(
        np.where(np.isinf(batch.rows), batch.rows, np.clip(batch.rows, -largest, largest)).astype(dtype),
        batch.labels,
    )


def value_errors(found: Array, batch: Batch, spec: LossSpec, dtype: Any, **options: Any) -> Array:
    """Return the distance of values from the oracle's, in the ulps that are meant."""
    rows = np.asarray(batch.rows, dtype=np.float64)
    expected = exact.log_cross_entropy(rows, batch.labels, spec, **options)
    sizes = [_size(row, int(y), spec) for row, y in zip(rows, batch.labels, strict=True)]
    with mpmath.workdps(30):
        omega = exact.row_weights(batch.labels, spec, options.get("sample_weight"))
        if options.get("reduction") == "none":
            exacts, scale = expected, [max(s, abs(mpmath.log(w))) for s, w in zip(sizes, omega, strict=True)]
        else:
            exacts, scale = [expected], [max(*sizes, abs(mpmath.log(mpmath.fsum(omega))))]
    finite = [mpmath.isfinite(x) for x in exacts]
    kept = np.atleast_1d(np.asarray(found, np.float64))[finite]
    only = [[x for x, f in zip(of, finite, strict=True) if f] for of in (exacts, scale)]
    return exact.ulp_error(kept, only[0], dtype=dtype, scale=only[1])


@cache
def exact_gradient(case: str, dtype: str, reduction: str) -> list[list[Any]]:
    """Return the oracle's gradient of a hard batch, rounded to a type."""
    batch = in_type(HARD[case], dtype_of(dtype))
    return exact.log_cross_entropy_grad(batch.rows.astype(np.float64), batch.labels, reduction=reduction)


def _size(row: Array, y: int, spec: LossSpec) -> Any:
    found = exact.log_loss(row, y, spec)
    return max(abs(x) for x in (found.others, found.target, found.value) if mpmath.isfinite(x))


def relative_errors(found: Array, expected: list[list[Any]]) -> Array:
    """Return |found - expected| over the largest entry of the row, (N,).

    What is below the smallest normal number of the type may be flushed to 0.
    """
    form, errors = float_format(found.dtype), []
    for row, exacts in zip(np.asarray(found, dtype=np.float64), expected, strict=True):
        high, low = exact.two_floats(exacts)
        distance = np.maximum(np.abs((row - high) - low) - form.smallest, 0.0)
        distance = np.where(high == row, 0.0, distance)
        largest = np.abs(high).max()
        errors.append(float(distance.max() / (largest if largest else 1.0)))
    return np.array(errors)


def numeric(function: Callable[[Array], float], z: Array, step: float = 1e-5) -> Array:
    """Return the central difference of a function of an array, entry by entry."""
    result = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        ahead, behind = z.copy(), z.copy()
        ahead[index] += step
        behind[index] -= step
        result[index] = (function(ahead) - function(behind)) / (2 * step)
    return result
