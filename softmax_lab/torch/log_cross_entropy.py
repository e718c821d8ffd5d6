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

        J &= \log \frac{\sum_i \omega_i l_i}{\sum_i \omega_i}, \qquad l_i = -\log q_{y_i}, \\
        \omega_i &= W_{y_i} \cdot \text{sample weight}_i

    Its gradient is that of the mean loss, divided by the mean loss: a softmax over the rows of
    :math:`\log \omega_i l_i`, times factors of order one. What cannot underflow is the sum of its magnitudes,
    over all rows and classes, where the gradient of the mean loss vanishes. A row far below the hardest one
    still counts nothing, and so do classes far below the largest other one.

    The gradient no longer shrinks with the loss: gradient descent with a constant rate need not converge,
    and wants a rate that decays. Where logits are never whole, or their classes are spread over processes, it
    is ``reduction="log_mean"`` of :func:`softmax_lab.torch.linear_cross_entropy` and of
    ``softmax_lab.torch.parallel``. Over micro-batches or processes the log of the mean is not the mean of
    the logs: :class:`softmax_lab.torch.LogMeanAccumulator` and :func:`softmax_lab.balance.combine_log`.

    Parameters
    ----------
    logits, target, sample_weight, ignore_index, dim, empty, validate
        As in :func:`softmax_lab.torch.cross_entropy`, but the target holds class indices.
    spec : LossSpec
        The fields that :func:`softmax_lab.log_cross_entropy` takes; the others are refused.
    reduction : {"mean", "sum", "none"}
        "sum" leaves the divisor out. "none" gives log(omega_i l_i) of each row, whose gradient does not
        depend on omega_i; the mean of these is another loss, and diverges.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value per row, of the types and with the edges of
        :func:`softmax_lab.log_cross_entropy`. The gradient has the logits' type.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`softmax_lab.torch.cross_entropy`, and on a field or a target that is refused.

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
    softmax_lab.log_cross_entropy : the same in NumPy, with the source.
    softmax_lab.torch.linear_cross_entropy : with ``reduction="log_mean"`` the same of a linear layer.
    """
    options = Options(reduction, empty, ignore_index, dim)
    options = checks.log_loss(logits, target, spec, sample_weight, options)
    if validate and logits.device.type != "cpu":
        checks.labels(target, logits.shape[options.dim], options.ignore_index)
    return log_calls.loss(logits, target, spec, sample_weight, options)
