"""Worst errors in ulp of every public function over the hard rows: what the tests assert and print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

import softmax_lab as sl
from softmax_lab import exact
from softmax_lab.audit.cases import RowCase, labelled

#: bars of the design, in ulp; half precision is computed in float64 and rounded once
BARS = {"float16": 0.502, "bfloat16": 0.502, "float32": 2.0, "float64": 4.0}

#: (function, dtype, case, worst ulp): the table that closes a test run is made of these
Record = Callable[[str, str, str, float], None]


def dtype_of(name: str) -> np.dtype[Any]:
    """A NumPy dtype by name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def row_errors(
    case: RowCase, dtype: np.dtype[Any], function: Callable[..., Any], oracle: Callable[..., Any]
) -> float:
    """Worst ulp of a function of a row (softmax, log_softmax, logsumexp)."""
    rows = case.make(dtype)
    return max(
        float(
            exact.ulp_error(function(row), np.atleast_1d(oracle(row.astype(np.float64))), dtype=dtype).max()
        )
        for row in rows
    )


def label_errors(case: RowCase, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the worst ulp of the plain loss's value and gradient.

    Labels stand at both ends, at the largest and at the smallest entry.
    """
    rows, labels = labelled(case.make(dtype))
    values, gradients = sl.cross_entropy_grad(rows, labels, reduction="none")
    pairs = [
        (v, g, *_exact_loss(tuple(r.astype(np.float64)), int(y)))
        for v, g, r, y in zip(values, gradients, rows, labels, strict=True)
    ]
    return (
        max(float(exact.ulp_error(v, [exact_v]).max()) for v, _, exact_v, _ in pairs),
        max(float(exact.ulp_error(g, exact_g).max()) for _, g, _, exact_g in pairs),
    )


@cache
def _exact_loss(row: tuple[float, ...], label: int) -> tuple[Any, list[Any]]:
    return exact.cross_entropy(row, label), exact.cross_entropy_grad(row, label)


def table(records: Iterable[tuple[str, str, str, float]]) -> Iterator[str]:
    """Yield a line a function and dtype: its largest error, and the case that has it."""
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    for function, dtype, case, error in records:
        worst[function, dtype] = max(worst.get((function, dtype), (-1.0, "")), (error, case))
    yield f"{'function':24}{'dtype':10}{'worst ulp':>10}  case"
    for (function, dtype), (error, case) in sorted(worst.items()):
        yield f"{function:24}{dtype:10}{error:10.3f}  {case}"
