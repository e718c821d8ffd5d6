"""Softmax and log-softmax on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import number
from ._base import checks
from ._operators import calls

__all__ = ["log_softmax", "softmax"]


def softmax(
    input: Tensor,  # noqa: A002
    dim: int = -1,
    *,
    temperature: float = 1.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Return the softmax :math:`p_k = e^{z_k/T} / \sum_j e^{z_j/T}` along one dimension.

    Differentiable to any order, in forward mode, by functorch and under the compiler. On the CPU the values
    are those of :func:`softmax_lab.softmax`, to the bit. The temperature is a constant: divide by one that is
    learned outside. ``torch.onnx.export(..., dynamo=True)`` writes it as ONNX's own operators, which do not
    keep a confident row's 1e-18.

    Parameters
    ----------
    input : Tensor, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64.
    dim : int
        The class dimension.
    temperature : float
        T > 0; below 1 sharpens, above 1 flattens.
    dtype : torch.dtype, optional
        Convert the input to this floating type first, as in torch.

    Returns
    -------
    Tensor
        Same shape as the input, contiguous. A row with NaN or +inf, or with nothing above -inf, is NaN.

    Raises
    ------
    TypeError, ValueError
        On a dtype, shape, dimension or temperature out of range.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> slt.softmax(torch.tensor([40.0, 0.0]))
    tensor([1.0000e+00, 4.2484e-18])

    See Also
    --------
    softmax_lab.torch.functional.softmax : torch's own signature.
    """
    return calls.softmax(*_checked(input, dim, temperature, dtype))


def log_softmax(
    input: Tensor,  # noqa: A002
    dim: int = -1,
    *,
    temperature: float = 1.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Return :math:`\log p_k = z_k/T - \log \sum_j e^{z_j/T}` along one dimension.

    Arguments, derivatives and errors as in :func:`softmax`. A confident class keeps its true log-probability
    instead of 0, and its derivative the true 1 - p.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> slt.log_softmax(torch.tensor([40.0, 0.0]))
    tensor([-4.2484e-18, -4.0000e+01])

    See Also
    --------
    softmax_lab.torch.functional.log_softmax : torch's own signature.
    """
    return calls.log_softmax(*_checked(input, dim, temperature, dtype))


def _checked(z: Tensor, dim: int, temperature: float, dtype: torch.dtype | None) -> tuple[Tensor, float, int]:
    if dtype is not None and isinstance(z, Tensor):
        z = z.to(dtype)
    checks.floating("input", z)
    return z, number("temperature", temperature, low=0.0, open_low=True), checks.class_dim("input", z, dim)
