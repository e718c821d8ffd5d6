r"""What does each way of keeping softmax in range cost, in digits and in time? (chapter 2)

The variants are written in NumPy as a textbook has them, every operation in the type of the logits, so that
what is seen is the formula (one exception is NumPy's own: it adds up float16 in float32 before it rounds).
Beside them stand the package, the oracle, and the error bounds of the standard model, fl(x op y) = (x op y)(1
+ d) with |d| <= u, after Blanchard, Higham and Higham (IMA J. Numer. Anal. 41, 2021).

``python -m experiments.stability`` times the variants (about three minutes) and writes
``results/stability_timing.csv``.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

import softmax_lab as sl
from softmax_lab._dispatch import kernels
from softmax_lab._rows import Shifted, blocks, shifted_exp
from softmax_lab._twofloat import round_once
from softmax_lab._ulp import float_format, ulp_distance
from softmax_lab.audit.values import Exact, exact_values

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

Rows = NDArray[Any]
Variant = Callable[[Rows], Rows]

DTYPES = ("float16", "bfloat16", "float32", "float64")
# c: exp and log are within c units of roundoff, 4 ulp; NumPy's float32 exp states 2.52 ulp
LIBRARY_ERROR = 8.0
TIMINGS = Path(__file__).parent / "results" / "stability_timing.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768), (512, 131072))
ROUNDS = 7


def _peak(z: Rows) -> Rows:
    return np.asarray(z.max(axis=1, keepdims=True))


def _total(x: Rows) -> Rows:
    return np.asarray(x.sum(axis=1, keepdims=True))


def naive_softmax(z: Rows) -> Rows:
    """exp(z) / sum exp(z): no correction."""
    e = np.exp(z)
    return np.asarray(e / _total(e))


def shifted_softmax(z: Rows) -> Rows:
    """exp(z - m) / sum exp(z - m) with m = max(z): the article's first method, and the textbook program of
    every chapter.
    """
    return naive_softmax(z - _peak(z))


def naive_lse(z: Rows) -> Rows:
    """log sum exp(z), (N, 1): no correction."""
    return np.asarray(np.log(_total(np.exp(z))))


def shifted_lse(z: Rows) -> Rows:
    """m + log sum exp(z - m), (N, 1)."""
    m = _peak(z)
    return np.asarray(m + naive_lse(z - m))


def shifted_log_softmax(z: Rows) -> Rows:
    """(z - m) - log sum exp(z - m): the maximum is never added back."""
    d = z - _peak(z)
    return np.asarray(d - naive_lse(d))


def tempered(z: Rows, temperature: float) -> Rows:
    """exp(z/T) / sum exp(z/T), uncorrected: the article's third method."""
    return naive_softmax(np.asarray(z / z.dtype.type(temperature)))


SOFTMAX: dict[str, Variant] = {
    "exp(z) / sum": naive_softmax,
    "exp(z - log sum)": lambda z: np.exp(z - naive_lse(z)),
    "exp(z - max) / sum": shifted_softmax,
    "exp(z - lse)": lambda z: np.exp(z - shifted_lse(z)),
    "exp((z - max) - log sum)": lambda z: np.exp(shifted_log_softmax(z)),
    "softmax_lab": sl.softmax,
}

LOG_SOFTMAX: dict[str, Variant] = {
    "log(exp(z) / sum)": lambda z: np.log(naive_softmax(z)),
    "z - log sum": lambda z: np.asarray(z - naive_lse(z)),
    "log(exp(z - max) / sum)": lambda z: np.log(shifted_softmax(z)),
    "z - lse": lambda z: np.asarray(z - shifted_lse(z)),
    "(z - max) - log sum": shifted_log_softmax,
    "softmax_lab": sl.log_softmax,
}


def _reference(entry: Callable[[Shifted], NDArray[np.float64]]) -> Variant:
    """Return what the package computes in NumPy where it has no compiled loop."""
    return lambda z: round_once(entry(shifted_exp(z.astype(np.float64))), z.dtype)


#: what is timed: the variants, and the package's reference beside its compiled loops
TIMED: dict[str, dict[str, Variant]] = {
    "softmax": {**SOFTMAX, "softmax_lab, NumPy": _reference(lambda rows: rows.probs)},
    "log_softmax": {**LOG_SOFTMAX, "softmax_lab, NumPy": _reference(lambda rows: rows.log_probs)},
}


