"""The loss of transformers' causal language models, without logits where it can be had so.

While such a model is called with labels, its last linear layer answers with logits that are computed when
something reads them (:mod:`.later`). The loss does not: it takes the hidden rows and the layer. Whatever
else reads them, in the model or after it, gets the logits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from .._base.autograd import is_recomputation
from .._base.tensors import FLOATS, PLAIN_TYPES, is_dense
from .._machinery import arguments
from .._operators import calls
from ..linear import linear_cross_entropy
from .later import Layer, layer_of, linear_later
from .places import MISSING, Attribute

__all__ = ["replacements"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def replacements() -> Iterator[tuple[Attribute, Any]]:
    """Yield the places and what belongs there; none where transformers' models are not imported.

    The table of losses stays as it is: the Trainer counts tokens by which function it finds there.
    """
    modeling = sys.modules.get("transformers.modeling_utils")
    losses = sys.modules.get("transformers.loss.loss_utils")
    model = getattr(modeling, "PreTrainedModel", None)
    mapping, loss = getattr(losses, "LOSS_MAPPING", None), getattr(losses, "ForCausalLMLoss", None)
    if model is None or mapping is None or loss is None:
        return
    place = Attribute(model, "__call__")
    before = place.value()
    yield place, _call_like(nn.Module.__call__ if before is MISSING else before, loss, mapping)


# ---- the loss ----


def _loss_like(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the causal loss, which is the linear layer's where the logits were not read."""

    @wraps(loss)
    def causal_lm_loss(
        logits: Tensor,
        labels: Tensor,
        vocab_size: int,
        num_items_in_batch: Tensor | int | None = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        layer = layer_of(logits)
        target = _next_tokens(labels, ignore_index) if shift_labels is None else shift_labels
        rows = logits.numel() // max(vocab_size, 1)
        indices = target.dtype == torch.int64 and target.numel() == rows
        if layer is None or vocab_size != len(layer.weight) or not indices:
            return loss(logits, labels, vocab_size, num_items_in_batch, ignore_index, shift_labels, **kwargs)
        value = linear_cross_entropy(
            layer.hidden.reshape(rows, -1),
            layer.weight,
            target.reshape(-1).to(layer.hidden.device),
            bias=layer.bias,
            reduction="mean" if num_items_in_batch is None else "sum",
            ignore_index=ignore_index,
        ).float()
        if isinstance(num_items_in_batch, Tensor):
            num_items_in_batch = num_items_in_batch.to(value.device)
        return value if num_items_in_batch is None else value / num_items_in_batch

    return causal_lm_loss


def _next_tokens(labels: Tensor, ignore_index: int) -> Tensor:
    """Return what follows each token; nothing follows the last."""
    return nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]


# ---- the layer ----


def _call_like(
    call: Callable[..., Any], loss: Callable[..., Tensor], mapping: dict[str, Any]
) -> Callable[..., Any]:
    """Return a model's ``__call__`` in which its last layer's logits wait, and its loss knows that."""
    ours = _loss_like(loss)

    @wraps(call)
    def model_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or kwargs.get("labels") is None:
            return call(self, *args, **kwargs)
        name = getattr(self, "loss_type", None)
        own = mapping[name if name in mapping else "ForCausalLM"]  # as transformers chooses
        head = _head_of(self) if own is loss else None
        if head is None:
            return call(self, *args, **kwargs)
        vars(head)["forward"], vars(self)["_loss_function"] = partial(_forward, head), ours
        try:
            return call(self, *args, **kwargs)
        finally:
            vars(head).pop("forward", None)
            vars(self).pop("_loss_function", None)

    return model_call


def _head_of(model: Any) -> nn.Linear | None:
    """Return the layer that the model's logits come from, where it is a linear layer and nothing else.

    A replica, a checkpoint's second pass and a pass without gradients keep theirs as they are.
    """
    if not torch.is_grad_enabled() or is_recomputation() or hasattr(model, "_is_replica"):
        return None
    if hasattr(model, "_loss_function"):  # the program's own, or a call inside this one
        return None
    head = model.get_output_embeddings()
    # quantised, sharded, adapted and hooked layers do more than their weight says
    if type(head) is not nn.Linear or "forward" in vars(head) or any(getattr(head, name) for name in _HOOKS):
        return None
    return head if type(head.weight) in PLAIN_TYPES else None


def _forward(head: nn.Linear, input: Tensor) -> Tensor:  # noqa: A002 the layer's own name for it
    layer = None if torch.compiler.is_compiling() else _layer(input, head.weight, head.bias)
    return nn.functional.linear(input, head.weight, head.bias) if layer is None else linear_later(layer)


def _layer(*given: Tensor | None) -> Layer | None:
    """Return the layer in the type of its logits, where the linear loss can take it."""
    if not all(tensor is None or (isinstance(tensor, Tensor) and is_dense(tensor)) for tensor in given):
        return None
    layer = Layer(*arguments.autocast(*given))
    hidden, weight, _ = layer
    alike = {(tensor.dtype, tensor.device) for tensor in layer if tensor is not None}
    if len(alike) > 1 or hidden.dtype not in FLOATS or hidden.ndim < 2 or not hidden.numel():
        return None
    if (
        hidden.shape[-1] != weight.shape[-1]
        or hidden.is_inference()
        or calls.needs_whole_logits(hidden, weight)
    ):
        return None
    wanted = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    return layer if wanted else None
