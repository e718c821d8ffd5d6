"""The log of the mean loss, on tensors."""

from __future__ import annotations

from torch import Tensor

from .._checks import Empty, Reduction
from ..spec import LossSpec
from ._base import checks
from ._base.options import Options
from ._operators import log_calls

__all__ = ["log_cross_entropy"]


def log_cross_entropy(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec = LossSpec(),
    *,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    dim: int = -1,
    empty: Empty = "nan",
    validate: bool = False,
) -> Tensor:
    r"""Return the logarithm of the mean cross-entropy, computed without leaving the log domain.

    .. math::

        J = \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}, \qquad l_i = -\log q_{y_i},
        \quad \omega_i = W_{y_i} \cdot \text{sample weight}_i

    Its gradient is that of the mean loss, divided by the mean loss: a softmax over the rows of
    :math:`\log \omega_i l_i`, times factors of order one. So the sum of its magnitudes does not underflow,
    however confident all rows are, where the gradient of the mean loss vanishes. A row far below the hardest
    one still counts nothing, and so do classes far below the largest other one.

    The gradient no longer shrinks with the loss: gradient descent with a constant rate need not converge,
    and wants a rate that decays. Where logits are never whole, or their classes are spread over processes, it
    is ``reduction="log_mean"`` of :func:`softmax_lab.torch.linear_cross_entropy` and of
    :mod:`softmax_lab.torch.parallel`. Over micro-batches or processes the log of the mean is not the mean of
    the logs: :class:`softmax_lab.torch.LogMeanAccumulator` and :func:`softmax_lab.balance.combine_log`.

    Parameters
    ----------
    logits : Tensor, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64, of any strides.
    target : Tensor
        Class indices: integers of the logits' shape without the class dimension.
    spec : LossSpec
        What acts on the logits (temperature, scale, bias, margin, softcap), and class_weight. What bounds the
        loss away from zero (smoothing, prior, z_loss) or acts on it (gate, gamma, poly) is refused.
    reduction : {"mean", "sum", "none"}
        "sum" leaves the divisor out. "none" gives log(omega_i l_i) of each row, whose gradient does not
        depend on omega_i; the mean of these is another loss, and diverges.
    sample_weight : Tensor, optional
        One weight >= 0 a row.
    ignore_index : int
        Rows with this label do not count. They, and rows with the weight 0, get -inf with "none", and the
        gradient 0.
    dim : int
        The class dimension.
    empty : {"nan", "zero"}
        What the value is where no row counts: NaN as in torch, or 0.
    validate : bool
        Check the labels on other devices than the CPU too, at the price of waiting for the device.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value a row. float64 for float64 logits, else float32; the gradient has
        the logits' type. A row without other classes has no loss: its value is -inf, and its gradient 0. A
        target of -inf has the value +inf, and a NaN gradient.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, a field that is refused, or a label outside the classes.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> logits = torch.tensor([[1000.0, 0.0], [1002.0, 0.0]], requires_grad=True)
    >>> slt.log_cross_entropy(logits, torch.tensor([0, 0])).backward()
    >>> logits.grad
    tensor([[-0.8808,  0.8808],
            [-0.1192,  0.1192]])

    See Also
    --------
    softmax_lab.torch.cross_entropy : the mean loss itself, whose gradient shrinks with the loss.
    softmax_lab.torch.LogCrossEntropyLoss : the same as a module.
    softmax_lab.torch.linear_cross_entropy : with ``reduction="log_mean"`` the same of a linear layer.
    """
    options = Options(reduction, empty, ignore_index, dim)
    options = checks.log_loss(logits, target, spec, sample_weight, options)
    if validate and logits.device.type != "cpu":
        checks.labels(target, logits.shape[options.dim], options.ignore_index)
    return log_calls.loss(logits, target, spec, sample_weight, options)
