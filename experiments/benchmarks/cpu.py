"""Speed on the CPU beside every peer, in one run: ``python -m experiments.benchmarks.cpu``.

All providers work on the same arrays in the same process, with the same number of threads, one after the
other on each shape, after a warm-up. A time is the median of at least seven repetitions; its ratio to an
out-of-place copy of the same array (each byte read once and written once) says how far from the memory's own
speed it is. Rows are appended to ``experiments/results/cpu.csv`` as they come, with versions and processor; a
run that is killed keeps what it has.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import softmax_lab as sl
from softmax_lab._ulp import ulp_distance
from softmax_lab.audit.values import exact_values

RESULTS = Path(__file__).parents[1] / "results" / "cpu.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768), (512, 131072))
#: about four million logits each, for the picture over K
SWEEP = tuple((max(1, (1 << 22) // k), k) for k in (2, 8, 32, 128, 512, 2048, 8192, 32768, 131072, 1_000_000))
MOST_EXACT = 200_000  #: classes beyond which exact values would take longer than all measurements
COLUMNS = (
    "when",
    "processor",
    "threads",
    "versions",
    "task",
    "dtype",
    "n",
    "k",
    "provider",
    "ms",
    "ms_20",
    "ms_80",
    "repeats",
    "copies",
    "max_ulp",
)

Array = NDArray[Any]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Problem:
    """The arrays of one shape, and what a provider may write to."""

    logits: Array
    labels: NDArray[np.int64]
    out: Array
    known: dict[str, Any] = field(default_factory=dict)

    def exact(self, task: str, rows: int) -> Any:
        """Exact results of a task for the first rows, computed once for all providers."""
        if task not in self.known:
            y = self.labels[:rows] if task == "loss" else None
            self.known[task] = exact_values(
                {"loss": "cross_entropy_grad"}.get(task, task), self.logits[:rows], y
            )
        return self.known[task]


def make_problem(n: int, k: int, dtype: str, seed: int = 0) -> Problem:
    """Normal logits of standard deviation 2, uniform labels."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.standard_normal((n, k), dtype=np.float32)).astype(dtype)
    return Problem(logits, rng.integers(0, k, n), np.empty_like(logits))


# ---- providers: task -> call on a problem; a call returns the gradient or the probabilities ----


def copy(problem: Problem) -> dict[str, Call]:
    """The floor: one thread a half of the rows."""
    half = len(problem.logits) // 2

    def run() -> Array:
        waiting = _POOL.submit(np.copyto, problem.out[:half], problem.logits[:half])
        np.copyto(problem.out[half:], problem.logits[half:])
        waiting.result()
        return problem.out

    return dict.fromkeys(TASKS, run)


def softmax_lab(problem: Problem) -> dict[str, Call]:
    z, y, out = problem.logits, problem.labels, problem.out
    return {
        "loss": lambda: sl.cross_entropy_grad(z, y, out=out)[1],
        "softmax": lambda: sl.softmax(z, out=out),
        "log_softmax": lambda: sl.log_softmax(z, out=out),
    }


def scipy(problem: Problem) -> dict[str, Call]:
    from scipy import special

    z, y = problem.logits, problem.labels
    rows = np.arange(len(z))

    def loss() -> Array:
        log_p = special.log_softmax(z, axis=1)
        log_p[rows, y].mean()
        gradient: Array = np.exp(log_p)
        gradient[rows, y] -= 1
        gradient /= len(z)
        return gradient

    return {
        "loss": loss,
        "softmax": lambda: special.softmax(z, axis=1),
        "log_softmax": lambda: special.log_softmax(z, axis=1),
    }


def torch(problem: Problem) -> dict[str, Call]:
    return _torch(problem, compiled=False)


def torch_compile(problem: Problem) -> dict[str, Call]:
    return _torch(problem, compiled=True)


