"""What engines are asked beside the audit's own cases: what layouts, vectors and buffers bring about."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmax_lab.audit import CHECKS, Check, Finding, RowCase
from softmax_lab.audit.cases import GOOD
from softmax_lab.audit.checks import compare, some_labels, tiled
from softmax_lab.audit.subject import Subject

__all__ = ["ASKED", "FURTHER", "LEFT_OUT", "WIDTHS"]

_TILES = 2048  # of 61 classes: more than a hundred thousand


def _of_width(width: int, dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Two rows of quarters: the last class is the likeliest of one, and impossible in the other."""
    rows = np.rint(np.random.default_rng(7).normal(0.0, 6.0, (2, width))) / 4
    rows[0, -1], rows[1, -1] = rows[0].max() + 1, -np.inf
    return rows


#: widths beside those of vector registers: what a loop leaves over is the last class alone, or all but one
WIDTHS: tuple[RowCase, ...] = tuple(
    RowCase(
        f"{width} classes", "the last class is outside the vectors, or fills one", partial(_of_width, width)
    )
    for width in (7, 8, 9, 31, 33)
)


def _widths(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Rows of each width, with labels at both ends of them; the worst stands for all."""
    findings = []
    for case in WIDTHS:
        rows = case.make(dtype)
        y = np.array([0, rows.shape[1] - 2]) if subject.takes_labels else None
        finding = compare(subject, rows, y, limit)
        words = f"{case.name}: {finding.problem}" if finding.problem else ""
        findings.append(finding._replace(problem=words))
    return max(findings, key=lambda finding: finding.max_ulp)


def _both_infinities(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """-inf beside +inf in one row, and the good rows around it."""
    rows = GOOD.make(dtype)
    spoilt = rows[:1].copy()
    spoilt[0, 1], spoilt[0, 2] = -np.inf, np.inf
    batch = np.concatenate([rows[:2], spoilt, rows[2:]])
    return compare(subject, batch, some_labels(subject, batch), limit)


def _after_nan(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Good rows, then the same rows of NaN, of +inf and of -inf, then the good ones again, to the bit."""
    rows = GOOD.make(dtype)
    y = some_labels(subject, rows)
    before = subject(rows, y)
    for bad in (np.nan, np.inf, -np.inf):
        subject(np.full_like(rows, bad), y)
    after = subject(rows, y)
    if np.array_equal(before, after, equal_nan=True):
        return compare(subject, rows, y, limit, computed=after)
    place = tuple(int(i) for i in np.argwhere(before != after)[0])
    return Finding(
        float("nan"),
        f"rows of NaN and of infinities change what later calls return: {after[place]:.4g} at row "
        f"{place[0]}, where the same call gave {before[place]:.4g} before them",
    )


FURTHER: tuple[Check, ...] = (
    Check("widths", "7, 8, 9, 31 and 33 classes: the last ones are beside a vector register's", _widths),
    Check(
        "a hundred thousand classes",
        "the vocabulary of a language model: a running sum drifts",
        partial(tiled, _TILES),
    ),
    Check("+inf beside -inf", "-inf is a mask, +inf is none: the row is NaN", _both_infinities),
    Check(
        "after NaN", "a call keeps nothing of the calls before it, of NaN and of infinities least", _after_nan
    ),
)

#: a million classes are a line of twenty megabytes each way, and a hundred thousand show the same
LEFT_OUT = ("a million classes",)
ASKED: tuple[Check, ...] = (*(check for check in CHECKS if check.name not in LEFT_OUT), *FURTHER)
