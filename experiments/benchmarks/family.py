"""What each field of the loss family costs: ``python -m experiments.benchmarks.family``.

Every task writes value and gradient of the same logits to the same array. The plain loss is measured next to
each member, and the ratio is of those two, so that a drift of the machine cancels. Two products stand beside
torch's: the Hessian of the loss times a tangent beside torch's double backward, and the softmax's
vector-Jacobian product beside torch's backward. Rows go to ``experiments/results/family.csv`` as they come.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import softmax_lab as sl
from experiments import machine, tables
from softmax_lab import LossSpec

from . import _command
from ._command import Benchmark, Job, Row, Shape
from ._timing import Call, in_turn
from .cpu import DTYPES, Problem, make_problem

RESULTS = tables.RESULTS / "family.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768))
COLUMNS = (
    *("when", "processor", "threads", "versions"),
    *("task", "dtype", "n", "k"),
    *("ms", "peer", "peer_ms", "ratio", "repeats"),
)


class Pair(NamedTuple):
    """A task beside what it is compared with."""

    task: str
    call: Call
    peer: str
    peer_call: Call


def specs(k: int) -> dict[str, LossSpec]:
    """Return a member of the family for each field, for K classes."""
    rng = np.random.default_rng(0)

    def per_class(low: float, high: float) -> Any:
        return rng.uniform(low, high, k)

    prior = per_class(0.1, 1.0)
    return {
        "margin": LossSpec(margin=per_class(0, 0.5)),
        "smoothing": LossSpec(smoothing=0.1),
        "smoothing per class": LossSpec(smoothing=per_class(0, 0.3)),
        "prior": LossSpec(smoothing=0.1, prior=prior / prior.sum()),
        "class weight": LossSpec(class_weight=per_class(0.5, 3)),
        "focal": LossSpec(gamma=2.0),
        "z-loss": LossSpec(z_loss=1e-4),
        "temperature": LossSpec(temperature=2.0),
        "scale": LossSpec(scale=per_class(0.5, 1.5)),
        "bias": LossSpec(bias=per_class(-2, 0)),
        "soft cap": LossSpec(softcap=30.0),
        "gate": LossSpec(class_weight=per_class(1, 20), gate=4.0),
    }


def pairs(problem: Problem) -> Iterator[Pair]:
    """Yield every member beside the plain loss, and the products beside torch's."""
    z, y, out = problem.logits, problem.labels, problem.out

    def beside_plain(task: str, target: Any, spec: LossSpec) -> Pair:
        return Pair(
            task,
            lambda: sl.cross_entropy_grad(z, target, spec, out=out),
            "plain loss",
            lambda: sl.cross_entropy_grad(z, y, out=out),
        )

    for name, spec in specs(z.shape[1]).items():
        yield beside_plain(name, y, spec)
    yield beside_plain("distribution as target", sl.softmax(z[::-1].copy()), LossSpec())
    yield from _products(problem)


def _products(problem: Problem) -> Iterator[Pair]:
    """Yield the products beside torch's, where torch is installed."""
    try:
        import torch
    except ImportError:
        return
    z, y, out = problem.logits, problem.labels, problem.out
    tangent = np.random.default_rng(1).standard_normal(z.shape, dtype=np.float32).astype(z.dtype)
    logits, labels = torch.from_numpy(z).requires_grad_(), torch.from_numpy(y)
    direction = torch.from_numpy(tangent)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    yield Pair(
        "Hessian-vector product",
        lambda: sl.cross_entropy_hvp(z, y, tangent, out=out),
        "torch double backward",
        lambda: torch.autograd.grad(gradient, logits, direction, retain_graph=True),
    )
    probs = sl.softmax(z)
    with torch.enable_grad():
        output = torch.softmax(logits, 1)
    yield Pair(
        "softmax VJP",
        lambda: sl.softmax_vjp(probs, tangent),
        "torch backward",
        lambda: torch.autograd.grad(output, logits, direction, retain_graph=True),
    )


def rows_of(shape: Shape, dtype: str, repeats: int) -> Iterator[Row]:
    """Yield a row a pair on one shape."""
    problem = make_problem(*shape, dtype)
    for pair in pairs(problem):
        times = in_turn(pair.call, pair.peer_call, warm_ups=2, repeats=repeats)
        ms, peer_ms = (float(np.median(part)) for part in times)
        yield {
            "task": pair.task,
            "dtype": dtype,
            "n": shape[0],
            "k": shape[1],
            "ms": round(ms, 4),
            "peer": pair.peer,
            "peer_ms": round(peer_ms, 4),
            "ratio": round(ms / peer_ms, 3),
            "repeats": repeats,
        }


# ---- the command ----


def line(row: Row) -> str:
    """Return a measurement as a line."""
    where = f"{row['task']:24} {row['dtype']} {row['n']}x{row['k']}"
    return f"{where} {row['ms']:9.3f} ms, {row['ratio']:6.2f} of {row['peer']}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    _command.add_threads(parser)
    _command.add_choice(parser, "dtype", DTYPES, ["float32"])
    _command.add_shapes(parser)
    parser.add_argument("--repeats", type=int, default=9)


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return a job a type and shape."""
    machine.limit_threads(options.threads)
    return [
        Job(
            f"{dtype} {n}x{k}",
            lambda dtype=dtype, n=n, k=k: rows_of((n, k), dtype, options.repeats),  # type: ignore[misc]
        )
        for dtype in options.dtype
        for n, k in options.shape or SHAPES
    ]


BENCHMARK = Benchmark(
    "Time every member of the loss family beside the plain loss.",
    RESULTS,
    COLUMNS,
    add_options,
    jobs,
    line,
)
main = BENCHMARK.main


if __name__ == "__main__":
    raise SystemExit(main())
