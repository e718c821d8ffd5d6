"""Drop-ins for three functions of ``torch.nn.functional``.

Signatures and semantics are torch's, the kernels are this package's.

What no kernel is made for (no classes at all, integer or complex input, tensor subclasses, class weights that
are to be differentiated, ...) is torch's own function's work, and so is every error message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import _reduction

# imported by name: a program may put the functions below into torch's module
from torch.nn.functional import cross_entropy as _torch_cross_entropy
from torch.nn.functional import log_softmax as _torch_log_softmax
from torch.nn.functional import softmax as _torch_softmax

from ..spec import PLAIN, LossSpec
from ._base.labels import checked, labels_of
from ._base.options import Options
from ._base.tensors import FLOATS, autocast_dtype, exact_dtype, is_dense, loss_dtype
from ._formula.fields import SpecTensors
from ._operators import calls

__all__ = ["cross_entropy", "log_softmax", "softmax"]

_NO_INTEGERS = (*FLOATS, torch.bool, torch.complex32, torch.complex64, torch.complex128)


def cross_entropy(
    input: Tensor,  # noqa: A002
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Return what ``torch.nn.functional.cross_entropy`` of the same arguments is defined to be.

    Arguments, shapes (the classes along dimension 1), types, errors and corner cases are torch's. In
    particular ``weight`` multiplies each class's term :math:`s_k \log q_k` of a smoothed target, and the mean
    divides by :math:`\sum_i W_{y_i}`; with probabilities as targets it divides by the number of rows. The
    value has the input's type, or float32 under autocast.

    What differs:

    - **Confident rows** keep a true loss and gradient, 4e-18 where torch's is 0.
    - **Half precision** is computed in float32 or wider; the sum of the weights that a mean divides by does
      not overflow.
    - **A class without mass** (probability or smoothed weight 0) adds nothing at a logit of -inf, where torch
      has NaN.
    - **Ignored rows** have the gradient 0 whatever they hold and whatever the weights are; torch's can be
      NaN.
    - **Weights that cancel**, summing to 0 over the rows, make a mean NaN, where torch divides what is left
      by 0.
    - **Infinite weights** or probabilities give torch's value; where in the gradient is an infinity and where
      NaN may differ.
    - **A label out of range** is an ``IndexError`` that names label and row.
    - **Overwritten logits** make autograd raise in the backward pass, which reads them; torch's does not.
    - **Function modes** hear of this package's operators, not of torch's function.
    - **Scripting** by ``torch.jit.script`` fails; ``torch.jit.trace``, ``torch.compile`` and ``torch.export``
      do not.

    What no kernel is made for is torch's own function's work, where none of this holds: no rows or classes at
    all, integer or complex logits, subclasses, nested, sparse and opaque layouts, weights that require a
    gradient, and a weight or probabilities of another type than the logits.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> logits = torch.tensor([[40.0, 0.0]])
    >>> slt.functional.cross_entropy(logits, torch.tensor([0]))
    tensor(4.2484e-18)
    >>> torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    tensor(0.)

    See Also
    --------
    softmax_lab.torch.cross_entropy : any member of the loss family, whose class weights multiply whole rows.
    """
    if weight is None and size_average is None and reduce is None:
        value = _at_once(input, target, ignore_index, reduction, label_smoothing)
        if value is not None:
            return value
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    ignored, smoothing = _integer(ignore_index), _smoothing(label_smoothing)
    if ignored is None or smoothing is None or not _has_kernel(input, target, weight, ignored, reduction):
        return _torch_cross_entropy(
            input, target, weight, None, ignore_index, None, reduction, label_smoothing
        )
    ignore_index, label_smoothing = ignored, smoothing
    options = Options(reduction, "nan", ignore_index, 1 if input.ndim > 1 else 0, signed=True)
    if target.is_floating_point():
        value = calls.loss(
            input, _smoothed(target, weight, label_smoothing, options.dim), PLAIN, None, options
        )
    elif weight is not None:
        value = _weighted(input, target, weight, label_smoothing, options)
    else:
        spec = SpecTensors(smoothing=label_smoothing) if label_smoothing else PLAIN
        value = calls.loss(input, target, spec, None, options)
    return value.to(input.dtype) if autocast_dtype(input.device.type) is None else value


