r"""The loss of a linear layer, without its logits: ``hidden @ weight.T + bias`` exists for some rows at a
time.

Rows of the loss are independent, so a chunk of rows is all that ever has to be in memory. For a chunk H (n,
D) with row factors f (sample weight, upstream gradient) and G (n, V), the gradient of each row's own value:

.. math::

    Z &= H W^\top + b, \qquad (L, G) = \text{kernel}(Z) \quad\text{(G overwrites Z)} \\
    \bar H &= \operatorname{diag}(f)\, (G W), \qquad
    \bar W \mathrel{+}= G^\top (\operatorname{diag}(f) H), \qquad \bar b \mathrel{+}= G^\top f

The factors multiply the small side (n, D), never the chunk. What all rows share (the divisor of a mean, the
upstream gradient of the reduced loss) is applied once at the end, to sums in float32, and rounded then: half
precision does not lose small gradients to it. Rounded before are only G, for its products, and on the CPU
each product.

The weight's gradient is read and written once a chunk, beside 2 n V D operations: larger chunks cost memory
and save time. Cut cross-entropy (Wijmans et al. 2025) and Liger-Kernel (Hsu et al. 2024) rest on the same
idea.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import _checks
from ..spec import LossSpec
from . import _checks as _torch_checks
from ._composite import Options, loss_dtype
from ._labels import labels_of
from ._shared import autocast_dtype

__all__ = [
    "CHUNK_BYTES",
    "Chunk",
    "Gradients",
    "Rows",
    "Task",
    "autocast",
    "blocks",
    "check_classes",
    "check_layer",
    "chunk_budget",
    "chunk_rows",
    "evaluate",
    "once_differentiable",
    "outside_of_graphs",
    "parts",
    "prepare",
    "reduced",
    "run",
    "wants_gradient",
    "weighted",
]

# on a CPU, 192 rows of 65536 float32 classes: beyond that the products hardly run faster
CHUNK_BYTES = 48 << 20
# On other devices a chunk must be worth reading and writing the weight's gradient once more: at 256,000
# classes an H100 took 368 ms with 48 MiB, 76 with 512, 65 with 1024, and the same memory in all three.
LARGE_CHUNK_BYTES = 1 << 30
_WIDE = (torch.float32, torch.float64)
# entries a block of what plain torch does on the CPU: its temporaries stay in a core's cache
_CACHED = 1 << 17
_ELSEWHERE = 1 << 24  # and on other devices: enough work a launch
# classes a slice of the weight's gradient, where a product in half precision is summed outside
_CLASSES = 1 << 15

Function = TypeVar("Function", bound=Callable[..., Any])
Wanted = tuple[bool, bool, bool]
#: ``kernel(logits, target, gradient)`` returns values (n,) and weights (n,) of rows (n, V), both float64, and
#: where ``gradient`` is set leaves the gradient of each row's own value in ``logits``
RowKernel = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]


# ---- arguments ----


def outside_of_graphs(function: Function) -> Function:
    """Return the function, or where the compiler traces, one that it will not look into: NumPy and the
    network are no part of a graph.

    (``torch.compiler.disable`` as a decorator would load the compiler with the package.)
    """
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


class Rows(NamedTuple):
    """Checked arguments, as rows."""

    target: Tensor  # (N,) labels or (N, V) distributions
    live: Tensor | None  # (M,) the rows that count, where some do not
    factor: Tensor | None  # (N,) sample weights
    shape: torch.Size  # of one value a row
    options: Options


def autocast(*tensors: Tensor | None) -> list[Any]:
    """Return the tensors in the type that autocast asks of a linear layer, or as they are where it is off."""
    device = next(tensor for tensor in tensors if tensor is not None).device.type
    dtype = autocast_dtype(device)
    if dtype is None:
        return list(tensors)
    return [
        tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors
    ]


def check_layer(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check what a linear layer needs of its three tensors."""
    for name, tensor in (
        ("hidden", hidden),
        ("weight", weight),
        *(() if bias is None else (("bias", bias),)),
    ):
        _torch_checks.floating(name, tensor)
    if weight.ndim != 2 or hidden.ndim == 0 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden (..., D) and weight (V, D) must agree; got shapes {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape ({len(weight)},), one entry a class; got {tuple(bias.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (tensor.dtype, tensor.device) != (hidden.dtype, hidden.device):
            raise TypeError(
                f"{name} must be {hidden.dtype} on {hidden.device}, as hidden is; got {tensor.dtype} on "
                f"{tensor.device}"
            )


def prepare(
    logits: Tensor, target: Tensor, spec: LossSpec, sample_weight: Tensor | None, options: Options
) -> Rows:
    """Check what comes with logits (..., K), and find the rows that count.

    The number of classes is left to :func:`check_classes`.

    ``logits`` is looked at for shape, type and device only, and may stand for logits that never exist.
    """
    _torch_checks.floating("logits", logits)
    if logits.ndim == 0:
        raise ValueError("logits must have at least one dimension (the classes); got a scalar")
    shape = logits.shape[:-1]
    _checks.choice("reduction", options.reduction, _checks.REDUCTIONS)
    _checks.choice("empty", options.empty, _checks.EMPTY_RULES)
    if not isinstance(spec, LossSpec):
        raise TypeError(f"spec must be a LossSpec; got {type(spec).__name__}")
    _torch_checks._target(target, spec, logits, shape)
    if sample_weight is not None:
        _torch_checks._sample_weight(sample_weight, logits, shape)
        if not bool((torch.isfinite(sample_weight) & (sample_weight >= 0)).all()):
            raise ValueError("sample_weight must be finite and >= 0")
    if any(tensor is not None and tensor.requires_grad for tensor in (target, sample_weight)):
        raise ValueError(
            "target and sample_weight get no gradient from a loss without whole logits; detach them, or use "
            "slt.cross_entropy"
        )
    factor = None if sample_weight is None else sample_weight.reshape(-1)
    if target.is_floating_point():
        return Rows(target.reshape(shape.numel(), logits.shape[-1]), None, factor, shape, options)
    _, live = labels_of(target.reshape(-1), _checks.ignored_label(options.ignore_index))
    label = target.reshape(-1).long()  # as they were given, for who reports one that is out of range
    return Rows(label, None if bool(live.all()) else live.nonzero()[:, 0], factor, shape, options)


def check_classes(rows: Rows, target: Tensor, spec: LossSpec, num_classes: int) -> None:
    """Check the spec's arrays and the labels that count against the number of classes, of all processes
    together.
    """
    _torch_checks._spec(spec, num_classes)
    _torch_checks.labels(target, num_classes, rows.options.ignore_index)


def chunk_budget(chunk_bytes: int | None, device: torch.device) -> int:
    """Return the bytes that a chunk of logits may take: those asked for, or what suits the device."""
    if chunk_bytes is not None:
        return chunk_bytes
    return CHUNK_BYTES if device.type == "cpu" else LARGE_CHUNK_BYTES


def chunk_rows(num_classes: int, dtype: torch.dtype, chunk_bytes: int, *, narrow: bool = False) -> int:
    """Return how many rows of logits fit ``chunk_bytes``.

    Half precision holds a float32 copy of them beside, unless ``narrow``.
    """
    budget = _checks.number("chunk_bytes", chunk_bytes, low=1)
    row = num_classes * (dtype.itemsize + (4 if dtype not in _WIDE and not narrow else 0))
    return max(1, int(budget) // max(1, row))


# ---- one chunk after the other ----


class Task(NamedTuple):
    """What is done to the rows, beside the three tensors that gradients flow to."""

    rows: Rows
    kernel: RowKernel
    step: int  # rows a chunk, at most
    share: Callable[[Tensor], Tensor] | None = None  # sums a gradient over processes, in place
    wanted: Wanted = (False, False, False)
    narrow: bool = False  # the kernel takes logits in half precision as they are


def wants_gradient(tensor: Tensor | None) -> bool:
    """Whether a gradient may be asked of the tensor: nothing is made for one that cannot."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()


def evaluate(task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the reduced loss as a node of the graph.

    Gradients are made only for tensors that require one.
    """
    tensors = (hidden.reshape(task.rows.shape.numel(), hidden.shape[-1]), weight, bias)
    task = task._replace(wanted=(wants_gradient(hidden), wants_gradient(weight), wants_gradient(bias)))
    function = _PerRow if task.rows.options.reduction == "none" else _Reduced
    with torch.autocast(hidden.device.type, enabled=False):
        value: Tensor = function.apply(*tensors, task)  # type: ignore[no-untyped-call]
    return value.reshape(task.rows.shape if task.rows.options.reduction == "none" else ())


class _Reduced(torch.autograd.Function):
    """A sum or mean: its upstream gradient is one number, so the gradients are made with the value and scaled
    in the end.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        values, weights, gradients = run(task, hidden, weight, bias, task.wanted, task.rows.factor)
        value, ctx.scale = reduced(values, weights, task.rows)
        ctx.save_for_backward(hidden, weight, bias, *gradients)
        return value.to(loss_dtype(hidden.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, _, _, _ = ctx.saved_tensors
        scale = ctx.scale * upstream.detach()
        found = [_scaled(gradient, scale, inputs[0].dtype) for gradient in ctx.saved_tensors[3:]]
        return (*once_differentiable(found, upstream, *inputs), None)


class _PerRow(torch.autograd.Function):
    """One value a row: the gradients wait for the upstream gradient of each, and the logits are computed
    again for them.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        values, _, _ = run(task, hidden, weight, bias, (False, False, False), None)
        ctx.task = task
        ctx.save_for_backward(hidden, weight, bias)
        return weighted(values, task.rows.factor).to(loss_dtype(hidden.dtype))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            factor = weighted(upstream, ctx.task.rows.factor)
            # a loss scale of 65536 would overflow float16 in the product: the largest factor is applied
            # afterwards
            peak = (
                factor.abs().amax().clamp_min(torch.finfo(factor.dtype).tiny) if len(factor) else factor.sum()
            )
            _, _, gradients = run(ctx.task, hidden, weight, bias, ctx.task.wanted, factor / peak)
        found = [_scaled(gradient, peak, hidden.dtype) for gradient in gradients]
        return (*once_differentiable(found, upstream, hidden, weight, bias), None)


class _Once(torch.autograd.Function):
    """A gradient with no derivative of its own: to ask for it is an error, where a constant would be silently
    wrong.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            "losses without whole logits can be differentiated once only; use slt.cross_entropy(hidden @ "
            "weight.T, ...)"
        )


def once_differentiable(gradients: Sequence[Tensor | None], *sources: Tensor | None) -> list[Tensor | None]:
    """Return the gradients as they are, or where autograd records the backward pass, as nodes that refuse a
    second one.
    """
    if not torch.is_grad_enabled():
        return list(gradients)
    return [None if g is None else _Once.apply(g, *sources) for g in gradients]  # type: ignore[no-untyped-call]


class Gradients(NamedTuple):
    """Sums over the chunks so far; None where no gradient is wanted."""

    # (N, D), float32 at least: a row is complete at once, but its last factor is not known
    hidden: Tensor | None
    weight: Tensor | None  # (V, D), float32 at least
    bias: Tensor | None  # (V,), float32 at least

    @classmethod
    def zeros(cls, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Wanted) -> Gradients:
        made = (
            torch.zeros(t.shape, dtype=loss_dtype(t.dtype), device=t.device) if w and t is not None else None
            for t, w in zip((hidden, weight, bias), wanted, strict=True)
        )
        return cls(*made)

    def add(self, part: slice | Tensor, h: Tensor, g: Chunk, weight: Tensor, factor: Tensor) -> None:
        """Add one chunk: ``g`` holds the gradient of each row's own value, ``factor`` (n,) multiplies it."""
        if self.hidden is not None:
            self.hidden[part] = _wide_product(g.rounded(), weight) * factor[:, None]
        if self.weight is not None:
            g.add_product(self.weight, h * factor[:, None])
        if self.bias is not None:
            self.bias.addmv_(g.wide.t().to(self.bias.dtype), factor)


class Chunk(NamedTuple):
    """A chunk's logits, then their gradient: in the type of the products, and (the same memory, or a copy) as
    the kernel takes them.
    """

    product: Tensor  # (n, V)
    wide: Tensor  # (n, V)

    @classmethod
    def empty(cls, step: int, weight: Tensor, *, narrow: bool) -> Chunk:
        product = weight.new_empty(step, len(weight))
        one = narrow or product.dtype in _WIDE
        return cls(product, product if one else product.new_empty(product.shape, dtype=torch.float32))

    def logits(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Chunk:
        """Return the chunk of the rows ``h`` (n, D), in the memory of this one."""
        chunk = Chunk(self.product[: len(h)], self.wide[: len(h)])
        if bias is None:
            torch.mm(h, weight.t(), out=chunk.product)
        else:
            torch.addmm(bias, h, weight.t(), out=chunk.product)
        if self.wide is not self.product:
            chunk.wide.copy_(chunk.product)
        return chunk

    def rounded(self) -> Tensor:
        """Return what ``wide`` holds in the type of the products."""
        return self.product if self.product.dtype == self.wide.dtype else self.product.copy_(self.wide)

    def add_product(self, total: Tensor, h: Tensor) -> None:
        """Add the gradient's product with ``h``, (V, D), to ``total``, never rounding the sum to half
        precision.
        """
        if self.wide.dtype == total.dtype and not (self.product.is_cuda and self.product.dtype not in _WIDE):
            total.addmm_(self.wide.t(), h.to(total.dtype))
            return
        # tensor cores sum halves in float32 and can hand that out; in slices, as the sum is a new tensor
        g, h = self.rounded(), h.to(self.product.dtype)
        for start in range(0, g.shape[1], _CLASSES):
            stop = start + _CLASSES
            total[start:stop] += _wide_product(g[:, start:stop].t(), h)


def _wide_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a product in float32 at least, halves not rounded in between where torch offers that (on a GPU,
    from 2.8 on).
    """
    if a.is_cuda and a.dtype not in _WIDE and "dtype" in torch.ops.aten.mm.overloads():
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a, b).to(loss_dtype(a.dtype))


def run(
    task: Task, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Wanted, factor: Tensor | None
) -> tuple[Tensor, Tensor, Gradients]:
    """Return values and weights of all rows (N,), float64 and 0 where a row does not count, and the wanted
    gradients.
    """
    values, weights = hidden.new_zeros((2, len(hidden)), dtype=torch.float64)
    gradients, buffer = Gradients.zeros(hidden, weight, bias, wanted), None
    factors = (
        hidden.new_ones(len(hidden), dtype=loss_dtype(hidden.dtype))
        if factor is None
        else factor.to(loss_dtype(hidden.dtype))
    )
    for part in parts(task.rows.live, len(hidden), task.step):
        h = hidden[part]
        buffer = Chunk.empty(len(h), weight, narrow=task.narrow) if buffer is None else buffer
        chunk = buffer.logits(h, weight, bias)
        values[part], weights[part] = task.kernel(chunk.wide, task.rows.target[part], any(wanted))
        if any(wanted):
            gradients.add(part, h, chunk, weight, factors[part])
    if task.share is not None and gradients.hidden is not None:
        task.share(gradients.hidden)
    return values, weights, gradients


def parts(live: Tensor | None, rows: int, step: int) -> Iterator[slice | Tensor]:
    """Yield the rows that count, as near to equal chunks as may be, the largest first."""
    count = rows if live is None else len(live)
    chunks = -(-count // step)
    for i in range(chunks):
        start, stop = -(-count * i // chunks), -(-count * (i + 1) // chunks)
        yield slice(start, stop) if live is None else live[start:stop]


def weighted(values: Tensor, factor: Tensor | None) -> Tensor:
    return values if factor is None else values * factor


def reduced(values: Tensor, weights: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the reduced value, and the number that multiplies every gradient; both float64 scalars."""
    total = weighted(values, rows.factor).sum()
    if rows.options.reduction == "sum":
        return total, torch.ones_like(total)
    divisor = weighted(weights, rows.factor).nansum()  # a NaN row's weight does not count
    none = divisor == 0
    scale = torch.where(none, 0.0, 1.0 / torch.where(none, 1.0, divisor))
    return torch.where(none, torch.nan if rows.options.empty == "nan" else 0.0, total * scale), scale


def _scaled(gradient: Tensor | None, scale: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return the gradient times ``scale``, in its own memory where no later backward pass will ask for it
    again.
    """
    if gradient is None:
        return None
    with torch.no_grad():
        return (gradient * scale if _graph_is_kept() else gradient.mul_(scale)).to(dtype)


def _graph_is_kept() -> bool:
    """Whether this backward pass may be followed by another one over the same graph.

    Yes where torch does not say.
    """
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if kept is None else bool(kept())


def blocks(z: Tensor) -> Iterator[slice]:
    """Yield slices over the rows of ``z``, whose temporaries are small beside the chunk."""
    step = max(1, (_CACHED if z.device.type == "cpu" else _ELSEWHERE) // max(1, z.shape[1]))
    for start in range(0, len(z), step):
        yield slice(start, start + step)
