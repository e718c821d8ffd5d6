"""Rows of two classes on every pair of float16 logits, by the public functions.

These are 2^32 rows, NaN and infinities included: softmax, log-softmax, the loss (of either label) and its
gradient.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import mpmath
import numpy as np
from numba import njit
from numpy.typing import NDArray

import softmax_lab as sl

from .tally import PIECE, UNSURE, Array, Check, Tally, is_nearest, pieces_of


@cache
def _tables() -> tuple[Array, Array, Array]:
    """Return of every float16, by its bits, its value and the middles between it and its neighbours.

    The neighbour beyond the largest is 2^16.
    """
    with np.errstate(invalid="ignore"):
        value = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
        order = np.append(np.unique(value[np.isfinite(value)]), 2.0**16)
        below, above = np.full(1 << 16, np.nan), np.full(1 << 16, np.nan)
        kept = np.isfinite(value)
        place = np.searchsorted(order, value[kept])
        step = np.append(-(2.0**16), order)  # step[i] is the neighbour below order[i]
        below[kept], above[kept] = (step[place] + value[kept]) / 2, (value[kept] + order[place + 1]) / 2
        top = (2.0**16 + order[-2]) / 2
        below[value == np.inf], above[value == np.inf] = top, np.inf
        below[value == -np.inf], above[value == -np.inf] = -np.inf, -top
    return value, below, above


RIGHT, WRONG, TIE, UNDECIDED = 0, 1, 2, 3


@njit
def _judge16(h: Any, exact: Any, edge: Any, value: Any, below: Any, above: Any) -> int:
    """Return whether the float16 with bits h is ``exact`` rounded.

    Where ``exact`` equals ``edge``, the true value is a trifle further from 0.
    """
    v = value[h]
    if exact != exact or v != v or math.isinf(exact):
        return RIGHT if v == exact or (v != v and exact != exact) else WRONG
    slack = abs(exact) * UNSURE
    low, high = below[h], above[h]
    if low + slack < exact < high - slack:
        return RIGHT
    if exact < low - slack or exact > high + slack:
        return WRONG
    if abs(exact - edge) <= slack and edge in (low, high):
        return RIGHT if (edge == high) == (exact < 0) else TIE if exact == edge else WRONG
    return UNDECIDED


@njit
def _judge32(v: Any, exact: Any, edge: Any) -> int:
    """Return whether a float32 that is at least 0 is ``exact`` rounded, as :func:`_judge16` does."""
    if exact != exact or v != v or math.isinf(exact):
        return RIGHT if v == exact or (v != v and exact != exact) else WRONG
    low, high = np.float32(exact * (1 - UNSURE)), np.float32(exact * (1 + UNSURE))
    if low == high:
        return RIGHT if v == low else WRONG
    if abs(exact - edge) <= exact * UNSURE and (np.float64(low) + np.float64(high)) / 2 == edge:
        return RIGHT if v == high else TIE if exact == edge else WRONG
    return UNDECIDED


@njit
def _ulps(away: Any, exact: Any, bits: Any, lowest: Any) -> float:
    """Return an error in ulp of a type with a number of bits and a smallest exponent."""
    return float(away / 2.0 ** max(math.frexp(exact)[1] - bits, lowest))


@njit(nogil=True)
def _compare_pairs(
    z: Any, p: Any, log_p: Any, losses: Any, gradients: Any, tables: Any, counts: Any, worst: Any, unsure: Any
) -> int:
    """Judge the results of rows of two float16.

    ``counts`` (4, 2) get the wrong ones and the ties among them, ``worst`` (4, 2) ulp and row, ``unsure``
    (., 2) row and entry. The entries of a row are p, log p, the losses of either label, and the gradients of
    the first label and of the second.
    """
    value, below, above = tables
    exact, edge = np.empty(10), np.full(10, np.nan)
    found = 0
    for i in range(len(z)):
        a, b = value[z[i, 0]], value[z[i, 1]]
        d = a - b
        gap = abs(d)
        if a == math.inf or b == math.inf:
            gap = math.nan
        e = math.exp(-gap)
        likely, unlikely = 1.0 / (1.0 + e), e / (1.0 + e)
        log_likely, log_unlikely = -math.log1p(e), -gap - math.log1p(e)
        top = 0 if d >= 0 else 1
        exact[top], exact[1 - top] = likely, unlikely
        exact[2 + top], exact[3 - top] = log_likely, log_unlikely
        exact[4], exact[5] = -exact[2], -exact[3]
        exact[6], exact[7] = -exact[1], exact[1]
        exact[8], exact[9] = exact[0], -exact[0]
        edge[2], edge[3], edge[4], edge[5] = -gap, -gap, gap, gap
        for j in range(10):
            if j == 4 or j == 5:
                v = np.float64(losses[j - 4, i])
                verdict = _judge32(losses[j - 4, i], exact[j], edge[j])
            else:
                h = p[i, j] if j < 2 else log_p[i, j - 2] if j < 4 else gradients[(j - 6) // 2, i, j % 2]
                v = value[h]
                verdict = _judge16(h, exact[j], edge[j], value, below, above)
            if verdict == RIGHT:
                continue
            if verdict == UNDECIDED:
                if found < len(unsure):
                    unsure[found, 0], unsure[found, 1] = i, j
                found += 1
                continue
            kind = 3 if j >= 6 else j // 2
            counts[kind, 0] += 1
            counts[kind, 1] += verdict == TIE
            away = abs(v - exact[j])
            ulps = _ulps(away, exact[j], 24, -149) if kind == 2 else _ulps(away, exact[j], 11, -24)
            if not ulps <= worst[kind, 0]:
                worst[kind, 0], worst[kind, 1] = ulps, i
    return found


KINDS = ("softmax", "log_softmax", "loss", "gradient")
_FIRSTS = PIECE >> 16  # first logits a piece: each meets all 65,536 others


def check_pairs(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> dict[str, Tally]:
    """Try rows [a, b] for every a of ``first`` and b of ``second``, bits of float16."""
    bits = np.stack(np.broadcast_arrays(first[:, None], second[None, :]), axis=-1).reshape(-1, 2)
    z = bits.view(np.float16)
    rows = len(z)
    p, log_p = sl.softmax(z), sl.log_softmax(z)
    losses, gradients = np.empty((2, rows), np.float32), np.empty((2, rows, 2), np.float16)
    for label in (0, 1):
        losses[label], _ = sl.cross_entropy_grad(
            z, np.full(rows, label), reduction="none", out=gradients[label]
        )
    counts, worst, unsure = np.zeros((4, 2), np.int64), np.zeros((4, 2)), np.empty((1 << 16, 2), np.int32)
    found = _compare_pairs(
        bits,
        p.view(np.uint16),
        log_p.view(np.uint16),
        losses,
        gradients.view(np.uint16),
        _tables(),
        counts,
        worst,
        unsure,
    )
    if found > len(unsure):
        raise RuntimeError(
            f"{found} results lie too near the middle between two floats; there is room for {len(unsure)}"
        )
    results = (*p.T, *log_p.T, *losses, *gradients[0].T, *gradients[1].T)
    for i, j in unsure[:found]:
        a, b = z[i].tolist()
        counts[3 if j >= 6 else j // 2, 0] += not is_nearest(results[j][i], exact_entry(a, b, int(j)))
    where = [
        repr(z[int(row)].tolist()) if count else ""
        for (_, row), (count, _) in zip(worst, counts, strict=True)
    ]
    return {
        kind: Tally(
            rows,
            rows * (4 if kind == "gradient" else 2),
            int(counts[k, 0]),
            int(counts[k, 1]),
            float(worst[k, 0]),
            where[k],
        )
        for k, kind in enumerate(KINDS)
    }


def exact_entry(a: float, b: float, entry: int) -> Any:
    """Return one of the ten results of a row of two finite logits, in mpmath."""
    with mpmath.workprec(400):
        gap = mpmath.mpf(b) - mpmath.mpf(a)
        p = (1 / (1 + mpmath.exp(gap)), 1 / (1 + mpmath.exp(-gap)))
        log_p = (-mpmath.log1p(mpmath.exp(gap)), -mpmath.log1p(mpmath.exp(-gap)))
        return (*p, *log_p, -log_p[0], -log_p[1], -p[1], p[1], p[0], -p[0])[entry]


def _every_pair(piece: int) -> dict[str, Tally]:
    return check_pairs(
        np.arange(piece * _FIRSTS, (piece + 1) * _FIRSTS, dtype=np.uint16),
        np.arange(1 << 16, dtype=np.uint16),
    )


PAIRS: dict[str, Check] = {
    "float16 pairs": Check("pairs", "every pair of float16", "ulp", pieces_of(1 << 16, _FIRSTS), _every_pair),
}
