r"""What each row of a linear layer says of its classes: log p_y, the entropy, and the log-normaliser.

With u = (H W^T + b) / T, d_k = u_k - max u and S = sum_k e^(d_k), a row has

.. math::

    \log p_y = d_y - \log S, \qquad \operatorname{lse}(u) = \max u + \log S, \qquad
    H = \log S + m, \quad m = -\textstyle\sum_k p_k d_k .

Both terms of H are positive: nothing cancels where a row is confident. The derivatives in u_k are, with
o = 1 - p_y summed from the other classes,

.. math::

    [k = y]\, o - [k \ne y]\, p_k, \qquad p_k, \qquad -p_k (d_k + m) .

The exponentials are those of :mod:`softmax_lab.torch._formula.rows`. Rows come in chunks as in :mod:`.layer`,
and the logits are computed again for the gradients, as there for one loss a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base.tensors import exact_dtype, loss_dtype
from .._formula.rows import Shifted, along, over, shifted, take
from .chunks import Gradients, Task, Wanted, blocks, filled
from .layer import once_differentiable, scaled, wants_gradient

__all__ = ["Question", "RowNumbers", "evaluate", "of_whole_rows"]


class RowNumbers(NamedTuple):
    """What is known of rows, all (n,)."""

    log_prob: Tensor
    entropy: Tensor
    log_normaliser: Tensor


class Question(NamedTuple):
    """What is asked of the rows: at which temperature, and of which tensors a gradient."""

    task: Task  # its kernel is not called
    temperature: float
    wanted: Wanted = (False, False, False)


def of_whole_rows(z: Tensor, label: Tensor, temperature: float) -> RowNumbers:
    """Return the numbers of rows ``z`` (n, V) with ``label`` (n,), differentiable to any order."""
    return _numbers(shifted(z, temperature), label)


def evaluate(question: Question, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> RowNumbers:
    """Return the numbers as a node of the graph; those of a row that does not count are 0."""
    shape = question.task.rows.shape
    wanted = (wants_gradient(hidden), wants_gradient(weight), wants_gradient(bias))
    with torch.autocast(hidden.device.type, enabled=False):
        found = _OfRows.apply(  # type: ignore[no-untyped-call]
            hidden.reshape(shape.numel(), hidden.shape[-1]), weight, bias, question._replace(wanted=wanted)
        )
    return RowNumbers(*(each.reshape(shape) for each in found))


class _OfRows(torch.autograd.Function):
    """Three numbers a row, and the product of their derivatives with three upstream gradients."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, question: Question
    ) -> tuple[Tensor, ...]:
        task, dtype = question.task, loss_dtype(hidden.dtype)
        found = hidden.new_zeros((3, len(hidden)), dtype=dtype)
        for part, _, chunk in filled(task, hidden, weight, bias):
            label = task.rows.target[part]
            numbers = found.new_empty((3, len(label)))
            for some in blocks(chunk.wide):
                rows = _rows(chunk.wide[some], question.temperature)
                numbers[:, some] = torch.stack(_numbers(rows, label[some])).to(dtype)
            found[:, part] = numbers
        ctx.question = question
        ctx.save_for_backward(hidden, weight, bias)
        return tuple(found.unbind())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        question: Question = ctx.question
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            factors, peak = _balanced(torch.stack(upstream))
            gradients = Gradients.zeros(hidden, weight, bias, question.wanted)
            for part, h, chunk in filled(question.task, hidden, weight, bias):
                label, given = question.task.rows.target[part], factors[:, part]
                for some in blocks(chunk.wide):
                    chunk.wide[some] = _gradient(
                        _rows(chunk.wide[some], question.temperature),
                        label[some],
                        RowNumbers(*given[:, some]),
                        question.temperature,
                    )
                one = h.new_ones(len(h), dtype=loss_dtype(h.dtype))
                gradients.add(part, h, chunk, weight, one, hidden_factor=None)
        found = [scaled(gradient, peak, hidden.dtype) for gradient in gradients]
        return (*once_differentiable(found, *upstream, hidden, weight, bias), None)


def _balanced(upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Return upstream gradients (3, N) over the largest of them, and that.

    A loss scale of 65536 would overflow float16 in the products: it is applied afterwards.
    """
    if not upstream.numel():
        return upstream, upstream.sum()
    peak = upstream.abs().amax().clamp_min(torch.finfo(upstream.dtype).tiny)
    return upstream / peak, peak


def _rows(z: Tensor, temperature: float) -> Shifted:
    """Return rows of logits with their exponentials: in float64 on a CPU, as the loops have them."""
    wide = exact_dtype(z.device) if z.device.type == "cpu" else loss_dtype(z.dtype)
    return shifted(z.to(wide), temperature)


def _numbers(rows: Shifted, label: Tensor) -> RowNumbers:
    log_s = rows.log_normaliser
    return RowNumbers(take(rows.d, label) - log_s, log_s + rows.mean_gap, rows.lse)


def _gradient(rows: Shifted, label: Tensor, upstream: RowNumbers, temperature: float) -> Tensor:
    """Return the derivative in z, (n, V), of the three numbers times their upstream gradients."""
    q, d = rows.q, torch.where(rows.q == 0, 0.0, rows.d)
    of_log_prob, of_entropy, of_lse = (along(each.to(q.dtype)) for each in upstream)
    both = q * (of_lse - of_entropy * (d + along(rows.mean_gap)))
    at_label = of_log_prob * along(rows.others(label)) + both.gather(1, label[:, None])
    return over((both - of_log_prob * q).scatter(1, label[:, None], at_label), temperature)
