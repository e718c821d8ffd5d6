"""Registered operators, and the autograd of eager mode.

Three ways lead through here, since no one mechanism of torch gives every kind of derivative:

- eager mode: an ``autograd.Function`` around the operator, which knows when the gradient that the forward
  pass computed is its own to give away, or when the logits' memory may be written over;
- the compiler: the operator itself, with its registered derivative;
- functorch, forward mode and third derivatives: the plain-torch formula of :mod:`._composite`, and no
  operator at all.

In float32 and float64 the loss's operator returns (loss, gradient). The gradient is an output that autograd
knows of, and what flows back through *it* is a Hessian-vector product: that is the whole of double backward.

In half precision a gradient must not be rounded before its last factor is known: with a mean's 1 / N in it
and without the loss scale most of it would be 0. There the forward pass keeps a few numbers a row, and the
backward pass makes the gradient from them and the logits (``cross_entropy_forward`` and
``cross_entropy_backward``). The same two write the gradient over the logits, in any type.

CPU tensors run the loops of the NumPy package on shared memory; tensors on a GPU the kernels of
:mod:`.triton`, where Triton is installed and the type is not float64; all others the closed form in plain
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .. import calculus
from .._checks import AnySign
from .._rows import KEPT
from ..cross_entropy import (
    cross_entropy,
    cross_entropy_backward,
    cross_entropy_forward,
    cross_entropy_grad,
    cross_entropy_hvp,
)
from ..softmax import log_softmax as _numpy_log_softmax
from ..softmax import softmax as _numpy_softmax
from ..spec import LossSpec
from . import _composite
from ._checks import FLOATS, values_at_hand
from ._composite import Options
from ._family import SpecTensors
from ._shared import (
    ARRAYS,
    PLAIN_TYPES,
    as_array,
    as_tensor,
    fields_of,
    loss_dtype,
    numpy_spec,
    packed,
    unpack,
)

__all__ = ["gpu_kernels", "is_concrete", "log_softmax", "loss", "needs_whole_logits", "softmax"]

_LIBRARY = torch.library.Library("softmax_lab", "DEF")
_FIELDS = ", ".join(["Tensor numbers", *(f"Tensor? {name}" for name in ARRAYS)])
_OPTIONS = "Tensor? sample_weight, str reduction, str empty, int ignore_index, int dim, bool signed"
_LIBRARY.define(
    f"cross_entropy(Tensor logits, Tensor target, {_FIELDS}, {_OPTIONS}, bool with_gradient) -> (Tensor, "
    f"Tensor)"
)
_LIBRARY.define(
    f"cross_entropy_forward(Tensor logits, Tensor target, {_FIELDS}, {_OPTIONS}) -> (Tensor, Tensor)"
)
_BACKWARD = f"Tensor kept, Tensor upstream, Tensor target, {_FIELDS}, {_OPTIONS}"
_LIBRARY.define(f"cross_entropy_backward(Tensor logits, {_BACKWARD}) -> Tensor")
_LIBRARY.define(
    f"cross_entropy_hvp(Tensor logits, Tensor tangent, Tensor target, {_FIELDS}, {_OPTIONS}) -> Tensor"
)
for _name in ("softmax", "log_softmax"):
    # the temperature is a tensor for the same reason as the numbers of a spec: a float would be compiled in
    _LIBRARY.define(f"{_name}(Tensor input, Tensor temperature, int dim) -> Tensor")
    _LIBRARY.define(f"{_name}_vjp(Tensor result, Tensor upstream, Tensor temperature, int dim) -> Tensor")
_OPS = torch.ops.softmax_lab

#: types in which a gradient waits for its last factor
_HALF = (torch.float16, torch.bfloat16)
#: an operator's arguments after the logits: target, those of a spec, sample weight, and the options
Arguments = tuple[Any, ...]
#: types of a target that every kernel knows; others are widened
_LABELS = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_WEIGHT = 2 + len(ARRAYS)  # of them, the place of the sample weight
_TENSORS = _WEIGHT + 1  # and how many are tensors or None: the first


def _named(arguments: Arguments) -> tuple[Tensor, SpecTensors, Tensor | None, Options]:
    """Return target, fields, sample weight and options."""
    return arguments[0], unpack(*arguments[1:_WEIGHT]), arguments[_WEIGHT], Options(*arguments[_TENSORS:])


# ---- the loss: on the CPU, elsewhere, and for the compiler ----


def _numpy_arguments(arguments: Arguments) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the target and the other arguments as the NumPy package takes them."""
    target, fields, sample_weight, options = _named(arguments)
    weights = None if sample_weight is None else as_array(sample_weight)
    named = {
        "reduction": options.reduction,
        "empty": options.empty,
        "ignore_index": options.ignore_index,
        "axis": options.dim,
    }
    given = as_array(target)
    return given.view(AnySign) if options.signed else given, {
        "spec": numpy_spec(fields),
        "sample_weight": weights,
        **named,
    }


