"""The kernels run by Triton's interpreter, and a plan small enough that short rows are cut into parts too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import triton.runtime.interpreter

from softmax_lab.torch import triton as kernels
from softmax_lab.torch._formula import maps as formulas
from softmax_lab.torch._operators import calls, derivatives, eager, gpu, log_eager, log_on_gpu, loss
from softmax_lab.torch._operators import maps as map_operators
from softmax_lab.torch.triton import plain
from softmax_lab.torch.triton import plan as plans


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assertions of the kernels count, as on a GPU.

    NumPy's warnings of infinities and NaNs that a kernel selects away do not.
    """
    builder = triton.runtime.interpreter.interpreter_builder
    monkeypatch.setattr(builder, "options", replace(builder.options, debug=True, sanitize_overflow=False))
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every row of more than two classes into parts of four."""
    _cut(monkeypatch, WHOLE=2, PART=4, SHORT=4, ALONE=0, MOST_SEGMENTS=0)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs share every plain row of more than two classes, in segments of four."""
    _cut(monkeypatch, ALONE=2, SEGMENT=4)


def _cut(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    for name, value in sizes.items():
        monkeypatch.setattr(plans, name, value)
    # what is known of a number of classes holds for one way to cut
    monkeypatch.setattr(plain, "held", plans.held.__wrapped__)


@pytest.fixture(params=["whole", "shared", "parts"])
def each_plan(request: pytest.FixtureRequest) -> str:
    """Run a test with rows held at once, again with rows that programs share, and with rows in parts."""
    if request.param != "whole":
        request.getfixturevalue("in_parts" if request.param == "parts" else "shared")
    return str(request.param)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The kernels that ran, by name, and whether they held rows as a whole."""
    from softmax_lab.torch.triton import cross_entropy, launch, log_cross_entropy, maps, product, rescale

    found: list[tuple[str, bool]] = []
    lock = threading.Lock()  # the interpreter is not made for threads

    def recorded(kernel: Any, rows: Any, *arguments: Any, **constants: Any) -> None:
        if len(rows):
            found.append((kernel.fn.__name__, plans.plan(rows.shape[1]).whole))
        with lock:
            launch.launch(kernel, rows, *arguments, **constants)

    def recorded_plain(kernel: Any, rows: Any, *arguments: Any, **constants: Any) -> None:
        name = kernel.fn.__name__
        phase = arguments[2][-1] if name == "shared_kernel" else 1
        if name != "values_kernel" and phase == 1:
            found.append((name, True))
        with lock:
            launch.run(kernel, rows, *arguments, **constants)

    for module in (cross_entropy, log_cross_entropy, maps, product, rescale):
        monkeypatch.setattr(module, "launch", recorded)
    monkeypatch.setattr(plain, "run", recorded_plain)
    return found


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, launched: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Let the public functions take CPU tensors to the kernels, and return what runs.

    They go by the code that a GPU's tensors go through.
    """
    monkeypatch.setattr(
        gpu, "kernels_for", lambda tensor: None if str(tensor.dtype) == "torch.float64" else kernels
    )
    # no tensor on a GPU goes straight to the compiled loops
    for module in (eager, log_eager):
        monkeypatch.setattr(module, "are_ordinary", lambda *tensors: False)
    monkeypatch.setattr(log_on_gpu, "are_ordinary_on_gpu", lambda *tensors: True)
    maps = {
        name: map_operators.map_on_gpu(name)
        for name in ("softmax", "log_softmax", "softmax_vjp", "log_softmax_vjp")
    }
    losses = {
        "cross_entropy": loss.loss_on_gpu,
        "cross_entropy_forward": loss.forward_on_gpu,
        "cross_entropy_backward": loss.backward_on_gpu,
        "cross_entropy_hvp": loss.hvp_on_gpu,
    }
    for module in (calls, derivatives, eager):
        monkeypatch.setattr(module, "OPS", SimpleNamespace(**losses, **maps))
    derivative = {
        name: map_operators.map_derivative(maps[f"{name}_vjp"], getattr(formulas, f"{name}_vjp"))
        for name in ("softmax", "log_softmax")
    }
    monkeypatch.setattr(calls, "softmax", _differentiable(maps["softmax"], derivative["softmax"]))
    monkeypatch.setattr(calls, "log_softmax", _differentiable(maps["log_softmax"], derivative["log_softmax"]))
    return launched


def _differentiable(forward: Any, derivative: Any) -> Any:
    """Return what the operator with its registered derivative is."""
    import torch

    class Map(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any, temperature: Any, dim: int) -> Any:
            result = forward(z, temperature, dim)
            map_operators.save_map(ctx, (z, temperature, dim), result)
            return result

        backward = staticmethod(derivative)

    return lambda z, temperature, dim: Map.apply(z, torch.tensor(temperature, dtype=torch.float64), dim)  # type: ignore[no-untyped-call]
