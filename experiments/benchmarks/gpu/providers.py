"""The peers: what makes the function of each, by kernel.

A provider that cannot be imported or run is a row with a note.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt


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
