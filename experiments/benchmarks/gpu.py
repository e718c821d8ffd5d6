"""All checks and benchmarks of the GPU kernels, in one run: ``python -m experiments.benchmarks.gpu``, from
the checkout.

First the checks (the family against float64, the audit, CUDA graphs, other streams, other devices, empty
batches, a row alone and in a batch), then the times. Each of three kernels, softmax, log-softmax and
cross-entropy with its gradient through autograd, runs beside every peer that can be imported, on the same
tensors, and beside an out-of-place copy of them: each byte read once and written once, the floor. The linear
layer's loss runs with the peak of its memory. A time is the median of repetitions between which the cache is
flushed.

Rows go to ``experiments/results/gpu.csv`` as they come, and a picture beside it; a run that was stopped goes
on where it was, and ``--again`` starts afresh. ``--device cpu`` rehearses all of it on small tensors (with
``TRITON_INTERPRET=1`` that takes the kernels too), and stores nothing.
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt

RESULTS = Path(__file__).parents[1] / "results" / "gpu.csv"
COLUMNS = (
    "card",
    "kernel",
    "dtype",
    "n",
    "k",
    "provider",
    "ms",
    "share_of_copy",
    "peak_mb",
    "max_error",
    "repeats",
    "versions",
    "when",
    "note",
)
WIDTHS = tuple(2**p for p in range(6, 21, 1))
DTYPES = ("float32", "bfloat16")
LOGITS = 1 << 27  # of each tensor: half a gigabyte in float32, far beyond any cache
SMALL = ((256, 10), (512, 1000))  # rows and classes of batches whose time is the launch
LINEAR = (8192, 2304, 256_000)  # rows, width, classes: those of Wijmans et al. 2025, table 1
FLUSH = 256 << 20  # bytes written between two repetitions

Call = Callable[[], Any]
Row = dict[str, Any]


# ---- where and what ----


def card(device: str) -> str:
    """Return the name of the card."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} (rehearsal)"


def versions() -> str:
    """Return the versions of everything that takes part."""
    modules = {"torch": torch.__version__, "softmax_lab": sl.__version__}
    for name in ("triton", "liger_kernel", "cut_cross_entropy", "quack"):
        if find_spec(name):
            modules[name] = getattr(importlib.import_module(name), "__version__", "?")
    return ", ".join(f"{name} {version}" for name, version in modules.items())


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function by torch's compiler, for one shape."""
    torch.compiler.reset()
    result: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)
    return result


def liger_softmax() -> Callable[[Tensor], Any]:
    function = importlib.import_module("liger_kernel.ops.softmax").LigerSoftmaxFunction
    return lambda z: function.apply(z)


def liger_loss() -> Callable[[Tensor, Tensor], Any]:
    loss: Callable[[Tensor, Tensor], Any] = importlib.import_module(
        "liger_kernel.transformers"
    ).LigerCrossEntropyLoss()
    return loss


def quack(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module("quack"), name)
    return function


#: kernel -> provider -> what makes its function; a provider that cannot be imported or run is a row with a
#: note
MAPS: dict[str, dict[str, Callable[[], Callable[[Tensor], Any]]]] = {
    "softmax": {
        "softmax_lab": lambda: slt.softmax,
        "torch": lambda: lambda z: torch.softmax(z, -1),
        "torch.compile": lambda: compiled(lambda z: torch.softmax(z, -1)),
        "liger_kernel": liger_softmax,
        "quack": lambda: quack("softmax"),
    },
    "log_softmax": {
        "softmax_lab": lambda: slt.log_softmax,
        "torch": lambda: lambda z: torch.log_softmax(z, -1),
        "torch.compile": lambda: compiled(lambda z: torch.log_softmax(z, -1)),
    },
}
LOSSES: dict[str, Callable[[], Callable[[Tensor, Tensor], Any]]] = {
    "softmax_lab": lambda: slt.cross_entropy,
    "torch": lambda: nn.functional.cross_entropy,
    "torch.compile": lambda: compiled(nn.functional.cross_entropy),
    "liger_kernel": liger_loss,  # writes the gradient over the logits
    "quack": lambda: quack("cross_entropy"),
}


