"""Logits of a linear layer that are computed when something reads them, and not before."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

__all__ = ["LaterLogits", "Layer", "layer_of", "linear_later"]


class Layer(NamedTuple):
    """What logits are made of, in the type that they have."""

    hidden: Tensor  # (..., D)
    weight: Tensor  # (V, D)
    bias: Tensor | None  # (V,)

    def versions(self) -> list[int]:
        """How often each tensor was changed in place so far."""
        return [tensor._version for tensor in self if tensor is not None]

    def logits(self) -> Tensor:
        with torch.no_grad(), torch.autocast(self.hidden.device.type, enabled=False):
            return torch.nn.functional.linear(*(None if t is None else t.detach() for t in self))  # type: ignore[arg-type]


def linear_later(layer: Layer) -> Tensor:
    """Return the layer's logits, which have a shape and a place in the graph, and no memory yet."""
    logits = _Linear.apply(*layer)  # type: ignore[no-untyped-call]
    logits.layer = layer
    result: Tensor = logits
    return result


def layer_of(logits: Tensor) -> Layer | None:
    """Return what logits are made of; None where they were read, and may have been changed since."""
    return logits.layer if type(logits) is LaterLogits and logits.unread else None


class LaterLogits(Tensor):
    """A tensor that is computed by whatever operation reads it; the results are ordinary tensors.

    Python's operations come by ``__torch_function__``, the graph's own by ``__torch_dispatch__``. Shape, type
    and place in the graph are known without its entries, and a cast waits as the logits do.
    """

    layer: Layer | None
    _made_of: Layer | None
    _wide: torch.dtype
    _whole: Tensor | None
    _versions: list[int]

    @staticmethod
    def __new__(cls, made_of: Layer, dtype: torch.dtype) -> LaterLogits:
        shape = (*made_of.hidden.shape[:-1], len(made_of.weight))
        self: LaterLogits = Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=made_of.hidden.device
        )
        self.layer, self._made_of, self._wide, self._whole = None, made_of, dtype, None
        self._versions = made_of.versions()
        return self

    @property
    def unread(self) -> bool:
        return self._whole is None

    def whole(self) -> Tensor:
        """Return the logits, computed once; below the graph."""
        if self._whole is None:
            assert self._made_of is not None
            if self._made_of.versions() != self._versions:
                raise RuntimeError(
                    "softmax_lab: these logits are computed when they are read, and their layer has changed "
                    "since the model was called; read them before the optimizer's step"
                )
            self._whole, self._made_of, self.layer = self._made_of.logits().to(self._wide), None, None
        return self._whole

    def cast(self, dtype: torch.dtype) -> Tensor:
        """Return the logits in another type: later too, as long as nobody has read them."""
        if self._made_of is None or self._made_of.versions() != self._versions:
            return self.whole().to(dtype)
        return LaterLogits(self._made_of, dtype)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _WITHOUT_ENTRIES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        args, kwargs = tree_map_only(cls, _ordinary, (tuple(args), kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.keys() == {"dtype"}:
            return args[0].cast(kwargs["dtype"])
        args, kwargs = tree_map_only(cls, cls.whole, (tuple(args), kwargs))
        return func(*args, **kwargs)


def _ordinary(logits: LaterLogits) -> Tensor:
    """Return the logits as an ordinary tensor of the same graph, over the memory that is theirs by then."""
    with torch._C.DisableTorchFunctionSubclass():
        return logits.view_as(logits)


class _Linear(torch.autograd.Function):
    """The layer's place in the graph: its derivative, for who makes something of the logits themselves."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> LaterLogits:
        ctx.save_for_backward(hidden, weight)
        ctx.has_bias = bias is not None
        return LaterLogits(Layer(hidden, weight, bias), hidden.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        rows = upstream.reshape(-1, upstream.shape[-1])
        return (
            upstream @ weight if ctx.needs_input_grad[0] else None,
            rows.t() @ hidden.reshape(-1, hidden.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None,
        )


def _getter(name: str) -> Any:
    return getattr(Tensor, name).__get__


#: what is answered, and done, without the entries
_WITHOUT_ENTRIES = {
    *map(
        _getter,
        ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "grad_fn", "is_leaf"),
    ),
    *map(_getter, ("grad", "_backward_hooks", "retains_grad")),
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.__len__,
    Tensor.is_floating_point,
    Tensor.float,
    Tensor.register_hook,
    Tensor.retain_grad,
}