def _torch(problem: Problem, *, compiled: bool) -> dict[str, Call]:
    import torch as t

    z, y = t.from_numpy(problem.logits), t.from_numpy(problem.labels)
    leaf = z.clone().requires_grad_()
    wrap = (lambda f: t.compile(f, dynamic=False)) if compiled else (lambda f: f)
    value = wrap(lambda z, y: t.nn.functional.cross_entropy(z, y))
    p, log_p = wrap(lambda z: t.softmax(z, 1)), wrap(lambda z: t.log_softmax(z, 1))
    out = t.from_numpy(problem.out)

    def loss() -> Array:
        leaf.grad = None
        value(leaf, y).backward()
        gradient: Array = leaf.grad.numpy()  # type: ignore[attr-defined]
        return gradient

    def forward(call: Any, eager: Any) -> Call:
        def run() -> Array:
            with t.no_grad():
                # eager torch's fastest form writes to a given array; a compiled graph makes its own
                result: Array = (call(z) if compiled else eager(z, 1, out=out)).numpy()
                return result

        return run

    return {"loss": loss, "softmax": forward(p, t.softmax), "log_softmax": forward(log_p, t.log_softmax)}


def jax(problem: Problem) -> dict[str, Call]:
    import jax.numpy as jnp

    j: Any = importlib.import_module("jax")

    with j.enable_x64(True):
        z, y = jnp.asarray(problem.logits), jnp.asarray(problem.labels)

    def mean_loss(z: Any, y: Any) -> Any:
        return -jnp.take_along_axis(j.nn.log_softmax(z), y[:, None], axis=1).mean()

    both, p, log_p = j.jit(j.value_and_grad(mean_loss)), j.jit(j.nn.softmax), j.jit(j.nn.log_softmax)

    def in_64_bits(call: Any, pick: Callable[[Any], Any] = lambda x: x) -> Call:
        def run() -> Array:
            with j.enable_x64(True):
                return np.asarray(pick(j.block_until_ready(call())))

        return run

    return {
        "loss": in_64_bits(lambda: both(z, y), lambda result: result[1]),
        "softmax": in_64_bits(lambda: p(z)),
        "log_softmax": in_64_bits(lambda: log_p(z)),
    }


def tensorflow(problem: Problem) -> dict[str, Call]:
    import tensorflow as tf

    z, y = tf.constant(problem.logits), tf.constant(problem.labels)

    @tf.function  # type: ignore[untyped-decorator, unused-ignore]
    def both(z: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, z))
        return value, tape.gradient(value, z)

    p, log_p = tf.function(tf.nn.softmax), tf.function(tf.nn.log_softmax)
    # tensors are returned as they are: .numpy() would copy, and that is not the peer's work
    return {"loss": lambda: both(z, y)[1], "softmax": lambda: p(z), "log_softmax": lambda: log_p(z)}


PROVIDERS: dict[str, Callable[[Problem], dict[str, Call]]] = {
    "copy": copy,
    "softmax_lab": softmax_lab,
    "torch": torch,
    "torch.compile": torch_compile,
    "jax.jit": jax,
    "tf.function": tensorflow,
    "scipy": scipy,
}
TASKS = ("loss", "softmax", "log_softmax")


class _LazyPool:
    """One more thread than the caller's own, for the copy: made on first use."""

    def submit(self, *arguments: Any) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        if not hasattr(self, "_pool"):
            self._pool = ThreadPoolExecutor(1)
        return self._pool.submit(*arguments)


_POOL = _LazyPool()


def measure(call: Call, *, budget: float, repeats: int = 7) -> list[float]:
    """Return at least ``repeats`` times in milliseconds, more while they fit into ``budget`` seconds.

    Two warm-ups first.

    A short sleep lets the threads of the provider before, which spin for a while after their last work, come
    to rest.
    """
    time.sleep(0.3)
    call()
    call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < repeats or (time.perf_counter() - start < budget and len(times) < 101):
        before = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - before))
    return times


