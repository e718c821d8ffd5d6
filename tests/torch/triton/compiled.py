"""Compile every kernel for an architecture, no GPU needed; print a JSON of registers and bytes of stack.

Run by ``test_compiles.py`` in a process of its own, where the interpreter is off.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
import triton.backends.nvidia
import triton.language as tl
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from softmax_lab import LossSpec
from softmax_lab.torch._formula.fields import spec_tensors
from softmax_lab.torch.triton import cross_entropy, log_cross_entropy, maps, plain, product, rescale
from softmax_lab.torch.triton.arguments import Targets, Weights, field, matrix, spec_argument
from softmax_lab.torch.triton.launch import OPTIONS
from softmax_lab.torch.triton.log_terms import Temperature
from softmax_lab.torch.triton.plan import held, plan

TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.int32: "*i32",
}
PER_CLASS = np.full(3, 0.5)
PRIOR = np.full(3, 1 / 3)
EVERY = LossSpec(
    temperature=0.7,
    scale=PER_CLASS,
    bias=PER_CLASS,
    margin=PER_CLASS,
    smoothing=PER_CLASS,
    prior=PRIOR,
    class_weight=PER_CLASS,
    gate=1.5,
    gamma=1.5,
    z_loss=1e-3,
    softcap=20.0,
)
#: every field that the log of the mean loss takes
LOGS = LossSpec(
    temperature=0.7,
    scale=PER_CLASS,
    bias=PER_CLASS,
    margin=PER_CLASS,
    class_weight=PER_CLASS,
    softcap=20.0,
)
KINDS = {"softmax": plain.SOFTMAX, "log_softmax": plain.LOG_SOFTMAX, "loss": plain.LOSS}
SOFT = LossSpec(smoothing=0.1, prior=PRIOR, class_weight=PER_CLASS)
PLAIN = LossSpec()


def memory(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return a tensor without memory: its type is all that a compiler asks for."""
    return torch.empty(shape, dtype=dtype, device="meta")


def loss_arguments(spec: LossSpec, dtype: torch.dtype, *, soft: bool = False) -> dict[str, Any]:
    """Return what the three kernels of the loss take, by name."""
    rows = matrix(memory(dtype, 7, 3))
    number = memory(torch.float32, 7)
    target = memory(torch.float32, 7, 3) if soft else memory(torch.int64, 7)
    every = spec is EVERY
    return {
        "values": number,
        "kept": None,
        "gradient": rows,
        "logits": rows,
        "tangents": rows,
        "out": rows,
        "upstream": number,
        "per_row": 0,
        "targets": Targets(target, 3, -100, tl.constexpr(soft)),
        "weights": Weights(number if every else None, memory(torch.float64) if every else None),
        "spec": spec_argument(spec_tensors(spec, "meta", torch.float32)),
    }


def log_arguments(spec: LossSpec, dtype: torch.dtype) -> dict[str, Any]:
    """Return what the kernel of the rows' logarithms takes, by name."""
    scaled = tl.constexpr(int(spec.temperature != 1.0))
    weights = None if spec is PLAIN else memory(torch.float64, 7)
    return loss_arguments(spec, dtype) | {
        "logs": memory(torch.float64, 7, log_cross_entropy.LOGS),
        "kept": memory(torch.float32, 7, 5),
        "weights": Weights(weights, None),
        "temperature": Temperature(spec.temperature, 0.0, scaled),
    }


def log_sums(capability: int) -> dict[str, Any]:
    """Return the compiled kernels of what crosses rows."""
    numbers = {
        "value": memory(torch.float32),
        "rho": memory(torch.float32, 7),
        "logs": memory(torch.float64, 7, log_cross_entropy.LOGS),
        "parts": memory(torch.float64, 7, log_cross_entropy.PARTS),
        "programs": 7,
    }
    step, steps = log_cross_entropy.AT_A_TIME, log_cross_entropy.SUMMED // log_cross_entropy.AT_A_TIME
    shares = {"MEAN": True, "ZERO": False, "WIDE": 128, "BLOCK": step}
    kernels = {
        "sums of rows": (log_cross_entropy.sums_kernel, {"STEPS": steps, "BLOCK": step}),
        "shares of rows": (log_cross_entropy.shares_kernel, shares),
    }
    return {
        name: built(kernel, numbers, cut, capability, num_warps=4) for name, (kernel, cut) in kernels.items()
    }


def map_arguments(dtype: torch.dtype, temperature: Any) -> dict[str, Any]:
    """Return what the kernels of the maps take, by name."""
    names = ("out", "logits", "probs", "log_probs", "upstream", "gradient")
    factors = {"factors": memory(torch.float32, 7), "per_row": 0}
    return dict.fromkeys(names, matrix(memory(dtype, 7, 3))) | factors | {"temperature": temperature}


