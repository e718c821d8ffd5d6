"""The log of the mean loss over a batch that comes in parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from .._base.tensors import exact_dtype
from .passes import distributed

__all__ = ["LogMeanAccumulator"]


class LogMeanAccumulator:
    r"""Sums the gradients of the log of the mean loss over micro-batches, and over processes.

    The log of the mean is not the mean of the logs: a part counts :math:`c_m = \operatorname{softmax}(J_m +
    \log \Omega_m)` (:func:`softmax_lab.balance.combine_log`), which is known only after the last part. So
    what has been summed shrinks as each part comes: :meth:`backward` multiplies every ``.grad`` by
    exp(old - new) of the log-sum so far, and then runs the part's backward pass with exp(own - new). After
    the last part ``.grad`` is the gradient of the whole batch, as if it had been joined.

    Where ``torch.distributed`` is initialised, the processes' parts are joined too: one all-gather of two
    numbers. The local gradient then counts R times its share, of R processes, as
    ``DistributedDataParallel`` averages.

    .. versionadded:: 0.2

    Parameters
    ----------
    parameters : iterable of Tensor
        What gets a gradient, for example ``model.parameters()``. No other loss may add to it meanwhile.
    group : torch.distributed.ProcessGroup, optional
        Whose processes share a batch; the default group.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> model, z, y = torch.nn.Linear(2, 3), torch.randn(8, 2), torch.zeros(8, dtype=torch.long)
    >>> parts = slt.LogMeanAccumulator(model.parameters())
    >>> for rows in (slice(0, 3), slice(3, 8)):
    ...     parts.backward(slt.log_cross_entropy(model(z[rows]), y[rows]), len(y[rows]))
    >>> torch.allclose(parts.value.float(), slt.log_cross_entropy(model(z), y))
    True
    >>> parts.reset()  # with optimizer.step() and optimizer.zero_grad()
    """

    def __init__(self, parameters: Iterable[Tensor], *, group: dist.ProcessGroup | None = None) -> None:
        self._parameters = list(parameters)
        self._group = group
        self.reset()

    def reset(self) -> None:
        """Begin another batch. The gradients are the optimizer's to clear."""
        self._log_sum: Tensor | None = None  # log sum_m Omega_m e^J_m
        self._log_weight: Tensor | None = None  # log sum_m Omega_m

    @property
    def value(self) -> Tensor:
        """J of all parts so far, a float64 scalar; NaN where none has a weight."""
        if self._log_sum is None or self._log_weight is None:
            return torch.tensor(torch.nan, dtype=torch.float64, device="cpu")
        return self._log_sum - torch.where(self._log_weight == -torch.inf, torch.nan, self._log_weight)

    def backward(self, value: Tensor, weight: float | Tensor) -> None:
        """Add the gradient of a part.

        ``value`` is its log of the mean loss, a scalar with a graph. ``weight`` is the sum of its rows'
        weights: how many rows count, or the sum of class weight times sample weight over them. A part of
        weight 0 changes nothing.
        """
        if value.ndim:
            raise ValueError(f"value must be a scalar, of reduction='mean'; got shape {tuple(value.shape)}")
        wide = exact_dtype(value.device)
        omega = torch.as_tensor(weight, dtype=wide, device=value.device).detach()
        log_weight = omega.log()
        own = torch.where(omega == 0, -torch.inf, value.detach().to(wide) + log_weight)
        everyone, ranks = torch.stack([own, log_weight]), 1
        if distributed():
            ranks = dist.get_world_size(self._group)
            found = [torch.empty_like(everyone) for _ in range(ranks)]
            dist.all_gather(found, everyone, self._group)
            everyone = torch.stack(found, 1).logsumexp(1)
        log_sum, log_total = everyone[0], everyone[1]
        if self._log_sum is not None and self._log_weight is not None:
            new = torch.logaddexp(self._log_sum, log_sum)
            self._shrink(_share(self._log_sum, new))
            log_sum, log_total = new, torch.logaddexp(self._log_weight, log_total)
        self._log_sum, self._log_weight = log_sum, log_total
        value.backward((ranks * _share(own, log_sum)).to(value.dtype))

    def _shrink(self, factor: Tensor) -> None:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return exp(part - whole), and 0 of nothing."""
    return torch.where(part == -torch.inf, 0.0, torch.exp(part - whole))