def worst_ulp(task: str, problem: Problem, result: Array) -> float:
    """Largest error of the first rows in ulp.

    The mean's factor 1/N is a power of two on every shape of the table and the sweep.
    """
    n, k = problem.logits.shape
    if k > MOST_EXACT or (task == "loss" and n & (n - 1)):
        return float("nan")
    rows = max(1, 2000 // k)
    exact = problem.exact(task, rows)
    result = result[:rows] * n if task == "loss" else result[:rows]
    return float(ulp_distance(result, exact.high, exact.low, problem.logits.dtype).max())


def rows_of(
    shape: tuple[int, int], dtype: str, providers: Sequence[str], tasks: Sequence[str], budget: float
) -> Iterator[dict[str, Any]]:
    """Measure every provider on one shape; the copy comes first, and every time is also a multiple of it."""
    problem = make_problem(*shape, dtype)
    common = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "processor": processor(),
        "threads": sl.get_num_threads(),
        "versions": versions(),
        "dtype": dtype,
        "n": shape[0],
        "k": shape[1],
    }
    floor = float(np.median(measure(copy(problem)["loss"], budget=budget)))
    for provider in providers:
        try:
            calls = PROVIDERS[provider](problem)
        except ImportError:
            continue  # a peer that is not installed has no row
        for task in tasks if provider != "copy" else tasks[:1]:
            times = measure(calls[task], budget=budget)
            ulp = float("nan") if provider == "copy" else worst_ulp(task, problem, np.asarray(calls[task]()))
            low, middle, high = np.percentile(times, [20, 50, 80])
            yield common | {
                "task": task,
                "provider": provider,
                "ms": round(middle, 4),
                "ms_20": round(low, 4),
                "ms_80": round(high, 4),
                "repeats": len(times),
                "copies": round(middle / floor, 3),
                "max_ulp": round(ulp, 3),
            }


def processor() -> str:
    """Name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> str:
    """Versions of everything that is timed, in one cell."""
    found = []
    for name in ("softmax-lab", "numpy", "numba", "scipy", "torch", "jax", "tensorflow"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"python {platform.python_version()}, " + ", ".join(found)


def limit_threads(threads: int) -> None:
    """Give every provider the same number of threads; before the frameworks are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sl.set_num_threads(threads)


def told(row: dict[str, Any]) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:12} {row['dtype']} {row['n']:>7}x{row['k']:<7} {row['provider']:14}"
    return f"{where} {row['ms']:10.3f} ms {row['copies']:8.2f} copies {row['max_ulp']:7} ulp"


def append(
    rows: Iterable[dict[str, Any]],
    path: Path,
    columns: Sequence[str] = COLUMNS,
    told: Callable[[dict[str, Any]], str] = told,
) -> None:
    """Append each row as it comes, the header first in a new file, and tell it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
            file.flush()
            tqdm.write(told(row))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the table, and with ``--sweep`` the picture over K."""
    parser = argparse.ArgumentParser(
        description="Time softmax and its loss on the CPU beside every installed peer."
    )
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument("--dtype", nargs="+", default=["float32", "float64"], choices=["float32", "float64"])
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--provider", nargs="+", default=list(PROVIDERS), choices=list(PROVIDERS))
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="shapes of four million logits from K = 2 to 10^6 instead of the table's",
    )
    parser.add_argument(
        "--shape", nargs=2, type=int, action="append", metavar=("N", "K"), help="only these shapes"
    )
    parser.add_argument(
        "--budget", type=float, default=0.5, help="seconds a measurement, beyond seven repetitions"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    shapes = (
        [tuple(shape) for shape in options.shape]
        if options.shape
        else list(SWEEP if options.sweep else SHAPES)
    )
    for dtype in options.dtype:
        for shape in tqdm(shapes, unit="shape", desc=dtype, disable=None):
            append(rows_of(shape, dtype, options.provider, options.task, options.budget), options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