def _loss_on_cpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    target, named = _numpy_arguments(arguments[:-1])
    if not arguments[-1]:
        return as_tensor(cross_entropy(as_array(logits), target, **named)), logits.new_empty(0)
    value, gradient = cross_entropy_grad(as_array(logits), target, **named)
    return as_tensor(value), as_tensor(gradient)


def _loss_elsewhere(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    named = _named(arguments[:-1])
    if arguments[-1]:
        return _composite.loss_and_gradient(logits, *named)
    return _composite.loss(logits, *named), logits.new_empty(0)


@cache
def _triton() -> Any:
    """Return the kernels for a GPU, or None where Triton is not installed: imported with the first tensor
    that they can take.
    """
    return import_module(f"{__package__}.triton") if find_spec("triton") else None


def gpu_kernels(tensor: Tensor) -> Any:
    """Return the kernels of :mod:`.triton` where they take the tensor, else None."""
    return _triton() if tensor.is_cuda and tensor.dtype != torch.float64 else None


def _loss_on_gpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    kernels = gpu_kernels(logits)
    if kernels is None:
        return _loss_elsewhere(logits, *arguments)
    named = _named(arguments[:-1])
    if arguments[-1]:
        value, gradient = kernels.loss_and_gradient(logits, *named)
        return value, gradient
    return kernels.loss(logits, *named), logits.new_empty(0)


def _loss_shapes(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    reduction, dim, with_gradient = arguments[_TENSORS], arguments[_TENSORS + 3], arguments[-1]
    rows = logits.movedim(dim, -1).shape[:-1] if reduction == "none" else ()
    gradient = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty(rows, dtype=loss_dtype(logits.dtype)), gradient


# ---- the loss whose gradient is made in the backward pass ----


def _forward_on_cpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    target, named = _numpy_arguments(arguments)
    value, kept = cross_entropy_forward(as_array(logits), target, **named)
    return as_tensor(value), as_tensor(kept)


def _forward_elsewhere(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Plain torch keeps nothing: it computes a row again."""
    return _composite.loss(logits, *_named(arguments)), _nothing_kept(logits)


def _forward_on_gpu(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    kernels = gpu_kernels(logits)
    if kernels is None:
        return _forward_elsewhere(logits, *arguments)
    value, kept = kernels.loss_and_kept(logits, *_named(arguments))
    return value, kept


def _forward_shapes(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    value, _ = _loss_shapes(logits, *arguments, False)
    num_rows = logits.numel() // logits.shape[arguments[_TENSORS + 3]]
    if logits.device.type == "cpu":
        return value, logits.new_empty((num_rows, KEPT), dtype=torch.float64)
    if gpu_kernels(logits) is not None:
        return value, logits.new_empty((num_rows, KEPT), dtype=torch.float32)
    return value, _nothing_kept(logits)


def _nothing_kept(logits: Tensor) -> Tensor:
    return logits.new_empty((0, KEPT), dtype=torch.float32)


def _backward_on_cpu(
    logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any, out: Tensor | None = None
) -> Tensor:
    target, named = _numpy_arguments(arguments)
    factors = as_array(upstream.detach().to(torch.float64).reshape(-1))
    written = None if out is None else as_array(out)
    return as_tensor(
        cross_entropy_backward(as_array(logits), target, as_array(kept), factors, out=written, **named)
    )


def _backward_elsewhere(logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any) -> Tensor:
    return _composite.gradient(logits, upstream, *_named(arguments))


def _backward_on_gpu(
    logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any, out: Tensor | None = None
) -> Tensor:
    kernels = gpu_kernels(logits)
    if kernels is None:
        return _backward_elsewhere(logits, kept, upstream, *arguments)
    gradient: Tensor = kernels.gradient(logits, kept, upstream, *_named(arguments), out=out)
    return gradient


def _hvp_on_cpu(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    target, named = _numpy_arguments(arguments)
    return as_tensor(cross_entropy_hvp(as_array(logits), target, as_array(tangent), **named))


def _hvp_elsewhere(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    target, fields, sample_weight, options = _named(arguments)
    return _composite.hvp(logits, target, tangent, fields, sample_weight, options)


def _hvp_on_gpu(logits: Tensor, tangent: Tensor, *arguments: Any) -> Tensor:
    kernels = gpu_kernels(logits)
    if kernels is None:
        return _hvp_elsewhere(logits, tangent, *arguments)
    target, fields, sample_weight, options = _named(arguments)
    product: Tensor = kernels.hvp(logits, target, tangent, fields, sample_weight, options)
    return product


# ---- the maps ----


def _map_on_cpu(function: Callable[..., Any]) -> Callable[[Tensor, Tensor, int], Tensor]:
    return lambda z, temperature, dim: as_tensor(
        function(as_array(z), axis=dim, temperature=float(temperature))
    )


def _map_elsewhere(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors_and_dim: function(
        *tensors_and_dim[:-2], tensors_and_dim[-1], float(tensors_and_dim[-2])
    )


def _map_on_gpu(name: str) -> Callable[..., Tensor]:
    def call(first: Tensor, *rest: Any) -> Tensor:
        kernels = gpu_kernels(first)
        result: Tensor = _map_elsewhere(getattr(_composite if kernels is None else kernels, name))(
            first, *rest
        )
        return result

    return call


def _softmax_vjp_on_cpu(probs: Tensor, upstream: Tensor, temperature: Tensor, dim: int) -> Tensor:
    p, g = as_array(probs.movedim(dim, -1)), as_array(upstream.movedim(dim, -1))
    return as_tensor(calculus.softmax_vjp(p, g, temperature=float(temperature))).movedim(-1, dim).contiguous()


def _log_softmax_vjp_on_cpu(log_probs: Tensor, upstream: Tensor, temperature: Tensor, dim: int) -> Tensor:
    # NumPy looks for the largest entry with whole registers, torch one by one
    top = (
        as_tensor(as_array(log_probs).argmax(dim, keepdims=True))
        if log_probs.dtype in (torch.float32, torch.float64)
        else None
    )
    return _composite.log_softmax_vjp(log_probs, upstream, dim, float(temperature), top)


def _like_first(first: Tensor, *_: Any) -> Tensor:
    return first.new_empty(first.shape)


def _register(
    name: str,
    *,
    cpu: Callable[..., Any],
    gpu: Callable[..., Any],
    elsewhere: Callable[..., Any],
    shapes: Callable[..., Any] = _like_first,
) -> None:
    _LIBRARY.impl(name, cpu, "CPU")
    _LIBRARY.impl(name, gpu, "CUDA")
    _LIBRARY.impl(name, elsewhere, "CompositeExplicitAutograd")
    torch.library.register_fake(f"softmax_lab::{name}", shapes, lib=_LIBRARY)


_register("cross_entropy", cpu=_loss_on_cpu, gpu=_loss_on_gpu, elsewhere=_loss_elsewhere, shapes=_loss_shapes)
_register(
    "cross_entropy_forward",
    cpu=_forward_on_cpu,
    gpu=_forward_on_gpu,
    elsewhere=_forward_elsewhere,
    shapes=_forward_shapes,
)
_register("cross_entropy_backward", cpu=_backward_on_cpu, gpu=_backward_on_gpu, elsewhere=_backward_elsewhere)
_register("cross_entropy_hvp", cpu=_hvp_on_cpu, gpu=_hvp_on_gpu, elsewhere=_hvp_elsewhere)
for _name, _cpu in (
    ("softmax", _map_on_cpu(_numpy_softmax)),
    ("log_softmax", _map_on_cpu(_numpy_log_softmax)),
    ("softmax_vjp", _softmax_vjp_on_cpu),
    ("log_softmax_vjp", _log_softmax_vjp_on_cpu),
):
    _register(_name, cpu=_cpu, gpu=_map_on_gpu(_name), elsewhere=_map_elsewhere(getattr(_composite, _name)))


# ---- derivatives of the operators, for the compiler ----


def _save_loss(ctx: Any, inputs: Arguments, output: tuple[Tensor, Tensor]) -> None:
    logits, *arguments = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, output[1], *arguments[:_TENSORS])
    ctx.options = Options(*arguments[_TENSORS:-1])


def _loss_derivative(ctx: Any, upstream: Tensor | None, tangent: Tensor | None) -> tuple[Tensor | None, ...]:
    logits, gradient, *arguments = ctx.saved_tensors
    result = None if upstream is None else _scaled(gradient, upstream, ctx.options)
    if tangent is not None:
        product = _OPS.cross_entropy_hvp(logits, tangent, *arguments, *ctx.options)
        result = product if result is None else result + product
    return result, *[None] * (_TENSORS + len(ctx.options) + 1)


def _save_forward(ctx: Any, inputs: Arguments, output: tuple[Tensor, Tensor]) -> None:
    logits, *arguments = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, output[1], *arguments[:_TENSORS])
    ctx.options = Options(*arguments[_TENSORS:])


def _forward_derivative(ctx: Any, upstream: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    logits, kept, *arguments = ctx.saved_tensors
    gradient = None
    if upstream is not None:
        gradient = _OPS.cross_entropy_backward(logits, kept, upstream, *arguments, *ctx.options)
    return gradient, *[None] * (_TENSORS + len(ctx.options))


def _save_backward(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    logits, _, upstream, *arguments = inputs
    ctx.save_for_backward(logits, upstream, *arguments[:_TENSORS])
    ctx.options = Options(*arguments[_TENSORS:])


def _backward_derivative(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    """What flows back through a gradient: to the logits a Hessian-vector product, to the upstream gradient a
    dot product a row.
    """
    logits, upstream, *arguments = ctx.saved_tensors
    to_logits = to_upstream = None
    if ctx.needs_input_grad[0]:
        # wide: a loss scale is not to overflow
        product = tangent.to(_widest(tangent)) * _factor(tangent, upstream, ctx.options)
        to_logits = _OPS.cross_entropy_hvp(logits, product, *arguments, *ctx.options)
    if ctx.needs_input_grad[2]:
        _, gradient = _OPS.cross_entropy(logits.to(loss_dtype(logits.dtype)), *arguments, *ctx.options, True)
        to_upstream = _dotted(gradient, tangent, ctx.options).to(upstream.dtype)
    return to_logits, None, to_upstream, *[None] * (_TENSORS + len(ctx.options))


def _widest(tensor: Tensor) -> torch.dtype:
    """Return the type in which a product with a half-precision number loses nothing, where the device
    has it.
    """
    return torch.float64 if tensor.device.type == "cpu" else loss_dtype(tensor.dtype)


def _dotted(gradient: Tensor, tangent: Tensor, options: Options) -> Tensor:
    """Return the sum of products over all entries, or with "none" over each row's."""
    product = gradient * tangent
    return product.sum(options.dim) if options.reduction == "none" else product.sum()


def _save_hvp(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    logits, _, *arguments = inputs
    ctx.save_for_backward(logits, *arguments[:_TENSORS])
    ctx.options = arguments[_TENSORS:]


def _hvp_derivative(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """The Hessian is symmetric; along the logits this would be a third derivative, which the compiled
    operator has not.
    """
    if ctx.needs_input_grad[0]:
        raise NotImplementedError(
            "the third derivative of a compiled loss is not implemented; compute it in eager mode"
        )
    logits, *arguments = ctx.saved_tensors
    return (
        None,
        _OPS.cross_entropy_hvp(logits, upstream, *arguments, *ctx.options),
        *[None] * (_TENSORS + len(ctx.options)),
    )


def _save_map(ctx: Any, inputs: Arguments, output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])
    ctx.dim = inputs[2]


def _map_derivative(
    vjp: Callable[..., Tensor], plain: Callable[..., Tensor]
) -> Callable[..., tuple[Tensor | None, ...]]:
    def derivative(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        result, temperature = ctx.saved_tensors
        if torch.is_grad_enabled() or _transformed():  # a second derivative goes through plain torch
            return plain(result, upstream, ctx.dim, float(temperature)), None, None
        return vjp(result, upstream, temperature, ctx.dim), None, None

    return derivative


def _scaled(gradient: Tensor, upstream: Tensor, options: Options) -> Tensor:
    """Return the gradient times the upstream gradient: one number, or one a row."""
    return (gradient * _factor(gradient, upstream, options)).to(gradient.dtype)


def _factor(gradient: Tensor, upstream: Tensor, options: Options) -> Tensor:
    return upstream.unsqueeze(options.dim) if options.reduction == "none" and gradient.ndim > 1 else upstream


torch.library.register_autograd(
    "softmax_lab::cross_entropy", _loss_derivative, setup_context=_save_loss, lib=_LIBRARY
)
torch.library.register_autograd(
    "softmax_lab::cross_entropy_forward", _forward_derivative, setup_context=_save_forward, lib=_LIBRARY
)
torch.library.register_autograd(
    "softmax_lab::cross_entropy_backward", _backward_derivative, setup_context=_save_backward, lib=_LIBRARY
)
torch.library.register_autograd(
    "softmax_lab::cross_entropy_hvp", _hvp_derivative, setup_context=_save_hvp, lib=_LIBRARY
)
for _name, _plain in (("softmax", _composite.softmax_vjp), ("log_softmax", _composite.log_softmax_vjp)):
    _derivative = _map_derivative(getattr(_OPS, f"{_name}_vjp"), _plain)
    torch.library.register_autograd(
        f"softmax_lab::{_name}", _derivative, setup_context=_save_map, lib=_LIBRARY
    )


# ---- eager mode ----


class _CrossEntropy(torch.autograd.Function):
    """The operator in eager mode: the same derivative, but a gradient that is this node's own is given away
    uncopied.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, arguments: Arguments) -> Any:
        ctx.set_materialize_grads(False)
        ctx.options, ctx.watched = Options(*arguments[_TENSORS:]), _watched()
        with _below_autograd():  # this node is the derivative
            value, gradient = _OPS.cross_entropy(logits, *arguments, True)
        ctx.save_for_backward(logits, gradient, *arguments[:_TENSORS])
        return value, gradient

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, tangent: Tensor | None) -> Any:
        logits, gradient, *arguments = ctx.saved_tensors
        result = _given(gradient, upstream, ctx)
        if tangent is not None:
            product = _hvp(logits, tangent, (*arguments, *ctx.options))
            result = product if result is None else result + product
        return result, None


class _Later(torch.autograd.Function):
    """The loss whose gradient is made in the backward pass: rounded once, after every factor, and over the
    logits where asked for.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, arguments: Arguments, inplace: bool) -> Tensor:
        ctx.options, ctx.inplace = Options(*arguments[_TENSORS:]), inplace
        value: Tensor
        with _below_autograd():
            value, kept = _OPS.cross_entropy_forward(logits, *arguments)
        ctx.save_for_backward(logits, kept, *arguments[:_TENSORS])
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
        if _transformed():
            return _backward_elsewhere(*given), None, None
        with _below_autograd():
            return _OPS.cross_entropy_backward(*given), None, None


def _over_the_logits(logits: Tensor, *given: Any) -> Tensor:
    """Return the gradient in the logits' memory.

    Who has saved the logits and reads them later gets an error from autograd.
    """
    own = logits.detach()
    (_backward_on_cpu if gpu_kernels(own) is None else _backward_on_gpu)(own, *given, out=own)
    torch.autograd.graph.increment_version(logits)
    return own


class _Gradient(torch.autograd.Function):
    """A gradient as a node of the graph, for the second derivative."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, kept: Tensor, upstream: Tensor, *arguments: Any) -> Tensor:
        with _below_autograd():
            gradient: Tensor = _OPS.cross_entropy_backward(logits, kept, upstream, *arguments)
        _save_backward(ctx, (logits, kept, upstream, *arguments), gradient)
        return gradient

    @staticmethod
    def backward(ctx: Any, tangent: Tensor) -> Any:
        if not torch.is_grad_enabled() and not _transformed():
            with _below_autograd():
                return _backward_derivative(ctx, tangent)
        logits, upstream, *arguments = ctx.saved_tensors
        value = _composite.loss(logits, *_named((*arguments, *ctx.options)))
        (gradient,) = torch.autograd.grad(value, logits, upstream, create_graph=True)
        of = [
            tensor
            for tensor, wanted in ((logits, ctx.needs_input_grad[0]), (upstream, ctx.needs_input_grad[2]))
            if wanted
        ]
        found = iter(torch.autograd.grad(gradient, of, tangent, create_graph=True))
        to_logits, to_upstream = (next(found) if ctx.needs_input_grad[i] else None for i in (0, 2))
        return to_logits, None, to_upstream, *[None] * (_TENSORS + len(ctx.options))


def _given(gradient: Tensor, upstream: Tensor | None, ctx: Any) -> Tensor | None:
    """Return gradient times upstream: in the gradient's own memory where nobody else will ever look at it."""
    if upstream is None:
        return None
    if torch.is_grad_enabled() or _transformed() or _is_batched(upstream) or ctx.watched or _keep_graph():
        return _scaled(gradient, upstream, ctx.options)
    own = gradient.detach()  # as an output of the node it would carry its history along
    kernels = gpu_kernels(own)
    if (
        kernels is not None
        and own.is_contiguous()
        and (upstream.ndim == 0 or ctx.options.dim == own.ndim - 1)
    ):
        scaled: Tensor = kernels.rescale_(own, upstream)
        return scaled
    return own if _is_one(upstream) else own.mul_(_factor(gradient, upstream, ctx.options))


def _is_one(upstream: Tensor) -> bool:
    """Whether the upstream gradient is all ones, as far as that is known without waiting for a device."""
    if upstream.device.type != "cpu" or type(upstream) is not Tensor:
        return False
    return upstream.item() == 1 if upstream.ndim == 0 else bool((upstream == 1).all())


def _hvp(logits: Tensor, tangent: Tensor, arguments: Arguments) -> Tensor:
    """Return the Hessian-vector product: by the operator, or by what can be differentiated or mapped once
    more.
    """
    if torch.is_grad_enabled():
        value = _composite.loss(logits, *_named(arguments)).sum()
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        return torch.autograd.grad(gradient, logits, tangent, create_graph=True)[0]
    if _transformed():
        return _hvp_elsewhere(logits, tangent, *arguments)
    with _below_autograd():
        product: Tensor = _OPS.cross_entropy_hvp(logits, tangent, *arguments)
    return product


def _watched() -> bool:
    """Whether hooks on saved tensors are set, which may hold on to what is saved."""
    return _top_hooks(False) is not None


def _is_batched(upstream: Tensor) -> bool:
    """Whether it stands for many, as in ``torch.autograd.grad(..., is_grads_batched=True)``, which says so
    nowhere else.
    """
    return bool(_legacy_batch(upstream))


def _transformed() -> bool:
    """Whether a functorch transform is at work."""
    return bool(torch._C._are_functorch_transforms_active())


_below_autograd = torch._C._AutoDispatchBelowAutograd
#: whether the backward pass that runs leaves the graph usable for another (retain_graph=True)
_keep_graph: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True
)
_legacy_batch: Callable[[Tensor], bool] = getattr(
    torch._C._functorch, "is_legacy_batchedtensor", lambda _: True
)
_top_hooks: Callable[[bool], Any] = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: True
)


# ---- the ways in ----


def loss(
    logits: Tensor,
    target: Tensor,
    spec: LossSpec | SpecTensors,
    sample_weight: Tensor | None,
    options: Options,
    *,
    inplace: bool = False,
) -> Tensor:
    """Return the loss of checked arguments, by whichever way knows the derivatives that may be asked for."""
    if _plain_only(target, sample_weight):
        values_at_hand(logits, target, sample_weight, options)
        return _composite.loss(logits, target, fields_of(spec, logits), sample_weight, options)
    target = target if target.dtype in _LABELS else target.long()
    arguments = (target, *packed(spec, logits), sample_weight, *options)
    # a trace knows no autograd.Function, and may be run with a gradient or without
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    wanted = tracing or (torch.is_grad_enabled() and logits.requires_grad)
    later = wanted and logits.dtype in _HALF
    value: Tensor
    if torch.compiler.is_compiling() or tracing:
        value, _ = (
            _OPS.cross_entropy_forward(logits, *arguments)
            if later
            else _OPS.cross_entropy(logits, *arguments, wanted)
        )
    elif wanted:
        over = inplace and _may_overwrite(logits, options.dim)
        if over or later:
            value = _Later.apply(logits, arguments, over)  # type: ignore[no-untyped-call]
        else:
            value, _ = _CrossEntropy.apply(logits, arguments)  # type: ignore[no-untyped-call]
    else:
        with _below_autograd():
            value, _ = _OPS.cross_entropy(logits, *arguments, False)
    return value


def softmax(z: Tensor, temperature: float, dim: int) -> Tensor:
    """Return the softmax of checked arguments."""
    if _plain_only():
        return _composite.softmax(z, dim, temperature)
    result: Tensor = _OPS.softmax(z, _number(temperature), dim)
    return result


def log_softmax(z: Tensor, temperature: float, dim: int) -> Tensor:
    """Return the log-softmax of checked arguments."""
    if _plain_only():
        return _composite.log_softmax(z, dim, temperature)
    result: Tensor = _OPS.log_softmax(z, _number(temperature), dim)
    return result


def _number(value: float) -> Tensor:
    """Return a number as an input of the compiled graph; see :func:`._shared.pack`."""
    one = torch.ones((), dtype=torch.float64, device="cpu")
    return one * value


def _plain_only(*others: Tensor | None) -> bool:
    """Whether only plain torch knows the derivatives: functorch, forward mode, or gradients to more than the
    logits.
    """
    more = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in others)
    return more or _transformed() or torch.autograd.forward_ad._current_level >= 0


def needs_whole_logits(*tensors: Tensor) -> bool:
    """Whether a loss that goes through its rows chunk by chunk cannot: inside transforms, and of tensors
    without values.
    """
    return _plain_only() or any(tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in tensors)


def is_concrete(tensor: Tensor) -> bool:
    """Whether the tensor's values are at hand: on the CPU, and neither traced nor mapped."""
    return (
        tensor.device.type == "cpu"
        and type(tensor) in PLAIN_TYPES
        and not _transformed()
        and not torch.compiler.is_compiling()
    )


def _may_overwrite(logits: Tensor, dim: int) -> bool:
    """Whether the gradient may take the logits' memory: theirs alone, and not that of a parameter.

    Hooks on saved tensors may hand out memory that others still read, of which autograd then keeps no count.
    """
    if _watched():
        return False
    base = logits if logits._base is None else logits._base
    on_gpu = gpu_kernels(logits) is not None and type(logits) in PLAIN_TYPES and dim == logits.ndim - 1
    return (is_concrete(logits) or on_gpu) and logits.is_contiguous() and not base.is_leaf
