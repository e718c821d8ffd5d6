"""What each field of the loss family costs, and the products beside torch: ``python -m
experiments.benchmarks.family``.

Every task writes value and gradient of the same logits to the same array; the plain loss is measured next to
each member and the ratio is of those two, so that a drift of the machine cancels. The products are the
Hessian of the loss times a tangent, beside torch's double backward of its own loss, and the softmax's
vector-Jacobian product beside torch's backward. Rows go to ``experiments/results/family.csv`` as they come.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import softmax_lab as sl
from softmax_lab import LossSpec

from .cpu import Problem, limit_threads, make_problem, processor, versions

RESULTS = Path(__file__).parents[1] / "results" / "family.csv"
SHAPES = ((65536, 10), (16384, 1000), (2048, 32768))
COLUMNS = (
    "when",
    "processor",
    "threads",
    "versions",
    "task",
    "dtype",
    "n",
    "k",
    "ms",
    "peer",
    "peer_ms",
    "ratio",
    "repeats",
)


def specs(k: int) -> dict[str, LossSpec]:
    """A member of the family for each field, for K classes."""
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


def pairs(problem: Problem) -> Iterator[tuple[str, Callable[[], Any], str, Callable[[], Any]]]:
    """Yield (task, call, peer, the peer's call)."""
    z, y, out = problem.logits, problem.labels, problem.out
    for name, spec in specs(z.shape[1]).items():
        yield (
            name,
            (lambda spec=spec: sl.cross_entropy_grad(z, y, spec, out=out)),  # type: ignore[misc]
            "plain loss",
            lambda: sl.cross_entropy_grad(z, y, out=out),
        )
    target = sl.softmax(z[::-1].copy())
    yield (
        "distribution as target",
        lambda: sl.cross_entropy_grad(z, target, out=out),
        "plain loss",
        lambda: sl.cross_entropy_grad(z, y, out=out),
    )
    yield from _products(problem)


def _products(problem: Problem) -> Iterator[tuple[str, Callable[[], Any], str, Callable[[], Any]]]:
    """Yield the products beside torch's, where torch is installed."""
    try:
        import torch
    except ImportError:
        return
    z, y, out = problem.logits, problem.labels, problem.out
    tangent = np.random.default_rng(1).standard_normal(z.shape, dtype=np.float32).astype(z.dtype)
    logits, labels, direction = (
        torch.from_numpy(z).requires_grad_(),
        torch.from_numpy(y),
        torch.from_numpy(tangent),
    )
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits, labels), logits, create_graph=True
    )
    yield (
        "Hessian-vector product",
        lambda: sl.cross_entropy_hvp(z, y, tangent, out=out),
        "torch double backward",
        lambda: torch.autograd.grad(gradient, logits, direction, retain_graph=True),
    )
    probs = sl.softmax(z)
    with torch.enable_grad():
        output = torch.softmax(logits, 1)
    yield (
        "softmax VJP",
        lambda: sl.softmax_vjp(probs, tangent),
        "torch backward",
        lambda: torch.autograd.grad(output, logits, direction, retain_graph=True),
    )


def side_by_side(call: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the median milliseconds of two calls that take turns, two warm-ups of each first."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 2):
        for of, run in zip(times, (call, peer), strict=True):
            before = time.perf_counter()
            run()
            if turn > 1:
                of.append(1e3 * (time.perf_counter() - before))
    return float(np.median(times[0])), float(np.median(times[1]))


def measure(shape: tuple[int, int], dtype: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure every pair on one shape."""
    problem = make_problem(*shape, dtype)
    for task, call, peer, peer_call in pairs(problem):
        ms, peer_ms = side_by_side(call, peer_call, repeats)
        yield {
            "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
            "processor": processor(),
            "threads": sl.get_num_threads(),
            "versions": versions(),
            "task": task,
            "dtype": dtype,
            "n": shape[0],
            "k": shape[1],
            "ms": round(ms, 4),
            "peer": peer,
            "peer_ms": round(peer_ms, 4),
            "ratio": round(ms / peer_ms, 3),
            "repeats": repeats,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all shapes and append to the file."""
    parser = argparse.ArgumentParser(
        description="Time every member of the loss family beside the plain loss."
    )
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "float64"])
    parser.add_argument(
        "--shape", nargs=2, type=int, action="append", metavar=("N", "K"), help="only these shapes"
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = not options.out.is_file()
    with options.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        for dtype in options.dtype:
            for shape in tqdm(
                [tuple(shape) for shape in options.shape or SHAPES], unit="shape", desc=dtype, disable=None
            ):
                for row in measure(shape, dtype, options.repeats):
                    writer.writerow(row)
                    file.flush()
                    tqdm.write(
                        f"{row['task']:24} {dtype} {row['n']}x{row['k']} {row['ms']:9.3f} ms, "
                        f"{row['ratio']:6.2f} of {row['peer']}"
                    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
