"""The loss family and the maps on a GPU, in Triton: float32 inside, float16, bfloat16 and float32 outside.

In layers: ``elementary`` (exponential, powers, tanh), ``rows`` (logits, targets, the normaliser), ``terms``
(what a row comes to: the formulas of :mod:`softmax_lab._kernels.loss`), a kernel with its launcher a file
(``maps``, ``family``, ``product``, ``rescale``), and ``plan`` (how a row is cut) with ``launch`` under them.
Importing this imports Triton; :mod:`..ops` does so at the first tensor on a GPU.
"""

from __future__ import annotations

from .cross_entropy import gradient, loss, loss_and_gradient, loss_and_kept, rows_in_place
from .maps import log_softmax, log_softmax_vjp, softmax, softmax_vjp
from .product import hvp
from .rescale import rescale_

__all__ = [
    "gradient",
    "hvp",
    "log_softmax",
    "log_softmax_vjp",
    "loss",
    "loss_and_gradient",
    "loss_and_kept",
    "rescale_",
    "rows_in_place",
    "softmax",
    "softmax_vjp",
]
