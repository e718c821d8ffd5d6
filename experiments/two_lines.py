"""Torch's loss in two lines that keep the gradient of confident rows, for those who install nothing.

The text stands here alone: the pages show it, the test and the benchmark run it. What it costs is measured by
``python -m experiments.two_lines``, on one thread and in the processor's time, so that other programs do not
count; rows are appended to ``experiments/results/two_lines.csv``.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments import tables

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "RESULTS",
    "SHAPES",
    "TEXT",
    "cost",
    "cost_in_words",
    "ends",
    "loss",
    "losses",
    "markdown",
    "measure",
]

RESULTS = tables.RESULTS / "two_lines.csv"

SHAPES = ((65536, 10), (16384, 1000))

#: the first statement is for half types alone; z are logits (N, K), y labels (N,)
TEXT = """\
z = z.float()  # where z is float16 or bfloat16
loss = F.softplus(
    z.scatter(1, y[:, None], float("-inf")).logsumexp(1)
    - z.gather(1, y[:, None])[:, 0], threshold=40)
"""


def _compiled() -> tuple[CodeType, CodeType]:
    """Return the statements of the text."""
    first, second = ast.parse(TEXT).body
    return tuple(compile(ast.Module([part], []), "<two lines>", "exec") for part in (first, second))  # type: ignore[return-value]


_FIRST, _SECOND = _compiled()


def losses(z: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each row, by running the text; of float64 its second statement alone."""
    import torch  # a page that shows the text needs none

    names: dict[str, Any] = {"z": z, "y": y, "F": torch.nn.functional}
    if z.dtype != torch.float64:
        exec(_FIRST, names)
    exec(_SECOND, names)
    found: Tensor = names["loss"]
    return found


def loss(z: Tensor, y: Tensor) -> Tensor:
    """Return the mean over the rows."""
    return losses(z, y).mean()


def markdown() -> str:
    """Return the text as a page shows it."""
    return f"```python\n{TEXT}```"


def ends() -> pd.DataFrame:
    """Return the largest gap of two logits at which the label's gradient is not 0, found by bisection.

    A row a loss, torch's, the two lines and the package's, and a column a type.
    """
    import torch

    from softmax_lab.torch import functional

    label = torch.tensor([0])

    def remains(found: Callable[[Tensor, Tensor], Tensor], gap: float, dtype: torch.dtype) -> bool:
        z = torch.tensor([[gap, 0.0]], dtype=dtype, requires_grad=True)
        (gradient,) = torch.autograd.grad(found(z, label), z)
        return bool(gradient[0, 0] != 0)

    def end(found: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> float:
        low, high = 1.0, 1000.0  # e^-1000 is 0 in either type
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (middle, high) if remains(found, middle, dtype) else (low, middle)
        return low

    of: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "torch": torch.nn.functional.cross_entropy,
        "two lines": loss,
        "softmax_lab": functional.cross_entropy,
    }
    types = {"float32": torch.float32, "float64": torch.float64}
    return pd.DataFrame(
        {name: {who: end(found, dtype) for who, found in of.items()} for name, dtype in types.items()}
    )


def cost(path: Path = RESULTS) -> pd.DataFrame:
    """Return time and memory of a forward and a backward pass as multiples of ``F.cross_entropy``'s.

    A row a shape, and columns ``(provider, "time")`` and ``(provider, "memory")``; the newest measurement of
    each counts. Memory is what a pass takes beyond logits and labels.

    Raises
    ------
    ValueError
        Where the file holds no measurement of the two lines beside torch.
    """
    found = pd.read_csv(path).query("task == 'loss' and provider != 'copy'")
    found = found.drop_duplicates(["n", "k", "provider"], keep="last").set_index(["n", "k", "provider"])
    if not {"torch", "two lines"} <= set(found.index.get_level_values("provider")):
        raise ValueError(
            f"{path.name} must hold rows of torch and of two lines: see experiments/two_lines.py"
        )
    wide = found[["ms", "buffers"]].unstack("provider")
    names = [name for name in ("two lines", "softmax_lab") if name in wide["ms"]]
    columns = {
        (name, words): wide[column, name] / wide[column, "torch"]
        for name in names
        for words, column in (("time", "ms"), ("memory", "buffers"))
    }
    return pd.DataFrame(columns)


def cost_in_words(provider: str = "two lines", path: Path = RESULTS) -> str:
    """Return the cost of a provider over the shapes, as part of a sentence."""
    found = cost(path)[provider]
    return f"{_span(found['time'])} times the time and {_span(found['memory'])} times the memory"


def _span(values: pd.Series) -> str:
    """Return the smallest and the largest of some multiples, in two digits; one where they look alike."""
    low, high = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def measure(path: Path = RESULTS, shapes: Sequence[tuple[int, int]] = SHAPES, repeats: int = 7) -> None:
    """Measure a forward and a backward pass of each provider, and append the rows."""
    import torch

    import softmax_lab as sl
    from experiments import machine
    from experiments.benchmarks import torch_cpu
    from experiments.benchmarks._timing import quantiles

    torch.set_num_threads(1)
    sl.set_num_threads(1)
    about = machine.circumstances() | {"threads": 1, "task": "loss", "dtype": "float32"}
    for n, k in shapes:
        rows = []
        for name in ("torch", torch_cpu.TWO_LINES, "softmax_lab"):
            call = torch_cpu.loss_call(torch_cpu.PROVIDERS[name](), n, k, "float32")
            value, times = float(call()), []
            for _ in range(repeats):
                start = time.process_time()
                call()
                times.append(1e3 * (time.process_time() - start))
            held = torch_cpu.buffers(call, 4 * n * k)
            found = quantiles(times) | {"buffers": round(held, 3), "value": round(value, 6)}
            rows.append(about | {"n": n, "k": k, "provider": name} | found)
        tables.append(path, torch_cpu.COLUMNS, rows)


if __name__ == "__main__":
    measure()