def _at_once(
    z: Tensor, target: Tensor, ignore_index: Any, reduction: str, label_smoothing: Any
) -> Tensor | None:
    """Return the loss of a plain call in two dimensions; None where the call is another."""
    if torch.compiler.is_compiling():
        return None
    if type(label_smoothing) is not float or not 0.0 <= label_smoothing <= 1.0:
        return None
    spec = _smoothing_alone(label_smoothing) if label_smoothing else PLAIN
    value = calls.at_once(z, target, spec, Options(reduction, "nan", ignore_index, 1, signed=True))
    if value is None or value.dtype == z.dtype or autocast_dtype(z.device.type) is not None:
        return value
    return value.to(z.dtype)


@lru_cache
def _smoothing_alone(smoothing: float) -> LossSpec:
    return LossSpec(smoothing=smoothing)


def _has_kernel(z: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> bool:
    """Whether the arguments are plain tensors of the ordinary types and shapes."""
    tensors = (z, target) if weight is None else (z, target, weight)
    if not all(
        isinstance(tensor, Tensor) and is_dense(tensor) and tensor.device == z.device for tensor in tensors
    ):
        return False
    if z.dtype not in FLOATS or z.ndim == 0 or z.numel() == 0:
        return False
    dim = 1 if z.ndim > 1 else 0
    if weight is not None and (
        weight.shape != z.shape[dim : dim + 1] or weight.dtype != z.dtype or weight.requires_grad
    ):
        return False
    indices = (
        target.dtype in (torch.int64, torch.uint8) and target.shape == z.shape[:dim] + z.shape[dim + 1 :]
    )
    distributions = target.dtype == z.dtype and target.shape == z.shape and ignore_index < 0
    return reduction in ("none", "mean", "sum") and (indices or distributions)


def _integer(value: Any) -> int | None:
    """Return the integer that torch reads there, or None for its error.

    Torch reads NumPy's scalars and tensors without dimensions too.
    """
    if isinstance(value, Tensor):
        scalar = value.ndim == 0 and value.dtype not in _NO_INTEGERS
        value = value.item() if scalar else None
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return int(value) if whole else None


def _smoothing(value: Any) -> float | None:
    """Return the smoothing that torch reads there, or None for its error.

    It takes what is not above 0 for 0.
    """
    if isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad and not value.is_complex():
        value = value.item()
    if not isinstance(value, (int, float, np.floating, np.integer)) or value > 1.0:
        return None
    return float(value) if value > 0.0 else 0.0


def _smoothed(target: Tensor, weight: Tensor | None, label_smoothing: float, dim: int) -> Tensor:
    """Return s = W (t (1 - eps) + eps / K), which torch's loss is the plain cross-entropy of.

    Not in half precision.

    That is torch's formula for whatever t and W hold: a negative, infinite or NaN entry is an entry like any
    other.
    """
    if not label_smoothing and weight is None:
        return target
    target = target.to(loss_dtype(target.dtype))
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / target.shape[dim]
    return target if weight is None else target * _beside(weight, target, dim)


def _beside(weight: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Return one entry per class in the shape that broadcasts along the class dimension."""
    return weight.reshape([-1 if i == dim else 1 for i in range(rows.ndim)])


def _weighted(z: Tensor, target: Tensor, weight: Tensor, label_smoothing: float, options: Options) -> Tensor:
    """Return torch's weighted loss for class indices.

    The divisor of a mean, the sum of W_y, is divided out of W first.

    So whatever the weights hold, one pass over the logits gives value and gradient, and no decision rests on
    a value.
    """
    weight = weight.to(exact_dtype(weight.device))
    if options.reduction != "mean":
        return _weighted_sum(z, target, weight, label_smoothing, options)
    live, label = _labels(target, z.shape[options.dim], options.ignore_index)
    divisor = torch.where(live, weight[label], 0.0).sum()
    none = divisor == 0
    weight = weight / torch.where(none, torch.nan, divisor)
    value = _weighted_sum(z, target, weight, label_smoothing, options._replace(reduction="sum"))
    return torch.where(none, torch.nan, value)


def _labels(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return which rows count, and labels that any table can be asked for.

    Whoever takes the target itself reports a wrong label.
    """
    label, live = labels_of(target, ignore_index)
    return live, label.clamp(0, num_classes - 1)


def _weighted_sum(
    z: Tensor, target: Tensor, weight: Tensor, label_smoothing: float, options: Options
) -> Tensor:
    """Return W_y (-log q_y) by row or summed, smoothed where that is asked for."""
    if not label_smoothing:
        return calls.loss(z, target, SpecTensors(class_weight=weight), None, options)
    dim = options.dim
    valid = checked(target, z.shape[dim], options.ignore_index)
    live, label = _labels(valid, z.shape[dim], options.ignore_index)
    weight = weight.to(loss_dtype(z.dtype))
    own, counts = torch.where(live, weight[label] * (1.0 - label_smoothing), 0.0), live.unsqueeze(dim)
    share = torch.where(counts, _beside(weight, z, dim) * (label_smoothing / z.shape[dim]), 0.0)
    s = share.scatter_add(dim, label.unsqueeze(dim), own.unsqueeze(dim))
    # a row that does not count may hold anything: zeros keep NaN times 0 out of its gradient
    return calls.loss(torch.where(counts, z, 0.0), s, PLAIN, None, options)


def softmax(
    input: Tensor,  # noqa: A002
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return what ``torch.nn.functional.softmax`` of the same arguments is defined to be.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> slt.functional.softmax(torch.zeros(1, 4), dim=1)
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    See Also
    --------
    softmax_lab.torch.softmax : with a temperature.
    """
    axis = _integer(dim)
    converted = _ready(input, axis, dtype)
    if converted is None or axis is None:
        return _torch_softmax(input, dim, _stacklevel + 1, dtype)
    return calls.softmax(converted, 1.0, axis % converted.ndim)


def log_softmax(
    input: Tensor,  # noqa: A002
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return what ``torch.nn.functional.log_softmax`` of the same arguments is defined to be.

    Examples
    --------
    >>> import torch
    >>> import softmax_lab.torch as slt
    >>> slt.functional.log_softmax(torch.tensor([40.0, 0.0]), dim=0)
    tensor([-4.2484e-18, -4.0000e+01])

    See Also
    --------
    softmax_lab.torch.log_softmax : with a temperature.
    """
    axis = _integer(dim)
    converted = _ready(input, axis, dtype)
    if converted is None or axis is None:
        return _torch_log_softmax(input, dim, _stacklevel + 1, dtype)
    return calls.log_softmax(converted, 1.0, axis % converted.ndim)


def _ready(z: Tensor, dim: int | None, dtype: torch.dtype | None) -> Tensor | None:
    """Return the input in the type that is asked for, or None where torch's own function has to answer."""
    if not isinstance(z, Tensor) or not is_dense(z) or z.ndim == 0 or z.numel() == 0:
        return None
    if dim is None or not -z.ndim <= dim < z.ndim or (z.dtype if dtype is None else dtype) not in FLOATS:
        return None
    if (
        dtype is None
        and z.device.type == "cuda"
        and autocast_dtype("cuda") is not None
        and z.dtype != torch.float64
    ):
        dtype = torch.float32  # autocast's rule there; on the CPU it leaves softmax alone
    return z if dtype is None else z.to(dtype)