def linear_torch(h: Tensor, w: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy((h @ w.T).float(), y)


def liger_linear() -> Callable[..., Any]:
    loss = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss()
    return lambda h, w, y: loss(w, h, y)


def cut_linear() -> Callable[..., Any]:
    loss: Callable[..., Any] = importlib.import_module("cut_cross_entropy").linear_cross_entropy
    return loss


LINEARS: dict[str, Callable[[], Callable[..., Any]]] = {
    "softmax_lab": lambda: slt.linear_cross_entropy,
    "torch.compile": lambda: compiled(linear_torch),
    "cut_cross_entropy": cut_linear,
    "liger_kernel": liger_linear,
}


# ---- time and memory ----


class Clock:
    """Times calls on a device: the median, in milliseconds, of at least seven, for about ``budget``
    seconds.
    """

    def __init__(self, device: str, budget: float) -> None:
        self.device, self.budget = device, budget
        self.flush = torch.empty(FLUSH if device == "cuda" else 1, dtype=torch.int8, device=device)

    def __call__(self, call: Call) -> tuple[float, int]:
        for _ in range(3):
            call()
        first = self._once(call)
        repeats = int(min(max(7, self.budget / max(first / 1000, 1e-6)), 100))
        return statistics.median(self._once(call) for _ in range(repeats)), repeats

    def _once(self, call: Call) -> float:
        self.flush.zero_()
        if self.device != "cuda":
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))


def peak_mb(call: Call, device: str) -> float:
    """Return the megabytes (2^20) that a call takes beyond what is held before it."""
    if device != "cuda":
        return float("nan")
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


# ---- what is measured ----


def map_rows(kernel: str, n: int, k: int, dtype: str, clock: Clock) -> Iterator[Row]:
    """Yield a row a provider of softmax or log-softmax."""
    z = logits_of(n, k, dtype, clock.device)
    floor, _ = clock(copy_of(z))
    exact = getattr(torch, kernel)(z[:8].double(), -1)
    for provider, make in MAPS[kernel].items():

        def run(make: Callable[[], Callable[[Tensor], Any]] = make) -> Row:
            function = make()
            error = float((function(z)[:8].double() - exact).abs().max())
            ms, repeats = clock(lambda: function(z))
            return {
                "ms": ms,
                "share_of_copy": floor / ms,
                "peak_mb": peak_mb(lambda: function(z), clock.device),
                "max_error": error,
            } | {"repeats": repeats}

        yield {"kernel": kernel, "dtype": dtype, "n": n, "k": k, "provider": provider} | guarded(run)


def loss_rows(n: int, k: int, dtype: str, clock: Clock, kernel: str = "cross_entropy") -> Iterator[Row]:
    """Yield a row a provider of value and gradient, through autograd."""
    source, y = logits_of(n, k, dtype, clock.device), torch.randint(0, k, (n,), device=clock.device)
    floor, _ = clock(copy_of(source))
    wide = source[:8].double().requires_grad_()
    nn.functional.cross_entropy(wide, y[:8], reduction="sum").backward()
    for provider, make in LOSSES.items():

        def run(
            make: Callable[[], Callable[[Tensor, Tensor], Any]] = make,
            view: bool = provider == "liger_kernel",
        ) -> Row:
            loss = make()
            leaf = source.clone().requires_grad_()

            def call() -> None:
                leaf.grad = None
                # what is written over may not be a leaf
                loss(leaf.view(n, k) if view else leaf, y).mean().backward()

            call()
            assert leaf.grad is not None
            assert wide.grad is not None
            error = float((leaf.grad[:8].double() * n - wide.grad).abs().max())
            ms, repeats = clock(call)
            return {
                "ms": ms,
                "share_of_copy": floor / ms,
                "peak_mb": peak_mb(call, clock.device),
                "max_error": error,
                "repeats": repeats,
            }

        yield {"kernel": kernel, "dtype": dtype, "n": n, "k": k, "provider": provider} | guarded(run)


