"""What must hold on a card before its times count."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments.benchmarks._command import Row


def check_family(device: str) -> str:
    """Every field of the family, and the maps, against float64 on the same device."""
    rng = torch.Generator().manual_seed(0)
    k = 3000
    z, y = 3 * torch.randn(64, k, generator=rng), torch.randint(0, k, (64,), generator=rng)
    counts = torch.arange(k, 0, -1).numpy()
    worst = 0.0
    given = {"counts": counts, "class_weight": 1.0 / counts}
    specs = [sl.LossSpec(gamma=2.0, z_loss=1e-3)]
    for factory in sl.losses.REGISTRY.values():
        wanted = given.keys() & inspect.signature(factory).parameters.keys()
        specs.append(factory(**{name: given[name] for name in wanted}))
    for spec in specs:
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
    """Every type and function of the audit.

    Labels out of range are refused here: the device's own assertion would end the process.
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


def check_plain(device: str) -> str:
    """The kernels of rows that are read once, whole and shared: maps and gradients against float64."""
    worst = 0.0
    for k in (10, 5000, 20_000):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            z = (3 * torch.randn(7, k, generator=torch.Generator().manual_seed(k))).to(device, dtype)
            y = torch.arange(7, device=device) * (k // 7)
            y[3] = -100
            ulp = torch.finfo(dtype).eps
            for name in ("softmax", "log_softmax"):
                found, exact = getattr(slt, name)(z).double(), getattr(torch, name)(z.double(), -1)
                worst = max(worst, float((found - exact).abs().max() / exact.abs().max()) / ulp)
            for reduction in ("mean", "none"):
                leaf, wide = z.clone().requires_grad_(), z.double().requires_grad_()
                # of a sum, the upstream gradient is one number seen from every row
                (slt.cross_entropy(leaf, y, reduction=reduction).sum() * 0.37).backward()
                (nn.functional.cross_entropy(wide, y, reduction=reduction).sum() * 0.37).backward()
                assert leaf.grad is not None
                assert wide.grad is not None
                error = (leaf.grad.double() - wide.grad).abs().max() / wide.grad.abs().max()
                worst = max(worst, float(error) / ulp)
    if not worst < 4:
        raise AssertionError(f"a plain row is {worst:.1f} ulp of its largest entry off")
    return f"at most {worst:.2f} ulp of the largest entry"


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
    check_plain,
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
