"""The loss of a LossSpec on tensors."""

from __future__ import annotations

from torch import Tensor

from .._checks import Empty, Reduction
from ..spec import PLAIN, LossSpec
from ._base import checks
from ._base.options import Options
from ._operators import calls

__all__ = ["cross_entropy"]


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec = PLAIN,
    *,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    ignore_index: int = -100,
    dim: int = -1,
    empty: Empty = "nan",
    inplace: bool = False,
    validate: bool = False,
) -> Tensor:
    r"""Return the loss of a member of the family.

    .. math::

        L &= w (1-q_y)^\gamma \Bigl[-\sum_k s_k \log q_k + \kappa\,(1-q_y)\Bigr] \\
          &\quad + \lambda \operatorname{lse}(u)^2

    In float32 and float64 the forward pass computes value and gradient in one pass over the logits; the
    backward pass gives the gradient away. In float16 and bfloat16 the backward pass makes the gradient, from
    the logits and five numbers per row: it is rounded once, after the divisor of the mean, the weights and
    the upstream gradient, so a loss scale does what it is for. (On a GPU that of bfloat16 is made with the
    value, and again where the upstream gradient is not 1.) Beside ``backward`` there are double backward (by
    the Hessian-vector product in closed form), forward mode, ``torch.func`` (grad, vmap, jvp, hessian) and
    ``torch.compile(fullgraph=True)``. On the CPU the value is that of :func:`softmax_lab.cross_entropy`, to
    the bit, and so is the gradient of :func:`softmax_lab.cross_entropy_grad` where the upstream gradient is
    1.

    A class weight multiplies the *row*, so the loss is least where q is the (smoothed) target, whatever the
    weights. torch's own multiplies each class's term s_k log q_k (pytorch issue 104776): with smoothing, or
    with distributions as targets, its optimum is q_k proportional to W_k s_k.
    ``slt.functional.cross_entropy`` follows torch in this.

    A spec holds constants. A temperature, scale or bias that is learned gets its gradient outside, through
    the logits: ``slt.cross_entropy(scale * logits / temperature + bias, target)``. A spec whose numbers and
    arrays change every step is compiled once, and once more as a number first changes; its arrays are brought
    to the device once for each spec object.

    Parameters
    ----------
    logits : Tensor, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64, of any strides. Do not overwrite them before the backward pass:
        autograd would raise, since a second derivative reads them.
    target : Tensor
        Integers of the logits' shape without the class dimension (class indices), or floats of the logits'
        own shape (a distribution per row, taken as it is). A distribution that requires a gradient gets one.
    spec : LossSpec
        The member of the family; the default is plain cross-entropy.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the rows' weights, ``w * sample_weight``.
    sample_weight : Tensor, optional
        One weight >= 0 per row; multiplies the row's whole value.
    ignore_index : int
        Rows with this label do not count and get value and gradient 0.
    dim : int
        The class dimension: the last by default, where torch's own loss has 1.
    empty : {"nan", "zero"}
        What the mean over no rows is: NaN as in torch, or 0.
    inplace : bool
        Let the gradient overwrite the logits in the backward pass, which saves its memory. Until then the
        logits are as they were. Taken up in eager mode on the CPU and by the GPU's kernels, for contiguous
        logits that are neither a leaf nor a view of one (on a GPU with the classes last); elsewhere, and
        under hooks on saved tensors (checkpointing), the gradient gets memory of its own. An operation that
        has saved the logits and runs its backward pass later gets an error from autograd and no wrong number.
    validate : bool
        Check the labels on other devices than the CPU too, at the price of waiting for the device. Without it
        a label out of range ends in a device assertion there.

    Returns
    -------
    Tensor
        A scalar, or with "none" one value per row. float64 for float64 logits, else float32, under autocast
        too; the gradient has the logits' type.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape or range, or a label outside the classes; before any work is done.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab as sl
    >>> import softmax_lab.torch as slt
    >>> logits = torch.tensor([[40.0, 0.0]], requires_grad=True)
    >>> slt.cross_entropy(logits, torch.tensor([0])).backward()
    >>> logits.grad
    tensor([[-4.2484e-18,  4.2484e-18]])
    >>> spec = sl.losses.ldam([100, 1])
    >>> slt.cross_entropy(torch.zeros(1, 2), torch.tensor([1]), spec)
    tensor(15.)

    See Also
    --------
    softmax_lab.torch.functional.cross_entropy : torch's own signature and semantics.
    softmax_lab.torch.SoftmaxLoss : the same as a module.
    """
    options = Options(reduction, empty, ignore_index, dim)
    if sample_weight is None and not inplace:
        value = calls.at_once(logits, target, spec, options)
        if value is not None:
            return value
    options = checks.loss(logits, target, spec, sample_weight, options)
    if validate and logits.device.type != "cpu":
        checks.labels(target, logits.shape[options.dim], options.ignore_index)
    return calls.loss(logits, target, spec, sample_weight, options, inplace=inplace)