def linear_rows(n: int, d: int, v: int, clock: Clock) -> Iterator[Row]:
    """Yield a row a provider of the linear layer's loss with all its gradients, bfloat16."""
    generator = torch.Generator(clock.device).manual_seed(0)
    h = torch.randn(n, d, generator=generator, device=clock.device).to(torch.bfloat16).requires_grad_()
    w = (
        (torch.randn(v, d, generator=generator, device=clock.device) * d**-0.5)
        .to(torch.bfloat16)
        .requires_grad_()
    )
    y = torch.randint(0, v, (n,), generator=generator, device=clock.device)
    exact = float(nn.functional.cross_entropy(h[:64].detach().float() @ w.detach().float().T, y[:64]))
    for provider, make in LINEARS.items():

        def run(make: Callable[[], Callable[..., Any]] = make) -> Row:
            loss = make()

            def call() -> None:
                h.grad = w.grad = None
                loss(h, w, y).backward()

            with torch.no_grad():
                error = abs(float(loss(h[:64], w, y[:64])) - exact)
            ms, repeats = clock(call)
            h.grad = w.grad = None
            return {"ms": ms, "peak_mb": peak_mb(call, clock.device), "max_error": error, "repeats": repeats}

        yield {
            "kernel": f"linear, d = {d}",
            "dtype": "bfloat16",
            "n": n,
            "k": v,
            "provider": provider,
        } | guarded(run)
        h.grad = w.grad = None


def logits_of(n: int, k: int, dtype: str, device: str) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return (2 * torch.randn(n, k, generator=generator, device=device)).to(getattr(torch, dtype))


def copy_of(z: Tensor) -> Call:
    out = torch.empty_like(z)
    return lambda: out.copy_(z)


def guarded(run: Callable[[], Row]) -> Row:
    """Return what was measured, or why it was not: a peer that is missing or fails stops nothing."""
    try:
        return run() | {"note": ""}
    except ImportError as error:
        return {"note": f"not installed: {error}"}
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"note": "out of memory"}
    except Exception as error:
        return {"note": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}


# ---- checks ----


def check_family(device: str) -> str:
    """Every field of the family, and the maps, against float64 on the same device."""
    rng = torch.Generator().manual_seed(0)
    k = 3000
    z, y = 3 * torch.randn(64, k, generator=rng), torch.randint(0, k, (64,), generator=rng)
    counts = torch.arange(k, 0, -1).numpy()
    worst = 0.0
    for name, factory in sl.losses.REGISTRY.items():
        spec = (
            factory(counts)
            if name not in ("plain", "focal", "label_smoothing", "weighted")
            else sl.LossSpec(gamma=2.0, z_loss=1e-3)
        )
        found, exact = (
            gradient_and_product(z.to(device, dtype), y.to(device), spec)
            for dtype in (torch.float32, torch.float64)
        )
        for a, b in zip(found, exact, strict=True):
            worst = max(worst, float((a.double() - b).abs().max() / b.abs().max()))
    if not worst < 2e-5:
        raise AssertionError(f"a gradient or product is {worst:.1e} of its largest entry off")
    return f"{worst:.1e} of the largest entry"


def gradient_and_product(z: Tensor, y: Tensor, spec: sl.LossSpec) -> list[Tensor]:
    z = z.requires_grad_()
    (gradient,) = torch.autograd.grad(slt.cross_entropy(z, y, spec), z, create_graph=True)
    (product,) = torch.autograd.grad(
        gradient, z, torch.cos(torch.arange(z.numel(), device=z.device, dtype=z.dtype)).view_as(z)
    )
    return [gradient.detach(), product]


