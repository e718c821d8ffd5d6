"""Built-in implementations to audit: this package, and the frameworks as their users call them, on the CPU.

One file a framework: what it needs and what it offers stand beside its adapter. Each adapter takes and
returns NumPy rows (N, K). Gradients are each framework's own automatic differentiation of its own
cross-entropy. No adapter touches the process's settings (threads, default types, 64-bit mode). A framework is
imported only when its adapter is made.
"""

from ..subject import ExitError
from .adapter import Adapter
from .framework import Framework, MissingFramework
from .registry import ADAPTERS, FRAMEWORKS, installed, make, versions
from .softmax_lab import JaxFunctions, TorchKernels

__all__ = [
    "ADAPTERS",
    "FRAMEWORKS",
    "Adapter",
    "ExitError",
    "Framework",
    "JaxFunctions",
    "MissingFramework",
    "TorchKernels",
    "installed",
    "make",
    "versions",
]