def _one_hot(z: Rows, y: NDArray[np.int64]) -> Rows:
    return np.asarray(y[:, None] == np.arange(z.shape[1]), dtype=z.dtype)


def _through_log(p: Rows, y: NDArray[np.int64]) -> Rows:
    """Differentiate -log p_y step by step: dL/dp = -y/p, then the softmax's own derivative, as automatic
    differentiation does.
    """
    g = -_one_hot(p, y) / p
    return np.asarray(p * (g - _total(g * p)))


GRADIENT: dict[str, Callable[[Rows, NDArray[np.int64]], Rows]] = {
    "naive p - y": lambda z, y: naive_softmax(z) - _one_hot(z, y),
    "naive p, through log p": lambda z, y: _through_log(naive_softmax(z), y),
    "shifted p - y": lambda z, y: shifted_softmax(z) - _one_hot(z, y),
    "shifted p, through log p": lambda z, y: _through_log(shifted_softmax(z), y),
    "softmax_lab": lambda z, y: sl.cross_entropy_grad(z, y, reduction="none")[1],
}


def rows(
    dtype: str, *, offset: float = 0.0, gap: float = 10.0, shape: tuple[int, int] = (8, 16), seed: int = 0
) -> Rows:
    """Return logits (N, K) of ``dtype`` whose largest entry is ``offset`` and whose smallest is ``gap``
    below, up to rounding.
    """
    draw, last_bits = np.random.default_rng(seed).normal(size=(2, *shape))
    below = draw - draw.max(axis=1, keepdims=True)
    z = offset - gap * below / below.min(axis=1, keepdims=True)
    # an offset added in float64 leaves float64 rows on the grid on which z - max(z) happens to be exact: fill
    # their last bits again
    return np.asarray((z * (1 + 2.0**-30 * last_bits)).astype(dtype))


def unit_roundoff(dtype: Any) -> float:
    """Return u, half the distance from 1 to the next float."""
    return float_format(dtype).eps / 2


def exp_range(dtype: Any) -> tuple[float, float, float]:
    """Return where exp overflows, where it leaves the normal numbers, and where it is rounded to 0."""
    form = float_format(dtype)
    tiniest = np.log(form.smallest) + (1 - form.bits) * np.log(2.0)  # log of the smallest subnormal number
    return float(np.log(form.largest)), float(np.log(form.smallest)), float(tiniest - np.log(2.0))


