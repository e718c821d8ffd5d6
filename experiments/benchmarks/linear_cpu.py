"""Time and memory of a linear layer's loss on the CPU: ``python -m experiments.benchmarks.linear_cpu``.

Each provider works in a process of its own, on the same numbers: a small warm-up, then one forward and
backward pass, timed, with the highest resident memory during it counted from what the process held just
before (the arguments, and the libraries that the warm-up brought in). The three matrix products that no
method can do without are timed in the same process directly before and after, on chunks of the same size; a
time is also given as a multiple of theirs. Rows are appended to ``experiments/results/linear_cpu.csv``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import softmax_lab as sl
from experiments.benchmarks.cpu import append, processor, versions
from softmax_lab.torch._machinery import chunks
from softmax_lab.torch.linear import linear_cross_entropy

RESULTS = Path(__file__).parents[1] / "results" / "linear_cpu.csv"
COLUMNS = (
    "when",
    "processor",
    "threads",
    "versions",
    "dtype",
    "n",
    "d",
    "v",
    "provider",
    "seconds",
    "products",
    "ratio",
    "peak_mb",
    "loss",
)


class Layer(NamedTuple):
    """Arguments of the loss; gradients are wanted of both tensors."""

    hidden: Tensor  # (N, D)
    weight: Tensor  # (V, D)
    target: Tensor  # (N,)

    def rows(self, n: int) -> Layer:
        """Return the same layer for its first rows."""
        return Layer(self.hidden.detach()[:n].clone().requires_grad_(), self.weight, self.target[:n])


def make_layer(n: int, d: int, v: int, dtype: str = "float32", seed: int = 0) -> Layer:
    """Normal hidden rows, a weight that gives logits of standard deviation 1, uniform labels."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator).to(getattr(torch, dtype)).requires_grad_()
    weight = (torch.randn(v, d, generator=generator) / d**0.5).to(getattr(torch, dtype)).requires_grad_()
    return Layer(hidden, weight, torch.randint(0, v, (n,), generator=generator))


# ---- providers: each takes a layer, leaves the gradients in it and returns the loss ----


def products(layer: Layer) -> Tensor:
    """Logits, and the products of their gradient with weight and hidden rows, a chunk at a time: the
    arithmetic alone.
    """
    hidden, weight = layer.hidden.detach(), layer.weight.detach()
    step = chunks.chunk_rows(len(weight), weight.dtype, chunks.CHUNK_BYTES)
    chunk, to_hidden, to_weight = (
        weight.new_empty(step, len(weight)),
        torch.empty_like(hidden),
        torch.zeros_like(weight),
    )
    for part in chunks.parts(None, len(hidden), step):
        rows = hidden[part]
        z = chunk[: len(rows)]
        torch.mm(rows, weight.t(), out=z)
        torch.mm(z, weight, out=to_hidden[part])
        to_weight.addmm_(z.t(), rows)
    return to_weight.new_zeros(())


def softmax_lab(layer: Layer) -> Tensor:
    return _backward(linear_cross_entropy(layer.hidden, layer.weight, layer.target))


def torch_materialised(layer: Layer) -> Tensor:
    return _backward(torch.nn.functional.cross_entropy(layer.hidden @ layer.weight.T, layer.target))


def torch_chunked(layer: Layer) -> Tensor:
    """torch's own ``linear_cross_entropy``, from 2.13 on, with the chunks that it chooses."""
    loss: Any = torch.nn.functional.linear_cross_entropy  # type: ignore[attr-defined, unused-ignore]
    options: Any = torch.nn.LinearCrossEntropyOptions()  # type: ignore[attr-defined, unused-ignore]
    return _backward(loss(layer.hidden, layer.weight, layer.target, options=options))


def _backward(loss: Tensor) -> Tensor:
    loss.backward()
    return loss.detach()


PROVIDERS: dict[str, Callable[[Layer], Tensor]] = {
    "products": products,
    "softmax_lab": softmax_lab,
    "torch materialised": torch_materialised,
    "torch chunked": torch_chunked,
}


# ---- one measurement ----


def resident() -> int:
    """Return the memory that the process holds now, in bytes."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most that it has held since :func:`forget_peak`, in bytes."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Let the peak start from here, where the system allows it (Linux).

    Elsewhere it is that of the whole process.
    """
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5", encoding="ascii")


def _status(name: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(provider: str, layer: Layer) -> dict[str, Any]:
    """Return time, memory and loss of one pass; the gradients are part of the memory."""
    run = PROVIDERS[provider]
    run(layer.rows(8))  # brings in what is loaded or compiled on the first call
    layer.weight.grad = None
    before = seconds(lambda: products(layer))
    forget_peak()
    held = resident()
    losses: list[Tensor] = []
    taken = seconds(lambda: losses.append(run(layer)))
    highest = peak() - held
    floor = (before + seconds(lambda: products(layer))) / 2
    return {
        "seconds": round(taken, 3),
        "products": round(floor, 3),
        "ratio": round(taken / floor, 3),
        "peak_mb": round(highest / 1e6, 1),
        "loss": round(losses[0].item(), 6),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every provider, each in a process of its own."""
    parser = argparse.ArgumentParser(description="Time and memory of a linear layer's loss on the CPU.")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=64000)
    parser.add_argument("--dtype", default="float32", choices=["float16", "bfloat16", "float32", "float64"])
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())
    parser.add_argument("--provider", nargs="+", default=list(PROVIDERS), choices=list(PROVIDERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--child", action="store_true", help="measure in this process and print one line of JSON"
    )
    options = parser.parse_args(arguments)
    if options.child:
        torch.set_num_threads(options.threads)
        sl.set_num_threads(options.threads)
        layer = make_layer(options.rows, options.width, options.classes, options.dtype)
        print(json.dumps(measure(options.provider[0], layer)))
        return 0
    for _ in tqdm(range(options.rounds), unit="round", disable=None):
        for provider in options.provider:
            append([measure_apart(provider, options)], options.out, COLUMNS, told)
    return 0


def measure_apart(provider: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the row of one measurement in a fresh process."""
    sizes = {name: str(getattr(options, name)) for name in ("rows", "width", "classes", "dtype", "threads")}
    flags = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.linear_cpu",
        "--child",
        "--provider",
        provider,
        *flags,
    ]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "processor": processor(),
        "threads": options.threads,
        "versions": versions(),
        "dtype": options.dtype,
        "n": options.rows,
        "d": options.width,
        "v": options.classes,
        "provider": provider,
        **json.loads(found),
    }


def told(row: dict[str, Any]) -> str:
    """Return a measurement as a line."""
    return (
        f"{row['provider']:20} {row['seconds']:8.2f} s {row['ratio']:6.2f} x products "
        f"{row['peak_mb']:8.1f} MB"
    )


if __name__ == "__main__":
    raise SystemExit(main())
