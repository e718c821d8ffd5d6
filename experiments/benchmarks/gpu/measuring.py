"""Rows of times and errors, a provider after the other on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks._command import Row
from experiments.benchmarks._timing import Call

from .clock import Clock, peak_mb
from .providers import LINEARS, LOSSES, MAPS


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
