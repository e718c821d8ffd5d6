"""The plain call of the log of the mean loss, with as little ado as it can have: see ``_plain.py``.

It is one of few rows with few classes. Numbers and the order of operations are the ordinary way's, and so are
the bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dispatch
from ._checks import Empty, Reduction
from ._compiled import NOTHING_KEPT
from ._log_compiled import LogCompiled
from ._log_rows import log_sum
from ._plain import Found, live_rows
from ._problem import prepare, reduced, rounded
from ._rows import read_only
from ._threads import WORTH_SHARING
from .spec import LossSpec, active, refused_by_log

__all__ = ["plan_of"]

_NO_SHARES = NOTHING_KEPT.reshape(-1)


class LogPlan:
    """What the loop takes of a spec, whatever the rows hold."""

    def __init__(self, compiled: LogCompiled) -> None:
        self.transform = compiled.transform
        self.loop = _dispatch.Loop(compiled.path, "log_losses")

    def evaluate(
        self,
        logits: NDArray[Any],
        target: NDArray[np.int64],
        out: NDArray[Any] | None,
        reduction: Reduction,
        ignore_index: int,
        empty: Empty,
    ) -> Found | None:
        """Return the value, and the gradient in ``out`` where there is one.

        None where a label is no class, or there is work for several threads.
        """
        if logits.size >= WORTH_SHARING:
            return None
        # one call of the loop looks at the labels, sums the logarithms and multiplies the gradients
        num_rows, num_classes = logits.shape
        logs, lows, code = np.empty(num_rows + 1), np.empty(num_rows + 1), self.loop.code
        shares = _NO_SHARES if reduction == "none" else np.empty(num_rows)
        if code is None:
            given = out is not None, logs, lows, shares, read_only(target), ignore_index, self.transform
            if not self._is_ready(logits, target, out, given):
                return None
        else:
            source = logits.reshape(-1)
            wrong = code(
                *(source, source if out is None else out.reshape(-1), False, out is not None, logs, lows),
                *(shares, target, ignore_index, self.transform, num_classes, 0, num_rows),
            )
            if wrong >= 0:
                return None
        if reduction == "none":
            return reduced(logs[:-1] + lows[:-1], logits.dtype, reduction, 1.0, empty), out
        first, second = logs.item(num_rows), lows.item(num_rows)
        if not (math.isfinite(first) and math.isfinite(second)):
            first, second = _without_a_sum(logs[:-1], lows[:-1], out)
        if reduction == "mean":
            second -= math.log(num_rows)
        value = first + second if math.isfinite(first) else first
        return rounded(value, logits.dtype, "sum", 1.0, empty), out

    def _is_ready(
        self,
        logits: NDArray[Any],
        target: NDArray[np.int64],
        out: NDArray[Any] | None,
        given: tuple[Any, ...],
    ) -> bool:
        """Run the loop for the first time, which says nothing; return whether it has run."""
        if live_rows(target, logits.shape[1], given[-2]) != len(target):
            return False
        try:
            self.loop(logits, out, given)
        except _dispatch.LoopError:  # nothing has been written
            return False
        return True


def _without_a_sum(logs: NDArray[Any], lows: NDArray[Any], out: NDArray[Any] | None) -> tuple[float, float]:
    """Return what ``log_sum`` says where no row has another class, a target is impossible, or one is NaN.

    The loop has not multiplied the gradients then.
    """
    first, second, shares = log_sum(logs, lows)
    if out is not None:
        out[...] = np.where(shares[:, None] == 0, 0.0, out * shares[:, None])
    return first, second


def plan_of(spec: LossSpec, dtype: np.dtype[Any], num_classes: int) -> LogPlan | None:
    """Make a plan from what the ordinary way prepares of a row; None where it refuses, or needs care."""
    fits = spec.is_moderate and spec.num_classes in (None, num_classes) and not refused_by_log(spec)
    if not fits or active(spec.class_weight, 1.0):
        return None
    row = np.zeros((1, num_classes), dtype), np.zeros(1, np.int64)
    compiled = LogCompiled(prepare(*row, spec))
    return LogPlan(compiled) if compiled.path == "short_logs" else None
