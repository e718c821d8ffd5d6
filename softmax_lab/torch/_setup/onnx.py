"""The maps as torch's own operators, for programs that leave torch.

``torch.onnx.export(..., dynamo=True)`` looks here.

``torch.compile`` and ``torch.export`` keep this package's operators. What an exported program loses is a
confident row's 1e-18.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from .._base.tensors import loss_dtype
from .._operators import maps  # noqa: F401 it defines the operators

__all__: list[str] = []


def _plain(function: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    def decomposed(z: Tensor, temperature: Tensor, dim: int) -> Tensor:
        wide = z.to(loss_dtype(z.dtype))
        # divided after the shift: z / T may overflow where (z - max) / T only tends to -inf
        return function((wide - wide.amax(dim, keepdim=True)) / temperature.to(wide.dtype), dim).to(z.dtype)

    return decomposed


register_decomposition(torch.ops.softmax_lab.softmax.default)(_plain(torch.softmax))
register_decomposition(torch.ops.softmax_lab.log_softmax.default)(_plain(torch.log_softmax))
