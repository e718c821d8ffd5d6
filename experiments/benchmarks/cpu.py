"""Speed on the CPU beside every peer, in one run: ``python -m experiments.benchmarks.cpu``.

All providers work on the same arrays in the same process, with the same number of threads. They run one after
the other on each shape, after a warm-up. A time is the median of at least seven repetitions. Its ratio to an
out-of-place copy of the same array (each byte read once and written once) says how far from the memory's own
speed it is. Rows are appended to ``experiments/results/cpu.csv`` as they come: a run that is killed keeps
what it has.

``--threads 1`` measures on one thread. ``--vectors 256`` has the loops compiled without AVX-512, on a
processor that has it; the peers stay as they are. ``vectors`` is empty in rows from before there was a
choice: those are of the processor's own width.

``--jax`` measures :mod:`softmax_lab.jax` beside what JAX and optax have, compiled, on shapes of its own. Its
providers take turns. An XLA call makes its result anew, and from 32 MiB on the system hands out its memory at
each call: that takes longer than the work, and now three times as long as then.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl
from experiments import machine, tables
from softmax_lab._ulp import ulp_distance
from softmax_lab.audit.values import exact_values

from . import _command
from ._command import Benchmark, Job, Row, Shape
from ._timing import MOST, Call, in_turn, measure, quantiles

RESULTS = tables.RESULTS / "cpu.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768), (512, 131072))
#: about four million logits each, for the picture over K
SWEEP = tuple((max(1, (1 << 22) // k), k) for k in (2, 8, 32, 128, 512, 2048, 8192, 32768, 131072, 1_000_000))
#: about four million logits each: what JAX arrays are measured on
JAX_SHAPES = ((524288, 10), (32768, 100), (4096, 1000), (512, 10000), (64, 131072))
DTYPES = ("float32", "float64")
MOST_EXACT = 200_000  # classes beyond which exact values would take longer than all measurements
COLUMNS = (
    *("when", "processor", "threads", "vectors", "versions"),
    *("task", "dtype", "n", "k", "provider"),
    *("ms", "ms_20", "ms_80", "repeats", "copies", "max_ulp"),
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """The arrays of one shape, and what a provider may write to."""

    logits: Array
    labels: NDArray[np.int64]
    out: Array
    known: dict[str, Any] = field(default_factory=dict)

    def exact(self, task: str, rows: int) -> Any:
        """Return exact results of a task for the first rows, computed once for all providers."""
        if task not in self.known:
            y = self.labels[:rows] if task == "loss" else None
            self.known[task] = exact_values(
                {"loss": "cross_entropy_grad"}.get(task, task), self.logits[:rows], y
            )
        return self.known[task]


def make_problem(n: int, k: int, dtype: str, seed: int = 0) -> Problem:
    """Return normal logits of standard deviation 2 and uniform labels."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.standard_normal((n, k), dtype=np.float32)).astype(dtype)
    return Problem(logits, rng.integers(0, k, n), np.empty_like(logits))


# ---- providers: task -> call on a problem; a call returns the gradient or the probabilities ----


def copy(problem: Problem) -> dict[str, Call]:
    """Return the floor: each thread copies its part of the rows."""
    threads = sl.get_num_threads()
    edges = [len(problem.logits) * i // threads for i in range(threads + 1)]
    parts = [slice(*ends) for ends in pairwise(edges)]

    def run() -> Array:
        waiting = [
            _pool(threads).submit(np.copyto, problem.out[part], problem.logits[part]) for part in parts[:-1]
        ]
        np.copyto(problem.out[parts[-1]], problem.logits[parts[-1]])
        for part in waiting:
            part.result()
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

    def mean_loss(z: Any, y: Any) -> Any:
        return -jnp.take_along_axis(j.nn.log_softmax(z), y[:, None], axis=1).mean()

    return _jitted(problem, mean_loss, softmax=j.nn.softmax, log_softmax=j.nn.log_softmax)


def optax(problem: Problem) -> dict[str, Call]:
    """Return the loss alone: softmax is JAX's own."""
    import optax as o

    return _jitted(problem, lambda z, y: o.softmax_cross_entropy_with_integer_labels(z, y).mean())


def softmax_lab_jax(problem: Problem) -> dict[str, Call]:
    import softmax_lab.jax as slj

    return _jitted(problem, slj.cross_entropy, softmax=slj.softmax, log_softmax=slj.log_softmax)


def _jitted(problem: Problem, mean_loss: Any, **maps: Any) -> dict[str, Call]:
    """Return the calls of functions of JAX arrays, compiled: of a loss its value and gradient."""
    j: Any = importlib.import_module("jax")

    with j.enable_x64(True):
        z, y = j.numpy.asarray(problem.logits), j.numpy.asarray(problem.labels)

    def in_64_bits(call: Any, *arguments: Any, pick: Callable[[Any], Any] = lambda x: x) -> Call:
        def run() -> Array:
            with j.enable_x64(True):
                return np.asarray(pick(j.block_until_ready(call(*arguments))))

        return run

    both = in_64_bits(j.jit(j.value_and_grad(mean_loss)), z, y, pick=lambda result: result[1])
    return {"loss": both} | {task: in_64_bits(j.jit(function), z) for task, function in maps.items()}


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
    "optax": optax,
    "softmax_lab.jax": softmax_lab_jax,
}
#: what ``--jax`` measures
ON_JAX = ("copy", "softmax_lab.jax", "jax.jit", "optax")
#: what is measured otherwise
OF_ALL = tuple(name for name in PROVIDERS if name not in ("optax", "softmax_lab.jax"))
TASKS = ("loss", "softmax", "log_softmax")


