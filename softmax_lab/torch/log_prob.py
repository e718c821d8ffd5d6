"""What a linear layer's rows say of their classes, without all its logits."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from ..spec import LossSpec
from ._base import checks
from ._base.labels import labels_of
from ._base.options import Options
from ._base.tensors import loss_dtype
from ._machinery import arguments, chunks, log_prob
from ._machinery.kernels import local_kernel
from ._operators import calls
from .linear import linear_cross_entropy

__all__ = ["LinearLogProb", "linear_log_prob"]


class LinearLogProb(NamedTuple):
    """What rows say of their classes: tensors of the target's shape, float64 for float64, else float32.

    .. versionadded:: 0.2
    """

    log_prob: Tensor  #: log p_y
    entropy: Tensor  #: H = -sum p_k log p_k, in nats
    log_normaliser: Tensor  #: log sum exp(z_k / T)


@overload
def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    full: Literal[False] = ...,
    ignore_index: int = ...,
    chunk_bytes: int | None = ...,
) -> Tensor: ...


@overload
def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    full: Literal[True],
    ignore_index: int = ...,
    chunk_bytes: int | None = ...,
) -> LinearLogProb: ...


@overload
def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    full: bool,
    ignore_index: int = ...,
    chunk_bytes: int | None = ...,
) -> Tensor | LinearLogProb: ...


def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    full: bool = False,
    ignore_index: int = -100,
    chunk_bytes: int | None = None,
) -> Tensor | LinearLogProb:
    r"""Return the log-probability that each row gives to its target, without holding all the logits.

    With :math:`z = Wh + b` that is :math:`\log p_y = z_y / T - \log \sum_k e^{z_k / T}`. Preference training
    and reinforcement learning compare it between two models, distillation and sampling at a temperature.
    Where both models are sure of a token its log-probability is -1e-9 or -1e-18, which other implementations
    round to 0; here the difference of two of them keeps its sign and its digits.

    It is minus :func:`softmax_lab.torch.linear_cross_entropy` with ``reduction="none"``: its memory, its time
    and its derivatives. Each chunk's logits are computed a second time in the backward pass.

    .. versionadded:: 0.2

    Parameters
    ----------
    hidden : Tensor, shape ``(..., D)``
        float16, bfloat16, float32 or float64.
    weight : Tensor, shape ``(V, D)``
        One row a class; dtype and device of ``hidden``.
    target : Tensor of int, shape ``(...)``
        Class indices.
    bias : Tensor, shape ``(V,)``, optional
    temperature : float
        T > 0.
    full : bool
        Return the entropy and the log-normaliser too, from the same pass. All three are differentiable.
    ignore_index : int
        Rows with this label get 0 (all three), and no gradient flows from them.
    chunk_bytes : int, optional
        As in :func:`softmax_lab.torch.linear_cross_entropy`.

    Returns
    -------
    Tensor, shape ``(...)``, or LinearLogProb
        log p_y; with ``full`` a tuple ``(log_prob, entropy, log_normaliser)`` of such tensors. float64 for
        float64, else float32. Gradients flow to ``hidden``, ``weight`` and ``bias``, once: ``backward`` can
        be called on it, but not on its gradient.

    Raises
    ------
    TypeError, ValueError, IndexError
        On a dtype, a shape, a temperature, a target that is a distribution, or a label outside the classes.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> old, new = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.1]])
    >>> hidden, target = torch.tensor([[40.0, 0.0], [0.0, 40.0]]), torch.tensor([0, 1])
    >>> after, before = (slt.linear_log_prob(hidden, weight, target) for weight in (new, old))
    >>> (after - before)[1]  # a row that was sure, and is surer
    tensor(4.1705e-18)
    >>> torch.log_softmax(hidden @ new.T, 1)[1, 1] - torch.log_softmax(hidden @ old.T, 1)[1, 1]
    tensor(0.)
    >>> slt.linear_log_prob(torch.zeros(1, 2), old, torch.tensor([0]), full=True).entropy
    tensor([0.6931])

    See Also
    --------
    softmax_lab.torch.log_softmax : the log-probabilities of all classes, from logits that exist.
    softmax_lab.torch.linear_cross_entropy : minus this, reduced, for any member of the family.
    """
    spec = LossSpec(temperature=temperature)
    if isinstance(target, Tensor) and target.is_floating_point():
        raise ValueError("linear_log_prob needs class-index targets; got a distribution per row")
    if not full:
        return -linear_cross_entropy(
            hidden,
            weight,
            target,
            spec,
            bias=bias,
            reduction="none",
            ignore_index=ignore_index,
            chunk_bytes=chunk_bytes,
        )
    options = Options("none", ignore_index=ignore_index)
    return arguments.outside_of_graphs(_full)(hidden, weight, bias, target, spec, options, chunk_bytes)


def _full(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    spec: LossSpec,
    options: Options,
    chunk_bytes: int | None,
) -> LinearLogProb:
    hidden, weight, bias = arguments.autocast(hidden, weight, bias)
    arguments.check_layer(hidden, weight, bias)
    checks.class_dim("weight", weight, 0)
    if calls.needs_whole_logits(hidden, weight, target):
        return _of_whole_logits(torch.nn.functional.linear(hidden, weight, bias), target, spec, options)
    # these logits have the shape, and no memory
    logits = hidden.new_empty(()).expand(*hidden.shape[:-1], len(weight))
    rows = arguments.prepare(logits, target, spec, None, options)
    arguments.check_classes(rows, target, spec, len(weight))
    budget = chunks.chunk_budget(chunk_bytes, hidden.device)
    step = chunks.chunk_rows(len(weight), hidden.dtype, budget)
    task = chunks.Task(rows, partial(local_kernel, spec), step)
    return LinearLogProb(*log_prob.evaluate(log_prob.Question(task, spec.temperature), hidden, weight, bias))


def _of_whole_logits(logits: Tensor, target: Tensor, spec: LossSpec, options: Options) -> LinearLogProb:
    """Return the same with all its derivatives: inside transforms, in forward mode, and without values."""
    options = checks.loss(logits, target, spec, None, options)
    checks.values_at_hand(logits, target, None, options)
    label, live = labels_of(target.reshape(-1), options.ignore_index)
    z = logits.reshape(-1, logits.shape[-1]).to(loss_dtype(logits.dtype))
    # a row that does not count may hold anything: zeros keep NaN times 0 out of its derivative
    found = log_prob.of_whole_rows(torch.where(live[:, None], z, 0.0), label, spec.temperature)
    return LinearLogProb(*(torch.where(live, each, 0.0).reshape(target.shape) for each in found))
