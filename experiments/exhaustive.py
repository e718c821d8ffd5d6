r"""Is it right on every argument there is? (chapter 10)

Where the arguments can be counted they are all tried, on the compiled loops:

* **exponential**: that of the loops for float16, bfloat16 and float32 logits, whose argument is a difference
  d = x - max(x) <= 0, on every float32 in [-104, 0], on every multiple of 2^-24 there (all differences of two
  float16 are among them), on the difference of every pair of bfloat16, and, since a difference of two float32
  can have more digits than a float32, on 2^30 differences of random pairs. Below -104 all count as 0.
* **pairs**: softmax, log-softmax, the loss (of either label) and its gradient for two classes, on every pair
  of float16 logits, NaN and infinities included: 2^32 rows, by the public functions.

The right answers are computed apart from the kernels, in float64 by the C library's exp and log1p. They
decide the rounding but where they come within 2^-50 of the middle between two neighbours; there mpmath
decides.

``python -m experiments.exhaustive`` takes some minutes and writes ``results/exhaustive.csv``; what is done of
it is kept beside it, so that a run that was stopped goes on. ``--trial N`` tries N pieces of each part and
says how long all would take.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import mpmath
import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from tqdm import tqdm

import softmax_lab as sl
from experiments.benchmarks.cpu import processor
from softmax_lab._kernels import exponential, simd

__all__ = ["CHECKS", "PARTS", "RESULTS", "Check", "Tally", "read", "run", "summary", "trial"]

RESULTS = Path(__file__).parent / "results" / "exhaustive.csv"
LOWEST = -104.0  # exp of it is below half the smallest float32
PIECE = 1 << 20  # arguments, or rows, at a time
UNSURE = 2.0**-50  # the reference's own relative error is below

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What a check has found so far; ``where`` is the argument of the largest error."""

    arguments: int = 0
    results: int = 0
    misrounded: int = 0  # results that are not the float nearest to the exact one
    # of them, those whose exact value float64 itself cannot tell from the middle between two floats
    ties: int = 0
    worst: float = 0.0
    where: str = ""

    def __add__(self, other: Tally) -> Tally:
        worst = self if self.worst >= other.worst else other
        return Tally(
            self.arguments + other.arguments,
            self.results + other.results,
            self.misrounded + other.misrounded,
            self.ties + other.ties,
            worst.worst,
            worst.where,
        )


class Check(NamedTuple):
    """Something to be tried in pieces; a piece gives a tally for each result that is looked at."""

    part: str
    arguments: str
    unit: str  # of the largest error
    pieces: int
    run: Callable[[int], dict[str, Tally]]


# ---- the exponential ----


@njit(nogil=True)
def _exponentials(d: Any, e: Any) -> None:
    """The loops' exponential of whole vectors."""
    for k in range(0, len(d), simd.WIDTH):
        simd.store(e, k, exponential.single(simd.load(d, k)))  # type: ignore[call-arg]


@njit(nogil=True)
def _compare(d: Any, e: Any, unsure: Any) -> tuple[int, float, float, int]:
    """Return how many of e, rounded to float32, are not exp(d) rounded.

    The largest relative error and its d; how many are unsure.
    """
    misrounded, worst, where, found = 0, 0.0, 0.0, 0
    for i in range(len(d)):
        exact = math.exp(d[i])
        rounded = np.float32(exact)
        if np.float32(exact * (1 - UNSURE)) != np.float32(exact * (1 + UNSURE)):
            unsure[found] = i
            found += 1
        elif np.float32(e[i]) != rounded:
            misrounded += 1
        if exact >= 2.0**-150 and abs(e[i] - exact) > worst * exact:
            worst, where = abs(e[i] - exact) / exact, d[i]
    return misrounded, worst, where, found


