"""What does each way of keeping softmax in range cost, in digits and in time? (chapter 2)

Beside the textbook's variants stand the package, the oracle and the error bounds of the standard model.
``python -m experiments.stability`` times the variants (about three minutes) and writes
``results/stability_timing.csv``.
"""

from __future__ import annotations

from .errors import (
    DTYPES,
    LIBRARY_ERROR,
    Bounds,
    bounds,
    error_table,
    exp_range,
    relative_error,
    rows,
    ulps,
    unit_roundoff,
)
from .timing import SHAPES, TIMINGS, measure, read_timings
from .variants import GRADIENT, LOG_SOFTMAX, SOFTMAX, TIMED, shifted_softmax, tempered

__all__ = [
    "DTYPES",
    "GRADIENT",
    "LIBRARY_ERROR",
    "LOG_SOFTMAX",
    "SHAPES",
    "SOFTMAX",
    "TIMED",
    "TIMINGS",
    "Bounds",
    "bounds",
    "error_table",
    "exp_range",
    "measure",
    "read_timings",
    "relative_error",
    "rows",
    "shifted_softmax",
    "tempered",
    "ulps",
    "unit_roundoff",
]