def check_audit(device: str) -> str:
    """The audit, all types and functions.

    Labels out of range apart, whose assertion would end the process.
    """
    from softmax_lab.audit.adapters import TorchKernels

    class Checked(TorchKernels):
        def _losses(self, logits: Any, y: Any, label_smoothing: float, class_weight: Any) -> Any:
            given = self._tensor(y)
            if (
                given.dtype == torch.int64
                and given.numel()
                and not bool(((given >= -100) & (given < logits.shape[-1])).all())
            ):
                raise IndexError("a label is out of range")
            if given.dtype == torch.int64 and bool(((given < 0) & (given != -100)).any()):
                raise IndexError("a label is out of range")
            return super()._losses(logits, y, label_smoothing, class_weight)

    frame = sl.audit.run({"kernels": Checked(device)}, progress=False)
    failed = frame[~frame.ok]
    if len(failed):
        raise AssertionError(failed[["function", "dtype", "case", "problem"]].to_string())
    return f"{len(frame)} cases, at most {frame.max_ulp.max():.2f} ulp"


def check_half(device: str) -> str:
    """A gradient in half precision is rounded once, after a loss scale; over the logits it is the same."""
    worst = 0.0
    for dtype in (torch.float16, torch.bfloat16):
        for n, k in ((512, 1000), (8, 50_000)):
            z = (3 * torch.randn(n, k, generator=torch.Generator().manual_seed(0))).to(device, dtype)
            y = torch.arange(n, device=device) % k
            found, over = (scaled_gradient(z, y, inplace=inplace) for inplace in (False, True))
            if not torch.equal(found, over):
                raise AssertionError(f"over the logits the gradient of {k} classes is another")
            exact = scaled_gradient(z.double(), y)
            normal = exact.abs().clamp_min(torch.finfo(dtype).smallest_normal)
            ulp = torch.exp2(torch.floor(torch.log2(normal))) * torch.finfo(dtype).eps
            worst = max(worst, float(((found.double() - exact).abs() / ulp).max()))
    if not worst < 0.51:
        raise AssertionError(f"a gradient in half precision is {worst:.3f} ulp off")
    return f"at most {worst:.4f} ulp"


def scaled_gradient(z: Tensor, y: Tensor, *, inplace: bool = False) -> Tensor:
    leaf = z.clone().requires_grad_()
    (slt.cross_entropy(leaf * 1.0, y, inplace=inplace) * (65536.0 / 3)).backward()
    assert leaf.grad is not None
    return leaf.grad


def check_scaler(device: str) -> str:
    """Steps under autocast with a gradient scaler follow those of torch's own loss."""
    ends = []
    for loss in (slt.functional.cross_entropy, nn.functional.cross_entropy):
        generator = torch.Generator().manual_seed(0)
        x, y = (
            torch.randn(256, 64, generator=generator).to(device),
            torch.randint(0, 1000, (256,), generator=generator).to(device),
        )
        weight = (0.1 * torch.randn(1000, 64, generator=generator)).to(device).requires_grad_()
        optimizer, scaler = (
            torch.optim.SGD([weight], lr=1.0),
            torch.amp.GradScaler(device, init_scale=65536.0, enabled=device == "cuda"),
        )
        for _ in range(20):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.float16):
                value = loss(x @ weight.T, y)
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append(float(value.detach()))
    if not abs(ends[0] - ends[1]) < 1e-3 * ends[1]:
        raise AssertionError(f"after 20 steps the losses are {ends[0]} and {ends[1]}")
    return f"losses {ends[0]:.5f} and {ends[1]:.5f} after 20 steps"


def check_rows(device: str) -> str:
    """A row alone and in a batch, the same bits."""
    for k in (10, 1000, 5000, 50_000):
        z = torch.randn(33, k, device=device)
        y = torch.arange(33, device=device) % k
        together = slt.cross_entropy(z, y, reduction="none")
        alone = torch.cat(
            [slt.cross_entropy(z[i : i + 1], y[i : i + 1], reduction="none") for i in range(33)]
        )
        if not torch.equal(together, alone) or not torch.equal(slt.softmax(z)[5], slt.softmax(z[5:6])[0]):
            raise AssertionError(f"rows of {k} classes depend on the batch")
    return "bit for bit"