def calls(dtype: torch.dtype) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the kernels to compile with their arguments."""
    neutral, every = loss_arguments(PLAIN, dtype), loss_arguments(EVERY, dtype)
    kept = neutral | {"gradient": None, "kept": memory(torch.float32, 7, 5)}
    backward = {"kept": kept["kept"]}
    vjp = map_arguments(dtype, 1.0)
    return {
        "loss": (cross_entropy.loss_kernel, neutral),
        "loss, every field": (cross_entropy.loss_kernel, every),
        "loss, distributions": (cross_entropy.loss_kernel, loss_arguments(SOFT, dtype, soft=True)),
        "loss, value and what is kept": (cross_entropy.loss_kernel, kept),
        "gradient": (cross_entropy.gradient_kernel, neutral | backward),
        "gradient, every field": (cross_entropy.gradient_kernel, every | backward),
        "logarithms": (log_cross_entropy.log_kernel, log_arguments(PLAIN, dtype)),
        "logarithms, every field": (log_cross_entropy.log_kernel, log_arguments(LOGS, dtype)),
        "product": (product.product_kernel, neutral),
        "product, every field": (product.product_kernel, every),
        "softmax": (maps.map_kernel, map_arguments(dtype, field(1.0, 1.0)) | {"LOG": tl.constexpr(False)}),
        "log_softmax": (maps.map_kernel, map_arguments(dtype, field(0.7, 1.0)) | {"LOG": tl.constexpr(True)}),
        "softmax_vjp": (maps.softmax_vjp_kernel, vjp),
        "log_softmax_vjp": (maps.log_softmax_vjp_kernel, vjp),
        "rescale": (rescale.rescale_kernel, vjp),
    }


def described(value: Any, path: tuple[int, ...], constants: dict[tuple[int, ...], Any]) -> Any:
    """Return an argument's type as the compiler writes it; note in ``constants`` what is compiled in."""
    if value is None or isinstance(value, tl.constexpr):
        constants[path] = getattr(value, "value", None)
        return "constexpr"
    if isinstance(value, tuple):
        return type(value)(*(described(part, (*path, i), constants) for i, part in enumerate(value)))
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def compiled(kernel: Any, arguments: dict[str, Any], num_classes: int, capability: int) -> Any:
    """Return the compiled kernel for rows of so many classes."""
    how = plan(num_classes)
    cut = {"ROWS": how.rows, "BLOCK": how.block, "WHOLE": how.whole}
    return built(kernel, arguments, cut, capability, num_warps=how.warps)


def held_kernel(kind: int, dtype: torch.dtype, num_classes: int, capability: int) -> Any:
    """Return the compiled kernel that reads rows of so many classes once."""
    how = held(num_classes)
    assert how is not None
    is_loss = kind == plain.LOSS
    arguments = {
        "out": memory(dtype, 7, 3),
        "out_stride": 3,
        "shares": memory(torch.float32, 7, 2) if is_loss else None,
        "entries": memory(dtype, 7, 3),
        "stride": 3,
        "labels": memory(torch.int64, 7) if is_loss else None,
        "divisor": memory(torch.int64) if is_loss else None,
        "upstream": None,
        "per_row": 0,
        "parts": memory(torch.float32, 7, 2, 2),
        "arrived": memory(torch.int32, 7),
        "divide_by": 1.0,
        "ignore_index": -100,
    }
    cut = {"KIND": kind, "SCALED": 0, "COUNT": 0, "AGAIN": False, "ROWS": how.rows, "BLOCK": how.block}
    if how.segments == 1:
        return built(plain.whole_kernel, arguments, cut, capability, num_warps=how.warps)
    cut |= {"SEGMENTS": how.segments, "WIDE": triton.next_power_of_2(how.segments), "PHASE": 0}
    together = {"num_warps": how.warps, "maxnreg": how.registers, "launch_cooperative_grid": True}
    return built(plain.shared_kernel, arguments, cut, capability, **together)


def built(
    kernel: Any, arguments: dict[str, Any], cut: dict[str, Any], capability: int, **options: Any
) -> Any:
    """Return the kernel compiled for such arguments."""
    constants: dict[tuple[int, ...], Any] = {}
    given = arguments | {"n": 7, "k": 3} | {name: tl.constexpr(value) for name, value in cut.items()}
    signature = {name: described(given[name], (i,), constants) for i, name in enumerate(kernel.arg_names)}
    return triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options=OPTIONS | options,
    )


def usage(kernel: Any) -> dict[str, int]:
    """Return the registers of a thread, and the bytes of stack that it keeps what does not fit in."""
    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None
    return {"registers": int(found[1]), "stack": int(found[2])}


if __name__ == "__main__":
    result = {
        f"{name}, {TYPES[dtype][1:]}, {k}": usage(compiled(kernel, arguments, k, int(sys.argv[1])))
        for dtype in (torch.float32, torch.bfloat16)
        for name, (kernel, arguments) in calls(dtype).items()
        if dtype == torch.float32 or name in ("loss", "softmax")
        for k in (64, 4096, 16384, 131072)
        # the maps read only the longest rows in parts
        if kernel is not maps.map_kernel or k == 131072
    }
    result |= {name: usage(kernel) for name, kernel in log_sums(int(sys.argv[1])).items()}
    result |= {
        f"read once, {name}, {TYPES[dtype][1:]}, {k}": usage(held_kernel(kind, dtype, k, int(sys.argv[1])))
        for dtype in (torch.float32, torch.bfloat16)
        for name, kind in KINDS.items()
        for k in (64, 4096, 16384, 131072)
    }
    print(json.dumps(result))
