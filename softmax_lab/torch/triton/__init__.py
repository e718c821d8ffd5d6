"""The loss family and the maps on a GPU, in Triton: float32 inside, float16, bfloat16 and float32 outside.

In layers, from below: ``elementary`` (exponential, powers, tanh); ``tiles`` (places, logits, targets, the
normaliser); ``terms`` (what a row comes to: the formula) and ``log_terms`` (that of the log of the mean
loss); then a file for each kernel with its launcher (``plain`` for rows that are read once,
``cross_entropy``, ``log_cross_entropy``, ``product``, ``maps``, ``rescale``). Under the
launchers are ``plan`` (how a row is cut), ``launch`` and ``arguments`` (what a kernel is given).

A new field of the spec that is a number and acts on the row's number changes the formulas of ``terms`` alone.
Its value and its mode come to every kernel by its name in ``spec.FIELDS``.

Importing this imports Triton; :mod:`.._operators.gpu` does so at the first tensor on a GPU.
"""

from __future__ import annotations

from .cross_entropy import gradient, loss, loss_and_gradient, loss_and_kept, rows_in_place
from .log_cross_entropy import log_gradient, log_loss, log_rows_in_place
from .maps import log_softmax, log_softmax_vjp, softmax, softmax_vjp
from .plain import loss as plain_loss
from .plain import loss_gradient as plain_gradient
from .plain import takes
from .product import hvp
from .rescale import rescale_

__all__ = [
    "gradient",
    "hvp",
    "log_gradient",
    "log_loss",
    "log_rows_in_place",
    "log_softmax",
    "log_softmax_vjp",
    "loss",
    "loss_and_gradient",
    "loss_and_kept",
    "plain_gradient",
    "plain_loss",
    "rescale_",
    "rows_in_place",
    "softmax",
    "softmax_vjp",
    "takes",
]