def check_graph(device: str) -> str:
    """Value and gradient inside a CUDA graph, replayed on new logits."""
    if device != "cuda":
        return "no graphs here"
    z, y = torch.randn(128, 1000, device=device), torch.randint(0, 1000, (128,), device=device)
    leaf = z.clone().requires_grad_()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            slt.cross_entropy(leaf, y).backward()
            leaf.grad = None
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = slt.cross_entropy(leaf, y)
        (gradient,) = torch.autograd.grad(value, leaf)
    with torch.no_grad():
        leaf.copy_(2 * z)
    graph.replay()
    fresh = (2 * z).requires_grad_()
    expected = slt.cross_entropy(fresh, y)
    expected.backward()
    assert fresh.grad is not None
    if not torch.equal(value, expected) or not torch.equal(gradient, fresh.grad):
        raise AssertionError("a replayed graph gives another result")
    return "bit for bit"


def check_streams(device: str) -> str:
    """A stream other than the default one, and every device there is."""
    if device != "cuda":
        return "no streams here"
    z = torch.randn(256, 40_000, device=device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        there = slt.softmax(z)
    torch.cuda.current_stream().wait_stream(stream)
    if not torch.equal(there, slt.softmax(z)):
        raise AssertionError("another stream gives another result")
    for index in range(1, torch.cuda.device_count()):
        if not torch.equal(slt.softmax(z.to(f"cuda:{index}")).to(device), there):
            raise AssertionError(f"device {index} gives another result")
    return f"{torch.cuda.device_count()} devices"


def check_empty(device: str) -> str:
    """Inputs of zero rows, and offsets beyond 2^31 where the memory is there."""
    empty = torch.zeros(0, 7, device=device, requires_grad=True)
    slt.cross_entropy(empty, torch.zeros(0, dtype=torch.long, device=device), empty="zero").backward()
    if slt.softmax(empty).shape != (0, 7):
        raise AssertionError("a softmax of no rows has another shape")
    if device != "cuda" or torch.cuda.mem_get_info()[0] < 20 << 30:
        return "zero rows"
    rows = (1 << 31) // 1024 + 3
    z = torch.zeros(rows, 1024, dtype=torch.float16, device=device)
    z[-1, 5] = 3.0
    last = slt.softmax(z)[-1]
    if not torch.equal(last, slt.softmax(z[-1:])[0]):
        raise AssertionError("an offset beyond 2^31 is wrong")
    return "zero rows, 2^31 logits"


CHECKS = (
    check_family,
    check_half,
    check_scaler,
    check_audit,
    check_rows,
    check_graph,
    check_streams,
    check_empty,
)


def run_checks(device: str) -> Iterator[Row]:
    """Yield a row a check: its note is what was found, or why it failed."""
    for check in CHECKS:
        begin = time.perf_counter()
        try:
            note = f"passed: {check(device)}"
        except Exception as error:
            note = f"FAILED: {type(error).__name__}: {error}"[:2000]
            traceback.print_exc()
        yield {
            "kernel": check.__name__.replace("_", " "),
            "provider": "softmax_lab",
            "ms": 1000 * (time.perf_counter() - begin),
            "note": note,
        }


# ---- the run ----


def everything(options: argparse.Namespace) -> Iterator[tuple[tuple[str, ...], Callable[[], Iterator[Row]]]]:
    """Yield what there is to do, each with the key by which a later run knows that it is done."""
    clock = Clock(options.device, options.budget)
    yield ("check",), lambda: run_checks(options.device)
    small = options.device != "cuda"
    for dtype in DTYPES:
        for k in (64, 1000) if small else WIDTHS:
            n = max(2, (1 << 12 if small else LOGITS) // k)
            for kernel in MAPS:
                yield (
                    (kernel, dtype, str(k)),
                    lambda kernel=kernel, n=n, k=k, dtype=dtype: map_rows(kernel, n, k, dtype, clock),  # type: ignore[misc]
                )
            yield (
                ("cross_entropy", dtype, str(k)),
                lambda n=n, k=k, dtype=dtype: loss_rows(n, k, dtype, clock),  # type: ignore[misc]
            )
        for n, k in SMALL:
            yield (
                ("small", dtype, str(k)),
                lambda n=n, k=k, dtype=dtype: loss_rows(n, k, dtype, clock, "small batch"),  # type: ignore[misc]
            )
    shape = (16, 8, 100) if small else LINEAR
    yield ("linear",), lambda: linear_rows(*shape, clock)


def done(path: Path, about: Row) -> set[tuple[str, ...]]:
    """Return the keys of what this card has done with these versions."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["card"] == about["card"] and row["versions"] == about["versions"]
        ]
    return {key_of(row) for row in rows}


def key_of(row: Row) -> tuple[str, ...]:
    kernel = str(row["kernel"]).split(" ")[0].rstrip(",")
    return (kernel,) if kernel in ("check", "linear") else (kernel, str(row["dtype"]), str(row["k"]))


def store(path: Path, rows: list[Row]) -> None:
    """Add rows that belong together: the file is replaced by a longer one, in one step."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    with draft.open("w", newline="", encoding="utf-8") as file:
        file.write(old)
        writer = csv.DictWriter(file, COLUMNS, restval="")
        if not old:
            writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def shown(row: Row) -> str:
    """Return a row as a line."""
    if "ms" not in row or str(row["kernel"]).startswith("check"):
        return (
            f"{row['kernel']:14} {row.get('dtype', ''):9} {row.get('k', ''):>8} {row['provider']:22} "
            f"{row['note']}"
        )
    share = f"{row['share_of_copy']:7.1%} of a copy" if "share_of_copy" in row else ""
    place = f"{row['kernel']:14} {row['dtype']:9} {row['k']:>8} {row['provider']:22}"
    return f"{place} {row['ms']:10.4f} ms {share} {row['peak_mb']:9.0f} MB, error {row['max_error']:.1e}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not done yet; return 1 where a check fails, 2 without a GPU."""
    parser = argparse.ArgumentParser(description="Check and time the GPU kernels beside their peers.")
    parser.add_argument(
        "--device",
        default="cuda",
        choices=["cuda", "cpu"],
        help="cpu: a rehearsal on small tensors, not stored",
    )
    parser.add_argument(
        "--budget", type=float, default=0.15, help="seconds a measurement, beyond seven repetitions"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=450.0,
        help="seconds after which nothing new is begun; run again to go on",
    )
    parser.add_argument(
        "--again", action="store_true", help="forget what is stored of this card and these versions"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here; --device cpu rehearses the run.", file=sys.stderr)
        return 2
    begin, about = time.perf_counter(), {"card": card(options.device), "versions": versions()}
    have = set() if options.again or options.device == "cpu" else done(options.out, about)
    failed = False
    for key, rows_of in everything(options):
        if key in have:
            continue
        if time.perf_counter() - begin > options.limit:
            print(
                f"{options.limit:.0f} s are over before {' '.join(key)}: run the same command again to go on"
            )
            break
        rows = [
            about | {"when": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())} | row for row in rows_of()
        ]
        for row in rows:
            print(shown(row), flush=True)
            failed |= row["note"].startswith("FAILED")
        if options.device == "cuda":
            store(options.out, rows)
            torch.cuda.empty_cache()
    if options.device == "cuda":
        draw(options.out)
    return int(failed)


def draw(path: Path) -> None:
    """Write the picture of what is stored beside it, where Matplotlib is installed."""
    if not find_spec("matplotlib"):
        print("without Matplotlib there is no picture; chapter 10 draws the same from the stored results")
        return
    from experiments import gpu_speed

    figure = gpu_speed.picture(gpu_speed.read(path))
    if figure is not None:
        figure.savefig(path.with_suffix(".svg"))


if __name__ == "__main__":
    raise SystemExit(main())