@cache
def _pool(threads: int) -> Executor:
    """Return all threads but the caller's own, for the copy."""
    return ThreadPoolExecutor(max(1, threads - 1))


def worst_ulp(task: str, problem: Problem, result: Array) -> float:
    """Return the largest error of the first rows in ulp.

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
    shape: Shape,
    dtype: str,
    providers: Sequence[str],
    tasks: Sequence[str],
    budget: float,
    *,
    taking_turns: bool = False,
) -> Iterator[Row]:
    """Yield a row a provider and task on one shape.

    The copy comes first: every time is also a multiple of it. The providers come one after the other, or each
    task's take turns.
    """
    problem = make_problem(*shape, dtype)
    common = {"vectors": machine.vectors(), "dtype": dtype, "n": shape[0], "k": shape[1]}
    floor = float(np.median(measure(copy(problem)["loss"], budget=budget)))
    timed = _in_turn if taking_turns else _one_after_the_other
    for task, provider, call, times in timed(problem, providers, tasks, budget):
        ulp = float("nan") if provider == "copy" else worst_ulp(task, problem, np.asarray(call()))
        yield common | {
            "task": task,
            "provider": provider,
            **quantiles(times),
            "copies": round(float(np.median(times)) / floor, 3),
            "max_ulp": round(ulp, 3),
        }


def _installed(
    problem: Problem, providers: Sequence[str], tasks: Sequence[str]
) -> Iterator[tuple[str, str, Call]]:
    """Yield task, provider and call: a peer that is not installed has none, and the copy one task's."""
    for provider in providers:
        try:
            calls = PROVIDERS[provider](problem)
        except ImportError:
            continue
        for task in tasks if provider != "copy" else tasks[:1]:
            if task in calls:
                yield task, provider, calls[task]


def _one_after_the_other(
    problem: Problem, providers: Sequence[str], tasks: Sequence[str], budget: float
) -> Iterator[tuple[str, str, Call, list[float]]]:
    for task, provider, call in _installed(problem, providers, tasks):
        yield task, provider, call, measure(call, budget=budget)


def _in_turn(
    problem: Problem, providers: Sequence[str], tasks: Sequence[str], budget: float
) -> Iterator[tuple[str, str, Call, list[float]]]:
    """Time the providers of a task in turn: memory that the system hands out is dear now and cheap then."""
    found = list(_installed(problem, providers, tasks))
    for task in tasks:
        of_task = [each for each in found if each[0] == task]
        calls = [call for *_, call in of_task]
        measured = in_turn(*calls, warm_ups=2, repeats=7, budget=budget * len(calls), most=MOST)
        for each, times in zip(of_task, measured, strict=True):
            yield *each, times


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:12} {row['dtype']} {row['n']:>7}x{row['k']:<7} {row['provider']:14}"
    return f"{where} {row['ms']:10.3f} ms {row['copies']:8.2f} copies {row['max_ulp']:7} ulp"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_threads(parser)
    _command.add_choice(parser, "dtype", DTYPES)
    _command.add_choice(parser, "task", TASKS)
    _command.add_choice(parser, "provider", PROVIDERS, OF_ALL)
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="shapes of four million logits from K = 2 to 10^6 instead of the table's",
    )
    parser.add_argument(
        "--jax", action="store_true", help="softmax_lab.jax and its peers, in float32, on shapes of their own"
    )
    _command.add_shapes(parser)
    _command.add_budget(parser, 0.5)
    parser.add_argument(
        "--vectors",
        type=int,
        choices=(256,),
        help="bits of the loops' vectors, where the processor has more (default: its own)",
    )


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a type and shape: those of the table, or with ``--sweep`` those of the picture over K."""
    machine.limit_threads(options.threads)
    shapes = options.shape or (SWEEP if options.sweep else SHAPES)
    if options.jax:
        options.provider, options.dtype, shapes = ON_JAX, ("float32",), options.shape or JAX_SHAPES
    return [
        Job(
            f"{dtype} {n}x{k}",
            lambda dtype=dtype, n=n, k=k: rows_of(  # type: ignore[misc]
                (n, k), dtype, options.provider, options.task, options.budget, taking_turns=options.jax
            ),
        )
        for dtype in options.dtype
        for n, k in shapes
    ]


BENCHMARK = Benchmark(
    "Time softmax and its loss on the CPU beside every installed peer.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status.

    Narrower vectors take a process of their own: Numba is told of them when it is imported.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = BENCHMARK.parse(given)
    if options.vectors is None or machine.vectors().split()[0] == str(options.vectors):
        BENCHMARK.run(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.benchmarks.cpu", *given]
        return subprocess.run(command, env=machine.narrower(Path(folder)), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
