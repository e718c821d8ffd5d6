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

import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from softmax_lab._rows import KEPT
from softmax_lab.torch.triton import family, maps, product, rescale
from softmax_lab.torch.triton.launch import OPTIONS
from softmax_lab.torch.triton.plan import plan

ARRAYS = ("scales", "biases", "margins", "smoothings", "priors", "class_weights", "sample_weights", "total")
TENSORS = (
    "out",
    "values",
    "kept",
    "gradient",
    "logits",
    "targets",
    "tangents",
    "probs",
    "log_probs",
    "upstream",
    "factors",
    *ARRAYS,
)
FLOATS = (
    "temperature",
    "scale",
    "bias",
    "margin",
    "smoothing",
    "class_weight",
    "gate",
    "gamma",
    "z_loss",
    "softcap",
)
OFF = dict.fromkeys(
    ("SOFT", "SCALED", "MARGIN", "SMOOTHING", "GATE", "GAMMA", "Z_LOSS", "CAP", "MEAN"), False
) | {"SCALE": 0, "BIAS": 0}
PLAIN = OFF | dict.fromkeys(ARRAYS)
EVERY = dict.fromkeys(OFF, True) | {"SOFT": False, "SCALE": 2, "BIAS": 2}
SOFT = (
    OFF
    | dict.fromkeys(("sample_weights", "total", "scales", "biases", "margins"))
    | {"SOFT": True, "SMOOTHING": True}
)
KERNELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "loss": (family.loss_kernel, PLAIN | {"GRADIENT": True, "KEEP": False}),
    "loss, every field": (family.loss_kernel, EVERY | {"GRADIENT": True, "KEEP": False}),
    "loss, distributions": (family.loss_kernel, SOFT | {"GRADIENT": True, "KEEP": False}),
    "loss, value and what is kept": (family.loss_kernel, PLAIN | {"GRADIENT": False, "KEEP": True}),
    "gradient": (family.gradient_kernel, PLAIN),
    "gradient, every field": (family.gradient_kernel, EVERY),
    "product": (product.product_kernel, PLAIN),
    "product, every field": (product.product_kernel, EVERY),
    "softmax": (maps.map_kernel, {"LOG": False, "SCALED": False}),
    "log_softmax": (maps.map_kernel, {"LOG": True, "SCALED": True}),
    "softmax_vjp": (maps.softmax_vjp_kernel, {}),
    "log_softmax_vjp": (maps.log_softmax_vjp_kernel, {}),
    "rescale": (rescale.rescale_kernel, {}),
}


def kind(name: str, dtype: str) -> str:
    """Return an argument's type as the compiler writes it."""
    if name in TENSORS:
        wide = {"targets": "i64", "total": "fp64"}
        own = ("logits", "gradient", "out", "tangents", "probs", "log_probs", "upstream")
        return "*" + wide.get(name, dtype if name in own else "fp32")
    return "fp32" if name in FLOATS else "i32"


def compiled(kernel: Any, constants: dict[str, Any], num_classes: int, dtype: str, capability: int) -> Any:
    """Return the compiled kernel for rows of so many classes."""
    how, names = plan(num_classes), kernel.arg_names
    constants = {n: v for n, v in (constants | {"KEPT": KEPT}).items() if n in names} | {
        "ROWS": how.rows,
        "BLOCK": how.block,
        "WHOLE": how.whole,
    }
    signature = {name: "constexpr" if name in constants else kind(name, dtype) for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options=OPTIONS | {"num_warps": how.warps}
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
        f"{name}, {dtype}, {k}": usage(compiled(kernel, constants, k, dtype, int(sys.argv[1])))
        for name, (kernel, constants) in KERNELS.items()
        for dtype in (("fp32", "bf16") if name in ("loss", "softmax") else ("fp32",))
        for k in (64, 4096, 16384, 131072)
    }
    print(json.dumps(result))
