"""The sources and the constants of the compiled loops, as their page shows them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["CONSTANTS", "LISTINGS", "constant", "listing", "polynomial_error", "reduction"]


#: what the page shows of the loops' source: name -> module and functions
LISTINGS: dict[str, tuple[str, ...]] = {
    "exponent": ("softmax_lab._kernels.simd", "_shift_exponent"),
    "exponential": ("softmax_lab._kernels.exponential", "begun_single", "finished_single"),
    "chunk": ("softmax_lab._kernels.long_rows", "_sum_in_lanes", "_half", "_add"),
    "rows": ("softmax_lab._kernels.long_rows", "_softmax_of_row"),
    "parts": ("softmax_lab._kernels.exponential", "reduced", "parts_of_reduced"),
    "target": ("softmax_lab._kernels.terms", "cross_of"),
    "row": ("softmax_lab._kernels.terms", "row_terms"),
}
#: what it says of their sizes: name -> module
CONSTANTS = {
    "AHEAD": "softmax_lab._kernels.singles",
    "WIDTH": "softmax_lab._kernels.simd",
    "SINGLES": "softmax_lab._kernels.simd",
    "CHUNK": "softmax_lab._kernels.transform",
    "HELD": "softmax_lab._kernels.transform",
    "HELD_IN_SINGLES": "softmax_lab._kernels.transform",
    "_STREAMED": "softmax_lab._dispatch",
    "MOST_CLASSES": "softmax_lab._kernels.short_rows",
    "MOST_IN_SINGLES": "softmax_lab._kernels.short_rows",
    "ACROSS": "softmax_lab._kernels.short_singles",
    "LARGEST": "softmax_lab._kernels.exponential",
    "LOG2_E": "softmax_lab._kernels.exponential",
    "LOG_2": "softmax_lab._kernels.exponential",
    "MAGIC": "softmax_lab._kernels.exponential",
    "Q": "softmax_lab._kernels.exponential",
}


def listing(name: str) -> str:
    """Return the sources of one of `LISTINGS` as a Markdown code block."""
    module, *attributes = LISTINGS[name]
    functions = [getattr(importlib.import_module(module), attribute) for attribute in attributes]
    sources = [inspect.getsource(getattr(function, "py_func", function)) for function in functions]
    return "```python\n" + "\n\n".join(sources) + "```"


def constant(name: str) -> Any:
    """Return one of the loops' `CONSTANTS`."""
    return getattr(importlib.import_module(CONSTANTS[name]), name)


def reduction(d: NDArray[np.float64]) -> pd.DataFrame:
    """Return n and r of d = n log 2 + r as the loop finds them, and the relative error of its 2^n e^r.

    ``d`` is at most 0, in float64.
    """
    shifted = np.asarray(d * constant("LOG2_E") + constant("MAGIC"), dtype=np.float64)
    n = (shifted.view(np.int64) & ((1 << 52) - 1)) - (1 << 51)
    r = d - n * constant("LOG_2")
    value = np.ldexp(1 + r * np.polyval(constant("Q"), r), n)
    return pd.DataFrame({"n": n, "r": r, "error": value / np.exp(d) - 1}, index=pd.Index(d, name="d"))


def polynomial_error(points: int = 100_001) -> float:
    """Return the largest relative error of 1 + r Q(r) against e^r for |r| <= log(2) / 2."""
    r = np.linspace(-np.log(2) / 2, np.log(2) / 2, points)
    return float(np.abs((1 + r * np.polyval(constant("Q"), r)) / np.exp(r) - 1).max())
