"""The loss in eager mode: its operators as nodes of autograd's graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _plain
from ...spec import LossSpec
from .._base.autograd import (
    are_ordinary,
    below_autograd,
    graph_is_kept,
    is_batched,
    is_concrete,
    is_overheard,
    is_transformed,
    saved_tensors_are_watched,
)
from .._base.options import Options
from .._base.tensors import PLAIN_TYPES, as_tensor
from .._formula import losses
from .._formula.fields import packed
from . import gpu
from .derivatives import backward_derivative, factor_beside, save_backward, scaled
from .loss import backward_elsewhere, backward_on_cpu, backward_on_gpu, hvp_elsewhere
from .schema import OPS, TENSORS, Arguments, parsed

__all__ = ["CrossEntropy", "Later", "at_once", "is_one", "may_overwrite", "with_graph"]


class CrossEntropy(torch.autograd.Function):
    """The operator in eager mode.

    The derivative is the operator's, but a gradient that is this node's own is given away uncopied.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, arguments: Arguments) -> Any:
        ctx.set_materialize_grads(False)
        ctx.options, ctx.watched = Options(*arguments[TENSORS:]), saved_tensors_are_watched()
        with below_autograd():  # this node is the derivative
            value, gradient = OPS.cross_entropy(logits, *arguments, True)
        ctx.save_for_backward(logits, gradient, *arguments[:TENSORS])
        return value, gradient

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, tangent: Tensor | None) -> Any:
        logits, gradient, *arguments = ctx.saved_tensors
        result = _given(gradient, upstream, ctx)
        if tangent is not None:
            product = _hvp(logits, tangent, (*arguments, *ctx.options))
            result = product if result is None else result + product
        return result, None


def at_once(logits: Tensor, target: Tensor, spec: LossSpec, options: Options) -> Tensor | None:
    """Return the loss of a plain call, straight from the loop; None where it is not, or where it is wrong.

    Nothing has been checked yet. A plain call has ordinary tensors, and nobody else to hear of it; what it
    needs beyond that, the NumPy package says (:mod:`softmax_lab._plain`).
    """
    if torch.compiler.is_compiling() or is_overheard() or not are_ordinary(logits, target):
        return None
    if logits.dtype not in _AT_ONCE or target.dtype is not torch.int64:
        return None
    wanted = logits.requires_grad and torch.is_grad_enabled()
    reduction, empty, ignore_index, dim, _ = options
    found = _plain.evaluate(
        logits.numpy(force=True),  # which looks at no history, and copies nothing that lies on the CPU
        target.numpy(),
        spec,
        reduction,  # type: ignore[arg-type]
        ignore_index,
        dim,
        empty,  # type: ignore[arg-type]
        wanted=wanted,
    )
    if found is None:
        return None
    if not wanted:
        return as_tensor(found[0])
    value: Tensor = _apply(logits, target, found, spec, options)  # type: ignore[no-untyped-call]
    return value


_AT_ONCE = (torch.float32, torch.float64)


class AtOnce(torch.autograd.Function):
    """A plain call's loss, whose gradient has been made with it, as a node of the graph.

    What is needed where a graph is made of the gradient, too, is made then.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, found: Any, spec: LossSpec, options: Options
    ) -> Tensor:
        ctx.save_for_backward(logits, torch.from_numpy(found[1]))
        ctx.given = target, target._version, spec, options
        return as_tensor(found[0])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        logits, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            return with_graph(logits, upstream, *ctx.given), None, None, None, None
        if graph_is_kept() or is_transformed() or is_batched(upstream):
            return scaled(gradient, upstream, ctx.given[-1]), None, None, None, None
        if not is_one(upstream):
            gradient.mul_(factor_beside(gradient, upstream, ctx.given[-1]))
        return gradient, None, None, None, None


def with_graph(
    logits: Tensor, upstream: Tensor, target: Tensor, version: int, spec: LossSpec, options: Options
) -> Tensor:
    """Return the gradient times ``upstream``, made again by the node that knows its derivative."""
    if target._version != version:
        raise RuntimeError(
            "the target of a loss has been modified by an inplace operation, and the second derivative needs "
            "it"
        )
    arguments = (target, *packed(spec, logits), None, *options)
    with torch._C._DisableFuncTorch():  # the upstream gradient alone may be mapped
        _, gradient = CrossEntropy.apply(logits, arguments)  # type: ignore[no-untyped-call]
    return scaled(gradient, upstream, options)


# torch's own ``apply`` first asks for transforms, and unwraps what they have left behind: there are none
_apply = super(torch.autograd.Function, AtOnce).apply


class Later(torch.autograd.Function):
    """The loss whose gradient is made in the backward pass.

    The gradient is rounded once, after every factor, and written over the logits where asked for.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, arguments: Arguments, inplace: bool) -> Tensor:
        ctx.options, ctx.inplace = Options(*arguments[TENSORS:]), inplace
        value: Tensor
        with below_autograd():
            value, kept = OPS.cross_entropy_forward(logits, *arguments)
        ctx.save_for_backward(logits, kept, *arguments[:TENSORS])
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        logits, kept, *arguments = ctx.saved_tensors
        given = (logits, kept, upstream, *arguments, *ctx.options)
        if ctx.inplace:
            if torch.is_grad_enabled():
                raise RuntimeError(
                    "inplace=True overwrites the logits, and a second derivative needs them; use "
                    "inplace=False"
                )
            return _over_the_logits(*given), None, None
        if torch.is_grad_enabled():
            return _Gradient.apply(*given), None, None  # type: ignore[no-untyped-call]
        if is_transformed():
            return backward_elsewhere(*given), None, None
        with below_autograd():
            return OPS.cross_entropy_backward(*given), None, None