def check_exponentials(d: Array) -> dict[str, Tally]:
    """Compare the loops' exponential with the C library's, relative to the result."""
    count = len(d)
    whole = np.zeros(-(-count // simd.WIDTH) * simd.WIDTH)
    whole[:count] = d
    e, unsure = np.empty_like(whole), np.empty(count, np.int64)
    _exponentials(whole, e)
    misrounded, worst, where, found = _compare(d, e, unsure)
    for i in unsure[:found]:
        with mpmath.workprec(200):
            misrounded += not is_nearest(np.float32(e[i]), mpmath.exp(mpmath.mpf(float(d[i]))))
    return {"exp": Tally(count, count, misrounded, 0, worst, repr(float(where)))}


def is_nearest(value: Any, exact: Any) -> bool:
    """Whether a float is the one of its type that is nearest to an mpmath number."""
    kind = type(value)
    away = [
        abs(mpmath.mpf(float(x)) - exact)
        for x in (value, np.nextafter(value, kind(np.inf)), np.nextafter(value, kind(-np.inf)))
    ]
    return bool(away[0] <= min(away))


def _float32(piece: int) -> Array:
    """Float32 numbers from -0 downwards, by their bits."""
    stop = int(np.float32(LOWEST).view(np.uint32)) + 1
    start = (1 << 31) + piece * PIECE
    return np.arange(start, min(start + PIECE, stop), dtype=np.uint32).view(np.float32).astype(np.float64)


_FLOAT32_COUNT = int(np.float32(LOWEST).view(np.uint32)) + 1 - (1 << 31)


def _float16_grid(piece: int) -> Array:
    """Multiples of 2^-24, the smallest float16, from 0 downwards."""
    start = piece * PIECE
    return np.arange(start, min(start + PIECE, _GRID_COUNT), dtype=np.float64) * -(2.0**-24)


_GRID_COUNT = int(-LOWEST * 2**24) + 1
_PEAKS = 32


@cache
def _bfloat16() -> Array:
    """Every finite bfloat16, ascending."""
    with np.errstate(invalid="ignore"):
        every = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float64)
    return np.sort(every[np.isfinite(every)])


_BFLOAT16_COUNT = 2 * 255 * 128


def _bfloat16_differences(piece: int) -> Array:
    """x - peak for some peaks and every x that is not above, nor out of reach of the exponential."""
    x = _bfloat16()
    parts = []
    for peak in x[piece * _PEAKS : (piece + 1) * _PEAKS]:
        first, last = np.searchsorted(x, peak + LOWEST), np.searchsorted(x, peak, side="right")
        parts.append(x[first:last] - peak)
    return np.concatenate(parts)


def _float32_differences(piece: int) -> Array:
    """x - peak of random float32: any magnitude of the difference up to 104, any of the peak up to 1024."""
    rng = np.random.default_rng([20260101, piece])
    high = (np.float32(-LOWEST).view(np.uint32), np.float32(1024).view(np.uint32))
    gap, peak = (rng.integers(0, n, PIECE, dtype=np.uint32).view(np.float32) for n in high)
    peak *= rng.choice(np.array([-1, 1], np.float32), PIECE)
    d = (peak - gap).astype(np.float64) - peak
    return d[d >= LOWEST]


def _pieces(count: int, size: int = PIECE) -> int:
    return -(-count // size)


# ---- two classes ----


@cache
def _tables() -> tuple[Array, Array, Array]:
    """Of every float16 by its bits: its value, and the middles between it and its neighbours.

    Beyond the largest is 2^16.
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
    """Whether the float16 with bits h is ``exact`` rounded.

    The true value of one that equals ``edge`` is a trifle further from 0.
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
    """The same for a float32 at least 0."""
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
    """An error in ulp of a type with a number of bits and a smallest exponent."""
    return float(away / 2.0 ** max(math.frexp(exact)[1] - bits, lowest))


@njit(nogil=True)
def _compare_pairs(
    z: Any, p: Any, log_p: Any, losses: Any, gradients: Any, tables: Any, counts: Any, worst: Any, unsure: Any
) -> int:
    """Judge the results of rows of two float16.

    Counts (4, 2) get wrong and tie, worst (4, 2) ulp and row, unsure (., 2) row and entry.

    Entries of a row: p, log p, the losses of either label, the gradients of the first label and of the
    second.
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
    """One of the ten results of a row of two finite logits, in mpmath."""
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


# ---- all checks ----


def _exponential(arguments: str, pieces: int, make: Callable[[int], Array]) -> Check:
    return Check("exponential", arguments, "relative", pieces, lambda piece: check_exponentials(make(piece)))


CHECKS: dict[str, Check] = {
    "float32": _exponential("every float32 in [-104, 0]", _pieces(_FLOAT32_COUNT), _float32),
    "float16 differences": _exponential(
        "every multiple of 2^-24 in [-104, 0]", _pieces(_GRID_COUNT), _float16_grid
    ),
    "bfloat16 differences": _exponential(
        "every pair of bfloat16", _pieces(_BFLOAT16_COUNT, _PEAKS), _bfloat16_differences
    ),
    "float32 differences": _exponential("random pairs of float32", 1024, _float32_differences),
    "float16 pairs": Check("pairs", "every pair of float16", "ulp", _pieces(1 << 16, _FIRSTS), _every_pair),
}
PARTS = tuple(dict.fromkeys(check.part for check in CHECKS.values()))


def run(names: Iterable[str], threads: int, out: Path = RESULTS) -> pd.DataFrame:
    """Run checks to their end, from where an earlier run stopped, and write a row a result.

    Return all rows of the file.
    """
    for name in names:
        state = _State.load(out.with_suffix(".partial.json"), name)
        for batch, done in _tried(CHECKS[name], range(state.done, CHECKS[name].pieces), threads, name):
            state.add(batch, done)
        _write(state.rows(threads), out)
        state.path.unlink()
    return read(out)


def trial(names: Iterable[str], threads: int, pieces: int) -> pd.DataFrame:
    """Try a few pieces of each check, spread over all, and return what they found and the seconds that all
    would take.
    """
    rows = []
    for name in names:
        check = CHECKS[name]
        some = np.unique(np.linspace(0, check.pieces - 1, pieces).astype(int)).tolist()
        check.run(some[0])  # compiled
        state = _State(Path(), name)
        for batch, done in _tried(check, some, threads, name):
            state.tally(batch, done)
        rows += [row | {"seconds": row["seconds"] * check.pieces / len(some)} for row in state.rows(threads)]
    return pd.DataFrame(rows)


def _tried(
    check: Check, pieces: Sequence[int], threads: int, name: str
) -> Iterator[tuple[list[dict[str, Tally]], int]]:
    """Yield the tallies of some pieces at a time, tried on several threads, and how many these were."""
    before = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        with (
            ThreadPoolExecutor(threads) as pool,
            tqdm(total=len(pieces), desc=name, unit="piece", disable=None) as bar,
        ):
            for start in range(0, len(pieces), 8 * threads):
                batch = list(pool.map(check.run, pieces[start : start + 8 * threads]))
                bar.update(len(batch))
                yield batch, len(batch)
    finally:
        sl.set_num_threads(before)


class _State:
    """A check that is under way, kept on disk."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.done, self.seconds = 0, 0.0
        self.tallies: dict[str, Tally] = {}
        self._started = time.perf_counter()

    @classmethod
    def load(cls, path: Path, name: str) -> _State:
        """Return what an earlier run left of this check by these kernels, or an empty state."""
        state = cls(path, name)
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["name"] == name and kept["versions"] == versions():
                state.done, state.seconds = kept["done"], kept["seconds"]
                state.tallies = {key: Tally(**tally) for key, tally in kept["tallies"].items()}
        return state

    def tally(self, batch: Sequence[dict[str, Tally]], done: int) -> None:
        for tallies in batch:
            for key, tally in tallies.items():
                self.tallies[key] = self.tallies.get(key, Tally()) + tally
        now = time.perf_counter()
        self.done, self.seconds, self._started = self.done + done, self.seconds + now - self._started, now

    def add(self, batch: Sequence[dict[str, Tally]], done: int) -> None:
        """Count a batch in, and keep the state."""
        self.tally(batch, done)
        kept = {"name": self.name, "versions": versions(), "done": self.done, "seconds": self.seconds}
        _replace(
            self.path,
            json.dumps(kept | {"tallies": {key: asdict(tally) for key, tally in self.tallies.items()}}),
        )

    def rows(self, threads: int) -> list[dict[str, Any]]:
        """A row a result, as the file has them."""
        check = CHECKS[self.name]
        common = {"part": check.part, "check": self.name, "tried": check.arguments, "unit": check.unit}
        circumstances = {
            "seconds": round(self.seconds, 1),
            "threads": threads,
            "processor": processor(),
            "versions": versions(),
            "when": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        return [
            common | {"result": key} | asdict(tally) | circumstances for key, tally in self.tallies.items()
        ]


def versions() -> str:
    """Versions of what was tried: of the compiled loops the first digits of the digest of their sources."""
    from softmax_lab._kernels.compiler import STAMP

    known = ", ".join(f"{name} {metadata.version(name)}" for name in ("softmax-lab", "numpy", "numba"))
    return f"{known}, kernels {STAMP[:12]}"


def _write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Put rows in place of those of the same check; a reader never sees half of the file."""
    table = pd.DataFrame(rows)
    if path.is_file():
        old = read(path)
        table = pd.concat([old[~old["check"].isin(table["check"])], table], ignore_index=True)
    table = table.sort_values("check", key=lambda column: column.map(list(CHECKS).index), kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, table.to_csv(index=False, lineterminator="\n"))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read(path: Path = RESULTS) -> pd.DataFrame:
    """Return the stored rows: a row a check and result."""
    return pd.read_csv(path, keep_default_na=False)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as the book shows it, numbers as text."""
    exponential_rows = table["part"] == "exponential"
    error = [
        (f"2^{math.log2(x):.2f}" if x else "0") if relative else f"{max(x, 0.5):.7g} ulp"
        for x, relative in zip(table["worst"], exponential_rows, strict=True)
    ]
    return pd.DataFrame(
        {
            "result": table["result"],
            "tried on": table["tried"],
            "arguments": [f"{n:,}" for n in table["arguments"]],
            "results": [f"{n:,}" for n in table["results"]],
            "not the nearest float": [f"{n:,}" for n in table["misrounded"]],
            "of them ties": [f"{n:,}" for n in table["ties"]],
            "largest error": error,
            "seconds": [f"{s:.0f}" for s in table["seconds"]],
        }
    ).set_index("result")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the checks, or a trial of them."""
    parser = argparse.ArgumentParser(
        description="Try the exponential and two-class rows on every argument there is."
    )
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument(
        "--trial", type=int, metavar="N", help="only N pieces of each check; nothing is written"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    names = [name for name, check in CHECKS.items() if check.part in options.part]
    table = (
        trial(names, options.threads, options.trial)
        if options.trial
        else run(names, options.threads, options.out)
    )
    print(summary(table).to_string())
    if options.trial:
        print(f"all of it would take about {table.groupby('check')['seconds'].first().sum():.0f} s")


if __name__ == "__main__":
    main()
