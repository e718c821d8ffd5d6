"""The softmax and its derivative, verified: accurate functions, the loss family, and their calculus."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import balance, losses
from ._threads import get_num_threads, set_num_threads
from ._version import __version__
from ._warm import warm
from .calculus import softmax_jacobian, softmax_jacobian_norm, softmax_jvp, softmax_spectrum, softmax_vjp
from .cross_entropy import cross_entropy, cross_entropy_grad, cross_entropy_hvp
from .log_cross_entropy import log_cross_entropy, log_cross_entropy_grad, log_cross_entropy_hvp
from .softmax import log_softmax, logsumexp, softmax
from .spec import LossSpec

if TYPE_CHECKING:
    from . import audit, data, exact, plotting

__all__ = [
    "LossSpec",
    "__version__",
    "audit",
    "balance",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_hvp",
    "data",
    "exact",
    "get_num_threads",
    "log_cross_entropy",
    "log_cross_entropy_grad",
    "log_cross_entropy_hvp",
    "log_softmax",
    "logsumexp",
    "losses",
    "plotting",
    "set_num_threads",
    "softmax",
    "softmax_jacobian",
    "softmax_jacobian_norm",
    "softmax_jvp",
    "softmax_spectrum",
    "softmax_vjp",
    "warm",
]

# imported on first use: most of what they do needs packages that the base install lacks
_LAZY = ("audit", "data", "exact", "plotting")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