def _over_the_logits(logits: Tensor, *given: Any) -> Tensor:
    """Return the gradient in the logits' memory.

    Who has saved the logits and reads them later gets an error from autograd.
    """
    own = logits.detach()
    (backward_on_cpu if gpu.kernels_for(own) is None else backward_on_gpu)(own, *given, out=own)
    torch.autograd.graph.increment_version(logits)
    return own


class _Gradient(torch.autograd.Function):
    """A gradient as a node of the graph, for the second derivative."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any) -> Tensor:
        with below_autograd():
            gradient: Tensor = OPS.cross_entropy_backward(logits, kept, upstream, *arguments)
        save_backward(ctx, (logits, kept, upstream, *arguments), gradient)
        return gradient

    @staticmethod
    def backward(ctx: Any, tangent: Tensor) -> Any:
        if not torch.is_grad_enabled() and not is_transformed():
            with below_autograd():
                return backward_derivative(ctx, tangent)
        logits, upstream, *arguments = ctx.saved_tensors
        value = losses.loss(logits, *parsed((*arguments, *ctx.options)))
        (gradient,) = torch.autograd.grad(value, logits, upstream, create_graph=True)
        of = [
            tensor
            for tensor, wanted in ((logits, ctx.needs_input_grad[0]), (upstream, ctx.needs_input_grad[2]))
            if wanted
        ]
        found = iter(torch.autograd.grad(gradient, of, tangent, create_graph=True))
        to_logits, to_upstream = (next(found) if ctx.needs_input_grad[i] else None for i in (0, 2))
        return to_logits, None, to_upstream, *[None] * (TENSORS + len(ctx.options))


def _given(gradient: Tensor, upstream: Tensor | None, ctx: Any) -> Tensor | None:
    """Return gradient times upstream: in the gradient's own memory where nobody else will ever look at it."""
    if upstream is None:
        return None
    if torch.is_grad_enabled() or is_transformed() or is_batched(upstream) or ctx.watched or graph_is_kept():
        return scaled(gradient, upstream, ctx.options)
    own = gradient.detach()  # as an output of the node it would carry its history along
    kernels = gpu.kernels_for(own)
    if (
        kernels is not None
        and own.is_contiguous()
        and (upstream.ndim == 0 or ctx.options.dim == own.ndim - 1)
    ):
        rescaled: Tensor = kernels.rescale_(own, upstream)
        return rescaled
    return own if is_one(upstream) else own.mul_(factor_beside(gradient, upstream, ctx.options))


def is_one(upstream: Tensor) -> bool:
    """Whether the upstream gradient is all ones, as far as that is known without waiting for a device."""
    if upstream.device.type != "cpu" or type(upstream) is not Tensor:
        return False
    return upstream.item() == 1 if upstream.ndim == 0 else bool((upstream == 1).all())


def _hvp(logits: Tensor, tangent: Tensor, arguments: Arguments) -> Tensor:
    """Return the Hessian-vector product.

    It comes from the operator, or from what can be differentiated or mapped once more.
    """
    if torch.is_grad_enabled():
        value = losses.loss(logits, *parsed(arguments)).sum()
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        return torch.autograd.grad(gradient, logits, tangent, create_graph=True)[0]
    if is_transformed():
        return hvp_elsewhere(logits, tangent, *arguments)
    with below_autograd():
        product: Tensor = OPS.cross_entropy_hvp(logits, tangent, *arguments)
    return product


def may_overwrite(logits: Tensor, dim: int) -> bool:
    """Whether the gradient may take the logits' memory: theirs alone, and not that of a parameter.

    Hooks on saved tensors may hand out memory that others still read, of which autograd then keeps no count.
    """
    if saved_tensors_are_watched():
        return False
    base = logits if logits._base is None else logits._base
    on_gpu = gpu.kernels_for(logits) is not None and type(logits) in PLAIN_TYPES and dim == logits.ndim - 1
    return (is_concrete(logits) or on_gpu) and logits.is_contiguous() and not base.is_leaf