def ulps(function: str, computed: Rows, z: Rows, y: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the error of every entry, in ulp of the type of ``z``.

    Infinite for NaN or an infinity where a number is due.
    """
    exact = exact_values(function, z, y)
    return ulp_distance(computed, exact.high, exact.low, z.dtype, exact.scale)


def relative_error(computed: Rows, exact: Exact, dtype: Any) -> NDArray[np.float64]:
    """Return |computed - exact| / |exact|.

    NaN where the exact value is below the normal numbers, which the model leaves out.
    """
    seen = np.abs(exact.high) >= float_format(dtype).smallest
    error = np.abs((np.asarray(computed, dtype=np.float64) - exact.high) - exact.low)
    return np.where(seen, error / np.where(seen, np.abs(exact.high), 1.0), np.nan)


def _quiet(variant: Variant, z: Rows) -> Rows:
    with np.errstate(all="ignore"):
        return variant(z)


def error_table(variants: Mapping[str, Variant], function: str, inputs: Mapping[Any, Rows]) -> pd.DataFrame:
    """Return the largest error in ulp: a row an input, a column a variant."""
    worst = {
        key: [float(ulps(function, _quiet(variant, z), z).max()) for variant in variants.values()]
        for key, z in inputs.items()
    }
    return pd.DataFrame.from_dict(worst, orient="index", columns=list(variants))


class Bounds(NamedTuple):
    """First-order bounds (N, K) on the relative error of each entry; the derivation is in chapter 2."""

    naive: NDArray[np.float64]
    division: NDArray[np.float64]
    shifted_log: NDArray[np.float64]
    lse: NDArray[np.float64]


def bounds(z: Rows, *, library_error: float = LIBRARY_ERROR) -> Bounds:
    """Bound the relative error of the variants of `SOFTMAX` on the rows ``z`` (N, K), where nothing over- or
    underflows.

    With u the unit roundoff, c = ``library_error``, d_k = max(z) - z_k, l = lse(z) and s = sum exp(-d)::

        exp(z) / sum                (2c + K) u
        exp(z - max) / sum          (d_k + <d> + 2c + K) u                     <d> = sum_j p_j d_j <= log K
        exp((z - max) - log sum)    (d_k + <d> + 2c + K - 1 + c log s - log p_k) u
        exp(z - lse)                (|l| + <d> + 2c + K - 1 + c log s - log p_k) u
    """
    wide, c, u = z.astype(np.float64), library_error, unit_roundoff(z.dtype)
    k = z.shape[1]
    d = _peak(wide) - wide
    log_p = sl.log_softmax(wide)
    average = _total(np.exp(log_p) * d)
    lse = np.asarray(sl.logsumexp(wide, axis=1, keepdims=True))
    log_s = lse - _peak(wide)
    tail = average + 2 * c + k - 1 + c * log_s - log_p
    return Bounds(
        np.full(z.shape, (2 * c + k) * u),
        (d + average + 2 * c + k) * u,
        (d + tail) * u,
        (np.abs(lse) + tail) * u,
    )


def measure(
    shapes: Sequence[tuple[int, int]] = SHAPES,
    dtypes: Sequence[str] = ("float32", "float64"),
    *,
    rounds: int = ROUNDS,
    progress: bool = True,
) -> pd.DataFrame:
    """Time every variant and a copy on the same array, in turn, and return a row each: seconds, and the ratio
    to the copy.

    On one thread: NumPy's elementwise loops know no other way, and the package is told so. All variants go
    through the array in the same blocks of rows and write into the same memory: with temporaries as large as
    the array, the time to get memory from the system would drown the formulas. Each runs once unmeasured;
    then all are run ``rounds`` times, one after the other, so that whatever else the machine does falls on
    all of them. Seconds are the thread's own processor time: on an idle machine that is the time elapsed, and
    on a shared one it leaves the others out.
    """
    cases = [(shape, dtype) for shape in shapes for dtype in dtypes]
    bar = tqdm(cases, unit="array", disable=not progress)
    threads = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        return pd.concat([_measure_one(shape, dtype, rounds) for shape, dtype in bar], ignore_index=True)
    finally:
        sl.set_num_threads(threads)


def _measure_one(shape: tuple[int, int], dtype: str, rounds: int) -> pd.DataFrame:
    z = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype) * np.dtype(
        dtype
    ).type(3)
    target = np.empty_like(z)
    calls: dict[tuple[str, str], Callable[[], Any]] = {("copy", "copy"): partial(np.copyto, target, z)}
    for function, variants in TIMED.items():
        calls |= {
            (function, name): partial(_in_blocks, variant, z, target) for name, variant in variants.items()
        }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for key, call in calls.items():
            start = time.thread_time()
            call()
            if turn:  # the first is the warm-up
                seconds[key].append(time.thread_time() - start)
    table = pd.DataFrame(
        [(*key, np.median(s), min(s), max(s)) for key, s in seconds.items()], columns=list(_COLUMNS)
    )
    copy = table.loc[table["function"] == "copy", "median_s"].iloc[0]
    shape_columns = {"rows": shape[0], "classes": shape[1], "dtype": dtype}
    return table.assign(**shape_columns, to_copy=table["median_s"] / copy, rounds=rounds, **_circumstances())


def _in_blocks(variant: Variant, z: Rows, out: Rows) -> None:
    for block in blocks(*z.shape):
        out[block] = variant(z[block])


_COLUMNS = ("function", "variant", "median_s", "min_s", "max_s")


def _circumstances() -> dict[str, str]:
    return {
        "processor": processor(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "softmax_lab": sl.__version__,
        "compiled": "yes" if kernels() else "no",
    }


def processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def write_timings(table: pd.DataFrame, path: Path = TIMINGS) -> None:
    """Write the table to a temporary file and move it into place: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    temporary.replace(path)


def read_timings(path: Path = TIMINGS) -> pd.DataFrame:
    """Return the stored timings; columns as `measure` gives them."""
    return pd.read_csv(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="Time the variants of softmax and log-softmax.")
    parser.add_argument("--out", type=Path, default=TIMINGS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(argv)
    parts = [
        measure(SHAPES, ("float32",), rounds=options.rounds),
        measure(SHAPES[:2], ("float64",), rounds=options.rounds),
    ]
    write_timings(pd.concat(parts, ignore_index=True), options.out)


if __name__ == "__main__":
    main()
